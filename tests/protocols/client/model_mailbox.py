"""A mailbox as `protocols/toy_api.md` says, in a few dictionaries, broken in the ways that mailboxes are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from protocols.client.answers import Cause, Refused
from protocols.client.book import Message
from protocols.model import LogName
from protocols.toy_answers import TopicAnswer

__all__ = ["ModelMailbox"]


class ModelMailbox:
    """`missing_max` cuts lists of missing seqs, `bytes_max` refuses larger stores, `is_full` refuses all."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held: dict[LogName, dict[int, bytes]] = {}
        self.watermarks: dict[LogName, int] = {}
        self.is_full = False
        self.bytes_max: int | None = None
        self.requests = 0

    def store(self, messages: Iterable[Message]) -> Mapping[LogName, int | None]:
        self.requests += 1
        wanted = list(messages)
        if self.is_full:
            raise Refused(Cause.FULL, "full", retry_after_s=60.0)
        if self.bytes_max is not None and sum(len(blob) for _, _, blob in wanted) > self.bytes_max:
            raise Refused(Cause.TOO_LARGE, "too large")
        for name, seq, blob in wanted:
            if seq > self.watermarks.get(name, -1) or seq in self.held.get(name, {}):
                self.held.setdefault(name, {}).setdefault(seq, blob)
        return {name: self._move_watermark(name) for name, _, _ in wanted}

    def _move_watermark(self, name: LogName) -> int | None:
        mark = self.watermarks.get(name, -1)
        while mark + 1 in self.held.get(name, {}):
            mark += 1
        if mark >= 0:
            self.watermarks[name] = mark
        return self.watermarks.get(name)

    def get(self, query: Mapping[str, Mapping[str, int]]) -> dict[str, TopicAnswer]:
        self.requests += 1
        answer = {}
        for topic, heights in query.items():
            messages, missing = {}, {}
            for name, held in self.held.items():
                above = {seq: blob for seq, blob in held.items() if seq > heights.get(name.log, -1)}
                if name.topic == topic and above:
                    messages[name.log] = above
            for log, height in heights.items():
                name = LogName(topic, log)
                start = self.watermarks.get(name, -1) + 1
                if lacks := [seq for seq in range(start, height + 1) if seq not in self.held.get(name, {})]:
                    missing[log] = lacks
            answer[topic] = TopicAnswer(messages, missing)
        return answer

    def expire(self, name: LogName, below: int) -> None:
        self.held[name] = {seq: blob for seq, blob in self.held.get(name, {}).items() if seq >= below}

    def replicate(self, other: ModelMailbox) -> None:
        """Takes what the other holds."""
        for name, held in other.held.items():
            for seq, blob in held.items():
                if seq > self.watermarks.get(name, -1):
                    self.held.setdefault(name, {}).setdefault(seq, blob)
            self._move_watermark(name)

    def wipe(self) -> None:
        self.held, self.watermarks = {}, {}

    def has_had(self, name: LogName, seq: int) -> bool:
        return seq in self.held.get(name, {}) or seq <= self.watermarks.get(name, -1)

"""What was written, who acknowledged it, and which mailbox was seen to hold it when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from protocols.toy_answers import TopicAnswer
from simulations.recording import MessageSpread

__all__ = ["EXPIRY_SLACK_S", "Key", "Ledger", "Written"]

EXPIRY_SLACK_S: Final = 2.0
"""A message may be read so long after its hour: an answer is on its way for a while."""


class Key(NamedTuple):
    """Which message."""

    topic: str
    log: str
    seq: int


@dataclass(slots=True)
class Written:
    """One message's life. Times are seconds of the play."""

    written_s: float
    acknowledged_s: float | None = None
    acknowledged_by: set[str] = field(default_factory=set)
    held_s: dict[str, float] = field(default_factory=dict)
    """Mailbox -> when it was first seen to hold it."""


class Ledger:
    """All messages of a play, and what each mailbox holds as far as was seen."""

    def __init__(self, *, retention_s: float) -> None:
        self.retention_s = retention_s
        self.messages: dict[Key, Written] = {}
        self.held: defaultdict[str, set[Key]] = defaultdict(set)
        self.late: dict[tuple[str, Key], float] = {}
        """Mailbox and message -> when it was served after its expiry."""

    def wrote(self, key: Key, at_s: float) -> None:
        self.messages[key] = Written(at_s)

    def acknowledged(self, keys: Iterable[Key], mailbox: str, at_s: float) -> None:
        """A mailbox answered that it has stored these."""
        for key in keys:
            message = self.messages[key]
            message.acknowledged_by.add(mailbox)
            if message.acknowledged_s is None:
                message.acknowledged_s = at_s

    def wiped(self, mailbox: str) -> None:
        """It lost everything: it is not asked any more for what it acknowledged before."""
        self.held[mailbox] = set()
        for message in self.messages.values():
            message.acknowledged_by.discard(mailbox)

    def expires_s(self, message: Written) -> float:
        """When nobody may serve it any more; a message that was never acknowledged may have been stored at any time."""
        if message.acknowledged_s is None:
            return float("inf")
        return message.acknowledged_s + self.retention_s

    def heights(self, mailbox: str, topics: Sequence[str]) -> dict[str, dict[str, int]]:
        """What to ask a mailbox for so that it tells only what is new: topic -> log -> height without gaps below."""
        seqs: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for key in self.held[mailbox]:
            seqs[key.topic, key.log].add(key.seq)
        wanted: dict[str, dict[str, int]] = {topic: {} for topic in topics}
        for (topic, log), held in seqs.items():
            height = next(seq for seq in range(len(held) + 1) if seq not in held)
            if height:
                wanted[topic][log] = height - 1
        return wanted

    def seen(self, mailbox: str, answer: Mapping[str, TopicAnswer], at_s: float, *, whole: bool) -> None:
        """A mailbox served these; `whole` if it was asked for everything."""
        found = {
            Key(topic, log, seq)
            for topic, one in answer.items()
            for log, blobs in one.messages.items()
            for seq in blobs
        }
        for key in found:
            message = self.messages.get(key)
            if message is None:
                continue
            message.held_s.setdefault(mailbox, at_s)
            if at_s > self.expires_s(message) + EXPIRY_SLACK_S:
                self.late.setdefault((mailbox, key), at_s)
        if whole:
            self.held[mailbox] = found
        else:
            self.held[mailbox] |= found

    def alive(self, at_s: float) -> Iterator[tuple[Key, Written]]:
        """What has been acknowledged and has not expired."""
        for key, message in self.messages.items():
            if message.acknowledged_s is not None and message.acknowledged_s <= at_s < self.expires_s(message):
                yield key, message

    def held_share(self, mailboxes: Sequence[str], at_s: float) -> float:
        """The mean over the messages alive of the share of these mailboxes that hold each; 1 without messages."""
        alive = [key for key, _ in self.alive(at_s)]
        if not alive or not mailboxes:
            return 1.0
        return sum(key in self.held[name] for name in mailboxes for key in alive) / (len(alive) * len(mailboxes))

    def spreads(self) -> list[MessageSpread]:
        """The way of every message, in the order in which they were written."""
        return [
            MessageSpread(message.written_s, message.acknowledged_s, sorted(message.held_s.values()))
            for message in sorted(self.messages.values(), key=lambda message: message.written_s)
        ]

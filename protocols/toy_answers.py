"""The Toy Mailbox API's answers: written piece by piece by a mailbox, read by its clients. See `toy_api.md`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from protocols.errors import RemoteProtocolError
from protocols.model import LogName, check_id, check_seq
from protocols.toy_api import Body, Family

__all__ = ["AnswerWriter", "TopicAnswer", "decode_get_answer", "decode_watermarks", "encode_watermarks"]

_encode = msgspec.json.Encoder().encode
_get_answer = msgspec.json.Decoder(dict[str, dict[str, dict[str, msgspec.Raw]]])
_log_maps = msgspec.json.Decoder(dict[str, dict[int, bytes]])
_missing_maps = msgspec.json.Decoder(dict[str, list[int]])
_watermarks = msgspec.json.Decoder(dict[str, dict[str, dict[str, int | None]]])


@dataclass(frozen=True, slots=True)
class TopicAnswer:
    """One topic of an answer to a get: per log the blobs by seq, and the seqs that the mailbox lacks."""

    messages: Mapping[str, Mapping[int, bytes]]
    missing: Mapping[str, Sequence[int]]


class AnswerWriter:
    """Writes the answer to a get piece by piece, so that a huge one needs the memory of one page.

    Feed parts in (topic, log, seq) order with `part`, then call `end`; every call returns the next bytes of the JSON
    document. Topics are those of the query; each gets an entry, also when nothing is known of it.
    """

    def __init__(self, family: Family, topics: Iterable[str]) -> None:
        self._topics = sorted(topics, reverse=True)
        self._head = b'{"%b":{' % family.answer.encode()
        self._open_topic = b':{"%b":{' % family.store.encode()
        self._topic: str | None = None
        self._log: str | None = None
        self._missing: list[bytes] = []
        self._first_topic = True
        self._first_log = True

    def part(self, name: LogName, messages: Sequence[tuple[int, bytes]], missing: Sequence[int]) -> bytes:
        """The next part of the log `name`: (seq, blob) ascending, and with a log's first part its missing seqs."""
        out = [self._head]
        self._head = b""
        if name.topic != self._topic:
            self._go_to(name.topic, out)
        if missing:
            self._missing.append(_encode(name.log) + b":" + _encode(missing))
        if messages:
            if name.log == self._log:
                out.append(b",")
            else:
                self._end_log(out)
                out.append(b"" if self._first_log else b",")
                out.append(_encode(name.log) + b":{")
                self._log, self._first_log = name.log, False
            out.append(_encode(dict(messages))[1:-1])
        return b"".join(out)

    def end(self) -> bytes:
        """The rest of the document."""
        out = [self._head]
        self._go_to(None, out)
        out.append(b"}}")
        return b"".join(out)

    def _go_to(self, topic: str | None, out: list[bytes]) -> None:
        """Ends the open topic, writes those before `topic` (all, for None) as empty, and opens it."""
        self._end_topic(out)
        while self._topics:
            following = self._topics.pop()
            if not self._first_topic:
                out.append(b",")
            self._first_topic = False
            out.append(_encode(following) + self._open_topic)
            self._topic = following
            if following == topic:
                return
            self._end_topic(out)

    def _end_log(self, out: list[bytes]) -> None:
        if self._log is not None:
            out.append(b"}")
        self._log = None

    def _end_topic(self, out: list[bytes]) -> None:
        if self._topic is None:
            return
        self._end_log(out)
        out.append(b'},"missing":{' + b",".join(self._missing) + b"}}")
        self._topic = None
        self._missing = []
        self._first_log = True


def encode_watermarks(logs: Mapping[str, Sequence[str]], watermarks: Mapping[LogName, int | None]) -> bytes:
    """The answer to `/blips/store`: the watermark of every log in the request, null where seq 0 was never held."""
    answer = {
        topic: {log: watermarks.get(LogName(topic, log)) for log in sorted(names)}
        for topic, names in sorted(logs.items())
    }
    return _encode({"watermarks": answer})


def decode_get_answer(body: Body, family: Family) -> dict[str, TopicAnswer]:
    """Reads a mailbox's answer to a get. Raises RemoteProtocolError with the code `bad-answer`."""
    top = _answer(_get_answer, body)
    answer: dict[str, TopicAnswer] = {}
    try:
        for topic, raw in top[family.answer].items():
            messages = _log_maps.decode(raw[family.store])
            missing = _missing_maps.decode(raw["missing"]) if "missing" in raw else {}
            answer[topic] = TopicAnswer(messages, missing)
            _check_answer(topic, messages, missing)
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise RemoteProtocolError("bad-answer", f"not the answer of a mailbox: {error}") from None
    return answer


def decode_watermarks(body: Body) -> dict[LogName, int | None]:
    """Reads a mailbox's answer to `/blips/store`. Raises RemoteProtocolError with the code `bad-answer`."""
    answer = _answer(_watermarks, body)
    if "watermarks" not in answer:
        raise RemoteProtocolError("bad-answer", "not the answer of a mailbox: no watermarks")
    watermarks = {LogName(t, log): n for t, logs in answer["watermarks"].items() for log, n in logs.items()}
    try:
        for name, watermark in watermarks.items():
            check_id("topic", name.topic)
            check_id("author", name.log)
            check_seq(watermark or 0)
    except ValueError as error:
        raise RemoteProtocolError("bad-answer", f"not the answer of a mailbox: {error}") from None
    return watermarks


_T = TypeVar("_T")


def _answer(decoder: msgspec.json.Decoder[_T], body: Body) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError("bad-answer", f"not the answer of a mailbox: {error}") from None


def _check_answer(
    topic: str, messages: Mapping[str, Mapping[int, bytes]], missing: Mapping[str, Sequence[int]]
) -> None:
    check_id("topic", topic)
    for log, by_seq in messages.items():
        check_id("author", log)
        for seq in by_seq:
            check_seq(seq)
    for log, seqs in missing.items():
        check_id("author", log)
        for seq in seqs:
            check_seq(seq)

"""The frames by which two mailboxes come to a report. The order and what follows from it stand in `report.md`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from protocols.errors import RemoteProtocolError
from protocols.limits.data import CLOCK_SKEW_MAX_S, TOPIC_HASH_BYTES
from protocols.limits.discovery import NETWORK_TAG_CHARS_MAX
from protocols.limits.sync import (
    INTEREST_TOPICS_MAX,
    PEER_TEXT_BYTES_MAX,
    REPORT_NONCE_BYTES,
    REPORT_STATEMENT_BYTES_MAX,
)
from protocols.model import MailboxId
from protocols.report.statement import Meeting, Signed
from protocols.sync.fields import TIME_MAX_S, check_ascending, cut, printable, read_flag, split
from protocols.sync.interest import Interest, common, id_of
from protocols.sync.wire import as_array, as_bytes, as_int, as_text, pack, unpack

__all__ = ["PROTOCOL", "Call", "Greeting", "Part", "Refusal", "Statements", "decode", "encode", "meet", "parts_of"]

PROTOCOL: Final = "/mailboxd/report/1"
_PART_BYTES: Final = 128 * 1024

_GREETING, _CALL, _PART, _REFUSAL = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Greeting:
    """The first frame of each side. `now_s` is its clock (Unix seconds), `alive_from_s` its boundary, `interest` the
    topics it keeps in step (None: all)."""

    nonce: bytes
    network: str
    now_s: int
    alive_from_s: int
    interest: Interest | None


@dataclass(frozen=True, slots=True)
class Call:
    """State now what you hold. Whoever is called stays with the boundary of the greetings."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a statement; the signature stands in the last one, and is empty before."""

    data: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there will be no report: a short word, and a text for people."""

    code: str
    text: str


Frame: TypeAlias = Greeting | Call | Part | Refusal


def encode(frame: Frame) -> bytes:
    """A frame without its length."""
    match frame:
        case Greeting(nonce, network, now_s, alive_from_s, interest):
            packed = b"" if interest is None else interest.packed
            return pack([_GREETING, nonce, network, now_s, alive_from_s, int(interest is not None), packed])
        case Call():
            return pack([_CALL])
        case Part(data, signature):
            return pack([_PART, data, signature])
        case Refusal(code, text):
            return pack([_REFUSAL, code, cut(text, PEER_TEXT_BYTES_MAX)])


def decode(data: bytes) -> Frame:
    """The inverse. Raises RemoteProtocolError and nothing else."""
    kind, *fields = unpack(data) or [0]
    match as_int(kind, "type", maximum=255):
        case 1:
            return _read_greeting(fields)
        case 2:
            as_array(fields, "call", length=0)
            return Call()
        case 3:
            piece, signature = as_array(fields, "part", length=2)
            return Part(as_bytes(piece, "data"), as_bytes(signature, "signature", length_max=64))
        case 4:
            code, text = as_array(fields, "refusal", length=2)
            return Refusal(
                printable(as_text(code, "code", bytes_max=PEER_TEXT_BYTES_MAX)),
                printable(as_text(text, "text", bytes_max=PEER_TEXT_BYTES_MAX)),
            )
    raise RemoteProtocolError("type", f"a frame of type {kind}")


def _read_greeting(fields: list[Any]) -> Greeting:
    nonce, network, now_s, alive_from_s, is_limited, topics = as_array(fields, "greeting", length=6)
    packed = as_bytes(topics, "topics", length_max=INTEREST_TOPICS_MAX * TOPIC_HASH_BYTES)
    check_ascending(split(packed, TOPIC_HASH_BYTES, "topics"), "topics")
    return Greeting(
        as_bytes(nonce, "nonce", length=REPORT_NONCE_BYTES),
        printable(as_text(network, "network", bytes_max=NETWORK_TAG_CHARS_MAX)),
        as_int(now_s, "clock", maximum=TIME_MAX_S),
        as_int(alive_from_s, "boundary", maximum=TIME_MAX_S),
        Interest(packed) if read_flag(is_limited, "limited") else None,
    )


def meet(
    asker: MailboxId, asks: Greeting, answerer: MailboxId, answers: Greeting
) -> tuple[Meeting, Interest | None] | Refusal:
    """What the two greetings come to, on both sides alike: the meeting, and the topics that it is about."""
    if asks.network != answers.network:
        return Refusal("network", f"one is in the network {asks.network!r}, the other in {answers.network!r}")
    if abs(asks.now_s - answers.now_s) > CLOCK_SKEW_MAX_S:
        return Refusal("clock", f"the clocks differ by {abs(asks.now_s - answers.now_s)} s")
    interest = common(asks.interest, answers.interest)
    boundary_s = max(asks.alive_from_s, answers.alive_from_s)
    nonces = asks.nonce + answers.nonce
    return Meeting(asker, answerer, nonces, asks.network, boundary_s, id_of(interest)), interest


def parts_of(signed: Signed) -> Iterator[Part]:
    """A statement in pieces that fit into frames."""
    body = signed.body
    for start in range(0, len(body), _PART_BYTES):
        is_last = start + _PART_BYTES >= len(body)
        yield Part(body[start : start + _PART_BYTES], signed.signature if is_last else b"")


class Statements:
    """Puts a statement together from its parts."""

    def __init__(self) -> None:
        self._body = bytearray()

    def take(self, part: Part) -> Signed | None:
        """The statement once it is whole. Raises RemoteProtocolError if it gets too long or there is nothing in it."""
        if not part.data or len(self._body) + len(part.data) > REPORT_STATEMENT_BYTES_MAX:
            raise RemoteProtocolError("limit", "a statement that is empty or too long")
        self._body += part.data
        return Signed(bytes(self._body), part.signature) if part.signature else None

"""The frames of the admission exchange; `admission.md` has their layouts. Bytes in, frozen dataclasses out."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from protocols.errors import RemoteProtocolError
from protocols.limits.admission import (
    ADMISSION_NONCE_BYTES,
    ADMISSION_PAUSE_MAX_S,
    GENERATION_BYTES,
    PAKE_SHARE_BYTES,
    PROOF_BYTES,
    TICKET_NAME_BYTES,
)
from protocols.sync.wire import as_bytes, as_int, pack, unpack

__all__ = ["Answer", "Hello", "Message", "Needs", "Outcome", "Proof", "Share", "Verdict", "decode", "encode"]


class Needs(enum.IntEnum):
    """What a mailbox asks of the other one before it lets it in."""

    NOTHING = 0
    PROOF = 1
    NEVER = 2
    """It does not sync with that mailbox, whatever it proves."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of either side. `generation` is a random name for the password that is set (empty: none),
    `ticket` the name of the key that is left from an earlier exchange (empty: none)."""

    needs: Needs
    nonce: bytes
    generation: bytes = b""
    ticket: bytes = b""


@dataclass(frozen=True, slots=True)
class Share:
    """The initiator's half of SPAKE2."""

    share: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The responder's half, and its proof that it has the same secret."""

    share: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """A side's proof: that it has the key that the two agreed on, now or earlier."""

    proof: bytes


class Outcome(enum.IntEnum):
    """What a side makes of the other's proof."""

    ADMITTED = 0
    WRONG = 1
    LATER = 2
    FORGOTTEN = 3
    """The ticket is not known any more: the whole exchange is needed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it ended for the other side; with LATER, after how many seconds it may try again."""

    outcome: Outcome
    pause_s: int = 0


Message: TypeAlias = Hello | Share | Answer | Proof | Verdict

_HELLO: Final = 1
_SHARE: Final = 2
_ANSWER: Final = 3
_PROOF: Final = 4
_VERDICT: Final = 5


def encode(message: Message) -> bytes:
    """The frame of a message, without its length."""
    match message:
        case Hello(needs, nonce, generation, ticket):
            return pack([_HELLO, int(needs), nonce, generation, ticket])
        case Share(share):
            return pack([_SHARE, share])
        case Answer(share, proof):
            return pack([_ANSWER, share, proof])
        case Proof(proof):
            return pack([_PROOF, proof])
        case Verdict(outcome, pause_s):
            return pack([_VERDICT, int(outcome), pause_s])


def decode(frame: bytes) -> Message:
    """The message in a frame. Raises RemoteProtocolError for anything that `encode` does not make."""
    fields = unpack(frame)
    message = _decoded(fields)
    if encode(message) != frame:  # one spelling only: the frames are part of what is proven
        raise RemoteProtocolError("malformed", "a frame that is not in its shortest form")
    return message


def _decoded(fields: list[Any]) -> Message:
    kind, *rest = fields or [None]
    match kind, rest:
        case 1, [needs, nonce, generation, ticket]:
            return Hello(
                Needs(as_int(needs, "needs", maximum=max(Needs))),
                as_bytes(nonce, "nonce", length=ADMISSION_NONCE_BYTES),
                _optional(generation, "generation", GENERATION_BYTES),
                _optional(ticket, "ticket", TICKET_NAME_BYTES),
            )
        case 2, [share]:
            return Share(as_bytes(share, "share", length=PAKE_SHARE_BYTES))
        case 3, [share, proof]:
            return Answer(
                as_bytes(share, "share", length=PAKE_SHARE_BYTES), as_bytes(proof, "proof", length=PROOF_BYTES)
            )
        case 4, [proof]:
            return Proof(as_bytes(proof, "proof", length=PROOF_BYTES))
        case 5, [outcome, pause_s]:
            return Verdict(
                Outcome(as_int(outcome, "outcome", maximum=max(Outcome))),
                as_int(pause_s, "pause", maximum=ADMISSION_PAUSE_MAX_S),
            )
    raise RemoteProtocolError("malformed", "not a message of the admission exchange")


def _optional(value: Any, what: str, length: int) -> bytes:
    return b"" if value == b"" else as_bytes(value, what, length=length)

"""The admission exchange as generators: they yield what they want of the world and return how it ended.

Either side's needs, passwords and tickets are in the two hellos, so both come to the same next step by themselves.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from protocols.admission.messages import Answer, Hello, Message, Needs, Outcome, Proof, Share, Verdict, decode, encode
from protocols.admission.pake import Pake
from protocols.admission.secret import derive
from protocols.errors import RemoteProtocolError
from protocols.limits.admission import ADMISSION_PAUSE_MAX_S, TICKET_NAME_BYTES

__all__ = [
    "ADMISSION_PROTOCOL",
    "Admitted",
    "Compute",
    "Effect",
    "Guess",
    "NotAdmitted",
    "Party",
    "Receive",
    "Send",
    "Ticket",
    "Why",
    "initiate",
    "respond",
]

ADMISSION_PROTOCOL: Final = "/mailboxd/admission/1"


@dataclass(frozen=True, slots=True)
class Send:
    """Send this frame."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Receive:
    """Give me the next frame; None at the end of the stream."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Do this aside: it takes milliseconds."""

    work: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Guess:
    """The other side is about to learn whether its password is right. Give me after how many seconds it may (0: now);
    a guess that is let through counts until it turns out right."""


Effect: TypeAlias = Send | Receive | Compute | Guess
_T = TypeVar("_T")
Steps: TypeAlias = Generator[Effect, Any, _T]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is left of an exchange that went well: a key that both have, and a name for it that tells nothing."""

    name: bytes
    key: bytes


class Why(enum.Enum):
    """Why two mailboxes don't let each other in."""

    REFUSED_BY_US = "refused-by-us"
    REFUSED_BY_PEER = "refused-by-peer"
    NO_PASSWORD_HERE = "no-password-here"
    NO_PASSWORD_THERE = "no-password-there"
    OTHER_PASSWORD = "other-password"
    LATER = "later"


class NotAdmitted(Exception):
    """They don't. `generation` is the peer's name for its password if that was found to be another one than ours;
    `pause_s` says when to try again, if LATER (0: at once, without the ticket)."""

    def __init__(self, why: Why, *, generation: bytes = b"", pause_s: float = 0.0) -> None:
        super().__init__(why.value)
        self.why = why
        self.generation = generation
        self.pause_s = pause_s


@dataclass(frozen=True, slots=True)
class Admitted:
    """Both let each other in. `ticket` makes the next time cheap; None if nothing had to be proven."""

    ticket: Ticket | None = None
    proven: bool = False
    """Whether the other side has proven that it has our password."""


@dataclass(frozen=True, slots=True)
class Party:
    """What one side brings. Ids are the 32-byte public keys that the transport has proven; `secret` is
    `for_mailboxes` of the password's, None if none is set."""

    local: bytes
    peer: bytes
    network: str
    needs: Needs
    nonce: bytes
    entropy: Callable[[int], bytes]
    secret: bytes | None = None
    generation: bytes = b""
    ticket: Ticket | None = None
    known_other: bytes = b""
    """The peer's password (by its generation) that was found to be another one than ours: not tried again."""

    def hello(self) -> Hello:
        return Hello(self.needs, self.nonce, self.generation, self.ticket.name if self.ticket else b"")


def initiate(party: Party) -> Steps[Admitted]:
    """The side that opens the stream. Raises NotAdmitted, or RemoteProtocolError."""
    ours = party.hello()
    yield Send(encode(ours))
    theirs = yield from _expect(Hello)
    if not _needs_proof(party, ours, theirs):
        return Admitted()
    context = _context(party, ours, theirs, initiator=True)
    if party.ticket is not None and theirs.ticket == party.ticket.name:
        yield Send(encode(Proof(derive(party.ticket.key, "mailboxd initiator again", context))))
        answer = yield from _receive()
        if isinstance(answer, Proof):
            if hmac.compare_digest(derive(party.ticket.key, "mailboxd responder again", context), answer.proof):
                return Admitted(party.ticket, proven=True)
            raise NotAdmitted(Why.LATER)
        raise _refusal(answer, theirs)
    if theirs.generation == party.known_other:
        raise NotAdmitted(Why.OTHER_PASSWORD, generation=theirs.generation)
    return (yield from _agree(party, context, theirs))


def _agree(party: Party, context: bytes, theirs: Hello) -> Steps[Admitted]:
    pause_s: float = yield Guess()
    if pause_s:
        raise NotAdmitted(Why.LATER, pause_s=pause_s)
    pake = _pake(party, initiator=True)
    share: bytes = yield Compute(pake.share)
    yield Send(encode(Share(share)))
    answer = yield from _receive()
    if not isinstance(answer, Answer):
        raise _refusal(answer, theirs)
    key: bytes = yield Compute(lambda: pake.key(answer.share))
    transcript = derive(b"", "mailboxd transcript", context, share, answer.share)
    if not hmac.compare_digest(derive(key, "mailboxd responder", transcript), answer.proof):
        raise NotAdmitted(Why.OTHER_PASSWORD, generation=theirs.generation)
    yield Send(encode(Proof(derive(key, "mailboxd initiator", transcript))))
    verdict = yield from _receive()
    if verdict != Verdict(Outcome.ADMITTED):
        raise _refusal(verdict, theirs)
    return Admitted(_ticket(key, transcript), proven=True)


def respond(party: Party) -> Steps[Admitted]:
    """The other side. Raises NotAdmitted, or RemoteProtocolError."""
    theirs = yield from _expect(Hello)
    ours = party.hello()
    yield Send(encode(ours))
    if not _needs_proof(party, ours, theirs):
        return Admitted()
    context = _context(party, theirs, ours, initiator=False)
    first = yield from _receive()
    match first:
        case Proof(proof) if party.ticket is not None and theirs.ticket == party.ticket.name:
            if not hmac.compare_digest(derive(party.ticket.key, "mailboxd initiator again", context), proof):
                yield Send(encode(Verdict(Outcome.FORGOTTEN)))
                raise NotAdmitted(Why.LATER)
            yield Send(encode(Proof(derive(party.ticket.key, "mailboxd responder again", context))))
            return Admitted(party.ticket, proven=True)
        case Share(share):
            return (yield from _answer(party, context, theirs, share))
        case None:  # it knows already that ours is another one, or it broke off
            raise NotAdmitted(Why.OTHER_PASSWORD)
        case _:
            raise RemoteProtocolError("unexpected", f"{type(first).__name__} instead of a share")


def _answer(party: Party, context: bytes, theirs: Hello, share: bytes) -> Steps[Admitted]:
    pause_s: float = yield Guess()
    if pause_s:
        yield Send(encode(Verdict(Outcome.LATER, min(ADMISSION_PAUSE_MAX_S, int(pause_s) + 1))))
        raise NotAdmitted(Why.LATER, pause_s=pause_s)
    pake = _pake(party, initiator=False)
    own_share: bytes = yield Compute(pake.share)
    key: bytes = yield Compute(lambda: pake.key(share))
    transcript = derive(b"", "mailboxd transcript", context, share, own_share)
    yield Send(encode(Answer(own_share, derive(key, "mailboxd responder", transcript))))
    proof = yield from _receive()
    if proof is None:  # it has seen that ours is another one, or it broke off
        raise NotAdmitted(Why.OTHER_PASSWORD)
    if not isinstance(proof, Proof):
        raise RemoteProtocolError("unexpected", f"{type(proof).__name__} instead of a proof")
    if not hmac.compare_digest(derive(key, "mailboxd initiator", transcript), proof.proof):
        yield Send(encode(Verdict(Outcome.WRONG)))
        raise NotAdmitted(Why.OTHER_PASSWORD, generation=theirs.generation)
    yield Send(encode(Verdict(Outcome.ADMITTED)))
    return Admitted(_ticket(key, transcript), proven=True)


# --- what both do --------------------------------------------------------------------------------------------------


def _needs_proof(party: Party, ours: Hello, theirs: Hello) -> bool:
    """Whether there is something to prove. Raises NotAdmitted if it can't be."""
    if ours.needs is Needs.NEVER:
        raise NotAdmitted(Why.REFUSED_BY_US)
    if theirs.needs is Needs.NEVER:
        raise NotAdmitted(Why.REFUSED_BY_PEER)
    if ours.needs is Needs.NOTHING and theirs.needs is Needs.NOTHING:
        return False
    if party.secret is None:
        raise NotAdmitted(Why.NO_PASSWORD_HERE)
    if not theirs.generation:
        raise NotAdmitted(Why.NO_PASSWORD_THERE)
    return True


def _context(party: Party, first: Hello, second: Hello, *, initiator: bool) -> bytes:
    ids = (party.local, party.peer) if initiator else (party.peer, party.local)
    return derive(
        b"",
        "mailboxd admission",
        ADMISSION_PROTOCOL.encode(),
        party.network.encode(),
        *ids,
        encode(first),
        encode(second),
    )


def _pake(party: Party, *, initiator: bool) -> Pake:
    assert party.secret is not None
    first, second = (party.local, party.peer) if initiator else (party.peer, party.local)
    return Pake(party.secret, first=initiator, id_first=first, id_second=second, entropy=party.entropy)


def _ticket(key: bytes, transcript: bytes) -> Ticket:
    name = derive(key, "mailboxd ticket name", transcript)[:TICKET_NAME_BYTES]
    return Ticket(name, derive(key, "mailboxd ticket", transcript))


def _refusal(answer: Message | None, theirs: Hello) -> Exception:
    """What to raise for an answer that is no consent."""
    match answer:
        case Verdict(Outcome.LATER, pause_s):
            return NotAdmitted(Why.LATER, pause_s=float(pause_s))
        case Verdict(Outcome.WRONG):
            return NotAdmitted(Why.OTHER_PASSWORD, generation=theirs.generation)
        case Verdict(Outcome.FORGOTTEN):
            return NotAdmitted(Why.LATER)  # at once: without the ticket
        case None:
            return RemoteProtocolError("ended", "the exchange ended in the middle")
        case _:
            return RemoteProtocolError("unexpected", f"{type(answer).__name__} at the wrong time")


def _receive() -> Steps[Message | None]:
    frame: bytes | None = yield Receive()
    return None if frame is None else decode(frame)


_H = TypeVar("_H", bound=Message)


def _expect(kind: type[_H]) -> Steps[_H]:
    message = yield from _receive()
    if message is None:
        raise RemoteProtocolError("ended", "the exchange ended before it began")
    if not isinstance(message, kind):
        raise RemoteProtocolError("unexpected", f"{type(message).__name__} instead of {kind.__name__}")
    return message

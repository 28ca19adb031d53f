"""Two sides of an admission exchange without a network: frames go from generator to generator, and may be changed."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from protocols.admission.exchange import (
    Admitted,
    Compute,
    Effect,
    Guess,
    NotAdmitted,
    Party,
    Receive,
    Send,
    Ticket,
    initiate,
    respond,
)
from protocols.admission.messages import Needs
from protocols.errors import RemoteProtocolError

Outcome = Admitted | NotAdmitted | RemoteProtocolError

ALICE, BOB, MALLORY = (hashlib.sha256(name).digest() for name in (b"alice", b"bob", b"mallory"))


def entropy(seed: str) -> Callable[[int], bytes]:
    """Repeatable bytes: SHAKE-256 of the seed and how often it was asked."""
    count = itertools.count()
    return lambda size: hashlib.shake_256(f"{seed} {next(count)}".encode()).digest(size)


def party(
    local: bytes,
    peer: bytes,
    secret: bytes | None,
    *,
    needs: Needs | None = None,
    network: str = "main",
    ticket: Ticket | None = None,
    seed: str = "",
    known_other: bytes = b"",
) -> Party:
    random = entropy(f"{seed} {local.hex()}")
    return Party(
        local=local,
        peer=peer,
        network=network,
        needs=needs if needs is not None else (Needs.NOTHING if secret is None else Needs.PROOF),
        nonce=random(32),
        entropy=random,
        secret=secret,
        generation=b"" if secret is None else hashlib.sha256(b"name of " + secret + local).digest()[:16],
        ticket=ticket,
        known_other=known_other,
    )


@dataclass
class Wire:
    """What went over it, (who sent, frame); `change` may replace a frame or swallow it."""

    change: Callable[[str, int, bytes], bytes | None] = lambda _who, _number, frame: frame
    frames: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass
class Side:
    name: str
    steps: Generator[Effect, Any, Admitted]
    pause_s: float = 0.0
    guesses: int = 0
    inbox: list[bytes] = field(default_factory=list)
    outcome: Outcome | None = None
    started: bool = False
    effect: Effect | None = None

    def resume(self, value: object) -> None:
        try:
            self.effect = self.steps.send(value)
        except StopIteration as stop:
            self.outcome = stop.value
        except (NotAdmitted, RemoteProtocolError) as error:
            self.outcome = error


def step(side: Side, other: Side, wire: Wire) -> None:
    """Does what the side asks for, if that can be done now."""
    match side.effect:
        case Send(frame):
            number = sum(who == side.name for who, _ in wire.frames)
            wire.frames.append((side.name, frame))
            changed = wire.change(side.name, number, frame)
            if changed is not None:
                other.inbox.append(changed)
            side.resume(None)
        case Receive() if side.inbox:
            side.resume(side.inbox.pop(0))
        case Receive():
            # At the end of the stream; if both wait for what was swallowed, a timeout ends it.
            if other.outcome is not None or (isinstance(other.effect, Receive) and not other.inbox):
                side.resume(None)
        case Compute(work):
            try:
                result = work()
            except RemoteProtocolError as error:
                side.outcome = error
            else:
                side.resume(result)
        case Guess():
            side.guesses += 1
            side.resume(side.pause_s)


def play(
    first: Party, second: Party, wire: Wire | None = None, *, pause_s: float = 0.0
) -> tuple[Outcome, Outcome, Side, Side]:
    """Runs both to their ends; `pause_s` is what the responder's limit answers."""
    wire = wire or Wire()
    one, two = Side("initiator", initiate(first)), Side("responder", respond(second), pause_s=pause_s)
    one.resume(None)
    two.resume(None)
    while one.outcome is None or two.outcome is None:
        for side, other in ((one, two), (two, one)):
            if side.outcome is None:
                step(side, other, wire)
    return one.outcome, two.outcome, one, two

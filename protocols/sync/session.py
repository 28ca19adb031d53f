"""A sync session between two mailboxes: the facade of this package. The spec is `sync.md`.

`initiate` and `respond` are generators that yield effects (`effects.py`) and return a SessionResult:

    session = initiate(SessionConfig(...))
    result = None
    while True:
        try:
            effect = session.send(result)
        except StopIteration as stop:
            return stop.value
        result = carry_out(effect)

The initiator asks and the responder answers; the two never wait for each other at the same time:

    initiator                              responder
    Hello (with the first question) ->
                                    <-     Hello (with the first answer), or Refuse
    News, Survey, About, Names, Ask ->
                                    <-     Standing, Surveyed, Named, Tell    as often as needed
    Transfer                        ->
                                    <-     Want, then Parcels if something is fetched
    Parcels if something is wanted  ->                                        as often as needed, between questions
    Done                            ->
                                    <-     Done if an acknowledgement was asked for
"""

from __future__ import annotations

from contextlib import suppress

from protocols.errors import RemoteProtocolError
from protocols.limits import CLOCK_SKEW_MAX_S, SALT_BYTES, SYNC_VERSION_MAX, SYNC_VERSION_MIN
from protocols.model import Retention
from protocols.sync.codec import decode, encode
from protocols.sync.common import Context, PeerInfo, SessionConfig, SessionRefused, SessionResult, Steps, receive
from protocols.sync.effects import OpenView, Send, SessionAborted
from protocols.sync.initiator import Initiator, reply_to
from protocols.sync.messages import About, Hello, News, Refuse, Survey
from protocols.sync.reconcile import session_key
from protocols.sync.responder import Responder

__all__ = ["PeerInfo", "SessionConfig", "SessionRefused", "SessionResult", "initiate", "refusal", "respond"]


def initiate(config: SessionConfig, result: SessionResult | None = None) -> Steps[SessionResult]:
    """The initiator's session; `result` shows its progress to whoever gives one.

    Raises SessionRefused, RemoteProtocolError (both are told to the peer), or SessionAborted if the peer ends the
    stream early.
    """
    if len(config.salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    return (yield from _telling_failure(_initiate(config, result or SessionResult())))


def respond(config: SessionConfig, result: SessionResult | None = None) -> Steps[SessionResult]:
    """The responder's session; raises like `initiate`. A stream that ends between two requests ends it in good order,
    with `complete` False."""
    return (yield from _telling_failure(_respond(config, result or SessionResult())))


def refusal(code: str, text: str) -> bytes:
    """A frame that refuses a session before it begins, e.g. because there are too many already."""
    return encode(Refuse(code, text))


def _telling_failure(session: Steps[SessionResult]) -> Steps[SessionResult]:
    """Tells the peer why we end the session before we do."""
    try:
        return (yield from session)
    except RemoteProtocolError as error:
        with suppress(SessionAborted):  # the stream may be gone as well: what counts is the first reason
            yield Send(encode(Refuse(error.code, str(error))))
        raise
    except SessionRefused as refused:
        if not refused.by_peer:
            with suppress(SessionAborted):
                yield Send(encode(Refuse(refused.code, refused.text)))
        raise


def _hello(config: SessionConfig, *, alive_from_s: int, salt: bytes = b"", first: bytes = b"") -> Hello:
    return Hello(
        version_min=SYNC_VERSION_MIN,
        version_max=SYNC_VERSION_MAX,
        network=config.network,
        now_s=max(0, int(config.now_s)),
        retention_s=config.retention.retention_s,
        alive_from_s=alive_from_s,
        software=config.software,
        salt=salt,
        first=first,
        is_full=config.is_full,
    )


def _meet(config: SessionConfig, hello: Hello) -> PeerInfo:
    """What we make of the peer's hello. Raises SessionRefused."""
    version = min(hello.version_max, SYNC_VERSION_MAX)
    if version < max(hello.version_min, SYNC_VERSION_MIN):
        raise SessionRefused(
            "version",
            f"no common version of the sync protocol: {hello.version_min} to {hello.version_max} on one side, "
            f"{SYNC_VERSION_MIN} to {SYNC_VERSION_MAX} on the other",
            by_peer=False,
        )
    if hello.network != config.network:
        raise SessionRefused("network", "the two mailboxes are set to different networks", by_peer=False)
    offset_s = hello.now_s - config.now_s
    if abs(offset_s) > CLOCK_SKEW_MAX_S:
        raise SessionRefused(
            "clock",
            f"the two clocks differ by {abs(offset_s):.0f} s (allowed: {CLOCK_SKEW_MAX_S} s); set them right",
            by_peer=False,
        )
    return PeerInfo(version, hello.software, offset_s, Retention(hello.retention_s), hello.now_s, hello.is_full)


def _initiate(config: SessionConfig, result: SessionResult) -> Steps[SessionResult]:
    """Says hello with the first question in it, guessing that our own boundary will be the common one. It is unless the
    peer's retention is shorter or the hour has just changed; then it is asked again."""
    result.full = config.only is None
    alive_from_s = config.alive_from_s
    us = PeerInfo(SYNC_VERSION_MAX, config.software, 0.0, config.retention, int(config.now_s))
    view = yield OpenView(alive_from_s)
    context = Context(config, us, alive_from_s, session_key(config.salt, alive_from_s), view, result)
    initiator = Initiator(context)
    question = initiator.first()
    yield Send(encode(_hello(config, alive_from_s=alive_from_s, salt=config.salt, first=encode(question))))
    result.round_trips = 1
    hello = yield from receive(Hello)
    context.peer = result.peer = _meet(config, hello)
    if hello.alive_from_s < alive_from_s:
        raise RemoteProtocolError("boundary", "an agreed boundary below our own")
    if hello.alive_from_s > alive_from_s or not hello.first:
        yield from _ask_again(context, hello.alive_from_s)
        return result
    reply = decode(hello.first)
    if not isinstance(reply, reply_to(question)):
        raise RemoteProtocolError("state", f"a hello with a {type(reply).__name__}")
    yield from initiator.run(reply)
    return result


def _ask_again(met: Context, alive_from_s: int) -> Steps[None]:
    """The session from the first question on, for the boundary (and the version) on which we have agreed."""
    view = yield OpenView(alive_from_s)
    key = session_key(met.config.salt, alive_from_s)
    initiator = Initiator(Context(met.config, met.peer, alive_from_s, key, view, met.result))
    question = initiator.first()
    yield Send(encode(question))
    met.result.round_trips += 1
    reply = yield from receive(reply_to(question))
    yield from initiator.run(reply)


def _respond(config: SessionConfig, result: SessionResult) -> Steps[SessionResult]:
    hello = yield from receive(Hello)
    peer = result.peer = _meet(config, hello)
    if len(hello.salt) != SALT_BYTES:
        raise RemoteProtocolError("malformed", f"a salt of {len(hello.salt)} bytes")
    alive_from_s = max(hello.alive_from_s, config.alive_from_s)
    view = yield OpenView(alive_from_s)
    context = Context(config, peer, alive_from_s, session_key(hello.salt, alive_from_s), view, result)
    responder = Responder(context)
    first = b""
    if hello.first and alive_from_s == hello.alive_from_s and peer.version == hello.version_max:
        question = decode(hello.first)
        if not isinstance(question, News | About | Survey):
            raise RemoteProtocolError("state", f"a hello with a {type(question).__name__}")
        reply = yield from responder.answer(question)
        first = encode(reply)
    result.round_trips = 1
    yield Send(encode(_hello(config, alive_from_s=alive_from_s, first=first)))
    yield from responder.run()
    return result

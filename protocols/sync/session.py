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
    Topics, where the responder asks       Topics, where the initiator guessed wrong
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
from protocols.limits.data import CLOCK_SKEW_MAX_S
from protocols.limits.sync import ABOUT_LOGS_MAX, SALT_BYTES
from protocols.model import Retention
from protocols.sync.codec import decode, encode
from protocols.sync.common import (
    Checkpoint,
    Context,
    PeerInfo,
    SessionConfig,
    SessionRefused,
    SessionResult,
    Steps,
    receive,
)
from protocols.sync.effects import OpenView, Send, SessionAborted
from protocols.sync.initiator import Initiator, reply_to
from protocols.sync.interest import EVERYTHING_ID, Interest, common, id_of
from protocols.sync.messages import About, Hello, News, Refuse, Survey, Topics
from protocols.sync.reconcile import session_key
from protocols.sync.responder import Responder

__all__ = [
    "Checkpoint",
    "PeerInfo",
    "SessionConfig",
    "SessionRefused",
    "SessionResult",
    "initiate",
    "refusal",
    "respond",
]


def initiate(config: SessionConfig, result: SessionResult | None = None) -> Steps[SessionResult]:
    """The initiator's session; `result` shows its progress to whoever gives one.

    Raises SessionRefused, RemoteProtocolError (both are told to the peer), or SessionAborted if the peer ends the
    stream early.
    """
    if len(config.salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    if len(config.only or ()) > ABOUT_LOGS_MAX:
        raise ValueError(f"a session is limited to {ABOUT_LOGS_MAX} logs or to none")
    return (yield from _telling_failure(_initiate(config, result or SessionResult())))


def respond(config: SessionConfig, result: SessionResult | None = None) -> Steps[SessionResult]:
    """The responder's session; raises like `initiate`. A stream that ends between two requests ends it in good order,
    with `complete` False."""
    return (yield from _telling_failure(_respond(config, result or SessionResult())))


def refusal(code: str, text: str, pause_s: int = 0) -> bytes:
    """A frame that refuses a session before it begins, e.g. because there are too many already."""
    return encode(Refuse(code, text, pause_s))


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
                yield Send(encode(Refuse(refused.code, refused.text, refused.pause_s)))
        raise


def _hello(
    config: SessionConfig,
    alive_from_s: int,
    *,
    salt: bytes = b"",
    first: bytes = b"",
    believes: bytes = EVERYTHING_ID,
    asks_topics: bool = False,
) -> Hello:
    return Hello(
        version_min=config.versions[0],
        version_max=config.versions[1],
        network=config.network,
        now_s=max(0, int(config.now_s)),
        retention_s=config.retention.retention_s,
        alive_from_s=alive_from_s,
        software=config.software,
        salt=salt,
        first=first,
        is_full=config.is_full,
        keeps=id_of(config.interest),
        believes=believes,
        asks_topics=asks_topics,
    )


def _meet(config: SessionConfig, hello: Hello) -> PeerInfo:
    """What we make of the peer's hello. Raises SessionRefused."""
    lowest, highest = config.versions
    version = min(hello.version_max, highest)
    if version < max(hello.version_min, lowest):
        raise SessionRefused(
            "version",
            f"no common version of the sync protocol: {hello.version_min} to {hello.version_max} on one side, "
            f"{lowest} to {highest} on the other",
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
    """Says hello with the first question in it, guessing that our own boundary will be the common one, and that the
    peer keeps the topics that it kept when we last met. Mostly it is so; if not, it is asked again."""
    result.full = config.only is None
    alive_from_s = config.alive_from_s
    _agree(config, result, config.peer_interest)
    us = PeerInfo(config.versions[1], config.software, 0.0, config.retention, int(config.now_s))
    view = yield OpenView(alive_from_s, result.interest)
    context = Context(config, us, alive_from_s, session_key(config.salt, alive_from_s), view, result)
    initiator = Initiator(context)
    question = initiator.first()
    believes = id_of(config.peer_interest)
    said = _hello(config, alive_from_s, salt=config.salt, first=encode(question), believes=believes)
    yield Send(encode(said))
    result.round_trips = 1
    hello = yield from receive(Hello)
    context.peer = result.peer = _meet(config, hello)
    if hello.alive_from_s < alive_from_s:
        raise RemoteProtocolError("boundary", "an agreed boundary below our own")
    if hello.keeps != believes:
        _agree(config, result, (yield from _learn_topics(hello)))
    if hello.asks_topics:
        yield from _tell_topics(config)
    has_guessed = hello.alive_from_s == alive_from_s and hello.keeps == believes and not hello.asks_topics
    if not (has_guessed and hello.first):
        yield from _ask_again(context, hello.alive_from_s)
        return result
    reply = decode(hello.first)
    if not isinstance(reply, reply_to(question)):
        raise RemoteProtocolError("state", f"a hello with a {type(reply).__name__}")
    yield from initiator.run(reply)
    return result


def _ask_again(met: Context, alive_from_s: int) -> Steps[None]:
    """The session from the first question on, for the boundary, the version and the topics on which we have agreed."""
    view = yield OpenView(alive_from_s, met.result.interest)
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
    result.round_trips = 1
    if len(hello.salt) != SALT_BYTES:
        raise RemoteProtocolError("malformed", f"a salt of {len(hello.salt)} bytes")
    alive_from_s = max(hello.alive_from_s, config.alive_from_s)
    is_known = hello.keeps in (EVERYTHING_ID, id_of(config.peer_interest))
    is_believed = hello.believes == id_of(config.interest)
    if not (is_known and is_believed):  # the first question is about other topics than ours in common
        yield Send(encode(_hello(config, alive_from_s, asks_topics=not is_known)))
        if not is_believed and config.interest is not None:
            yield from _tell_topics(config)
    kept = config.peer_interest if hello.keeps else None
    _agree(config, result, kept if is_known else (yield from _learn_topics(hello)))
    view = yield OpenView(alive_from_s, result.interest)
    context = Context(config, peer, alive_from_s, session_key(hello.salt, alive_from_s), view, result)
    responder = Responder(context)
    if is_known and is_believed:
        first = b""
        if hello.first and alive_from_s == hello.alive_from_s and peer.version == hello.version_max:
            question = decode(hello.first)
            if not isinstance(question, News | About | Survey):
                raise RemoteProtocolError("state", f"a hello with a {type(question).__name__}")
            reply = yield from responder.answer(question)
            first = encode(reply)
        yield Send(encode(_hello(config, alive_from_s, first=first)))
    yield from responder.run()
    return result


# --- topics ---------------------------------------------------------------------------------------------------------


def _agree(config: SessionConfig, result: SessionResult, peer_interest: Interest | None) -> None:
    result.peer_interest = peer_interest
    result.interest = common(config.interest, peer_interest)


def _learn_topics(hello: Hello) -> Steps[Interest | None]:
    """The topics behind the peer's hello, which it tells now. Raises RemoteProtocolError if they are others."""
    if hello.keeps == EVERYTHING_ID:
        return None
    topics = yield from receive(Topics)
    if topics.interest.id != hello.keeps:
        raise RemoteProtocolError("topics", "other topics than those of the hello")
    return topics.interest


def _tell_topics(config: SessionConfig) -> Steps[None]:
    if config.interest is None:
        raise RemoteProtocolError("topics", "a question for our topics, where we keep all")
    yield Send(encode(Topics(config.interest)))

"""The sessions of `vectors.json`: fixed stores and a fixed salt in, every frame of both sides out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocols.limits.sync import SYNC_VERSION_MAX
from protocols.model import LogName, handle_of
from protocols.sync.codec import decode
from protocols.sync.common import Steps
from protocols.sync.effects import Send
from protocols.sync.interest import Interest, common
from protocols.sync.reconcile import live_fingerprint
from protocols.sync.session import Checkpoint, SessionConfig, SessionResult, initiate, respond
from protocols.sync.wire import encode_frame
from tests.protocols.sync.messages_by_the_spec import Json
from tests.protocols.sync.plain import plain
from tests.protocols.sync.world import HOUR_S, NOW_S, Box, Side, run_pair

__all__ = ["SALT", "SESSIONS", "STAMP_S", "Told", "box_of", "config_of", "fingerprint", "session_json"]

STAMP_S: Final = int(NOW_S) // HOUR_S * HOUR_S
ALICE, BOB, CAROL, DAVE, ERIN = (LogName("tea", log) for log in ("alice", "bob", "carol", "dave", "erin"))
FRANK: Final = LogName("café", "frank")

Message = tuple[LogName, int, str, int]
"""Log, seq, content, hours since it was first stored."""


@dataclass(frozen=True)
class Told:
    """A session to be played: what each side holds, since when they agree (`news` came after that), what is asked."""

    name: str
    description: str
    initiator: tuple[Message, ...]
    responder: tuple[Message, ...]
    initiator_news: tuple[Message, ...] = ()
    responder_news: tuple[Message, ...] = ()
    only: tuple[LogName, ...] | None = None
    initiator_topics: tuple[str, ...] | None = None
    responder_topics: tuple[str, ...] | None = None


def _log(name: LogName, seqs: range, *, age_h: int = 2) -> tuple[Message, ...]:
    return tuple((name, seq, f"{name.log} {seq}", age_h) for seq in seqs)


_COMMON: Final = (*_log(ALICE, range(3)), *_log(BOB, range(2)), *_log(CAROL, range(9)))

SESSIONS: Final = (
    Told(
        "example",
        "The smallest: cold, one log, the responder has one message more. Explained byte by byte in example.md.",
        _log(ALICE, range(1)),
        _log(ALICE, range(2)),
    ),
    Told(
        "cold",
        "Cold, with every kind of difference: alice has run ahead there, bob is only here, carol has a fork in her "
        "second block, dave has other dates, earlier ones on either side, and frank is only there, so that his name "
        "must be asked for. The first list shows the runs that differ; a second round, whose news do not explain it "
        "all, inspects what has the same runs; a third one finds nothing.",
        (
            *_log(ALICE, range(3)),
            *_log(BOB, range(2)),
            *_log(CAROL, range(70)),
            (DAVE, 0, "dave 0", 1),
            (DAVE, 1, "dave 1", 5),
        ),
        (
            *_log(ALICE, range(5)),
            *_log(CAROL, range(66)),
            (CAROL, 66, "another carol 66", 1),
            *_log(CAROL, range(67, 70)),
            (DAVE, 0, "dave 0", 5),
            (DAVE, 1, "dave 1", 1),
            *_log(FRANK, range(7, 9)),
        ),
    ),
    Told(
        "warm",
        "Warm: both remember when they held the same. Since then the initiator has a message more of alice and a first "
        "one of erin, the responder one more of bob and one of carol behind a gap. One question tells everything.",
        _COMMON,
        _COMMON,
        ((ALICE, 3, "alice 3", 0), (ERIN, 0, "erin 0", 0)),
        ((BOB, 2, "bob 2", 0), (CAROL, 11, "carol 11", 0)),
    ),
    Told(
        "equal",
        "Warm, and nothing has changed: one round trip.",
        _COMMON,
        _COMMON,
    ),
    Told(
        "hint",
        "A hint has named two logs. Of alice the responder has more; of frank, whom the initiator does not know, two "
        "messages.",
        _COMMON,
        (*_COMMON, (ALICE, 3, "alice 3", 0), *_log(FRANK, range(2), age_h=0)),
        only=(ALICE, FRANK),
    ),
    Told(
        "topics",
        "Two that keep other topics and have never met: the first question counts for nothing, both tell their topics, "
        "and tea is what they have in common. Of frank, in another topic, nothing is said.",
        (*_log(ALICE, range(3)), *_log(FRANK, range(2))),
        (*_log(ALICE, range(1)), *_log(BOB, range(2))),
        initiator_topics=("café", "tea"),
        responder_topics=("milk", "tea"),
    ),
)

SALT: Final = bytes.fromhex("5345435245542121")


def _messages_json(messages: tuple[Message, ...]) -> Json:
    return [
        {
            "topic": name.topic,
            "log": name.log,
            "seq": seq,
            "first_stored_s": STAMP_S - age_h * HOUR_S,
            "blob": content.encode().hex(),
        }
        for name, seq, content, age_h in messages
    ]


def box_of(side: Json) -> tuple[Box, Checkpoint | None]:
    """A mailbox with what a side of a session holds in `vectors.json`, and its checkpoint."""
    box = Box(interest=None if side["topics"] is None else Interest.of(side["topics"]))
    checkpoint = None
    for part in ("messages", "news"):
        if part == "news" and side["warm"]:
            checkpoint = Checkpoint(box.serial)
        for one in side[part]:
            box.put(LogName(one["topic"], one["log"]), one["seq"], bytes.fromhex(one["blob"]), one["first_stored_s"])
    return box, checkpoint


def config_of(session: Json, role: str) -> tuple[Box, SessionConfig]:
    """What a side of a session starts from."""
    box, checkpoint = box_of(session[role])
    only = None
    if role == "initiator" and session["only"] is not None:
        only = [handle_of(LogName(one["topic"], one["log"])) for one in session["only"]]
    return box, box.config(salt=bytes.fromhex(session["salt"]), only=only, checkpoint=checkpoint)


def _noting(session: Steps[SessionResult], role: str, frames: list[tuple[str, bytes]]) -> Steps[SessionResult]:
    """The same session; what it sends is noted."""
    value = None
    try:
        while True:
            effect = session.send(value)
            if isinstance(effect, Send):
                frames.append((role, effect.frame))
            value = yield effect
    except StopIteration as stop:
        result: SessionResult = stop.value
        return result


def fingerprint(box: Box, session: Json) -> str:
    """That of what both sides keep."""
    covered = common(*(box_of(session[role])[0].interest for role in ("initiator", "responder")))
    view = box.view(box.config().alive_from_s, covered)
    return live_fingerprint([log[0] for log in view.logs], [log[2] for log in view.logs])


def session_json(told: Told) -> Json:
    """A session as it stands in `vectors.json`."""
    is_warm = told.name in ("warm", "equal")
    session: Json = {
        "name": told.name,
        "description": told.description,
        "version": SYNC_VERSION_MAX,
        "clock_s": int(NOW_S),
        "salt": SALT.hex(),
        "only": None if told.only is None else [{"topic": name.topic, "log": name.log} for name in told.only],
        "initiator": {
            "messages": _messages_json(told.initiator),
            "warm": is_warm,
            "news": _messages_json(told.initiator_news),
            "topics": told.initiator_topics and list(told.initiator_topics),
        },
        "responder": {
            "messages": _messages_json(told.responder),
            "warm": is_warm,
            "news": _messages_json(told.responder_news),
            "topics": told.responder_topics and list(told.responder_topics),
        },
    }
    (one, mine), (other, theirs) = config_of(session, "initiator"), config_of(session, "responder")
    frames: list[tuple[str, bytes]] = []
    outcome = run_pair(
        Side(one, _noting(initiate(mine), "initiator", frames)),
        Side(other, _noting(respond(theirs), "responder", frames)),
    )
    for side in (outcome.initiator, outcome.responder):
        if side.error is not None:
            raise side.error
    session["transcript"] = [
        {"from": turn, "message": plain(decode(frame)), "frame": encode_frame(frame).hex()} for turn, frame in frames
    ]
    session["fingerprint_after"] = fingerprint(one, session)
    assert told.only or fingerprint(other, session) == session["fingerprint_after"]
    return session

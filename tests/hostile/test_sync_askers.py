"""Lying sync peers that ask, against one honest responder: bounded, refused, and nothing false is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import (
    BLOCK_SEQS,
    NAMES_ASKED_MAX,
    NAMES_PER_FRAGMENT_MAX,
    SALT_BYTES,
    SESSION_SLICE_ROWS,
    SESSION_TURNS_MAX,
)
from protocols.model import Item, digest_of, handle_of
from protocols.sync import common, responder
from protocols.sync.codec import decode, encode
from protocols.sync.effects import GiveWay, Send, SessionAborted
from protocols.sync.listing import Listing
from protocols.sync.messages import (
    About,
    Ask,
    AskedLog,
    Done,
    FetchedLog,
    Hello,
    MergedLog,
    Message,
    Named,
    Names,
    News,
    OfferedLog,
    Parcel,
    Refuse,
    Standing,
    Survey,
    Surveyed,
    Tell,
    ToldLog,
    Transfer,
    Want,
)
from protocols.sync.reconcile import DIFF, DIFFERS, FP, LIST, NONE, Range
from protocols.sync.regions import END, SHOW, Region
from protocols.sync.session import SessionResult, initiate, respond
from tests.hostile.sync_liars import (
    HANDLE,
    ITEM,
    LOG,
    STAMP_S,
    Steps,
    attack_responder,
    code_of,
    entries,
    hear,
    hello,
    mailbox,
    part,
    say,
    told_of,
)
from tests.protocols.sync.world import Box, Side, assert_equal, name_of, run_pair, sync

# --- a lying initiator -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([hello(Box(), salt=bytes(SALT_BYTES))], "state"),
        ([Want()], "state"),
        ([Standing()], "state"),
        ([Parcel([], b"unrequested", True)], "state"),
        ([Ask(None, [AskedLog(handle_of(name_of(1)), [Range(bytes(8), None, NONE)])])], "ranges"),
        ([Ask(None, [AskedLog(handle_of(name_of(1)), [Range(bytes(8), None, DIFF, hashes=(b"x" * 8,))])])], "ranges"),
        ([Transfer(offers=[OfferedLog(LOG, [(0, 0)], True)]), Transfer()], "state"),
        ([Transfer(offers=[OfferedLog(LOG, [(0, 0)], True)]), part((1, STAMP_S, 0), is_last=True)], "unrequested"),
        ([Transfer(offers=[OfferedLog(LOG, [(0, 9)], True)]), part((0, STAMP_S, 5), is_last=True)], "missing"),
    ],
)
def test_requests_that_break_the_rules(messages: list[Message], code: str) -> None:
    def script(box: Box) -> Steps:
        for message in messages[:-1]:
            yield from say(message)
            yield from hear()
        yield from say(messages[-1])

    outcome, heard, box = attack_responder(script)
    assert code_of(outcome.responder.error) == code
    assert told_of(heard) == code
    assert box.logs == mailbox().logs


@pytest.mark.parametrize(
    "question",
    [
        Survey([Region(0, END, SHOW)]),
        Survey([Region(step << 54, (step + 1) << 54, FP, b"x" * 8) for step in range(500)]),
        News(Listing(20, np.arange(4000, dtype=np.uint64), entries(*[[(0, 9)]] * 4000))),
        About([bytes(15) + bytes([n]) for n in range(200)], entries(*[[(0, 9)]] * 200)),
        Names(1, np.array([0, 1] * 1, np.uint64)),
        Names(64, np.arange(5000, dtype=np.uint64)),
        Ask((0, END)),
        Ask(None, [AskedLog(handle_of(name_of(1)))]),
    ],
    ids=lambda question: type(question).__name__,
)
def test_the_same_question_for_ever(question: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is answered alike and cheaply, and some time it is enough."""
    turns_max = 200
    monkeypatch.setattr(responder, "SESSION_TURNS_MAX", turns_max)

    def script(box: Box) -> Steps:
        yield from say(question)
        answer = yield from hear()
        assert not isinstance(answer, Refuse)
        for _ in range(2 * turns_max):
            yield from say(question)
            if isinstance((yield from hear()), Refuse):
                return

    outcome, _, box = attack_responder(script, box=mailbox(60))
    assert code_of(outcome.responder.error) in ("limit", "budget")
    assert outcome.frames <= 2 * turns_max + 4
    assert turns_max < SESSION_TURNS_MAX
    assert box.logs == mailbox(60).logs


def test_more_names_than_one_answer_has() -> None:
    """So many fragments are answered and no more, and so many logs for each."""

    def script(box: Box) -> Steps:
        yield from say(Names(64, np.arange(5000, dtype=np.uint64)))
        assert (yield from hear()) == Named(NAMES_ASKED_MAX, [])
        yield from say(Names(1, np.array([0, 1], np.uint64)))
        named = yield from hear()
        assert [index for index, _ in named.names] == [0] * NAMES_PER_FRAGMENT_MAX + [1] * NAMES_PER_FRAGMENT_MAX
        yield from say(Done())

    outcome, heard, _ = attack_responder(script)
    assert outcome.initiator.error is None is outcome.responder.error, heard


def test_more_hashing_than_any_honest_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "SESSION_ROWS_MAX", 1000)
    asked = 0

    def script(box: Box) -> Steps:
        nonlocal asked
        while True:
            yield from say(Survey([Region(0, END, FP, b"x" * 8)]))
            asked += 1
            if isinstance((yield from hear()), Refuse):
                return

    outcome, _, _ = attack_responder(script, box=mailbox(60))
    assert code_of(outcome.responder.error) == "budget"
    assert asked <= (1000 + 16 * 60) // 60 + 1


def test_a_fetch_of_what_is_not_there_is_answered_with_nothing() -> None:
    unknown = b"\xff" * 16
    known = handle_of(name_of(1))

    def script(box: Box) -> Steps:
        fetch = sorted([FetchedLog(known, [(1, 1), (9, SEQ_MAX)]), FetchedLog(unknown, [(0, SEQ_MAX)])])
        yield from say(Transfer(fetch))
        assert (yield from hear()) == Want([], [])
        parcel = yield from hear()
        assert parcel.is_last and parcel.stopped_at is None
        assert [header[0] for log in parcel.logs for header in log.headers] == [1]
        yield from say(Done())

    outcome, _, _ = attack_responder(script)
    assert outcome.responder.error is None


def test_an_offer_and_then_nothing() -> None:
    def script(box: Box) -> Steps:
        yield from say(Transfer(offers=[OfferedLog(LOG, [(0, SEQ_MAX)], True)]))
        yield from hear()

    box = mailbox()
    heard: list[Message] = []

    def liar() -> Steps:
        yield from say(hello(box, salt=bytes(SALT_BYTES)))
        heard.append((yield from hear()))
        yield from script(box)
        return SessionResult()

    outcome = run_pair(Side(box, liar()), Side(box, respond(box.config())))
    assert isinstance(outcome.responder.error, SessionAborted)
    assert LOG not in box.logs


def test_dates_of_what_is_not_held_change_nothing() -> None:
    def script(box: Box) -> Steps:
        lie = Item(0, digest_of(b"other"), 0, 1)
        merges = [MergedLog(handle_of(name_of(1)), [lie]), MergedLog(b"\xff" * 16, [lie])]
        yield from say(Transfer(merges=sorted(merges)))
        yield from hear()
        yield from say(Done(True, True, True))

    outcome, _, box = attack_responder(script)
    assert outcome.responder.error is None
    assert box.alive(0) == mailbox().alive(0)


def test_a_new_question_before_the_answer_was_fetched() -> None:
    box = Box()
    for seq in range(40_000):
        box.put(LOG, seq, b"")

    def script(_: Box) -> Steps:
        yield from say(Ask(None, [AskedLog(HANDLE)]))
        tell = yield from hear()
        assert isinstance(tell, Tell) and tell.more
        yield from say(Ask(None, [AskedLog(HANDLE)]))

    outcome, heard, _ = attack_responder(script, box=box)
    assert code_of(outcome.responder.error) == told_of(heard) == "state"


def test_a_question_about_a_very_long_log_gives_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box()
    for block in range(5_000):
        box.put(LOG, BLOCK_SEQS * block, b"")
    turns = [0]
    perform = Box.perform

    def counted(self: Box, effect: Any) -> Any:
        turns[-1] += isinstance(effect, GiveWay)
        return perform(self, effect)

    monkeypatch.setattr(Box, "perform", counted)
    for said in ([Range(bytes(8), None, LIST)], [Range(bytes(8), None, LIST, hashes=(b"x" * 8,))]):

        def script(_: Box, said: list[Range] = said) -> Steps:
            yield from say(Ask(None, [AskedLog(HANDLE, said)]))
            assert isinstance((yield from hear()), Tell)
            turns.append(0)
            yield from say(Done(False, False, False))

        outcome, _, _ = attack_responder(script, box=box)
        assert outcome.responder.error is None
    assert min(turns[:-1]) >= 8 * 5_000 // SESSION_SLICE_ROWS


def test_a_bad_salt_and_a_frame_that_is_not_a_hello() -> None:
    box = mailbox(2)
    for first in (hello(box, salt=b"short"), Ask(), hello(box, Ask(), salt=bytes(SALT_BYTES))):

        def liar(first: Message = first) -> Steps:
            yield from say(first)
            while (yield from hear()) is not None:
                pass
            return SessionResult()

        outcome = run_pair(Side(Box(), liar()), Side(box, respond(box.config())))
        assert isinstance(outcome.responder.error, RemoteProtocolError)


def test_version_1_is_refused_in_words() -> None:
    box = mailbox(2)

    def old() -> Steps:
        yield from say(hello(box, salt=bytes(16), version_min=1, version_max=1))
        refusal = yield from hear()
        assert isinstance(refusal, Refuse)
        assert (refusal.code, "version" in refusal.text) == ("version", True)
        return SessionResult()

    outcome = run_pair(Side(Box(), old()), Side(box, respond(box.config())))
    assert outcome.initiator.error is None


def test_a_replayed_session_moves_nothing_twice() -> None:
    """The recorded frames of a whole session, said again: what they bring is held already."""
    giver, taker = mailbox(5), Box()
    frames: list[bytes] = []

    def record(_: int, frame: bytes) -> bytes:
        frames.append(frame)
        return frame

    outcome = run_pair(Side(giver, initiate(giver.config())), Side(taker, respond(taker.config())), on_frame=record)
    assert outcome.initiator.error is None
    before = taker.alive(0)
    mine = [frame for frame in frames if not isinstance(decode(frame), (Surveyed, Standing, Want))][::1]

    def replay() -> Steps:
        for frame in mine:
            yield Send(frame)
            if isinstance(decode(frame), (Hello, Survey, News)):
                yield from hear()
        while (yield from hear()) is not None:
            pass
        return SessionResult()

    outcome = run_pair(Side(Box(), _turns(replay())), Side(taker, respond(taker.config())))
    assert taker.alive(0) == before


def _turns(session: Steps) -> Steps:
    """Ends quietly where the other side does."""
    try:
        return (yield from session)
    except SessionAborted:
        return SessionResult()


def test_an_honest_session_after_all_this() -> None:
    one, other = mailbox(7), mailbox(9)
    sync(one, other)
    assert_equal(one, other)


def test_a_told_log_that_was_not_asked_about() -> None:
    one, other = Box(), Box()
    one.put(LOG, 0, b"a", STAMP_S)
    other.put(LOG, 0, b"b", STAMP_S)

    def change(_: int, frame: bytes) -> bytes:
        message = decode(frame)
        if isinstance(message, Tell) and message.logs:
            return encode(Tell((), END, [ToldLog(b"\xff" * 16, [Range(bytes(8), None, DIFFERS)], [ITEM])]))
        return frame

    outcome = sync(one, other, on_frame=change)
    assert code_of(outcome.initiator.error) == "unrequested"
    assert (LIST, FP) == (2, 1)

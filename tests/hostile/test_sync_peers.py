"""Mailboxes that lie: each role of a sync session against a peer that breaks the rules on purpose.

Every attack ends in a RemoteProtocolError (told to the peer) or in good order, after a bounded number of frames, with
nothing stored that was not verified.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest

from protocols.errors import RemoteProtocolError
from protocols.limits import (
    PARCEL_MESSAGES_MAX,
    SALT_BYTES,
    SEQ_MAX,
    SESSION_TURNS_MAX,
    TRANSFER_MESSAGES_MAX,
    VARIANTS_MAX,
)
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.sync import responder
from protocols.sync.codec import decode, encode
from protocols.sync.effects import Receive, Runs, Send, SessionAborted
from protocols.sync.listing import Entries, Listing
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
    ParcelLog,
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
from protocols.sync.regions import LIST as LISTED
from protocols.sync.session import SessionConfig, SessionResult, initiate, respond
from tests.protocols.sync.world import NOW_S, Box, Outcome, Side, assert_equal, name_of, run_pair, sync

Steps = Generator[Any, Any, Any]
BLOB = b"a lie"
LOG = LogName("topic", "log")
HANDLE = handle_of(LOG)
STAMP_S = int(NOW_S) // 3600 * 3600
ITEM = Item(0, digest_of(BLOB), STAMP_S, len(BLOB))


def mailbox(logs: int = 200) -> Box:
    box = Box()
    for log in range(logs):
        for seq in range(3):
            box.put(name_of(log), seq, b"%d/%d" % (log, seq))
    return box


def entries(*spans: Sequence[tuple[int, int]]) -> Entries:
    return Entries(
        Runs(
            np.array([len(one) for one in spans], np.int64),
            np.array([first for one in spans for first, _ in one], np.uint64),
            np.array([last for one in spans for _, last in one], np.uint64),
        ),
        np.zeros(len(spans), np.bool_),
    )


def listing(handle: bytes, *spans: tuple[int, int]) -> Listing:
    """One log."""
    return Listing(64, np.array([int.from_bytes(handle[:8], "big")], np.uint64), entries(spans))


def hello(box: Box, first: Message | None = None, *, salt: bytes = b"", **changes: Any) -> Hello:
    config: SessionConfig = box.config()
    fields: dict[str, Any] = {
        "version_min": 2,
        "version_max": 2,
        "network": config.network,
        "now_s": int(config.now_s),
        "retention_s": config.retention.retention_s,
        "alive_from_s": config.alive_from_s,
        "software": "liar/1",
        "salt": salt,
        "first": encode(first) if first is not None else b"",
    }
    return Hello(**fields | changes)


def say(*messages: Message) -> Steps:
    for message in messages:
        yield Send(encode(message))


def hear() -> Steps:
    frame = yield Receive()
    return None if frame is None else decode(frame)


def liar_as_responder(tells: Iterator[Message], box: Box, heard: list[Message]) -> Steps:
    """Answers the hello with the first of `tells`, and whatever comes with the next."""
    heard.append((yield from hear()))
    yield from say(hello(box, next(tells)))
    while True:
        message = yield from hear()
        heard.append(message)
        if message is None or isinstance(message, (Refuse, Done)):
            return SessionResult()
        answer = next(tells, None)
        if answer is None:
            return SessionResult()
        yield from say(answer)


def attack_initiator(
    tells: Iterator[Message], *, box: Box | None = None, checkpoint: int | None = None
) -> tuple[Outcome, list[Message], Box]:
    box = box or mailbox()
    heard: list[Message] = []
    outcome = run_pair(
        Side(box, initiate(box.config(checkpoint=checkpoint))),
        Side(Box(), liar_as_responder(tells, box, heard)),
        frames_max=40_000,
        polite=False,
    )
    return outcome, heard, box


def liar_as_initiator(script: Callable[[Box], Steps], box: Box, heard: list[Message]) -> Steps:
    yield from say(hello(box, salt=bytes(SALT_BYTES)))
    heard.append((yield from hear()))
    yield from script(box)
    while (message := (yield from hear())) is not None:
        heard.append(message)
    return SessionResult()


def attack_responder(script: Callable[[Box], Steps], *, box: Box | None = None) -> tuple[Outcome, list[Message], Box]:
    box = box or mailbox()
    heard: list[Message] = []
    outcome = run_pair(
        Side(box, liar_as_initiator(script, box, heard)),
        Side(box, respond(box.config())),
        frames_max=40_000,
        polite=False,
    )
    return outcome, heard, box


def code_of(error: BaseException | None) -> str:
    assert isinstance(error, RemoteProtocolError), repr(error)
    return error.code


def told_of(heard: list[Message]) -> str:
    refusals = [message.code for message in heard if isinstance(message, Refuse)]
    assert len(refusals) == 1, heard
    return refusals[0]


# --- a lying responder -----------------------------------------------------------------------------------------------

WHOLE = Region(0, END, LISTED)
QUARTER = 1 << 62


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([Survey([Region(0, END, SHOW)])], "state"),  # a question for an answer
        ([Want()], "state"),
        ([Standing(rest=b"x" * 8)], "state"),  # a survey was asked
        ([Surveyed([Region(0, END, FP, b"x" * 8)])], "ranges"),  # wider than any region asked
        ([Surveyed([WHOLE], [0])], "ranges"),
        ([Surveyed([Region(1, 2, LISTED)], [0], until=1)], "ranges"),  # beyond its own end
        ([Surveyed([Region(0, 1, LISTED)], [1], listing(HANDLE, (0, 5)))], "name"),  # of another region, and unknown
        ([Surveyed([Region(0, 1, FP, b"x" * 8)]), Surveyed([], until=END)], ""),  # nothing comes of it
        ([Surveyed([], until=1), Surveyed([], until=1)], "no-progress"),
        ([hello(Box())], "state"),
        ([Tell()], "state"),
    ],
)
def test_answers_that_make_no_sense(answers: list[Message], code: str) -> None:
    def tells() -> Iterator[Message]:
        yield from answers
        yield Named(1, [(0, name_of(1))])

    outcome, _, box = attack_initiator(tells())
    before = mailbox()
    if code:
        assert code_of(outcome.initiator.error) == code
    assert outcome.frames < 40
    assert box.logs == before.logs


def test_regions_that_are_never_narrowed() -> None:
    """Each answer cuts off one place; the honest side must not go on for ever."""

    def tells() -> Iterator[Message]:
        for step in count(1):
            yield Surveyed([Region(0, step, FP, step.to_bytes(8, "big"))], until=step + 1)

    outcome, heard, _ = attack_initiator(tells())
    assert outcome.initiator.error is None or isinstance(outcome.initiator.error, RemoteProtocolError)
    assert len(heard) <= SESSION_TURNS_MAX
    assert outcome.initiator.result is None or not outcome.initiator.result.equal


def test_regions_split_for_ever() -> None:
    def tells() -> Iterator[Message]:
        upper = END
        yield Surveyed([], until=QUARTER)
        for step in count():
            upper = max(2, upper // 2)
            yield Surveyed([Region(QUARTER, QUARTER + upper - 1, FP, step.to_bytes(8, "big"))])

    outcome, heard, _ = attack_initiator(tells())
    assert code_of(outcome.initiator.error) in ("ranges", "no-progress")
    assert len(heard) < 200


def test_logs_that_do_not_exist() -> None:
    """Listed, but nobody can name them."""

    def tells() -> Iterator[Message]:
        fragments = np.arange(1, 5001, dtype=np.uint64) << np.uint64(40)
        lies = Listing(64, fragments, entries(*[[(0, 9)]] * 5000))
        yield Surveyed([], until=1)
        yield Surveyed([Region(1, 1 << 60, LISTED)], [5000], lies, until=1 << 60)
        while True:
            yield Named(450)

    outcome, heard, _ = attack_initiator(tells())
    assert len(heard) < 100
    assert outcome.initiator.error is not None or not outcome.initiator.result.equal


def test_names_that_are_never_told() -> None:
    def tells() -> Iterator[Message]:
        yield Surveyed([Region(0, 1 << 59, LISTED)], [1], Listing(64, np.array([7], np.uint64), entries([(0, 9)])))
        while True:
            yield Named(0)

    outcome, heard, _ = attack_initiator(tells())
    assert isinstance(outcome.initiator.error, RemoteProtocolError)
    assert len(heard) < 10


ONE_LOG = Surveyed([WHOLE], [1], listing(HANDLE, (0, 2)))
NAMED = Named(1, [(0, LOG)])


def attack_fetch(*messages: Message) -> tuple[Outcome, Box]:
    box = Box()
    outcome, _, _ = attack_initiator(iter([ONE_LOG, NAMED, Want()]), box=box) if not messages else (None, None, None)
    if messages:

        def liar(box: Box) -> Steps:
            yield from hear()
            yield from say(hello(box, ONE_LOG))
            assert isinstance((yield from hear()), Names)
            yield from say(NAMED)
            fetch = yield from hear()
            assert isinstance(fetch, Transfer)
            assert fetch.fetch == [FetchedLog(HANDLE, [(0, 2)])]
            yield from say(*messages)
            yield from hear()
            return SessionResult()

        outcome = run_pair(Side(box, initiate(box.config())), Side(Box(), liar(box)))
    assert outcome is not None
    return outcome, box


def part(*headers: tuple[int, int, int], data: bytes = b"", number: int = 0, **more: Any) -> Parcel:
    return Parcel([ParcelLog(number, None, headers)] if headers else [], data, **more)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([Want(), part((3, STAMP_S, 1), data=b"x", is_last=True)], "unrequested"),  # not asked for
        ([Want(), part((0, STAMP_S, 1), data=b"xy", is_last=True)], "unrequested"),  # a byte too many
        ([Want(), part((0, STAMP_S, 3), data=b"xy", is_last=True)], "missing"),  # too few
        ([Want(), part((0, STAMP_S, 1), data=b"x", number=1, is_last=True)], "unrequested"),
        ([Want(), Parcel()], "empty"),
        ([Want(), part((0, STAMP_S, 9), (1, STAMP_S, 9))], "limit"),  # announced, and not sent
        ([Want(), part(*[(0, STAMP_S, 0)] * (VARIANTS_MAX + 1), is_last=True)], "unrequested"),
        ([Want([(0, [(0, 0)])]), part((0, STAMP_S, 1), data=b"x", is_last=True)], "unrequested"),  # nothing was offered
        ([Want([], [(0, [ITEM])]), part(is_last=True)], "unrequested"),
        ([Want(), part(is_last=True, stopped_at=(5, 0))], "unrequested"),
        ([Want(), part(is_last=True, stopped_at=(0, 0))], "no-progress"),
        ([Want(), Want()], "state"),
        ([part((0, STAMP_S, 1), data=b"x", is_last=True)], "state"),
    ],
)
def test_bad_payload(messages: list[Message], code: str) -> None:
    outcome, box = attack_fetch(*messages)
    assert code_of(outcome.initiator.error) in (code, "unrequested", "malformed")
    assert all(seq in (0, 1, 2) for held in box.logs.values() for seq in held)


def test_advertised_and_never_delivered() -> None:
    outcome, box = attack_fetch(Want(), part(is_last=True))
    result = outcome.initiator.result
    assert result is not None
    assert (result.gone, result.settled, result.equal) == (3, False, False)
    assert not box.logs


def test_a_stream_without_an_end() -> None:
    def messages() -> Iterator[Message]:
        yield Surveyed([WHOLE], [1], listing(HANDLE, (0, SEQ_MAX)))
        yield NAMED
        yield Want()

    box = Box()

    def liar() -> Steps:
        yield from hear()
        script = messages()
        yield from say(hello(box, next(script)))
        for message in script:
            yield from hear()
            yield from say(message)
        for start in range(0, 2 * TRANSFER_MESSAGES_MAX, 1000):
            yield from say(part(*[(seq, STAMP_S, 0) for seq in range(start, start + 1000)]))
        yield from hear()
        return SessionResult()

    outcome = run_pair(Side(box, initiate(box.config())), Side(Box(), liar()), frames_max=40_000, polite=False)
    assert code_of(outcome.initiator.error) == "limit"
    assert len(box.logs[LOG]) <= 1.1 * TRANSFER_MESSAGES_MAX
    assert PARCEL_MESSAGES_MAX >= 1000


def test_a_boundary_that_would_revive_the_dead() -> None:
    box = mailbox(3)
    outcome = run_pair(
        Side(box, initiate(box.config())),
        Side(Box(), liar_with_hello(hello(box, Surveyed(), alive_from_s=0))),
    )
    assert code_of(outcome.initiator.error) == "boundary"


def liar_with_hello(answer: Hello) -> Steps:
    yield from hear()
    yield from say(answer)
    while (yield from hear()) is not None:
        pass
    return SessionResult()


def test_far_future_and_expired_dates() -> None:
    outcome, box = attack_fetch(
        Want(), part((0, STAMP_S + 10**9, 1), (1, 0, 1), (2, STAMP_S, 1), data=b"xyz", is_last=True)
    )
    held = {seq: stamp for (_, seq, _), stamp in box.alive(0).items()}
    assert held == {0: STAMP_S, 2: STAMP_S}
    assert outcome.initiator.error is None or isinstance(outcome.initiator.error, (RemoteProtocolError, SessionAborted))


def test_news_that_lie_are_found_out() -> None:
    """Whatever a reply to news claims, the rest must be the same on both sides."""
    box = mailbox()
    replies: list[Message] = [
        Standing(rest=b"x" * 8),
        Standing([0], entries([(0, 1)]), rest=b"x" * 8),
        Standing((), entries(), listing(HANDLE, (0, 5)), b"x" * 8),
    ]
    for reply in replies:
        outcome, heard, _ = attack_initiator(iter([reply]), box=box, checkpoint=box.serial)
        if isinstance(reply, Standing) and reply.differing:
            assert code_of(outcome.initiator.error) == "unrequested"
        else:
            assert any(isinstance(message, Survey) for message in heard)
    assert box.logs == mailbox().logs


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

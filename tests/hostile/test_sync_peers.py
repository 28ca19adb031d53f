"""Lying sync peers that answer, against one honest initiator: bounded, refused, and nothing false is stored."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest

from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX, VARIANTS_MAX
from protocols.limits.sync import PARCEL_MESSAGES_MAX, SESSION_TURNS_MAX, TRANSFER_MESSAGES_MAX
from protocols.model import Item, digest_of, handle_of
from protocols.sync.effects import SessionAborted
from protocols.sync.listing import Listing
from protocols.sync.messages import (
    Ask,
    FetchedLog,
    Hello,
    Message,
    Named,
    Names,
    Parcel,
    Standing,
    Survey,
    Surveyed,
    Tell,
    ToldLog,
    Transfer,
    Want,
)
from protocols.sync.reconcile import DIFF, DIFFERS, FP, NONE, Range
from protocols.sync.regions import END, SHOW, Region
from protocols.sync.regions import LIST as LISTED
from protocols.sync.session import Checkpoint, SessionResult, initiate
from tests.hostile.sync_liars import (
    HANDLE,
    ITEM,
    LOG,
    STAMP_S,
    Steps,
    attack_initiator,
    code_of,
    entries,
    hear,
    hello,
    liar_as_responder,
    listing,
    mailbox,
    part,
    say,
)
from tests.protocols.sync.world import Box, Outcome, Side, name_of, run_pair

# --- a lying responder -----------------------------------------------------------------------------------------------


def name_handle(number: int) -> bytes:
    return handle_of(name_of(number))


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


FORK = Item(0, digest_of(b"another lie"), STAMP_S, 11)


@pytest.mark.parametrize(
    ("tells", "code"),
    [
        ([Tell()], "unanswered"),
        ([Tell(logs=[ToldLog(HANDLE, items=[FORK], last=False)])], "unanswered"),
        ([Tell([(HANDLE, b"row hash")], logs=[ToldLog(HANDLE)])], "unrequested"),  # rows, of no region
        ([Tell(logs=[ToldLog(name_handle(3))])], "unrequested"),
        ([Tell(logs=[ToldLog(HANDLE, [Range(bytes(8), None, DIFF, hashes=(b"unlisted",))])])], "ranges"),
        ([Tell(logs=[ToldLog(HANDLE, [Range(bytes(8), None, DIFFERS)])])], "ranges"),  # to what was listed
        ([Tell(logs=[ToldLog(HANDLE, [Range(bytes(7) + b"\1", None, NONE)])])], "ranges"),  # of other bounds
        ([Tell(logs=[ToldLog(HANDLE, items=[FORK], last=False)], more=True)] * 2, "order"),  # a block twice
        ([Tell(more=True)] * 1000, "no-progress"),
    ],
)
def test_items_that_were_not_asked_for(tells: list[Message], code: str) -> None:
    """An inspection is answered with what it is about, all of it, and once."""
    box = Box()
    box.put(LOG, 0, b"a lie", STAMP_S)
    answers: list[Message] = [Surveyed([WHOLE], [1], listing(HANDLE, (0, 0))), Tell([(HANDLE, b"another?")])]
    outcome, heard, _ = attack_initiator(iter([*answers, *tells]), box=box)
    assert [type(message) for message in heard[:3]] == [Hello, Ask, Ask]
    assert code_of(outcome.initiator.error) == code
    assert len(heard) < 300


@pytest.mark.parametrize(
    "answer",
    [
        Standing([2], entries([(0, 9)])),
        Standing([], listing=listing(HANDLE, (0, 5))),
        Standing([0], entries([(0, 9)]), listing(HANDLE, (0, 5))),
    ],
)
def test_a_standing_of_logs_that_were_not_asked_about(answer: Standing) -> None:
    box = mailbox()
    config = box.config(only=[name_handle(1), name_handle(2)])
    liar = liar_as_responder(iter([answer]), box, [])
    outcome = run_pair(Side(box, initiate(config)), Side(Box(), liar), polite=False)
    assert code_of(outcome.initiator.error) == "unrequested"


@pytest.mark.parametrize("spans", [[(0, 3)], [(0, 0), (2, 9)], [(5, 5)]])
def test_a_wish_for_more_than_was_offered(spans: list[tuple[int, int]]) -> None:
    box = Box()
    for seq in range(3):
        box.put(LOG, seq, b"", STAMP_S)
    box.put(LOG, 9, b"", STAMP_S)
    lies = iter([Surveyed([WHOLE], [1], listing(HANDLE, (9, 9))), Want([(0, spans)])])
    outcome, heard, _ = attack_initiator(lies, box=box)
    assert any(isinstance(message, Transfer) and message.offers for message in heard)
    assert code_of(outcome.initiator.error) == "unrequested"
    assert not any(isinstance(message, Parcel) for message in heard)


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


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([Want(), part((3, STAMP_S, 1), data=b"x", is_last=True)], "unrequested"),  # not asked for
        ([Want(), part((0, STAMP_S, 1), data=b"xy", is_last=True)], "unrequested"),  # a byte too many
        ([Want(), part((0, STAMP_S, 3), data=b"xy", is_last=True)], "missing"),  # too few
        ([Want(), part((0, STAMP_S, 1), data=b"x", number=1, is_last=True)], "unrequested"),
        ([Want(), part((1, STAMP_S, 0)), part((0, STAMP_S, 0), is_last=True)], "unrequested"),  # out of order
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
        outcome, heard, _ = attack_initiator(iter([reply]), box=box, checkpoint=Checkpoint(box.serial))
        if isinstance(reply, Standing) and reply.differing:
            assert code_of(outcome.initiator.error) == "unrequested"
        else:
            assert any(isinstance(message, Survey) for message in heard)
    assert box.logs == mailbox().logs

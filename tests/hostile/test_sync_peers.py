"""Lying sync peers that answer, against one honest initiator: bounded, refused, and nothing false is stored."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest

from protocols.errors import RemoteProtocolError
from protocols.limits import (
    PARCEL_MESSAGES_MAX,
    SEQ_MAX,
    SESSION_TURNS_MAX,
    TRANSFER_MESSAGES_MAX,
    VARIANTS_MAX,
)
from protocols.sync.effects import SessionAborted
from protocols.sync.listing import Listing
from protocols.sync.messages import (
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
    Transfer,
    Want,
)
from protocols.sync.reconcile import FP
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
    listing,
    mailbox,
    part,
    say,
)
from tests.protocols.sync.world import Box, Outcome, Side, name_of, run_pair

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
        outcome, heard, _ = attack_initiator(iter([reply]), box=box, checkpoint=Checkpoint(box.serial))
        if isinstance(reply, Standing) and reply.differing:
            assert code_of(outcome.initiator.error) == "unrequested"
        else:
            assert any(isinstance(message, Survey) for message in heard)
    assert box.logs == mailbox().logs

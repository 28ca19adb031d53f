"""Mailboxes that lie: each role of a sync session against a peer that breaks the rules on purpose.

Every attack ends in a RemoteProtocolError (told to the peer) or in good order, after a bounded number of frames, with
nothing stored that was not verified.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import count
from typing import Any

import pytest

from protocols.errors import RemoteProtocolError
from protocols.limits import (
    BLOB_BYTES_MAX,
    FRUITLESS_TURNS_MAX,
    SEQ_MAX,
    SESSION_ITEMS_MAX,
    SESSION_TURNS_MAX,
)
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.sync.codec import decode, encode
from protocols.sync.effects import Receive, Send, SessionAborted
from protocols.sync.messages import (
    Ask,
    AskedLog,
    Blobs,
    Done,
    Hello,
    Message,
    Refuse,
    Tell,
    ToldLog,
    Transfer,
    TransferLog,
    Want,
)
from protocols.sync.reconcile import DIFF, DIFFERS, FP, LIST, NONE, Range
from protocols.sync.session import SessionConfig, SessionResult, initiate, respond
from tests.protocols.sync.world import NOW_S, Box, Outcome, Side, name_of, run_pair

Steps = Generator[Any, Any, Any]
LOW = bytes(16)
HALF = b"\x80" + bytes(15)
BLOB = b"a lie"
LOG = LogName("topic", "log")
HANDLE = handle_of(LOG)
ITEM = Item(0, digest_of(BLOB), int(NOW_S) // 3600 * 3600, len(BLOB))


def mailbox(logs: int = 40) -> Box:
    box = Box()
    for log in range(logs):
        for seq in range(3):
            box.put(name_of(log), seq, b"%d/%d" % (log, seq))
    return box


def hello(box: Box, first: Message | None = None, *, salt: bytes = b"") -> Hello:
    config: SessionConfig = box.config()
    return Hello(
        version_min=1,
        version_max=1,
        network=config.network,
        now_s=int(config.now_s),
        retention_s=config.retention.retention_s,
        alive_from_s=config.alive_from_s,
        software="liar/1",
        salt=salt,
        first=encode(first) if first is not None else b"",
    )


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


def attack_initiator(tells: Iterator[Message], *, box: Box | None = None) -> tuple[Outcome, list[Message], Box]:
    box = box or mailbox()
    heard: list[Message] = []
    outcome = run_pair(
        Side(box, initiate(box.config())),
        Side(Box(), liar_as_responder(tells, box, heard)),
        frames_max=40_000,
    )
    return outcome, heard, box


def liar_as_initiator(script: Callable[[Box], Steps], box: Box, heard: list[Message]) -> Steps:
    yield from say(hello(box, salt=b"s" * 16))
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
    )
    return outcome, heard, box


def code_of(error: BaseException | None) -> str:
    assert isinstance(error, RemoteProtocolError), repr(error)
    return error.code


def told_of(heard: list[Message]) -> str:
    refusals = [message.code for message in heard if isinstance(message, Refuse)]
    assert len(refusals) == 1, heard
    return refusals[0]


# --- a lying responder --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Tell([Range(LOW, None, FP, b"x" * 8)]), "ranges"),  # wider than any range asked
        (Tell([Range(LOW, None, NONE)]), "ranges"),
        (Tell([Range(LOW, b"\x01" + bytes(15), DIFFERS)]), "ranges"),
        (Tell([Range(LOW, b"\0\1" + bytes(14), DIFF, hashes=(b"x" * 8,))]), "ranges"),  # nothing was listed
        (Tell([], [ToldLog(HANDLE, None, [], [ITEM])]), "name"),
        (Tell([], [ToldLog(HANDLE, LOG, [Range(bytes(8), None, DIFFERS)], [])]), "unrequested"),
        (Tell([], [ToldLog(HANDLE, LOG, [], [ITEM], False)]), "unanswered"),
        (Tell([Range(LOW, b"\0\1" + bytes(14), LIST, hashes=(b"y" * 8,))], [], True), "type"),
        (Want(), "state"),
        (Done(), "state"),
    ],
)
def test_answers_that_fit_no_question(answer: Message, code: str) -> None:
    outcome, heard, box = attack_initiator(iter([answer, hello(Box())]))
    if code == "type":  # the lie is plausible; the hello that follows it is not
        code = "state"
    assert code_of(outcome.initiator.error) == code
    assert told_of(heard) == code
    assert box.commits == 0


def test_the_same_answer_for_ever() -> None:
    sub = Tell([Range(LOW, b"\0\1" + bytes(14), FP, b"x" * 8)])
    outcome, _, _ = attack_initiator(iter(lambda: sub, None))
    assert outcome.frames < 20


def shrinking() -> Iterator[Message]:
    """A fingerprint that never matches, of a range that is a little smaller each time."""
    for step in count(1):
        upper = ((1 << 120) - step).to_bytes(16, "big")
        yield Tell([Range(LOW, upper, FP, step.to_bytes(8, "big"))])


def test_endless_splits_are_ended() -> None:
    outcome, _, box = attack_initiator(shrinking())
    assert outcome.frames <= 2 * FRUITLESS_TURNS_MAX + 8
    assert box.commits == 0


def test_more_to_come_for_ever() -> None:
    outcome, heard, _ = attack_initiator(iter(lambda: Tell(more=True), None))
    assert code_of(outcome.initiator.error) == told_of(heard) == "no-progress"
    assert outcome.frames <= 2 * FRUITLESS_TURNS_MAX + 8


def inventing(items_each: int) -> Iterator[Message]:
    """New logs for ever, with messages that are never delivered."""
    for number in count():
        name = LogName("lies", str(number))
        items = [Item(seq, digest_of(b"%d" % seq), ITEM.first_stored_s, 1000) for seq in range(items_each)]
        yield Tell([], [ToldLog(handle_of(name), name, [], items)], True)


def deserting(tells: Iterator[Message], box: Box) -> Steps:
    """Tells of everything and has nothing when it is asked for."""
    yield from hear()
    yield from say(hello(box, next(tells)))
    while True:
        message = yield from hear()
        if isinstance(message, Transfer):
            number = sum(len(log.items) for log in message.fetch)
            yield from say(Want(bytes(-(-sum(len(log.items) for log in message.offers) // 8))))
            if number:
                yield from say(Blobs(b"", list(range(number)), True))
        elif isinstance(message, Ask):
            yield from say(next(tells))
        else:
            return SessionResult()


def test_advertised_and_never_delivered() -> None:
    box = mailbox()
    outcome = run_pair(Side(box, initiate(box.config())), Side(Box(), deserting(inventing(1000), box)))
    result = outcome.initiator.result
    assert result is not None
    assert result.received == 0
    assert result.gone >= SESSION_ITEMS_MAX
    assert result.described < SESSION_ITEMS_MAX + 5000
    assert not result.complete
    assert not any(commit for commit in box.logs if commit.topic == "lies")


def test_logs_without_end_and_without_items() -> None:
    outcome, _, _ = attack_initiator(inventing(0))
    assert code_of(outcome.initiator.error) == "no-progress"


def test_a_log_told_twice() -> None:
    told = ToldLog(HANDLE, LOG, [], [ITEM])
    outcome, _, _ = attack_initiator(iter([Tell([], [told], True), Tell([], [told])]))
    assert code_of(outcome.initiator.error) == "unrequested"


def test_a_block_told_twice() -> None:
    told = ToldLog(HANDLE, LOG, [], [ITEM], False)
    outcome, _, _ = attack_initiator(iter([Tell([], [told], True), Tell([], [told], True)]))
    assert code_of(outcome.initiator.error) == "order"


ONE_LOG = Tell([], [ToldLog(HANDLE, LOG, [], [ITEM])])


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ([Want(), Blobs(b"a lye")], "digest"),
        ([Want(), Blobs(b"a lie and more")], "unrequested"),
        ([Want(), Blobs(b"a l")], "missing"),
        ([Want(), Blobs(b"a l", last=False), Blobs(b"")], "missing"),
        ([Want(), Blobs(b"", last=False)], "empty"),
        ([Want(), Blobs(b"a l", [], False), Blobs(b"", [0])], "gone"),  # after a part of it
        ([Want(), Blobs(b"", [1])], "gone"),  # index out of range
        ([Want(), Blobs(b"a lie", [0])], "unrequested"),  # gone, and there
        ([Want(b"\x01"), Blobs(b"a lie")], "unrequested"),  # nothing was offered
        ([Want(b"", [(0, 5)]), Blobs(b"a lie")], "unrequested"),
        ([Tell(), Blobs(b"a lie")], "state"),
        ([Want(), Tell()], "state"),
        ([Blobs(b"a lie")], "state"),
    ],
)
def test_bad_deliveries(reply: list[Message], code: str) -> None:
    box = Box()

    def responder() -> Steps:
        yield from hear()
        yield from say(hello(box, ONE_LOG))
        yield from hear()
        yield from say(*reply)
        heard.append((yield from hear()))
        return SessionResult()

    heard: list[Message] = []
    outcome = run_pair(Side(box, initiate(box.config())), Side(Box(), responder()))
    assert code_of(outcome.initiator.error) == told_of(heard) == code
    assert not box.logs


def test_a_claim_of_many_huge_messages_is_fetched_one_at_a_time() -> None:
    box = Box()
    items = [Item(seq, digest_of(b"%d" % seq), ITEM.first_stored_s, BLOB_BYTES_MAX) for seq in range(100)]
    asked: list[Transfer] = []

    def responder() -> Steps:
        yield from hear()
        yield from say(hello(box, Tell([], [ToldLog(HANDLE, LOG, [], items)])))
        while isinstance(message := (yield from hear()), Transfer):
            asked.append(message)
            yield from say(Want(), Blobs(b"", [0]))
        return SessionResult()

    outcome = run_pair(Side(box, initiate(box.config())), Side(Box(), responder()))
    assert outcome.initiator.result is not None and outcome.initiator.result.gone == 100
    assert all(len(log.items) == 1 for transfer in asked for log in transfer.fetch)


def test_a_boundary_that_would_revive_the_dead() -> None:
    box = mailbox()
    said = hello(box)
    low = Hello(1, 1, said.network, said.now_s, said.retention_s, said.alive_from_s - 3600, "liar/1")

    def responder() -> Steps:
        yield from hear()
        yield from say(low)
        return (yield from hear())

    outcome = run_pair(Side(box, initiate(box.config())), Side(Box(), responder()))
    assert code_of(outcome.initiator.error) == "boundary"


def test_far_future_and_expired_dates() -> None:
    box = Box()
    items = [
        Item(0, digest_of(b"0"), 2**52, 1),  # the far future becomes now
        Item(1, digest_of(b"1"), 3600, 1),  # expired: dropped silently
    ]

    def responder() -> Steps:
        yield from hear()
        yield from say(hello(box, Tell([], [ToldLog(HANDLE, LOG, [], items)])))
        request = yield from hear()
        assert [item.seq for item in request.fetch[0].items] == [0]
        yield from say(Want(), Blobs(b"0"))
        yield from hear()
        yield from say(Done())
        return SessionResult()

    outcome = run_pair(Side(box, initiate(box.config())), Side(Box(), responder()))
    assert outcome.initiator.error is None and outcome.responder.error is None
    assert box.items(LOG, 0, SEQ_MAX) == [Item(0, digest_of(b"0"), box.retention.stamp(NOW_S), 1)]


# --- a lying initiator --------------------------------------------------------------------------------


def offer(*items: Item, name: LogName | None = LOG, handle: bytes = HANDLE) -> Transfer:
    return Transfer([TransferLog(handle, list(items), name)], [], [])


def fetch(handle: bytes, *items: Item) -> Transfer:
    return Transfer([], [], [TransferLog(handle, list(items))])


HELD = handle_of(name_of(1))
HUGE = [Item(seq, digest_of(b"%d" % seq), ITEM.first_stored_s, BLOB_BYTES_MAX) for seq in range(2)]


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([Ask([], [], [b"x" * 8])], "unrequested"),  # a row that was not listed
        ([Ask([Range(LOW, None, DIFF, hashes=(b"x" * 8,))])], "ranges"),
        ([Ask([], [AskedLog(HELD, [Range(bytes(8), None, DIFFERS)])])], "ranges"),
        ([fetch(HANDLE, ITEM)], "unrequested"),  # from a log that was not told
        ([offer(ITEM, name=None)], "name"),
        ([offer(*HUGE)], "limit"),
        ([Blobs(BLOB)], "state"),  # payload that nobody asked for
        ([Want()], "state"),
        ([hello(Box(), salt=b"s" * 16)], "state"),
        ([Tell()], "state"),
    ],
)
def test_requests_that_break_the_rules(messages: list[Message], code: str) -> None:
    outcome, heard, box = attack_responder(lambda _: say(*messages))
    assert code_of(outcome.responder.error) == told_of(heard) == code
    assert box.commits == 0


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ([Blobs(b"a lye")], "digest"),
        ([Blobs(b"a lie!")], "unrequested"),
        ([Blobs(b"a")], "missing"),
        ([Blobs(b"", last=False)] * 2, "empty"),
        ([Ask()], "state"),
        ([Done()], "state"),
    ],
)
def test_bad_payload_after_an_offer(payload: list[Message], code: str) -> None:
    def script(_: Box) -> Steps:
        yield from say(offer(ITEM))
        want = yield from hear()
        assert want == Want(b"\x01", [])
        yield from say(*payload[:1])

    outcome, heard, box = attack_responder(script)
    assert code_of(outcome.responder.error) == told_of(heard) == code
    assert LOG not in box.logs


def test_an_offer_and_then_nothing() -> None:
    def initiator(box: Box) -> Steps:
        yield from say(hello(box, salt=b"s" * 16))
        yield from hear()
        yield from say(offer(ITEM))
        yield from hear()
        return SessionResult()

    box = mailbox()
    outcome = run_pair(Side(box, initiator(box)), Side(box, respond(box.config())))
    assert isinstance(outcome.responder.error, SessionAborted)
    assert LOG not in box.logs


def test_a_new_question_before_the_answer_was_fetched() -> None:
    box = mailbox(3000)

    def script(_: Box) -> Steps:
        ask = Ask([Range(LOW, None, LIST)])
        yield from say(ask)
        tell = yield from hear()
        assert isinstance(tell, Tell) and tell.more
        yield from say(ask)

    outcome, heard, _ = attack_responder(script, box=box)
    assert code_of(outcome.responder.error) == told_of(heard) == "state"


def test_asking_for_the_same_for_ever() -> None:
    box = mailbox(300)
    turns = 0

    def script(_: Box) -> Steps:
        nonlocal turns
        ranges = [Range(LOW, HALF, FP, b"x" * 8), Range(HALF, None, FP, b"x" * 8)]
        while True:
            yield from say(Ask(ranges))
            answer = yield from hear()
            if not isinstance(answer, Tell):
                return
            turns += 1

    outcome, _, _ = attack_responder(script, box=box)
    assert code_of(outcome.responder.error) in ("budget", "limit")
    assert turns <= SESSION_TURNS_MAX


def test_asking_for_all_items_again_and_again() -> None:
    box = mailbox(2000)

    def script(_: Box) -> Steps:
        while True:
            yield from say(Ask([Range(LOW, None, LIST)]))
            while isinstance(answer := (yield from hear()), Tell) and answer.more:
                yield from say(Ask())
            if not isinstance(answer, Tell):
                return

    outcome, _, _ = attack_responder(script, box=box)
    assert code_of(outcome.responder.error) == "limit"
    assert outcome.responder.bytes_out < 30_000_000


def test_a_fetch_of_what_is_not_there_is_answered_as_gone() -> None:
    answers: list[Any] = []

    def script(_: Box) -> Steps:
        yield from say(fetch(HELD, ITEM, Item(1, digest_of(b"1/1"), 0, 0)))
        answers.append((yield from hear()))
        answers.append((yield from hear()))
        yield from say(Done())

    outcome, _, _ = attack_responder(script)
    assert outcome.responder.error is None
    assert answers == [Want(b"", []), Blobs(b"1/1", [0])]


def test_a_fetch_of_several_huge_messages() -> None:
    box = Box()
    blobs = [bytes([number]) * 1_500_000 for number in range(2)]
    for seq, blob in enumerate(blobs):
        box.put(LOG, seq, blob)
    items = [Item(seq, digest_of(blob), 0, 0) for seq, blob in enumerate(blobs)]
    outcome, heard, _ = attack_responder(lambda _: say(fetch(HANDLE, *items)), box=box)
    assert code_of(outcome.responder.error) == told_of(heard) == "limit"


def test_a_bad_salt_and_a_frame_that_is_not_a_hello() -> None:
    for first in (hello(Box()), Done()):
        box = Box()

        def initiator(message: Message = first) -> Steps:
            yield from say(message)
            return (yield from hear())

        outcome = run_pair(Side(box, initiator()), Side(box, respond(box.config())))
        assert code_of(outcome.responder.error) in ("malformed", "state")


def test_an_honest_session_after_all_this() -> None:
    box, other = mailbox(), mailbox()
    other.put(LOG, 0, b"news")
    outcome = run_pair(Side(box, initiate(box.config())), Side(other, respond(other.config())))
    assert outcome.initiator.result is not None and outcome.initiator.result.received == 1

"""Admission between mailboxes under one clock: who is let in, what strangers get to see, how often they may guess."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import protocols.admission.exchange
from node.admission.files import AdmissionFiles, load_admission
from node.admission.guesses import Guesses
from node.admission.policy import Admission, AdmissionError, Password
from node.aside import inline
from node.sync.engine import SYNC_PROTOCOL
from node.sync.peers import PeerState
from node.transport.api import Stream, StreamBroken
from node.transport.frames import next_frame
from node.transport.memory import MemoryTransport
from protocols.admission.exchange import ADMISSION_PROTOCOL, Compute, Guess, NotAdmitted, Party, Receive, Send, initiate
from protocols.admission.messages import Needs
from protocols.admission.secret import for_mailboxes
from protocols.errors import RemoteProtocolError
from protocols.limits.admission import (
    ADMISSIONS_AT_ONCE_MAX,
    EXCHANGES_BURST,
    EXCHANGES_INTERVAL_S,
    EXCHANGES_TOTAL_BURST,
    EXCHANGES_TOTAL_INTERVAL_S,
    GUESSES_TOTAL_BURST,
    GUESSES_TOTAL_INTERVAL_S,
)
from protocols.limits.replication import PEER_SHUN_FIRST_S
from protocols.model import LogName, MailboxId, handle_of
from protocols.sync.codec import decode, encode
from protocols.sync.hints import HintedLog, HintedMessage, encode_hints
from protocols.sync.messages import Refuse
from protocols.sync.wire import FrameDecoder, encode_frame
from tests.memory_world import SimulatedMailbox, World

NEWS = "/mailboxd/news/4/sim"
TOPIC = LogName("a very private topic", "alice")


def password(words: str) -> Password:
    return Password(hashlib.sha256(words.encode()).digest(), hashlib.md5(words.encode()).digest())


RIGHT, WRONG = password("right"), password("wrong")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with inline():  # no threads: the clock jumps
        async with trio.open_nursery() as nursery:
            yield World(nursery, seed=1)
            nursery.cancel_scope.cancel()


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """One entry for each half of SPAKE2 that anybody computes."""
    made: list[bytes] = []
    real = protocols.admission.exchange.Pake

    class Counting(real):  # type: ignore[misc, valid-type]
        def share(self) -> bytes:
            made.append(super().share())
            return made[-1]

    monkeypatch.setattr(protocols.admission.exchange, "Pake", Counting)
    return made


async def until(condition: Callable[[], Any], *, seconds: float = 120.0) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds
            await trio.sleep(0.1)


async def put(mailbox: SimulatedMailbox, seq: int = 0) -> None:
    await mailbox.core.mailbox.deliver([(TOPIC, seq, b"secret %d" % seq)])


def state(mailbox: SimulatedMailbox, other: SimulatedMailbox) -> tuple[PeerState, str] | None:
    peer = mailbox.core.engine.table.get(other.mailbox_id)
    return None if peer is None else (peer.state, peer.reason)


def in_sync(one: SimulatedMailbox, other: SimulatedMailbox) -> bool:
    return state(one, other) == (PeerState.IN_SYNC, "")


class Stranger:
    """A mailbox with a key and a transport of its own that does what it likes."""

    def __init__(self, world: World, name: str = "mallory") -> None:
        self.transport = MemoryTransport(world.network, MailboxId(hashlib.sha256(name.encode()).digest()))
        self.heard: list[bytes] = []
        self.transport.listen(NEWS, lambda _publisher, data: self.heard.append(data))
        self._random = random.Random(name)

    async def meet(self, nursery: trio.Nursery, mailbox: SimulatedMailbox) -> None:
        await nursery.start(self.transport.run)
        await self.transport.connect(mailbox.core.transport.addresses())

    async def guess(self, mailbox: SimulatedMailbox, words: str) -> NotAdmitted | None:
        """Tries a password; returns why it was not let in, None if it was."""
        stream = await self.transport.open_stream(mailbox.mailbox_id, ADMISSION_PROTOCOL)
        party = Party(
            local=self.transport.local.public_key,
            peer=mailbox.mailbox_id.public_key,
            network="sim",
            needs=Needs.PROOF,
            nonce=self._random.randbytes(32),
            entropy=self._random.randbytes,
            secret=for_mailboxes(password(words).secret),
            generation=self._random.randbytes(16),
        )
        steps, decoder, result = initiate(party), FrameDecoder(), None
        try:
            while True:
                match steps.send(result):
                    case Send(frame):
                        result = await stream.send_all(encode_frame(frame))  # type: ignore[func-returns-value]
                    case Receive():
                        result = await next_frame(stream, decoder)
                    case Compute(work):
                        result = work()
                    case Guess():
                        result = 0.0
        except StopIteration:
            return None
        except NotAdmitted as refused:
            return refused
        finally:
            await stream.close()


async def test_another_password_costs_one_guess_however_long_they_are_neighbours(
    world: World, shares: list[bytes], autojump_clock: MockClock
) -> None:
    first = await world.start("first", admission=Admission(password=RIGHT))
    await put(first)
    second = await world.start("second", peers=(first,), admission=Admission(password=WRONG))
    await trio.sleep(3600)
    for one, other in ((first, second), (second, first)):
        assert state(one, other) is not None
        assert "another password" in str(state(one, other))
        assert one.core.doorkeeper.guesses.turned_away == 0
    assert len(shares) <= 4  # one exchange from either side
    assert second.core.engine.counters.synced_in == 0
    # The right one is taken at once when it is set, on either side.
    second.core.doorkeeper.admission.set_password(RIGHT)
    await until(lambda: in_sync(first, second) and in_sync(second, first))
    assert await first.fingerprint() == await second.fingerprint()


async def test_later_connections_need_no_password_arithmetic(
    world: World, shares: list[bytes], autojump_clock: MockClock
) -> None:
    first = await world.start("first", admission=Admission(password=RIGHT))
    second = await world.start("second", peers=(first,), admission=Admission(password=RIGHT))
    await until(lambda: in_sync(first, second))
    assert len(shares) == 2
    for seq in range(3):
        await second.core.transport.disconnect(first.mailbox_id)
        await put(first, seq)
        await until(lambda seq=seq: second.core.engine.counters.synced_in == seq + 1)
    assert len(shares) == 2
    # A new password makes the old ticket worthless.
    for mailbox in (first, second):
        mailbox.core.doorkeeper.admission.set_password(WRONG)
    await put(first, 3)
    await until(lambda: second.core.engine.counters.synced_in == 4)
    assert len(shares) > 2


async def test_a_stranger_hears_and_says_nothing(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    mailbox = await world.start("mailbox", admission=Admission(password=RIGHT))
    friend = await world.start("friend", peers=(mailbox,), admission=Admission(password=RIGHT))
    await until(lambda: in_sync(friend, mailbox))
    mallory = Stranger(world)
    await mallory.meet(nursery, mailbox)
    for seq in range(3):
        await put(mailbox, seq)
        await trio.sleep(5)
    assert friend.core.engine.counters.synced_in == 3
    assert mallory.heard == []
    hint = encode_hints({b"h" * 16: HintedLog.of("t", b"s" * 16)}, overflow=False, audience=[])[0]
    sessions = mailbox.core.engine.counters.sessions
    for _ in range(20):
        await mallory.transport.publish(NEWS, hint)
    peer = mailbox.core.engine.table.get(mallory.transport.local)
    assert peer is not None
    assert not peer.hinted
    news = HintedMessage(TOPIC, 7, int(mailbox.clock.now_s()), b"not from you")
    logs = {handle_of(TOPIC): HintedLog.of(TOPIC.topic, b"s" * 16)}
    for data in encode_hints(logs, clock_s=int(mailbox.clock.now_s()), messages=[news]):
        await mallory.transport.publish(NEWS, data)
    await trio.sleep(1)
    assert mailbox.store.statistics().messages == 3
    # A sync that it opens ends with one frame, the same whatever it says.
    stream = await mallory.transport.open_stream(mailbox.mailbox_id, SYNC_PROTOCOL)
    decoder = FrameDecoder()
    frame = await next_frame(stream, decoder)
    assert frame is not None
    refusal = decode(frame)
    assert isinstance(refusal, Refuse)
    assert refusal.code == "admission"
    assert await next_frame(stream, decoder) is None
    assert mailbox.core.engine.counters.sessions == sessions
    # Nor is it told of when it is thrown out.
    mailbox.core.doorkeeper.admission.distrust(friend.mailbox_id)
    await put(mailbox, 9)
    await trio.sleep(100)
    assert friend.core.engine.counters.synced_in == 3
    assert "distrusted" in str(state(mailbox, friend))


@pytest.mark.parametrize("identities", [1, 1000])
async def test_a_thousand_wrong_passwords_are_answered_some_dozen_times(
    world: World, nursery: trio.Nursery, shares: list[bytes], autojump_clock: MockClock, identities: int
) -> None:
    mailbox = await world.start("mailbox", admission=Admission(password=RIGHT))
    friend = await world.start("friend", peers=(mailbox,), admission=Admission(password=RIGHT))
    await until(lambda: in_sync(friend, mailbox))
    before, began_at = len(shares), trio.current_time()
    mallory: Stranger | None = None
    for number in range(1000):
        if mallory is None or identities > 1:
            if mallory is not None:
                await mallory.transport.disconnect(mailbox.mailbox_id)
            mallory = Stranger(world, f"mallory {number}")
            await mallory.meet(nursery, mailbox)
        refused = await mallory.guess(mailbox, f"guess {number}")
        assert refused is not None
    took_s = trio.current_time() - began_at
    answered = (len(shares) - before) - 1000  # each guess needs a half of its own
    allowed = GUESSES_TOTAL_BURST + took_s / GUESSES_TOTAL_INTERVAL_S
    assert 1 <= answered <= allowed + 1
    # Who is known notices nothing, also over a new connection without a ticket.
    await put(mailbox)
    mailbox.core.doorkeeper._tickets.clear()
    await friend.core.transport.disconnect(mailbox.mailbox_id)
    await until(lambda: friend.core.engine.counters.synced_in == 1)


async def test_many_who_come_at_once_with_the_right_password_all_get_in(
    world: World, autojump_clock: MockClock
) -> None:
    hub = await world.start("hub", admission=Admission(password=RIGHT))
    others = [await world.start(f"{n}", peers=(hub,), admission=Admission(password=RIGHT)) for n in range(30)]
    await until(lambda: all(in_sync(one, hub) for one in others), seconds=60)
    assert hub.core.doorkeeper.guesses.begin("somebody else", trio.current_time()) == 0


async def test_silent_strangers_keep_nobody_out(world: World, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    mailbox = await world.start("mailbox", admission=Admission(password=RIGHT))
    for number in range(2 * ADMISSIONS_AT_ONCE_MAX):
        silent = Stranger(world, f"silent {number}")
        await silent.meet(nursery, mailbox)
        await silent.transport.open_stream(mailbox.mailbox_id, ADMISSION_PROTOCOL)
    assert len(mailbox.core.doorkeeper._incoming) <= 2 * ADMISSIONS_AT_ONCE_MAX
    friend = await world.start("friend", peers=(mailbox,), admission=Admission(password=RIGHT))
    await until(lambda: in_sync(friend, mailbox), seconds=20)


@pytest.mark.parametrize(
    "junk", [b"\xc1", b"\xff" * 4, encode_frame(b"\x92\x02\xc4\x20" + bytes(32)), encode_frame(bytes(257)), b"\0\0\1"]
)
async def test_junk_ends_its_stream_and_its_sender_is_shunned(
    world: World, nursery: trio.Nursery, junk: bytes, autojump_clock: MockClock
) -> None:
    mailbox = await world.start("mailbox", admission=Admission(password=RIGHT))
    mallory = Stranger(world)
    await mallory.meet(nursery, mailbox)
    stream = await mallory.transport.open_stream(mailbox.mailbox_id, ADMISSION_PROTOCOL)
    await stream.send_all(junk)
    with trio.fail_after(PEER_SHUN_FIRST_S):
        try:
            while await stream.receive_some(1024):
                pass
        except StreamBroken:
            pass
    friend = await world.start("friend", peers=(mailbox,), admission=Admission(password=RIGHT))
    await until(lambda: in_sync(friend, mailbox))


async def test_a_false_mailbox_gets_one_guess_for_each_of_our_tries(
    world: World, nursery: trio.Nursery, shares: list[bytes], autojump_clock: MockClock
) -> None:
    """It answers our share with junk, and takes another name for its password each time."""
    from protocols.admission.messages import Answer, Hello  # noqa: PLC0415
    from protocols.admission.messages import encode as encode_message  # noqa: PLC0415

    false = Stranger(world, "false")
    nonces = random.Random(1)

    async def answer(stream: Stream) -> None:
        decoder = FrameDecoder()
        await next_frame(stream, decoder)
        hello = Hello(Needs.PROOF, nonces.randbytes(32), nonces.randbytes(16))
        await stream.send_all(encode_frame(encode_message(hello)))
        if await next_frame(stream, decoder) is not None:
            point = shares[-1]
            await stream.send_all(encode_frame(encode_message(Answer(point, nonces.randbytes(32)))))
            assert await next_frame(stream, decoder) is None  # nothing more is said to it

    false.transport.serve(ADMISSION_PROTOCOL, answer)
    mailbox = await world.start("mailbox", admission=Admission(password=RIGHT))
    await false.meet(nursery, mailbox)
    await trio.sleep(6 * 3600)
    assert 1 <= len(shares) <= 14  # pauses that double


def test_guesses_pause_longer_and_longer_and_are_forgotten_after_a_day() -> None:
    guesses = Guesses()
    now, last, waits = 0.0, 0.0, []
    while len(waits) < 16:
        pause_s = guesses.begin("mallory", now, known=True)
        if pause_s:
            now += pause_s
            continue
        guesses.over()
        waits.append(now - last)
        last = now
    assert waits[:6] == [0, 0, 2, 4, 8, 16]
    assert waits[-1] == max(waits) == 3600
    later = now + 2 * 86_400
    assert [guesses.begin("mallory", later, known=True) for _ in range(2)] == [0, 0]


def test_right_guesses_count_nothing() -> None:
    guesses = Guesses()
    for number in range(1000):
        assert guesses.begin(f"{number}", 0.0) == 0
        guesses.right(f"{number}")
        guesses.over()
    wrong = 0
    while not guesses.begin(f"wrong {wrong}", 0.0):
        guesses.over()
        wrong += 1
    assert wrong == GUESSES_TOTAL_BURST
    assert guesses.begin("one more", 0.0) == GUESSES_TOTAL_INTERVAL_S
    assert guesses.begin("one more", GUESSES_TOTAL_INTERVAL_S) == 0


def test_refusals_are_sync_frames_of_their_own() -> None:
    """The code on which the other side greets anew."""
    assert isinstance(decode(encode(Refuse("admission", "x"))), Refuse)
    with pytest.raises(RemoteProtocolError):
        decode(b"\xc1")


def test_who_has_proven_the_password_is_known_after_a_restart_until_it_changes(tmp_path: Path) -> None:
    AdmissionFiles(tmp_path).keep_password(RIGHT)
    one, two = MailboxId(b"1" * 32), MailboxId(b"2" * 32)
    policy = load_admission(tmp_path)
    policy.note_proven(one)
    policy.trust(two)
    again = load_admission(tmp_path)
    assert (again.has_proven(one), again.has_proven(two), again.trusted) == (True, False, [two])
    assert again.of_mailbox(one) is Needs.PROOF  # it has to prove it anew
    again.set_password(WRONG)
    assert not load_admission(tmp_path).has_proven(one)
    again.set_password(None)
    assert load_admission(tmp_path).password is None
    assert load_admission(tmp_path).trusted == [two]


def test_a_password_that_can_not_be_kept_is_not_set(tmp_path: Path) -> None:
    policy = load_admission(tmp_path)
    policy.set_password(RIGHT)
    told: list[object] = []
    policy.watch(told.append)
    (tmp_path / "password.key").unlink()
    (tmp_path / "password.key").mkdir()
    for wanted in (WRONG, None):
        with pytest.raises(AdmissionError):
            policy.set_password(wanted)
    assert policy.password == RIGHT
    assert told == []


@pytest.mark.parametrize("identities", [1, 400])
async def test_who_has_the_password_can_not_have_it_computed_without_end(
    world: World, nursery: trio.Nursery, shares: list[bytes], autojump_clock: MockClock, identities: int
) -> None:
    """Right guesses cost as much as wrong ones. Whoever comes as a friend gets in all the same."""
    mailbox = await world.start("mailbox", admission=Admission(password=RIGHT))
    began_at, let_in = trio.current_time(), 0
    mallory: Stranger | None = None
    for number in range(400):
        if mallory is None or identities > 1:
            if mallory is not None:
                await mallory.transport.disconnect(mailbox.mailbox_id)
            mallory = Stranger(world, f"mallory {number}")
            await mallory.meet(nursery, mailbox)
        let_in += await mallory.guess(mailbox, "right") is None
    took_s = trio.current_time() - began_at
    if identities == 1:
        assert EXCHANGES_BURST <= let_in <= EXCHANGES_BURST + took_s / EXCHANGES_INTERVAL_S + 1
    else:
        assert EXCHANGES_TOTAL_BURST <= let_in <= EXCHANGES_TOTAL_BURST + took_s / EXCHANGES_TOTAL_INTERVAL_S + 1
    assert len(shares) == 400 + let_in
    friend = await world.start("friend", peers=(mailbox,), admission=Admission(password=RIGHT))
    await until(lambda: in_sync(friend, mailbox))

"""A mailbox that lies, over real libp2p, against a whole mailbox with an honest one beside it.

What each lie leads to inside a session is tests/hostile/test_sync_peers.py's business. Here: the mailbox stays alive,
the honest one goes on getting its messages within seconds, and the status names the liar.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import trio

from node.config import ListenAddress
from node.transport.api import Stream, StreamBroken
from node.transport.libp2p import Libp2pTransport
from protocols.addresses import PeerAddress
from protocols.limits.replication import PEER_SESSIONS_MAX
from protocols.limits.sync import SALT_BYTES
from protocols.model import LogName, handle_of
from protocols.sync.codec import decode, encode
from protocols.sync.effects import Receive, Runs, Send
from protocols.sync.hints import HintedLog, encode_hints
from protocols.sync.listing import Entries, Listing
from protocols.sync.messages import (
    Ask,
    Hello,
    Named,
    Names,
    OfferedLog,
    Parcel,
    Refuse,
    Survey,
    Surveyed,
    Transfer,
    Want,
)
from protocols.sync.regions import END, LIST, SHOW, Region
from protocols.sync.session import respond
from protocols.sync.wire import FrameDecoder, encode_frame
from tests.mailboxes import MailboxProcess
from tests.protocols.sync.parcel_logs import parcel_log
from tests.protocols.sync.world import Box

PROTOCOL = "/mailboxd/sync/1"
NETWORK = "hostile"
CHANNEL = f"/mailboxd/news/4/{NETWORK}"
LOG = LogName("lies", "log")
BLOB = b"a lie"
_numbers = itertools.count()

Handler = Callable[[Stream], Awaitable[None]]


class Scene:
    """The victim, and the honest mailbox that knows it."""

    def __init__(self, victim: MailboxProcess, honest: MailboxProcess) -> None:
        self.victim = victim
        self.honest = honest
        self.process = psutil.Process(victim.pid)

    async def check(self, *, within_s: float = 10.0) -> float:
        """A fresh store crosses between the honest two in both directions; returns how long it took."""
        number = next(_numbers)
        began = trio.current_time()
        sent = [
            (at, other, f"fresh {number} {way}") for way, (at, other) in enumerate(itertools.permutations(self.pair, 2))
        ]
        for at, _, topic in sent:
            assert await in_thread(at.store, topic, "l", {0: topic.encode()}) == 201
        with trio.fail_after(within_s):
            for _, other, topic in sent:
                while await in_thread(other.read, topic) != {("l", 0): topic.encode()}:  # noqa: ASYNC110
                    await trio.sleep(0.05)
        assert "Traceback" not in self.victim.log()
        return trio.current_time() - began

    @property
    def pair(self) -> tuple[MailboxProcess, MailboxProcess]:
        return self.victim, self.honest

    async def standing(self, liar: Libp2pTransport) -> tuple[str, str]:
        peer = await in_thread(self.victim.peer, str(liar.local))
        return ("unknown", "") if peer is None else (peer["state"], peer["reason"] or "")

    async def until_refused(self, liar: Libp2pTransport, reason: str = "broke the protocol") -> None:
        standing = ("", "")
        with trio.move_on_after(15):
            while standing[0] != "refused":
                standing = await self.standing(liar)
        assert standing[0] == "refused", standing
        assert reason in standing[1]


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await trio.to_thread.run_sync(function, *args)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("hostile")
    options = ("--no-mdns", "--p2p", "127.0.0.1:0", "--network", NETWORK)
    with (
        MailboxProcess(folder / "victim", *options) as victim,
        MailboxProcess(folder / "honest", *options, "--peer", victim.address()) as honest,
    ):
        for seq in range(3):
            victim.store("history", f"log {seq}", {n: os.urandom(300) for n in range(20)})
        yield Scene(victim, honest)
        assert victim.stop() == 0
        assert "Traceback" not in victim.log() + honest.log()


@asynccontextmanager
async def liar(scene: Scene, answers: Handler | None = None) -> AsyncIterator[Libp2pTransport]:
    """A mailbox of an unknown owner, connected to the victim; `answers` handles the victim's own sessions."""
    transport = Libp2pTransport(signing_key_seed=os.urandom(32), listen=ListenAddress("127.0.0.1", 0), network=NETWORK)
    transport.serve(PROTOCOL, answers or hang_up)
    transport.listen(CHANNEL, lambda publisher, data: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.run)
        await transport.connect([PeerAddress.parse(scene.victim.address())])
        yield transport
        nursery.cancel_scope.cancel()


async def hang_up(stream: Stream) -> None:
    await stream.abort()


async def open_stream(scene: Scene, transport: Libp2pTransport) -> Stream:
    return await transport.open_stream(PeerAddress.parse(scene.victim.address()).mailbox_id, PROTOCOL)


class Talk:
    """Frames over one stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._decoder = FrameDecoder()

    async def say(self, *messages: Any) -> None:
        for message in messages:
            await self.stream.send_all(encode_frame(encode(message)))

    async def hear(self) -> Any:
        """The next message, None at the end of the stream."""
        while (frame := self._decoder.next_frame()) is None:
            data = await self.stream.receive_some(65536)
            if not data:
                return None
            self._decoder.feed(data)
        return decode(frame)


def box() -> Box:
    return Box(now_s=time.time(), network=NETWORK)


def hello(first: bytes = b"", *, salt: bytes = b"", **changes: Any) -> Hello:
    config = box().config()
    fields: dict[str, Any] = {
        "version_min": 2,
        "version_max": 2,
        "network": NETWORK,
        "now_s": int(config.now_s),
        "retention_s": config.retention.retention_s,
        "alive_from_s": config.alive_from_s,
        "software": "liar/1",
        "salt": salt,
        "first": first,
    }
    return Hello(**fields | changes)


def now_s() -> int:
    return int(time.time()) // 3600 * 3600


def one_log() -> Surveyed:
    """What lists the log of lies."""
    runs = Runs(np.array([1], np.int64), np.array([0], np.uint64), np.array([0], np.uint64))
    fragment = np.array([int.from_bytes(handle_of(LOG)[:8], "big")], np.uint64)
    listing = Listing(64, fragment, Entries(runs, np.zeros(1, np.bool_)))
    return Surveyed([Region(0, END, LIST)], [1], listing)


# --- lies of whoever opens the session -----------------------------------------------------------------------------


async def garbage(stream: Stream) -> None:
    await stream.send_all(encode_frame(os.urandom(500)))


async def oversize_claim(stream: Stream) -> None:
    await stream.send_all(b"\xff\xff\xff\xff" + bytes(1000))


async def empty_frame(stream: Stream) -> None:
    await stream.send_all(bytes(4))


async def array_of_four_billion(stream: Stream) -> None:
    await stream.send_all(encode_frame(b"\xdd\xff\xff\xff\xff"))


async def deep_nesting(stream: Stream) -> None:
    await stream.send_all(encode_frame(b"\x91" * 200_000))


async def no_hello(stream: Stream) -> None:
    await Talk(stream).say(Ask())


async def two_hellos(stream: Stream) -> None:
    await Talk(stream).say(hello(salt=bytes(SALT_BYTES)), hello(salt=bytes(SALT_BYTES)))


async def unrequested_blobs(stream: Stream) -> None:
    talk = Talk(stream)
    await talk.say(hello(salt=bytes(SALT_BYTES)))
    await talk.hear()
    await talk.say(Parcel([], b"unrequested" * 10_000))


async def something_else(stream: Stream) -> None:
    """Another seq than was offered."""
    talk = Talk(stream)
    await talk.say(hello(salt=bytes(SALT_BYTES)))
    await talk.hear()
    await talk.say(Transfer(offers=[OfferedLog(LOG, [(0, 0)], True)]))
    assert isinstance(await talk.hear(), Want)
    await talk.say(Parcel([parcel_log(0, None, [(1, now_s(), len(BLOB))])], BLOB, True))


async def announced_for_later(stream: Stream) -> None:
    """Headers of gigabytes without a byte of them."""
    talk = Talk(stream)
    await talk.say(hello(salt=bytes(SALT_BYTES)))
    await talk.hear()
    await talk.say(Transfer(offers=[OfferedLog(LOG, [(0, 99)], True)]))
    assert isinstance(await talk.hear(), Want)
    await talk.say(Parcel([parcel_log(0, None, [(seq, now_s(), 40 << 20) for seq in range(100)])]))


@pytest.mark.parametrize(
    "lie",
    [
        garbage,
        oversize_claim,
        empty_frame,
        array_of_four_billion,
        deep_nesting,
        no_hello,
        two_hellos,
        unrequested_blobs,
        something_else,
        announced_for_later,
    ],
    ids=lambda lie: lie.__name__,
)
async def test_a_lie_of_the_initiator(scene: Scene, lie: Handler) -> None:
    async with liar(scene, sleep_on) as transport:
        stream = await open_stream(scene, transport)
        try:
            await lie(stream)
            await read_to_the_end(stream)
        except StreamBroken:
            pass
        await scene.until_refused(transport)
        # It is left alone for a while, whatever it says now.
        with pytest.raises(Exception, match=r"broke|stream"):
            again = Talk(await open_stream(scene, transport))
            await again.say(hello(salt=bytes(SALT_BYTES)))
            assert await again.hear() is None
            raise StreamBroken("the stream was ended without a word")
    assert (await scene.standing(transport))[0] == "refused"  # also after it hung up
    await scene.check()
    assert await in_thread(scene.victim.read, LOG.topic) == {}


async def read_to_the_end(stream: Stream) -> None:
    with trio.fail_after(20):
        while await stream.receive_some(65536):
            pass


# --- lies of whoever answers ---------------------------------------------------------------------------------------


async def sleep_on(stream: Stream) -> None:
    await trio.sleep_forever()


async def answer_garbage(stream: Stream) -> None:
    await stream.receive_some(65536)
    await garbage(stream)
    await read_to_the_end(stream)


async def tell_for_ever(stream: Stream) -> None:
    talk = Talk(stream)
    await talk.hear()
    await talk.say(hello(encode(Surveyed([], until=1))))
    while await talk.hear():
        await talk.say(Surveyed([], until=1))


async def deliver_something_else(stream: Stream) -> None:
    talk = Talk(stream)
    await talk.hear()
    await talk.say(hello(encode(one_log())))
    while (message := await talk.hear()) is not None:
        if isinstance(message, Names):
            await talk.say(Named(1, [(0, LOG)]))
        if isinstance(message, Transfer):
            await talk.say(Want(), Parcel([parcel_log(0, None, [(7, now_s(), len(BLOB))])], BLOB, True))


@pytest.mark.parametrize("lie", [answer_garbage, tell_for_ever, deliver_something_else], ids=lambda lie: lie.__name__)
async def test_a_lie_of_the_responder(scene: Scene, lie: Handler) -> None:
    async with liar(scene, lie) as transport:
        await scene.until_refused(transport)
        await scene.check()
    assert await in_thread(scene.victim.read, LOG.topic) == {}


async def test_a_clock_that_is_wrong_is_named(scene: Scene) -> None:
    async def yesterday(stream: Stream) -> None:
        talk = Talk(stream)
        await talk.hear()
        await talk.say(hello(now_s=int(time.time()) - 86400))

    async with liar(scene, yesterday) as transport:
        await scene.until_refused(transport, "clock")
        await scene.check()


# --- silence -------------------------------------------------------------------------------------------------------


async def stall_in_a_frame(stream: Stream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(encode_frame(encode(hello()))[:20])
    await trio.sleep_forever()


@pytest.mark.parametrize("silence", [stall_in_a_frame, pytest.param(sleep_on, marks=pytest.mark.slow)])
async def test_silent_peers_keep_nobody_waiting(scene: Scene, silence: Handler) -> None:
    """More of them than sessions that a mailbox drives at once, and each holds all that it is granted."""
    async with trio.open_nursery() as nursery:
        count = 0

        async def one() -> None:
            nonlocal count
            async with liar(scene, silence) as transport:
                for _ in range(PEER_SESSIONS_MAX):
                    await (await open_stream(scene, transport)).send_all(b"\0\0\1")
                count += 1
                await trio.sleep_forever()

        for _ in range(8):
            nursery.start_soon(one)
        with trio.fail_after(30):
            while count < 8:  # noqa: ASYNC110
                await trio.sleep(0.05)
        await trio.sleep(3)  # so that the victim has begun all that it will begin with them
        print(f"with 8 silent peers: {await scene.check():.1f} s")
        nursery.cancel_scope.cancel()


async def test_ten_sessions_at_once_are_too_many(scene: Scene) -> None:
    async with liar(scene, sleep_on) as transport:
        answered: list[Talk] = []
        refused: list[str] = []

        async def greet(talk: Talk) -> None:
            try:
                await talk.say(hello(salt=bytes(SALT_BYTES)))
                message = await talk.hear()
            except StreamBroken:
                message = None
            if isinstance(message, Hello):
                answered.append(talk)
            else:
                refused.append(message.code if isinstance(message, Refuse) else "")

        with trio.fail_after(30):
            while not answered:  # at first the seats may still be those of the test before
                async with trio.open_nursery() as nursery:
                    for _ in range(10):
                        nursery.start_soon(greet, Talk(await open_stream(scene, transport)))
                await trio.sleep(0.2)
        assert len(answered) <= PEER_SESSIONS_MAX
        assert "busy" in refused
        await scene.check()
        for talk in answered:
            await talk.stream.abort()


# --- floods --------------------------------------------------------------------------------------------------------


async def flood(scene: Scene, transport: Libp2pTransport, make: Callable[[], bytes], seconds: float) -> int:
    sent = 0
    with trio.move_on_after(seconds):
        while True:
            await transport.publish(CHANNEL, make())
            sent += 1
            await trio.sleep(0.001)
    return sent


def random_hint() -> bytes:
    return encode_hints({os.urandom(16): HintedLog.of("a", os.urandom(16)) for _ in range(50)})[0]


@pytest.mark.parametrize("kind", ["nonsense", "false news"])
async def test_a_flood_of_hints(scene: Scene, kind: str) -> None:
    async def plausible(stream: Stream) -> None:
        await run_honest(stream)

    async with liar(scene, plausible) as transport:
        await trio.sleep(2)
        lines = scene.victim.log().count("\n")
        before_s = sum(scene.process.cpu_times()[:2])
        async with trio.open_nursery() as nursery:
            make = (lambda: os.urandom(100)) if kind == "nonsense" else random_hint

            async def publish() -> None:
                sent = await flood(scene, transport, make, 2)
                print(f"{sent} hints in 2 s, CPU {sum(scene.process.cpu_times()[:2]) - before_s:.1f} s")

            nursery.start_soon(publish)
            await trio.sleep(1)
            print(f"under a flood of {kind}: {await scene.check():.1f} s")
        if kind == "nonsense":
            await scene.until_refused(transport)
        assert scene.victim.log().count("\n") - lines < 20
        print(f"after the flood: {await scene.check():.1f} s")


async def run_honest(stream: Stream) -> None:
    """Answers a session as an empty mailbox does."""
    mine, talk = box(), Talk(stream)
    session = respond(mine.config())
    result: Any = None
    while True:
        try:
            effect = session.send(result)
        except StopIteration:
            return
        match effect:
            case Send(frame):
                await stream.send_all(encode_frame(frame))
                result = None
            case Receive():
                message = await talk.hear()
                result = None if message is None else encode(message)
            case _:
                result = mine.perform(effect)


@pytest.mark.parametrize("questions_max", [150, pytest.param(20_000, marks=pytest.mark.slow)])
async def test_endless_questions(scene: Scene, questions_max: int) -> None:
    """The same question again and again, each of which makes the victim list everything that it has."""
    async with liar(scene, sleep_on) as transport:
        talk = Talk(await open_stream(scene, transport))
        await talk.say(hello(salt=bytes(SALT_BYTES)))
        await talk.hear()
        asked = 0
        began = trio.current_time()
        while asked < questions_max and isinstance(message := await ask_for_everything(talk), Surveyed):
            asked += 1
            if asked == questions_max // 2:
                await scene.check()
        assert asked < 20_000
        print(f"{asked} questions in {trio.current_time() - began:.1f} s, then {type(message).__name__}")
        await scene.check()


async def ask_for_everything(talk: Talk) -> Any:
    try:
        await talk.say(Survey([Region(0, END, SHOW)]))
        return await talk.hear()
    except StreamBroken:
        return None

"""Plain mailboxes, reached over real HTTP: both hold the same, and nothing goes round for ever."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from node.config import ListenAddress
from node.http.messages import HttpError, Request, Response, Router
from node.http.server import open_listeners, serve_http
from node.http.toy import toy_router
from node.mailbox import Mailbox
from node.store.memory import MemoryStore
from node.sync.index import LogIndex
from node.sync.peers import PeerState
from node.sync.toy_ledger import ToyLedger, Traded
from node.sync.toy_peer import ToyPeer, ToyPeers
from protocols.limits.data import SEQ_MAX
from protocols.model import LogName, MailboxId, Retention
from tests.mailboxes import MailboxProcess, eventually

OURS, THEIRS = MailboxId(bytes(31) + b"\1"), MailboxId(bytes(31) + b"\2")
NAME = LogName("topic", "log")
HOUR = 3600


class HandClock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.time_s = 1_800_000_000.0

    def now_s(self) -> float:
        return self.time_s


@dataclass
class Side:
    mailbox: Mailbox
    clock: HandClock

    async def content(self, topic: str = "topic") -> dict[tuple[str, int], bytes]:
        page = await self.mailbox.read({topic: {}})
        return {(entry.name.log, seq): blob for entry in page.entries for seq, blob in entry.messages}

    async def forget(self) -> None:
        while await self.mailbox.store.expire(self.mailbox.alive_from_s(), messages_max=100):
            pass


def side() -> Side:
    clock = HandClock()
    return Side(Mailbox(MemoryStore(), clock=clock, retention=Retention()), clock)


@asynccontextmanager
async def serving(router: Router) -> AsyncIterator[str]:
    listeners = await open_listeners([ListenAddress("127.0.0.1", 0)])
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_http, listeners, router)
        yield f"http://{listeners[0].address}"
        nursery.cancel_scope.cancel()


async def peers_of(ours: Side, folder: Path, *urls: str, is_met: Callable[[str], bool] = lambda _: False) -> ToyPeers:
    index = LogIndex(ours.mailbox.store)
    await index.load()
    return ToyPeers(
        urls,
        mailbox=ours.mailbox,
        index=index,
        ledger=ToyLedger(folder / "ledger.sqlite3"),
        interval_s=30,
        jitter=random.Random(1),
        own_id=str(OURS),
        is_met=is_met,
    )


async def sync(peers: ToyPeers) -> ToyPeer:
    (peer,) = peers.peers
    await peers.sync(peer)
    return peer


async def test_both_come_to_hold_the_same(tmp_path: Path) -> None:
    ours, theirs = side(), side()
    async with serving(toy_router(theirs.mailbox, THEIRS)) as url:
        peers = await peers_of(ours, tmp_path, url)
        for seq in (0, 1, 2, 5, SEQ_MAX):
            await ours.mailbox.deliver([(NAME, seq, b"ours %d" % seq)])
        await theirs.mailbox.deliver([(NAME, 3, b"theirs 3"), (LogName("topic", "new log"), 7, b"theirs 7")])
        peer = await sync(peers)
        assert (peer.state, peer.reason, peer.mailbox_id) == (PeerState.IN_SYNC, "", str(THEIRS))
        assert await ours.content() == await theirs.content()
        assert len(await ours.content()) == 7
        assert (peer.received, peer.sent) == (2, 5)
        await sync(peers)
        assert (peer.received, peer.sent) == (2, 5)


async def test_what_it_misses_below_our_watermark_is_given(tmp_path: Path) -> None:
    ours, theirs = side(), side()
    await ours.mailbox.deliver([(NAME, seq, b"%d" % seq) for seq in range(10)])
    await theirs.mailbox.deliver([(NAME, seq, b"%d" % seq) for seq in (0, 1, 2, 6)])
    async with serving(toy_router(theirs.mailbox, THEIRS)) as url:
        await sync(await peers_of(ours, tmp_path, url))
    assert await theirs.content() == await ours.content()


async def test_nothing_goes_round_for_ever(tmp_path: Path) -> None:
    """A message behind a gap expires here while a plain mailbox that got it later still holds it."""
    ours, theirs = side(), side()
    await ours.mailbox.deliver([(NAME, 5, b"behind a gap")])
    ours.clock.time_s = theirs.clock.time_s = ours.clock.time_s + 6 * 24 * HOUR
    async with serving(toy_router(theirs.mailbox, THEIRS)) as url:
        peers = await peers_of(ours, tmp_path, url)
        await sync(peers)
        assert await theirs.content() == {("log", 5): b"behind a gap"}
        ours.clock.time_s = theirs.clock.time_s = ours.clock.time_s + 2 * 24 * HOUR
        await ours.forget()
        await ours.mailbox.deliver([(NAME, 9, b"keeps the topic known")])
        await sync(peers)
        assert await ours.content() == {("log", 9): b"keeps the topic known"}
        ours.clock.time_s = theirs.clock.time_s = ours.clock.time_s + 6 * 24 * HOUR
        await theirs.forget()
        # A restart remembers.
        await sync(await peers_of(ours, tmp_path, url))
        assert await theirs.content() == {("log", 9): b"keeps the topic known"}


async def test_who_takes_little_at_a_time_is_given_smaller_parts(tmp_path: Path) -> None:
    """A web server before a plain mailbox may have a limit of its own. What is too large alone is not tried again."""
    ours, theirs = side(), side()
    await ours.mailbox.deliver([(NAME, seq, bytes(3000) + b"%d" % seq) for seq in range(20)])
    await ours.mailbox.deliver([(NAME, 20, bytes(60_000))])
    router = toy_router(theirs.mailbox, THEIRS)
    sizes: list[int] = []
    route = router.routes["/blips/store"]["POST"]

    async def narrow(request: Request) -> Response:
        sizes.append(len(request.body))
        if len(request.body) > 20_000:
            raise HttpError(413, "too much")
        return await route.handler(request)

    router.routes["/blips/store"]["POST"] = replace(route, handler=narrow)
    async with serving(router) as url:
        peers = await peers_of(ours, tmp_path, url)
        peer = await sync(peers)
        assert peer.state is PeerState.IN_SYNC
        assert sorted(seq for _, seq in await theirs.content()) == list(range(20))
        tries = len(sizes)
        await sync(peers)
        assert len(sizes) == tries


async def test_what_was_given_once_is_not_given_again(tmp_path: Path) -> None:
    ours, theirs = side(), side()
    await ours.mailbox.deliver([(NAME, 5, b"x")])
    theirs.clock.time_s -= 7 * 24 * HOUR - 2 * HOUR  # so that it forgets early
    async with serving(toy_router(theirs.mailbox, THEIRS)) as url:
        peers = await peers_of(ours, tmp_path, url)
        assert (await sync(peers)).sent == 1
        theirs.clock.time_s = ours.clock.time_s + 6 * HOUR
        await theirs.forget()
        assert await theirs.content() == {}
        assert (await sync(peers)).sent == 1
        assert await theirs.content() == {}


async def test_the_oldest_generation_says_blobs(tmp_path: Path) -> None:
    ours, theirs = side(), side()
    await ours.mailbox.deliver([(NAME, 0, b"ours")])
    await theirs.mailbox.deliver([(NAME, 1, b"theirs")])
    whole = toy_router(theirs.mailbox, THEIRS)
    old = Router()
    old.get("/health", lambda _request: _answer(200, b'{"status":"ok"}'))
    for path in ("/blobs/get", "/blobs/store"):
        old.post(path, whole.routes[path]["POST"].handler)
    async with serving(old) as url:
        peer = await sync(await peers_of(ours, tmp_path, url))
    assert (peer.state, peer.mailbox_id) == (PeerState.IN_SYNC, None)
    assert await ours.content() == await theirs.content() == {("log", 0): b"ours", ("log", 1): b"theirs"}


async def _answer(status: int, body: bytes) -> Response:
    return Response(status, body, "application/json")


@pytest.mark.parametrize(
    ("health", "answer", "state"),
    [
        (b"<html>", b"", PeerState.REFUSED),
        (b"[]", b"[]", PeerState.REFUSED),
        (b"{}", b'{"blips_by_topic": {"topic": {"blips": {"log": {"0": "!"}}, "missing": {}}}}', PeerState.REFUSED),
        (b"{}", b'{"blips_by_topic": {"topic": {"blips": {"a:b": {"0": ""}}, "missing": {}}}}', PeerState.REFUSED),
        (b"{}", b'{"blips_by_topic": {"topic": {"blips": {}, "missing": {"log": [-1]}}}}', PeerState.REFUSED),
        (b'{"endpoint_id": "%s"}' % str(OURS).encode(), b"", PeerState.REFUSED),
    ],
)
async def test_liars_are_refused_with_a_reason(tmp_path: Path, health: bytes, answer: bytes, state: PeerState) -> None:
    ours = side()
    await ours.mailbox.deliver([(NAME, 0, b"ours")])
    liar = Router()
    liar.get("/health", lambda _request: _answer(200, health))

    async def get(_request: Request) -> Response:
        return Response(200, answer, "application/json")

    liar.post("/blips/get", get)
    async with serving(liar) as url:
        peer = await sync(await peers_of(ours, tmp_path, url))
    assert peer.state is state
    assert peer.reason
    assert await ours.content() == {("log", 0): b"ours"}


async def test_nobody_there_and_somebody_met_otherwise(tmp_path: Path) -> None:
    ours, theirs = side(), side()
    await ours.mailbox.deliver([(NAME, 0, b"ours")])
    async with serving(toy_router(theirs.mailbox, THEIRS)) as url:
        met = await peers_of(ours, tmp_path, url, is_met=lambda one: one == str(THEIRS))
        assert "directly" in (await sync(met)).reason
        assert await theirs.content() == {}
    gone = await sync(await peers_of(ours, tmp_path, url))
    assert gone.state is PeerState.UNREACHABLE
    assert "nothing listens" in gone.reason


def test_the_ledger_keeps_the_whole_range_and_forgets(tmp_path: Path) -> None:
    ledger = ToyLedger(tmp_path / "ledger.sqlite3")
    traded = [Traded(bytes(16), seq, bytes(32)) for seq in (0, 2**63, SEQ_MAX)]
    ledger.note("a", traded, now_s=100)
    ledger.note("b", traded[:1], now_s=200)
    ledger.close()
    assert ledger.peers_of(traded) == {traded[0]: {"a", "b"}, traded[1]: {"a"}, traded[2]: {"a"}}
    ledger.forget_before(150)
    assert ledger.peers_of(traded) == {traded[0]: {"b"}}
    ledger.close()


def test_whole_mailboxes_over_plain_http(tmp_path: Path) -> None:
    options = ("--no-mdns", "--p2p", "127.0.0.1:0", "--sync-interval", "2")
    with (
        MailboxProcess(tmp_path / "plain", *options) as plain,
        MailboxProcess(tmp_path / "ours", *options, "--peer", plain.info["http"][0]) as ours,
    ):
        ours.request("POST", "/blips/store", {"blips": {"t": {"l": {"0": "b3Vycw=="}}}})
        body = {"topics": {"t": {}}}
        eventually(lambda: b"b3Vycw==" in plain.request("POST", "/blips/get", body)[1], what="giving")
        plain.request("POST", "/blips/store", {"blips": {"t": {"m": {"0": "dGhlaXJz"}}}})
        eventually(lambda: b"dGhlaXJz" in ours.request("POST", "/blips/get", body)[1], what="taking")
        eventually(lambda: ours.status()["peers"][0]["state"] == "in-sync", what="being in sync")
        assert ours.command("sync").returncode == 0
        assert ours.status()["fingerprint"]

"""Whole mailboxes that know each other by address (--peer) come to hold the same, whatever happens between them."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from node import workload
from node.config import ListenAddress
from node.core import Core
from node.http.client import AdminClient
from node.store.memory import MemoryStore
from node.sync.peers import PeerState
from node.transport.libp2p import Libp2pTransport
from protocols.limits.sync import SALT_BYTES
from protocols.model import LogName, Retention, digest_of
from tests.mailboxes import MailboxProcess, eventually

OPTIONS = ("--no-mdns", "--p2p", "127.0.0.1:0", "--network", "test-replication", "--sync-interval", "2")
MakeMailbox = Callable[..., MailboxProcess]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeMailbox]:
    """Starts mailboxes; `peers` are those that it is told of. All are gone after the test."""
    made: dict[str, MailboxProcess] = {}

    def start(name: str, *peers: MailboxProcess, options: tuple[str, ...] = ()) -> MailboxProcess:
        told = [word for peer in peers for word in ("--peer", peer.address())]
        made[name] = MailboxProcess(tmp_path / name, *OPTIONS, *told, *options)
        return made[name].start()

    yield start
    for mailbox in made.values():
        mailbox.__exit__()


def equal(*mailboxes: MailboxProcess, timeout_s: float = 60) -> None:
    began = time.monotonic()
    eventually(lambda: mailboxes[0].in_sync_with(*mailboxes[1:]), timeout_s=timeout_s, what="being equal")
    print(f"equal after {time.monotonic() - began:.1f} s")


def has_met(mailbox: MailboxProcess, other: MailboxProcess) -> bool:
    return (mailbox.peer(other.info["mailbox_id"]) or {}).get("state") == "in-sync"


def admin_status(mailbox: MailboxProcess) -> dict[str, Any]:
    """The status without starting a process for it."""
    with AdminClient.open(mailbox.data_dir) as client:
        return client.status()


async def test_killed_in_the_middle_of_a_big_sync(make: MakeMailbox) -> None:
    messages = list(workload.generate(messages=3000, large_every=60))
    a = make("a")
    await workload.send(workload.in_requests(messages), a.info["http"], connections=4)
    b = make("b", a)

    def in_the_middle() -> bool:
        return 0 < admin_status(b)["messages"] < len(messages)

    for _ in range(3):
        eventually(in_the_middle, what="a sync under way")
        b.kill()
        assert "all sound" in b.command("verify").stdout
        held = b.start().status()["messages"]
        print(f"killed, and back with {held} messages")
        if held > len(messages) / 10:
            break
    equal(a, b)
    expected: dict[str, dict[tuple[str, int], bytes]] = {}
    for topic, log, seq, blob in messages:
        expected.setdefault(topic, {})[log, seq] = blob
    for topic, content in expected.items():
        assert b.read(topic) == content
    assert b.status()["messages"] == len(messages)
    assert "all sound" in b.command("verify").stdout
    assert "Traceback" not in a.log() + b.log()


def test_what_two_stored_while_apart_is_kept_and_the_same_one_served(make: MakeMailbox) -> None:
    a, b = make("a"), make("b")
    hours = {int(time.time()) // 3600}
    a.store("t", "l", {0: b"from a", 1: b"only a"})
    b.store("t", "l", {0: b"from b", 2: b"only b"})
    hours.add(int(time.time()) // 3600)
    b.stop()
    b = make("b", a)
    c = make("c", b)
    equal(a, b, c)
    served = [mailbox.read("t") for mailbox in (a, b, c)]
    assert served[0] == served[1] == served[2]
    assert served[0][("l", 1)], served[0]["l", 2] == (b"only a", b"only b")
    assert served[0]["l", 0] == (min((b"from a", b"from b"), key=digest_of) if len(hours) == 1 else b"from a")
    assert [mailbox.status()["messages"] for mailbox in (a, b, c)] == [4, 4, 4]
    # What comes later masks nothing. (Within the same hour the smaller digest decides.)
    forgery = next(blob for n in count() if digest_of(blob := b"forgery %d" % n) > b"\xf8")
    c.store("t", "l", {0: forgery, 1: forgery})
    equal(a, b, c)
    assert a.read("t") == served[0]
    assert a.read("t") == b.read("t") == c.read("t")
    assert [mailbox.status()["messages"] for mailbox in (a, b, c)] == [6, 6, 6]


def test_everything_spreads_along_a_chain(make: MakeMailbox) -> None:
    """Sizes from nothing to 40 MiB, numbers up to the last one, topics and logs that nobody asked for."""
    a = make("a")
    b = make("b", a)
    c = make("c", b)
    top = 2**64 - 1
    a.store("t", "numbers", {0: b"", top: b"last", top - 1: b"last but one", 2**63: b"half", 2**32: b"quarter"})
    c.store("new topic", "new log", {5: os.urandom(1 << 20)})
    b.store("t", "another log", {1: b"a gap before it"})
    equal(a, b, c)
    huge = os.urandom(40 << 20)
    c.store("t", "pictures", {0: huge})
    a.store("ünïcödé 🙂", "l" * 256, {0: b"names"})
    equal(a, b, c)
    for topic in ("new topic", "ünïcödé 🙂"):
        assert a.read(topic) == b.read(topic) == c.read(topic) != {}
    body = {"topics": {"t": {"numbers": 3, "another log": 1}}}
    answers = [mailbox.request("POST", "/blobs/get", body) for mailbox in (a, b, c)]
    assert answers[0] == answers[1] == answers[2]  # what is missing, too
    # A mailbox that comes later gets it all at once.
    c.stop()
    d = make("d", a)
    equal(a, b, d)
    assert d.read("t")["pictures", 0] == huge


def test_a_burst_of_news_is_everywhere_within_seconds(make: MakeMailbox) -> None:
    a = make("a", options=("--sync-interval", "600"))
    b = make("b", a, options=("--sync-interval", "600"))
    eventually(lambda: has_met(b, a), what="the meeting")
    for number in range(30):
        (a, b)[number % 2].store(f"topic {number % 7}", f"log {number % 3}", {number // 2: b"news %d" % number})
    equal(a, b, timeout_s=20)  # hints alone bring it, the interval is ten minutes


def test_small_messages_come_with_the_news_of_them(make: MakeMailbox) -> None:
    a = make("a", options=("--sync-interval", "600"))
    b = make("b", a, options=("--sync-interval", "600"))
    for one, other in ((a, b), (b, a)):
        eventually(lambda one=one, other=other: has_met(one, other), what="the meeting")
    before = [admin_status(mailbox)["sessions"]["count"] for mailbox in (a, b)]
    for number in range(10):
        (a, b)[number % 2].store("t", f"log {number % 2}", {number // 2: b"news %d" % number})
        eventually(lambda number=number: admin_status((b, a)[number % 2])["messages"] == number + 1, what="the news")
    assert a.read("t") == b.read("t")
    after = [admin_status(mailbox) for mailbox in (a, b)]
    assert [status["sessions"]["count"] for status in after] == before
    assert [(status["relayed"]["synced_in"], status["relayed"]["synced_out"]) for status in after] == [(5, 5), (5, 5)]
    assert after[0]["fingerprint"] == after[1]["fingerprint"]


def test_each_keeps_to_its_own_retention(make: MakeMailbox) -> None:
    a = make("a")
    b = make("b", a, options=("--retention", "4s"))
    b.store("t", "l", {0: b"short here, long there"})
    eventually(lambda: a.read("t"), what="the message at the other one")
    eventually(lambda: b.status()["messages"] == 0, what="its end at the first one")
    before = [admin_status(mailbox)["relayed"] for mailbox in (a, b)]
    for _ in range(3):
        b.command("sync")
        a.command("sync")
    assert [admin_status(mailbox)["relayed"] for mailbox in (a, b)] == before
    assert b.read("t") == {}
    assert a.read("t") == {("l", 0): b"short here, long there"}
    assert (b.peer(a.info["mailbox_id"]) or {})["state"] == "in-sync"


# --- clocks: in this process, over real libp2p ---------------------------------------------------------------------


class SetClock:
    """A wall clock that is wrong by `error_s`."""

    def __init__(self) -> None:
        self.error_s = 0.0

    def now_s(self) -> float:
        return time.time() + self.error_s


async def start_core(nursery: trio.Nursery, clock: SetClock, *peers: Core) -> Core:
    transport = Libp2pTransport(signing_key_seed=os.urandom(32), listen=ListenAddress("127.0.0.1", 0), network="clocks")
    core = Core.assemble(
        store=MemoryStore(),
        transport=transport,
        clock=clock,
        retention=Retention(),
        network="clocks",
        sync_interval_s=0.5,
        fixed_peers=[address for peer in peers for address in peer.transport.addresses()],
        jitter=random.Random(1),
        salt=lambda: os.urandom(SALT_BYTES),
    )
    await nursery.start(core.run)
    return core


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - a state, not an event
            await trio.sleep(0.02)


def standing(of: Core, other: Core) -> tuple[PeerState, str]:
    peer = of.engine.table.get(other.transport.local)
    return (PeerState.BEHIND, "") if peer is None else (peer.state, peer.reason)


NAME = LogName("t", "l")


async def test_a_wrong_clock_is_refused_by_name_until_it_is_set_right(nursery: trio.Nursery) -> None:
    right, wrong = SetClock(), SetClock()
    wrong.error_s = -3 * 86400
    a = await start_core(nursery, right)
    b = await start_core(nursery, wrong, a)
    await b.mailbox.deliver([(NAME, 0, b"from the past")])
    await until(lambda: standing(a, b)[0] is standing(b, a)[0] is PeerState.REFUSED)
    for reason in (standing(a, b)[1], standing(b, a)[1]):
        assert "clocks differ by 2" in reason
        assert "set them right" in reason
    assert a.mailbox.store.statistics().messages == 0
    wrong.error_s = 0.0
    await until(lambda: standing(a, b)[0] is standing(b, a)[0] is PeerState.IN_SYNC)
    assert a.mailbox.store.statistics().messages == 1


async def test_the_earlier_date_wins_everywhere(nursery: trio.Nursery) -> None:
    """The same message came to two mailboxes on different days: both let it die a week after the first."""
    clocks = [SetClock(), SetClock()]
    clocks[1].error_s = -86400
    a = await start_core(nursery, clocks[0])
    b = await start_core(nursery, clocks[1])
    await b.mailbox.deliver([(NAME, 0, b"seen yesterday")])
    await a.mailbox.deliver([(NAME, 0, b"seen yesterday"), (NAME, 1, b"seen today")])
    clocks[1].error_s = 0.0
    for peer in b.transport.addresses():
        await a.transport.connect([peer])
    await until(lambda: standing(a, b)[0] is standing(b, a)[0] is PeerState.IN_SYNC)
    await until(lambda: b.mailbox.store.statistics().messages == 2)
    items = [await core.mailbox.store.items(NAME, 0, 9) for core in (a, b)]
    with trio.fail_after(20):
        while items[0] != items[1]:
            await trio.sleep(0.05)
            items = [await core.mailbox.store.items(NAME, 0, 9) for core in (a, b)]
    assert items[0][1].first_stored_s - items[0][0].first_stored_s == pytest.approx(86400, abs=3600)
    for clock in clocks:
        clock.error_s = 6.5 * 86400
    for core in (a, b):
        page = await core.mailbox.read({"t": {}})
        assert [entry.messages for entry in page.entries] == [[(1, b"seen today")]]


async def test_a_mailbox_with_topics_of_its_own_exchanges_these_only(make: MakeMailbox) -> None:
    whole = make("whole")
    assert whole.store("tea", "anna", {0: b"kettle"}) == 201
    assert whole.store("rent", "anna", {0: b"due"}) == 201
    garden = make("garden", whole, options=("--topic", "tea", "--topic", "seeds"))
    eventually(lambda: garden.read("tea"), what="the topic that it keeps")
    assert garden.store("rent", "ben", {0: b"paid"}) == 201  # phones may use it for any
    assert garden.store("seeds", "ben", {0: b"beans"}) == 201
    eventually(lambda: whole.read("seeds"), what="news of a topic that it keeps")
    mailbox_id = whole.info["mailbox_id"]

    def at_rest() -> dict[str, Any] | None:
        peer = garden.peer(mailbox_id)
        return peer if peer and peer["state"] == "in-sync" and peer["last_sync_round_trips"] == 1 else None

    peer = eventually(at_rest, what="a sync of one round trip")
    assert peer["topics_shared"] == 2
    assert peer["last_sync_bytes"] < 500
    assert garden.status()["topics_synced"] == 2
    assert "exchanges 2 topics" in garden.command("status").stdout
    assert whole.read("rent") == {("anna", 0): b"due"}
    assert garden.read("rent") == {("ben", 0): b"paid"}
    # The other way round: whoever keeps no topic in common has nothing to do with it.
    attic = make("attic", garden, options=("--topic", "attic"))
    shown = eventually(lambda: "no topic in common" in attic.command("peers").stdout, what="the reason")
    assert shown and attic.status()["messages"] == 0

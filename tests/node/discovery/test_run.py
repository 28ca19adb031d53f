"""MdnsDiscovery in this process, on loopback alone: what it does when something goes wrong around it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import ip_interface

import pytest
import trio

from node.discovery import mdns
from node.discovery.api import Announcement, Discovery, Found, Lost
from node.discovery.interfaces import Link, Network
from node.discovery.mdns import MdnsDiscovery, discover_once
from node.discovery.none import NoDiscovery
from node.discovery.table import Timing
from protocols.errors import LocalProtocolError
from tests.node.discovery.agent import hang_up, mailbox_of

LOOPBACK = Network((Link(1, "lo", "unknown", (ip_interface("127.0.0.1/8"),)),))
QUICK = Timing(probe_interval_s=0.3, probe_retry_s=0.2, probe_retry_max_s=0.5, lost_after_s=1.5, goodbye_recheck_s=9)


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_network() -> Network:
        await trio.lowlevel.checkpoint()
        return LOOPBACK

    monkeypatch.setattr(mdns, "read_network", read_network)


class Mailboxes:
    """Starts listeners and discoveries in a nursery, and gathers what is reported."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.events: dict[str, list[Found | Lost]] = {}
        self.fails = False

    async def add(self, seed: str, network: str) -> tuple[trio.CancelScope, MdnsDiscovery]:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        discovery = MdnsDiscovery(timing=QUICK)
        announcement = Announcement(mailbox_of(seed), port, 4001, 1, network)
        scope = trio.CancelScope()
        self.events[seed] = []

        def report(event: Found | Lost) -> None:
            self.events[seed].append(event)
            if self.fails:
                raise RuntimeError("a fault of whoever listens")

        async def live(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.serve_listeners, hang_up, [listener])
                    await nursery.start(discovery.run, announcement, report)
                    task_status.started()

        await self.nursery.start(live)
        return scope, discovery

    async def until(self, seed: str, other: str, kind: type) -> None:
        other_id = mailbox_of(other)
        with trio.fail_after(20):
            while True:
                for event in self.events[seed]:
                    mailbox_id = event.neighbour.mailbox_id if isinstance(event, Found) else event.mailbox_id
                    if mailbox_id == other_id and isinstance(event, kind):
                        return
                await trio.sleep(0.02)


@pytest.fixture
async def mailboxes(nursery: trio.Nursery) -> Mailboxes:
    return Mailboxes(nursery)


async def test_a_cancelled_one_says_goodbye_in_time(mailboxes: Mailboxes) -> None:
    _, discovery = await mailboxes.add("run-a", "run-1")
    scope, _ = await mailboxes.add("run-b", "run-1")
    await mailboxes.until("run-a", "run-b", Found)
    await mailboxes.until("run-b", "run-a", Found)
    assert discovery.statistics().neighbours == 1
    scope.cancel()
    await mailboxes.until("run-a", "run-b", Lost)
    (lost,) = [event for event in mailboxes.events["run-a"] if isinstance(event, Lost)]
    assert "goodbye" in lost.reason


async def test_a_fault_in_the_report_ends_nothing(mailboxes: Mailboxes, caplog: pytest.LogCaptureFixture) -> None:
    mailboxes.fails = True
    await mailboxes.add("run-a", "run-2")
    scope, _ = await mailboxes.add("run-b", "run-2")
    await mailboxes.until("run-a", "run-b", Found)
    scope.cancel()
    await mailboxes.until("run-a", "run-b", Lost)
    assert "was not taken" in caplog.text


async def test_sockets_that_fail_are_opened_again(
    mailboxes: Mailboxes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receive = mdns.receive
    left = 2

    async def failing(reader: trio.socket.SocketType) -> tuple[bytes, tuple[str, int]]:
        nonlocal left
        left -= 1
        if left >= 0:
            await trio.lowlevel.checkpoint()
            raise OSError(100, "network is down") if left % 2 else ZeroDivisionError("a fault of ours")
        return await receive(reader)

    monkeypatch.setattr(mdns, "receive", failing)
    await mailboxes.add("run-a", "run-3")
    await mailboxes.add("run-b", "run-3")
    await mailboxes.until("run-a", "run-b", Found)
    assert "mDNS is interrupted: [Errno 100] network is down" in caplog.text
    assert "mDNS is interrupted by a fault of ours" in caplog.text


async def test_a_packet_that_breaks_our_reading_ends_nothing(
    mailboxes: Mailboxes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read_packet = mdns.read_packet
    left = 2

    def failing(*args: object) -> object:
        nonlocal left
        left -= 1
        if left >= 0:
            raise ZeroDivisionError
        return read_packet(*args)

    monkeypatch.setattr(mdns, "read_packet", failing)
    await mailboxes.add("run-a", "run-4")
    await mailboxes.add("run-b", "run-4")
    await mailboxes.until("run-a", "run-b", Found)
    assert "was not understood" in caplog.text


async def test_a_link_without_multicast_is_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def read_network() -> Network:
        await trio.lowlevel.checkpoint()
        return Network((Link(2**30, "gone0", "up", (ip_interface("192.0.2.1/24"),)),))

    monkeypatch.setattr(mdns, "read_network", read_network)
    with caplog.at_level(logging.WARNING):
        assert await discover_once(0.3) == []
    assert "no link can be used" in caplog.text


async def test_an_impossible_announcement_is_told_at_once() -> None:
    with pytest.raises(LocalProtocolError):
        await MdnsDiscovery().run(Announcement(mailbox_of("x"), 3411, 0, 1, "main"), print)


@pytest.mark.parametrize("make", [NoDiscovery, MdnsDiscovery])
async def test_every_discovery_starts_and_ends(make: Callable[[], Discovery]) -> None:
    announcement = Announcement(mailbox_of("run-x"), 3411, 4001, 1, "run-5")
    events: list[Found | Lost] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(make().run, announcement, events.append)
            await nursery.start(make().run, None, lambda _: None)
            nursery.cancel_scope.cancel()
    assert events == []

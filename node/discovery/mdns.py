"""Discovery on the local network by multicast DNS.

How the parts fit: `interfaces` tells which links there are; for each state of them a session opens `sockets`, through
which `packets` speaks and listens; what is heard goes into the `table`, which decides whom to `probe` and what to
report. The table outlives sessions: a new address of ours makes nobody else disappear.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from dataclasses import dataclass

import trio

from node.discovery.api import Announcement, Discovery, Found, Lost, Neighbour, Report
from node.discovery.interfaces import Network, read_network
from node.discovery.packets import Heard, Sighting, Speaker, interesting, query, read_packet, resolve
from node.discovery.probe import probe
from node.discovery.prober import Prober
from node.discovery.rate import Bucket, Buckets
from node.discovery.sockets import MulticastSockets, receive
from node.discovery.table import NeighbourTable, Timing
from protocols.discovery import instance_names, on_link
from protocols.limits.discovery import (
    DISCOVERY_RESTART_MAX_S,
    GOODBYE_TIME_S,
    INTERFACE_POLL_S,
    INTERFACE_SETTLE_S,
    MDNS_ANY_PACKETS_BURST,
    MDNS_ANY_PACKETS_PER_SECOND,
    MDNS_KNOWN_ANSWERS_MAX,
    MDNS_PACKETS_BURST,
    MDNS_PACKETS_PER_SECOND,
    MDNS_QUERY_INTERVAL_MAX_S,
    MDNS_QUERY_INTERVAL_S,
    MDNS_REPEAT_S,
    MDNS_RESOLVES_BURST,
    MDNS_RESOLVES_PER_SECOND,
    MDNS_SOURCE_PACKETS_BURST,
    MDNS_SOURCE_PACKETS_PER_SECOND,
    MDNS_SOURCES_MAX,
    PROBE_TIMEOUT_S,
)
from protocols.model import MailboxId

__all__ = ["DiscoveryStatistics", "MdnsDiscovery", "discover_once"]

log = logging.getLogger(__name__)

_TICK_S = 0.05  # soonest next packet when there are too many
_ECHO_S = 0.5  # for so long, a packet equal to one of ours is ours, come back by multicast loop


@dataclass(frozen=True, slots=True)
class DiscoveryStatistics:
    """What discovery has seen since it was started. `refused` counts malformed announcements, `dropped` packets over
    the rate limits, `evicted` announced mailboxes that made room for others before they answered."""

    neighbours: int
    waiting: int
    packets: int
    dropped: int
    refused: int
    evicted: int
    sessions: int


class MdnsDiscovery(Discovery):
    """Announces and finds mailboxes by multicast DNS on all links, IPv4 and IPv6, however they come and go."""

    def __init__(
        self,
        *,
        network: str | None = None,
        timing: Timing | None = None,
        query_interval_s: float = MDNS_QUERY_INTERVAL_S,
        interface_poll_s: float = INTERFACE_POLL_S,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        """`network` restricts what is reported if nothing is announced (None: everything); an announcement's own
        network does so otherwise. The times, in seconds, are those of protocols/limits unless a test can't wait."""
        self._network = network
        self._timing = timing or Timing()
        self._query_interval_s = query_interval_s
        self._interface_poll_s = interface_poll_s
        self._probe_timeout_s = probe_timeout_s
        self._met: set[MailboxId] = set()
        self._run: _Run | None = None

    async def run(
        self,
        announcement: Announcement | None,
        report: Report,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """See `Discovery.run`. An exception that `report` raises is logged and goes no further.

        Raises LocalProtocolError at once for an announcement that can't be one (port 0, a network tag with spaces).
        """
        if announcement is not None:
            Speaker(announcement, ())
        network = self._network if announcement is None else announcement.network
        table = NeighbourTable(
            None if announcement is None else announcement.mailbox_id, network=network, timing=self._timing
        )
        for mailbox_id in self._met:
            table.met(mailbox_id, trio.current_time(), up=True)
        self._run = _Run(self, announcement, report, table)
        await self._run.run(task_status)

    def met(self, mailbox_id: MailboxId, up: bool) -> None:
        """See `Discovery.met`."""
        (self._met.add if up else self._met.discard)(mailbox_id)
        if self._run is not None:
            self._run.table.met(mailbox_id, trio.current_time(), up=up)
            if not up:
                self._run.wake()

    def statistics(self) -> DiscoveryStatistics:
        """Figures of the present or last run."""
        run = self._run
        if run is None:
            return DiscoveryStatistics(0, 0, 0, 0, 0, 0, 0)
        table = run.table
        return DiscoveryStatistics(
            neighbours=len(table.neighbours()),
            waiting=table.waiting,
            packets=run.packets,
            dropped=run.dropped,
            refused=run.refused,
            evicted=table.evicted,
            sessions=run.sessions,
        )


class _Run:
    """One run of MdnsDiscovery: its tasks and what they share."""

    def __init__(
        self, options: MdnsDiscovery, announcement: Announcement | None, report: Report, table: NeighbourTable
    ) -> None:
        self.table = table
        self.packets = self.dropped = self.refused = self.sessions = 0
        self._options = options
        self._announcement = announcement
        now_s = trio.current_time()
        self._prober = Prober(table, report, probe, timeout_s=options._probe_timeout_s)
        self._asked = trio.Event()
        self._spoke_at_s = float("-inf")
        self._sent: deque[tuple[float, bytes]] = deque(maxlen=16)
        self._any = Bucket(per_second=MDNS_ANY_PACKETS_PER_SECOND, burst=MDNS_ANY_PACKETS_BURST, now_s=now_s)
        self._ours = Bucket(per_second=MDNS_PACKETS_PER_SECOND, burst=MDNS_PACKETS_BURST, now_s=now_s)
        self._resolves = Bucket(per_second=MDNS_RESOLVES_PER_SECOND, burst=MDNS_RESOLVES_BURST, now_s=now_s)
        self._sources = Buckets(
            per_second=MDNS_SOURCE_PACKETS_PER_SECOND, burst=MDNS_SOURCE_PACKETS_BURST, keys_max=MDNS_SOURCES_MAX
        )

    def wake(self) -> None:
        """Has the table looked at soon."""
        self._prober.wake()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        started = _Once(task_status)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._prober.run)
            await self._follow_links(started)

    # --- links -----------------------------------------------------------------------------------------------------

    async def _follow_links(self, started: _Once) -> None:
        pause_s = 1.0
        while True:
            began_s = trio.current_time()
            try:
                network = await self._settled_network()
                if network.links:
                    await self._session(network, started)
                else:
                    started.set()
                    self.table.network_changed((), (), trio.current_time())
                    await self._network_differs(network)
                continue
            except* OSError as group:
                log.warning("mDNS is interrupted: %s", group.exceptions[0])
            except* Exception:
                log.exception("mDNS is interrupted by a fault of ours")
            started.set()
            pause_s = 1.0 if trio.current_time() - began_s > DISCOVERY_RESTART_MAX_S else pause_s
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, DISCOVERY_RESTART_MAX_S)

    async def _settled_network(self) -> Network:
        network = await read_network()
        if self.sessions == 0:
            return network  # at the start nobody has heard of us yet, so nothing flaps
        while True:
            await trio.sleep(min(INTERFACE_SETTLE_S, self._options._interface_poll_s))
            again = await read_network()
            if again == network:
                return network
            network = again

    async def _network_differs(self, network: Network) -> None:
        while await read_network() == network:  # noqa: ASYNC110  # no portable event tells of it
            await trio.sleep(self._options._interface_poll_s)

    async def _session(self, network: Network, started: _Once) -> None:
        """Speaks and listens until the links change or the run is cancelled. Raises OSError in an exception group."""
        self.sessions += 1
        announced = self._announcement
        addresses = () if announced is None else network.announced(announced.hosts)
        speaker = Speaker(announced, addresses) if announced is not None and addresses else None
        ports = () if announced is None else (announced.http_port, announced.p2p_port)
        log.info("mDNS on %s", ", ".join(link.name for link in network.links))
        if announced is not None and speaker is None:
            log.warning("not announced: phones on other devices can't reach %s", ", ".join(announced.hosts))
        self.table.network_changed(network.interfaces, ports, trio.current_time())
        self._prober.wake()
        with MulticastSockets(network) as sockets:
            try:
                async with trio.open_nursery() as nursery:
                    for reader in sockets.readers:
                        nursery.start_soon(self._listen, sockets, reader, network, speaker)
                    nursery.start_soon(self._ask, sockets)
                    if speaker is not None:
                        self._speak(sockets, speaker)
                        nursery.start_soon(self._announce_again, sockets, speaker)
                        nursery.start_soon(self._answer, sockets, speaker)
                    started.set()
                    await self._network_differs(network)
                    nursery.cancel_scope.cancel()
            finally:
                # Only a shutdown is a goodbye: after a change of links we are back at once.
                if speaker is not None and trio.current_effective_deadline() == float("-inf"):
                    await self._say_goodbye(sockets, speaker)

    # --- speaking --------------------------------------------------------------------------------------------------

    def _send(self, sockets: MulticastSockets, packets: list[bytes]) -> None:
        now_s = trio.current_time()
        self._sent.extend((now_s, packet) for packet in packets)
        sockets.send(packets)

    def _speak(self, sockets: MulticastSockets, speaker: Speaker) -> None:
        self._spoke_at_s = trio.current_time()
        self._send(sockets, speaker.announcement())

    async def _announce_again(self, sockets: MulticastSockets, speaker: Speaker) -> None:
        for pause_s in (MDNS_REPEAT_S, 2 * MDNS_REPEAT_S):
            await trio.sleep(pause_s)
            self._speak(sockets, speaker)

    async def _answer(self, sockets: MulticastSockets, speaker: Speaker) -> None:
        """Everything about us, for whatever was asked, at most once a second: one answer serves all who ask."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            await trio.sleep(random.uniform(0.02, 0.12))
            await trio.sleep_until(self._spoke_at_s + MDNS_REPEAT_S)
            self._speak(sockets, speaker)

    async def _ask(self, sockets: MulticastSockets) -> None:
        await trio.sleep(random.uniform(0.02, 0.12))
        for pause_s in (MDNS_REPEAT_S, 2 * MDNS_REPEAT_S):
            self._send(sockets, query(self._known()))
            await trio.sleep(pause_s)
        while True:
            self._send(sockets, query(self._known()))
            crowd = 2 * len(self.table.neighbours()) / MDNS_KNOWN_ANSWERS_MAX
            pause_s = self._options._query_interval_s
            pause_s = min(pause_s * max(1.0, crowd), max(pause_s, MDNS_QUERY_INTERVAL_MAX_S))
            await trio.sleep(pause_s * random.uniform(0.9, 1.1))

    def _known(self) -> list[str]:
        neighbours = self.table.neighbours()
        random.shuffle(neighbours)
        return [name for n in neighbours for name in instance_names(n.mailbox_id)[: 1 if n.p2p_port is None else 2]]

    async def _say_goodbye(self, sockets: MulticastSockets, speaker: Speaker) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + GOODBYE_TIME_S):
            packets = speaker.goodbye()
            sockets.send(packets)
            await trio.sleep(0.1)
            sockets.send(packets)  # once more: on WLAN, multicast is not repeated by the air

    # --- listening -------------------------------------------------------------------------------------------------

    async def _listen(
        self,
        sockets: MulticastSockets,
        reader: trio.socket.SocketType,
        network: Network,
        speaker: Speaker | None,
    ) -> None:
        interfaces = network.interfaces
        own_host = b"" if self._announcement is None else str(self._announcement.mailbox_id).lower().encode()
        while True:
            data, source = await receive(reader)
            now_s = trio.current_time()
            while not self._any.take(now_s):
                await trio.sleep(_TICK_S)  # what comes meanwhile, the kernel drops
                now_s = trio.current_time()
            self.packets += 1
            if not interesting(data, own_host) or not on_link(source[0], interfaces) or self._is_echo(data, now_s):
                continue
            if not self._sources.take(source[0], now_s) or not self._ours.take(now_s):
                self.dropped += 1
                continue
            try:
                self._take_in(read_packet(data, source, speaker), sockets, reader, source, speaker)
            except Exception:  # a packet must not end discovery, whatever we overlooked
                log.exception("an mDNS packet from %s was not understood", source[0])

    def _is_echo(self, data: bytes, now_s: float) -> bool:
        return any(packet == data and now_s - at_s < _ECHO_S for at_s, packet in self._sent)

    def _take_in(
        self,
        heard: Heard,
        sockets: MulticastSockets,
        reader: trio.socket.SocketType,
        source: tuple[str, int],
        speaker: Speaker | None,
    ) -> None:
        now_s = trio.current_time()
        self.refused += len(heard.refused)
        for code in heard.refused:
            log.debug("mDNS from %s refused: %s", source[0], code)
        if heard.asked is not None and speaker is not None:
            if heard.asked.legacy is not None:
                sockets.send_to(speaker.legacy_answer(heard.asked), source, reader)
            else:
                self._asked.set()
        for sighting in heard.sightings:
            self.table.sighted(sighting, now_s)
            self._resolve(sighting, sockets, now_s)
        if heard.sightings:
            self._prober.wake()

    def _resolve(self, sighting: Sighting, sockets: MulticastSockets, now_s: float) -> None:
        if sighting.port is not None or sighting.goodbye or self.table.named(sighting.mailbox_id):
            return
        if self._resolves.take(now_s):
            for name in instance_names(sighting.mailbox_id):
                self._send(sockets, resolve(name))


class _Once:
    """`task_status.started()` that may be called again."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status: trio.TaskStatus[None] | None = task_status

    def set(self) -> None:
        if self._task_status is not None:
            status, self._task_status = self._task_status, None
            status.started()


async def discover_once(timeout_s: float, *, network: str | None = None) -> list[Neighbour]:
    """Looks for mailboxes for `timeout_s` without announcing anything; `network` None takes those of any network.
    Sorted by id. An empty list also stands for: there is no network."""
    found: dict[str, Neighbour] = {}

    def report(event: Found | Lost) -> None:
        if isinstance(event, Found):
            found[str(event.neighbour.mailbox_id)] = event.neighbour
        else:
            found.pop(str(event.mailbox_id), None)

    with trio.move_on_after(timeout_s):
        await MdnsDiscovery(network=network).run(None, report)
    return [found[key] for key in sorted(found)]

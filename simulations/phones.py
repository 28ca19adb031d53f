"""Phones with the app's client policies, over a simulated HTTP link to the node's own handlers.

A phone keeps all that it ever read or wrote, so it carries messages to wherever its owner walks: each poll tells the
mailbox how far it has every log, takes what is new, and gives whatever the mailbox is missing, whoever wrote it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

import msgspec
import trio

from node.discovery.packets import Sighting
from protocols.client.policies import POLICIES
from protocols.model import LogName, MailboxId
from simulations.machines import Host
from simulations.multicast import Multicast
from simulations.network import Machine, Network
from simulations.runtime import Alarm, draw
from simulations.scenario import Phones

__all__ = ["Phone", "Witness"]

_HTTP_BYTES: Final = 250
"""What heads cost on top of a body."""

_BROWSE_S: Final = 60.0

_FORGOTTEN_AFTER_S: Final = 120.0
"""After so much silence a mailbox's announcement is no longer believed."""

Key = tuple[LogName, int]


class Witness(Protocol):
    """Whoever writes down what phones do."""

    def wrote(self, phone: str, name: LogName, seq: int) -> None: ...

    def acknowledged(self, host: Host, messages: Sequence[Key]) -> None: ...

    def served(self, host: Host, name: LogName, seq: int, blob: bytes) -> None: ...


@dataclass(slots=True)
class _Known:
    """A mailbox as the phone sees it. `held` is the tracker of the later app: how far it is believed to hold a log."""

    host: Host
    heard_at: float
    due_at: float
    failures: int = 0
    held: dict[LogName, int] = field(default_factory=dict)


class Phone:
    """One phone."""

    def __init__(self, spec: Phones, machine: Machine, network: Network, *, seed: int, witness: Witness) -> None:
        self.spec = spec
        self.machine = machine
        self.name = machine.name
        self.heights: dict[str, dict[str, int]] = {topic: {} for topic in spec.topics}
        """For each topic and log the highest seq that it has."""
        self.delivered = 0
        self._held: dict[Key, bytes] = {}
        self._network = network
        self._witness = witness
        self._policy = POLICIES[spec.policy]
        self._random = draw(seed, "phone", machine.name)
        self._known: dict[MailboxId, _Known] = {}
        self._hosts: Callable[[str], Host | None] = lambda _address: None
        self._multicast: Multicast | None = None
        self._turn = 0
        self._open_until = self._random.expovariate(1 / spec.open_s) if spec.open_s < inf else inf
        self._closed_until = 0.0
        self._wake = Alarm()

    async def run(self, hosts: Callable[[str], Host | None], multicast: Multicast) -> None:
        """Writes and polls for ever. `hosts` finds the mailbox at an address."""
        self._hosts = hosts
        self._multicast = multicast
        multicast.listen(self)
        multicast.network.timeline.after(self._random.random(), self._look_around)
        async with trio.open_nursery() as nursery:
            if self.spec.messages_per_hour > 0:
                nursery.start_soon(self._write)
            await self._poll_forever()

    # --- discovery -------------------------------------------------------------------------------------------------

    def knows(self, mailbox_id: MailboxId, address: str) -> bool:
        known = self._known.get(mailbox_id)
        return known is not None and self._hosts(address) is known.host and known.failures == 0

    def still_there(self, mailbox_id: MailboxId) -> None:
        if mailbox_id in self._known:
            self._known[mailbox_id].heard_at = trio.current_time()

    def hear(self, sighting: Sighting) -> None:
        if sighting.goodbye:
            self._known.pop(sighting.mailbox_id, None)
            return
        host = self._hosts(sighting.source)
        if host is not None and host.machine.lan == self.machine.lan:
            now = trio.current_time()
            known = self._known.setdefault(sighting.mailbox_id, _Known(host, now, now))
            known.heard_at = now
            self._wake.ring()

    def moved(self) -> None:
        """It is in another LAN: whom it knew is not here."""
        self._known.clear()
        self._wake.ring()
        if self._multicast is not None:
            self._multicast.ask(self.machine, self)

    def _look_around(self) -> None:
        """Asks who is there, as a browser does from time to time."""
        if self._multicast is not None:
            self._multicast.ask(self.machine, self)
            self._multicast.network.timeline.after(_BROWSE_S * self._random.uniform(0.8, 1.2), self._look_around)

    # --- writing ---------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        spec = self.spec
        await trio.sleep_until(spec.writes_from_s)
        while True:
            await trio.sleep(self._random.expovariate(spec.messages_per_hour / 3600))
            if trio.current_time() >= spec.writes_until_s:
                return
            topic = self._random.choice(list(spec.topics))
            seq = self.heights[topic].get(self.name, -1) + 1
            name = LogName(topic, self.name)
            text = f"{self.name} {topic} {seq} ".encode()
            self._take(name, seq, text + self._random.randbytes(max(0, spec.message_bytes - len(text))))
            self._witness.wrote(self.name, name, seq)
            self._closed_until = 0.0
            self._poll_at_once()  # an own message makes the next poll early

    def _take(self, name: LogName, seq: int, blob: bytes) -> None:
        self._held[name, seq] = blob
        heights = self.heights[name.topic]
        heights[name.log] = max(seq, heights.get(name.log, -1))

    # --- open and closed -------------------------------------------------------------------------------------------

    async def _stay_closed(self) -> None:
        """Closes the app if it is time to, and comes back when it is opened again."""
        now = trio.current_time()
        if now < self._open_until:
            return
        self._closed_until = now + self._random.expovariate(1 / self.spec.closed_s)
        while trio.current_time() < self._closed_until:
            await self._pause(self._closed_until)
        self._open_until = trio.current_time() + self._random.expovariate(1 / self.spec.open_s)
        self._poll_at_once()

    async def _pause(self, until: float) -> None:
        """Until then, or until something has happened."""
        if until < inf:
            self._network.timeline.at(until, self._wake.ring)
        await self._wake.wait()
        self._wake = Alarm()

    def _poll_at_once(self) -> None:
        for known in self._known.values():
            known.due_at = min(known.due_at, trio.current_time())
        self._wake.ring()

    # --- polling ---------------------------------------------------------------------------------------------------

    async def _poll_forever(self) -> None:
        soonest = trio.current_time()
        while True:
            await self._stay_closed()
            known = self._next()
            due_at = inf if known is None else max(known.due_at, soonest)
            if trio.current_time() < due_at:
                await self._pause(min(due_at, self._open_until))
                continue
            assert known is not None
            soonest = trio.current_time() + 1.0
            failed = False
            try:
                with trio.fail_after(self._policy.timeout_s) as scope:
                    await self._poll(known, scope)
            except (trio.TooSlowError, ConnectionError):
                failed = True
            known.failures = known.failures + 1 if failed else 0
            now = trio.current_time()
            pause_s = self._policy.pause_s(known.failures)
            if failed and now - known.heard_at > _FORGOTTEN_AFTER_S:
                self._known.pop(known.host.mailbox_id, None)
            if self._policy.keeps_turn:
                self._turn += 1
                for one in self._known.values():
                    one.due_at = now + pause_s
            known.due_at = now + pause_s

    def _next(self) -> _Known | None:
        if not self._known:
            return None
        if self._policy.keeps_turn:
            return list(self._known.values())[self._turn % len(self._known)]
        return min(self._known.values(), key=lambda known: known.due_at)

    async def _poll(self, known: _Known, scope: trio.CancelScope) -> None:
        """Asks for everything that is new, and gives what is missing. Raises ConnectionError."""
        heights = {topic: dict(logs) for topic, logs in self.heights.items()}
        answer = await self._request(known.host, scope, "get", msgspec.json.encode({"topics": heights}))
        missing: list[Key] = []
        for topic, part in msgspec.json.decode(answer)[f"{self._policy.family}_by_topic"].items():
            for log, blobs in part[self._policy.family].items():
                name = LogName(topic, log)
                for seq, text in blobs.items():
                    blob = base64.b64decode(text)
                    self._witness.served(known.host, name, int(seq), blob)
                    if (name, int(seq)) not in self._held:
                        self.delivered += 1
                        self._take(name, int(seq), blob)
            missing += [(LogName(topic, log), seq) for log, seqs in part["missing"].items() for seq in seqs]
        wanted = dict.fromkeys(key for key in missing if key in self._held)
        if not self._policy.keeps_turn:
            wanted.update(dict.fromkeys(self._unsent(known, heights)))
        if wanted:
            await self._store(known, scope, list(wanted))
        for topic, logs in heights.items():
            for log, height in logs.items():
                name = LogName(topic, log)
                known.held[name] = max(height, known.held.get(name, -1))

    def _unsent(self, known: _Known, asked: Mapping[str, Mapping[str, int]]) -> list[Key]:
        """The later app's fast push: own messages above what the mailbox is believed to hold."""
        unsent: list[Key] = []
        for topic, logs in self.heights.items():
            name = LogName(topic, self.name)
            believed = max(known.held.get(name, -1), asked[topic].get(self.name, -1))
            unsent += [(name, seq) for seq in range(believed + 1, logs.get(self.name, -1) + 1)]
        return unsent

    async def _store(self, known: _Known, scope: trio.CancelScope, keys: Sequence[Key]) -> None:
        tree: dict[str, dict[str, dict[str, str]]] = {}
        for name, seq in keys:
            blob = base64.b64encode(self._held[name, seq]).decode()
            tree.setdefault(name.topic, {}).setdefault(name.log, {})[str(seq)] = blob
        await self._request(known.host, scope, "store", msgspec.json.encode({self._policy.family: tree}), keys)

    async def _request(
        self, host: Host, scope: trio.CancelScope, what: str, body: bytes, keys: Sequence[Key] = ()
    ) -> bytes:
        """Raises ConnectionError, also for a refusal."""
        network = self._network
        await network.travel(self.machine, host.machine, len(body) + _HTTP_BYTES)
        client = network.address(self.machine)
        status, answer = await host.serve(f"/{self._policy.family}/{what}", body, client=client, scope=scope)
        if status == 201 and keys:
            # Sent, but not yet received: from here on the mailbox has promised.
            self._witness.acknowledged(host, keys)
        await network.travel(host.machine, self.machine, len(answer) + _HTTP_BYTES)
        if status not in (200, 201):
            raise ConnectionError(f"refused with {status}")
        return answer

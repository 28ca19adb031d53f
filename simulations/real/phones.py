"""Real phones: HTTP clients on machines of their own, with the app's policies, which find mailboxes by mDNS."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

import trio

from node.discovery.packets import query, read_packet
from node.workload import HttpSession, WorkloadError
from protocols.client.policies import POLICIES
from protocols.errors import RemoteProtocolError
from protocols.limits.discovery import MDNS_PACKET_BYTES_MAX
from protocols.limits.simulation import PHONE_CONNECT_TIMEOUT_S, PHONE_FORGET_S, PHONE_LOOK_S
from protocols.model import LogName, MailboxId
from protocols.toy_answers import TopicAnswer, decode_get_answer
from protocols.toy_api import Family, encode_get, encode_store
from simulations.real.ledger import Key, Ledger
from simulations.real.network import Machine
from simulations.runtime import draw
from simulations.scenario import Phones

__all__ = ["RealPhone"]

_GROUP: Final = ("224.0.0.251", 5353)
_GATHER_S: Final = 1.0
_POLL_FLOOR_S: Final = 1.0


@dataclass(slots=True)
class _Seen:
    """A mailbox that the phone has heard of."""

    host: str
    port: int
    heard_at: float
    failures: int = 0
    """Polls in a row that failed."""


class RealPhone:
    """One phone. It writes one log in each of its topics, keeps all that it reads and carries it wherever it goes."""

    def __init__(
        self,
        machine: Machine,
        group: Phones,
        ledger: Ledger,
        *,
        seed: int,
        now_s: Callable[[], float],
        name_of: Mapping[MailboxId, str],
    ) -> None:
        """`now_s` is the time of the play; `name_of` tells which mailbox an id belongs to."""
        self.machine = machine
        self.name = machine.name
        self._group = group
        self._ledger = ledger
        self._policy = POLICIES[group.policy]
        self._random = draw(seed, "phone", self.name)  # as the simulated phone: it writes the same at the same times
        self._now_s = now_s
        self._name_of = name_of
        self._mailboxes: dict[MailboxId, _Seen] = {}
        self._messages: dict[str, dict[str, dict[int, bytes]]] = {topic: defaultdict(dict) for topic in group.topics}
        self._news = trio.Event()
        self._look = trio.Event()
        self._hours = draw(seed, "open", self.name)
        self._is_on = self._is_open = True
        self._opened = trio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._discover)
            nursery.start_soon(self._write)
            if self._group.open_s < inf:
                nursery.start_soon(self._open_and_close)
            nursery.start_soon(self._in_turn if self._policy.keeps_turn else self._each)

    def turn_off(self) -> None:
        """It sleeps or is switched off; what it holds is kept."""
        self._is_on = False

    def turn_on(self) -> None:
        """And goes on."""
        self._is_on = True
        self._tell_opened()

    def moved(self) -> None:
        """It is on another LAN: none of the mailboxes there is known yet."""
        self._mailboxes.clear()
        self._look.set()

    async def _awake(self) -> None:
        """Waits until the phone is on."""
        while not self._is_on:
            await self._opened.wait()

    async def _in_use(self) -> None:
        """Waits until it is on and the app open."""
        while not (self._is_on and self._is_open):
            await self._opened.wait()

    async def _open_and_close(self) -> None:
        while True:
            await trio.sleep(self._hours.expovariate(1 / self._group.open_s))
            self._is_open = False
            with trio.move_on_after(self._hours.expovariate(1 / self._group.closed_s) if self._group.closed_s else 0.0):
                while not self._is_open:
                    await self._opened.wait()
            self._is_open = True
            self._tell_opened()

    def _tell_opened(self) -> None:
        self._opened.set()
        self._opened = trio.Event()

    # --- finding mailboxes -----------------------------------------------------------------------------------------

    async def _discover(self) -> None:
        while True:
            await self._in_use()
            self._look = trio.Event()
            try:
                with self.machine.datagrams() as sock, trio.move_on_after(_GATHER_S):
                    for packet in query(()):
                        await sock.sendto(packet, _GROUP)
                    while True:
                        data, source = await sock.recvfrom(MDNS_PACKET_BYTES_MAX)
                        self._heard(data, source)
            except OSError:
                pass  # between two LANs there is no network for a moment
            now_at = trio.current_time()
            for mailbox_id, seen in list(self._mailboxes.items()):
                if now_at - seen.heard_at > PHONE_FORGET_S:
                    del self._mailboxes[mailbox_id]
            with trio.move_on_after(PHONE_LOOK_S if self._mailboxes else _GATHER_S):
                await self._look.wait()

    def _heard(self, data: bytes, source: tuple[str, int]) -> None:
        for sighting in read_packet(data, source, None).sightings:
            if sighting.port is None:
                continue
            now_at = trio.current_time()
            seen = self._mailboxes.get(sighting.mailbox_id)
            if seen is None:
                self._mailboxes[sighting.mailbox_id] = _Seen(source[0], sighting.port, now_at)
                self._tell_news()
            else:
                seen.host, seen.port, seen.heard_at = source[0], sighting.port, now_at

    # --- writing ---------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        group = self._group
        if group.messages_per_hour <= 0:
            return
        await trio.sleep(max(0.0, group.writes_from_s - self._now_s()))
        while True:
            await trio.sleep(self._random.expovariate(group.messages_per_hour / 3600))
            await self._awake()
            if self._now_s() >= group.writes_until_s:
                return
            topic = self._random.choice(list(group.topics))
            log = self._messages[topic][self.name]
            key = Key(topic, self.name, len(log))
            text = f"{self.name} {topic} {key.seq} ".encode()
            log[key.seq] = text + self._random.randbytes(max(0, group.message_bytes - len(text)))
            self._ledger.wrote(key, self._now_s())
            self._is_open = True  # who writes has opened the app
            self._tell_opened()
            self._tell_news()

    # --- polling ---------------------------------------------------------------------------------------------------

    async def _in_turn(self) -> None:
        """The first app: one mailbox a turn; an own message makes the next turn early."""
        turn = 0
        while True:
            await self._in_use()
            news = self._news
            known = sorted(self._mailboxes)
            if known:
                pause_s = await self._poll(known[turn % len(known)])
                turn += 1
                await self._pause(pause_s, news)
            else:
                await news.wait()

    async def _each(self) -> None:
        """Later apps: every mailbox on a clock of its own; an own message goes to all of them at once."""
        under_way: set[MailboxId] = set()

        async def keep_polling(mailbox_id: MailboxId) -> None:
            while mailbox_id in self._mailboxes:
                await self._in_use()
                news = self._news
                await self._pause(await self._poll(mailbox_id), news)
            under_way.discard(mailbox_id)

        async with trio.open_nursery() as nursery:
            while True:
                news = self._news
                for mailbox_id in sorted(set(self._mailboxes) - under_way):
                    under_way.add(mailbox_id)
                    nursery.start_soon(keep_polling, mailbox_id)
                await news.wait()

    async def _pause(self, pause_s: float, news: trio.Event) -> None:
        await trio.sleep(_POLL_FLOOR_S)
        with trio.move_on_after(pause_s - _POLL_FLOOR_S):
            await news.wait()

    def _tell_news(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def _poll(self, mailbox_id: MailboxId) -> float:
        """Takes what is new at one mailbox and gives it what it lacks; returns how long to leave it alone then."""
        seen = self._mailboxes.get(mailbox_id)
        if seen is None:  # forgotten meanwhile
            return _POLL_FLOOR_S
        is_well = False
        with trio.move_on_after(self._policy.timeout_s):
            try:
                with trio.fail_after(PHONE_CONNECT_TIMEOUT_S):
                    session = await self.machine.open(seen.host, seen.port)
                try:
                    is_well = await self._exchange(session, self._name_of.get(mailbox_id, "?"))
                finally:
                    with trio.CancelScope(shield=True):
                        await session.aclose()
            except (OSError, trio.TooSlowError, WorkloadError, RemoteProtocolError):
                pass
        seen.failures = 0 if is_well else seen.failures + 1
        return self._policy.pause_s(seen.failures)

    async def _exchange(self, session: HttpSession, mailbox: str) -> bool:
        heights = {
            topic: {log: max(blobs) for log, blobs in logs.items() if blobs} for topic, logs in self._messages.items()
        }
        status, body = await session.request("POST", "/blips/get", encode_get(heights))
        if status != 200:
            return False
        wanted = self._take(decode_get_answer(body, Family.BLIPS))
        if not self._policy.keeps_turn:
            wanted |= self._written_since(heights)
        if not wanted:
            return True
        messages = [(LogName(key.topic, key.log), key.seq, blob) for key, blob in wanted.items()]
        status, _ = await session.request("POST", "/blips/store", encode_store(Family.BLIPS, messages))
        if not 200 <= status < 300:
            return False
        self._ledger.acknowledged(wanted, mailbox, self._now_s())
        return True

    def _written_since(self, heights: Mapping[str, Mapping[str, int]]) -> dict[Key, bytes]:
        """The later app's fast push: own messages that the mailbox was not asked about."""
        return {
            Key(topic, self.name, seq): blob
            for topic, logs in self._messages.items()
            for seq, blob in logs[self.name].items()
            if seq > heights[topic].get(self.name, -1)
        }

    def _take(self, answer: Mapping[str, TopicAnswer]) -> dict[Key, bytes]:
        """Keeps what came, and finds what the mailbox misses and we have."""
        wanted: dict[Key, bytes] = {}
        for topic, one in answer.items():
            ours = self._messages.get(topic)
            if ours is None:
                continue
            for log, blobs in one.messages.items():
                ours[log].update(blobs)
            for log, seqs in one.missing.items():
                held = ours.get(log, {})
                wanted |= {Key(topic, log, seq): held[seq] for seq in seqs if seq in held}
        return wanted

"""The invariant for which all this is there: in the end all hold the same, as far as they have room for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import trio

from protocols.limits.store import EVICTED_GAP_MAX, MESSAGE_OVERHEAD_BYTES
from simulations.judges import Invariant
from simulations.machines import Host
from simulations.recorder import Held

__all__ = ["Convergence"]


class Convergence(Invariant):
    name = "convergence"
    title = "After a heal and a while, correct mailboxes that reach each other hold the same"

    def calm(self) -> None:
        world = self.world
        for group in world.groups_in_reach():
            self.checks += 1
            if len({world.recorder.holding(host.name).key for host in group}) == 1:
                continue
            expected = self._expected(group)
            for host in group:
                holding = world.recorder.holding(host.name)
                # By its own clock, which may be ahead of the others', it may have died there already.
                alive = [held for held, date_s in expected.items() if world.is_alive(host, date_s)]
                missing = self._with_room(host, sorted(set(alive) - holding.items.keys()), group)
                if missing:
                    name, seq, _ = min(missing)
                    self.broken(
                        f"{host.name} lacked {len(missing)} of {len(expected)} messages that others in reach had held "
                        f"for {world.scenario.settle_s:.0f} s, the first {name.topic}/{name.log}/{seq}"
                    )

    def _expected(self, group: Sequence[Host]) -> dict[Held, int]:
        """What is alive and has been held by somebody of the group for long enough, and the earliest date of each."""
        old_enough_s = trio.current_time() - self.world.scenario.settle_s
        names = {host.name for host in group}
        since: dict[Held, float] = {}
        expected: dict[Held, int] = {}
        for host in group:
            for held, first_stored_s in self.world.recorder.holding(host.name).items.items():
                if held not in since:
                    since[held] = self._since(held, names)
                if since[held] <= old_enough_s and self.world.is_alive(host, first_stored_s):
                    expected[held] = min(first_stored_s, expected.get(held, first_stored_s))
        return expected

    def _with_room(self, host: Host, missing: Sequence[Held], group: Sequence[Host]) -> list[Held]:
        """What of it a mailbox can be expected to fetch: not what it let go, nor what it has no room for."""
        assert host.core is not None
        if host.core.mailbox.is_full:
            return []
        store, recorder = host.disk.content, self.world.recorder
        evicted = recorder.holding(host.name).evicted
        wanted: dict[str, list[Held]] = {}
        for held in missing:
            # The record of what was let go may join spans over small gaps, and must not say more.
            is_about_there = any(one[0] == held[0] and abs(one[1] - held[1]) <= EVICTED_GAP_MAX for one in evicted)
            if not (is_about_there and store.has_let_go(*held[:2])):
                wanted.setdefault(held[0].topic, []).append(held)
        expected: list[Held] = []
        for topic, helds in wanted.items():
            # Near the limit one message may find room and the next not: a topic must as a whole.
            holders = {held: [one for one in group if held in recorder.holding(one.name).items] for held in helds}
            size = sum(ones[0].disk.content.size_of(*held) for held, ones in holders.items())
            size += MESSAGE_OVERHEAD_BYTES * len(helds)
            origins = {one.mailbox_id: None for ones in holders.values() for one in ones}
            expected += helds if store.has_room(topic, size, origins) else ()
        return expected

    def _since(self, held: Held, names: Collection[str]) -> float:
        way = self.world.way_of(held[0], held[1])
        # Those who came to hold it stand in the order in which they did.
        return 0.0 if way is None else next((at for name, at in way.by.items() if name in names), 0.0)

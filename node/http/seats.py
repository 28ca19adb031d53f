"""Who has a connection, and who gives one up when there are too many.

A connection counts for its client's address, and a stranger's among those of all strangers, until it has shown the
token of a paired device: then it counts for that device, wherever it is. So phones behind one router are not taken for
one client, and none of them has to go because of the others.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice

from node.http.limits import HttpLimits
from node.http.standing import Occupant, Standing, client_key
from node.http.turnstile import Turnstile
from protocols.limits.shedding import FRESH_S, GUESTS_MAX, KNOWN_IDLE_S, NETWORK_CLIENTS, STRANGERS_CONNECTIONS_SHARE

__all__ = ["Seats"]

_VICTIMS_LOOKED_AT = 64


class Seats:
    """One server's. `idle` are those between two requests by standing, `heads` those without a whole head; in each of
    them who came first stands first."""

    def __init__(self, limits: HttpLimits, turnstile: Turnstile) -> None:
        self.idle: dict[Standing, dict[Occupant, None]] = {standing: {} for standing in Standing}
        self.heads: dict[Occupant, None] = {}
        self._taken: dict[Occupant, tuple[str, bool]] = {}
        self._guests: dict[Occupant, None] = {}
        self._limits = limits
        self._turnstile = turnstile
        self._per_client: Counter[str] = Counter()
        self._strangers = 0
        self._strangers_max = max(1, int(STRANGERS_CONNECTIONS_SHARE * limits.connections_max))

    def __len__(self) -> int:
        return len(self._taken)

    @property
    def busiest(self) -> int:
        """How many connections the client has who has most."""
        return max(self._per_client.values(), default=0)

    def has_room(self, client: str, now_s: float) -> bool:
        """Whether there is room for a connection, if need be after another one had to go for it. A part is kept free
        for clients who are known: strangers make room for each other."""
        limits, key = self._limits, client_key(client)
        is_exempt = self._turnstile.is_exempt(client)
        is_known = is_exempt or self._turnstile.standing(client, now_s) > Standing.STRANGER
        if not is_exempt and self._per_client[key] >= self._clients(key) * limits.connections_per_client_max:
            return is_known and self._make_go(self._neighbour(key, now_s))
        if len(self._taken) < limits.connections_max and (is_known or self._strangers < self._strangers_max):
            return True
        if not is_known and self._per_client[key]:  # none has to go for somebody who has one
            return False
        victim = self._victim(now_s, is_known=is_known)
        if victim is None and len(self._taken) < limits.connections_max:
            if len(self._guests) < GUESTS_MAX:
                return True
            victim = next(iter(self._guests))
        return self._make_go(victim)

    def take(self, one: Occupant) -> None:
        """Counts a connection from when it is accepted: of a burst of them not one more gets in."""
        is_stranger = one.standing is Standing.STRANGER
        if is_stranger and self._strangers >= self._strangers_max:
            self._guests[one] = None
        self._count(one, (one.key, is_stranger))
        self.heads[one] = None

    def is_guest(self, one: Occupant) -> bool:
        """Whether a stranger is beyond what strangers may have, and may stay only if it shows a token."""
        return one in self._guests and self._strangers > self._strangers_max

    def recount(self, one: Occupant) -> None:
        """Its standing may have changed, or the device that it is known to come from."""
        key = one.key
        if one.device is not None:
            device = f"device {one.device}"
            taken = self._taken.get(one)
            has_room = self._per_client[device] < self._limits.connections_per_client_max
            key = device if has_room or (taken is not None and taken[0] == device) else key
        self._guests.pop(one, None)
        self._count(one, (key, one.standing is Standing.STRANGER))

    def rest(self, one: Occupant) -> None:
        """It has nothing to do until its next request."""
        is_paired = one.device is not None  # what is on this machine may be a proxy's, which has them by the hundred
        self.idle[min(one.standing, Standing.PAIRED if is_paired else Standing.KNOWN)][one] = None

    def give_up(self, one: Occupant) -> None:
        """It can't go for another one any more: it is about to go, or has something to do."""
        for waiting in (*self.idle.values(), self.heads, self._guests):
            waiting.pop(one, None)

    def leave(self, one: Occupant) -> None:
        """It has been closed."""
        self.give_up(one)
        self._discount(one)

    def _victim(self, now_s: float, *, is_known: bool) -> Occupant | None:
        """Who makes room: strangers first, of these who does nothing, who is slow, and who has waited least for a turn.
        Then, for a known client, whoever is known by the address only and has been idle for longest; for a stranger
        only if that is long. A paired phone's connection is not closed for anybody."""
        for one in self.idle[Standing.STRANGER]:
            return one
        for one in islice(self.heads, _VICTIMS_LOOKED_AT):
            if one.standing is Standing.STRANGER and one.began_head_s < now_s - FRESH_S:
                return one
        for waiting in islice(self._turnstile.turns.newest, _VICTIMS_LOOKED_AT):
            if waiting.standing is Standing.STRANGER:
                return waiting
        oldest = next(iter(self.idle[Standing.KNOWN]), None)
        if oldest is None or is_known:
            return oldest
        has_its_share = self._strangers >= self._strangers_max
        return None if has_its_share or oldest.idle_since_s >= now_s - KNOWN_IDLE_S else oldest

    def _neighbour(self, key: str, now_s: float) -> Occupant | None:
        """Who makes room at an address where known people are, which may be a router's: whoever does nothing there."""
        for one in self.idle[Standing.KNOWN]:
            if one.key == key and one.idle_since_s < now_s - FRESH_S:
                return one
        for one in self.heads:
            if one.key == key and one.device is None and one.began_head_s < now_s - FRESH_S:
                return one
        return None

    def _make_go(self, victim: Occupant | None) -> bool:
        if victim is None:
            return False
        self.give_up(victim)
        victim.expire()
        return True

    def _clients(self, key: str) -> int:
        return NETWORK_CLIENTS if key.endswith("/64") else 1

    def _count(self, one: Occupant, counted: tuple[str, bool]) -> None:
        if self._taken.get(one) == counted:
            return
        self._discount(one)
        self._taken[one] = counted
        self._per_client[counted[0]] += 1
        self._strangers += counted[1]

    def _discount(self, one: Occupant) -> None:
        counted = self._taken.pop(one, None)
        if counted is not None:
            key, was_stranger = counted
            self._strangers -= was_stranger
            self._per_client[key] -= 1
            if not self._per_client[key]:
                del self._per_client[key]

"""Who a client is to us, and what follows: how much of what all share it may take when there is too little."""

from __future__ import annotations

import enum
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from protocols.limits.http import HTTP_CLIENTS_REMEMBERED_MAX
from protocols.limits.shedding import KNOWN_FORGET_S, KNOWN_SLOT_S, KNOWN_SLOTS_MIN, PENALTY_HALF_LIFE_S, PENALTY_MAX

__all__ = ["Acquaintances", "Occupant", "Standing", "client_key"]


class Standing(enum.IntEnum):
    """From those who give way first to those who give way last."""

    STRANGER = 0
    KNOWN = 1
    """Has behaved for a while: goes by its address."""
    PAIRED = 2
    """Has shown a device's token, or is on this machine."""


class Occupant(Protocol):
    """A connection, as far as it matters here."""

    key: str
    standing: Standing
    device: str | None

    @property
    def began_head_s(self) -> float:
        """Since when it has waited for a head, while it does."""
        ...

    @property
    def idle_since_s(self) -> float:
        """Since when it has waited for a request, while it does."""
        ...

    def expire(self) -> None:
        """Ends what it is doing."""
        ...


@lru_cache(maxsize=HTTP_CLIENTS_REMEMBERED_MAX)
def client_key(address: str) -> str:
    """By which a client is counted: an IPv4 address itself, of IPv6 the /64, since who has one address in it has all.
    Link-local addresses count one by one: a whole LAN shares their /64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.version == 4 or ip.is_link_local or ip.is_loopback:
        return str(ip)
    return f"{ipaddress.IPv6Address(int(ip) >> 64 << 64)}/64"


@dataclass(slots=True)
class _Acquaintance:
    slots: int = 0
    slot: int = -1
    penalty: float = 0.0
    seen_s: float = 0.0

    def decay(self, now_s: float) -> None:
        if now_s - self.seen_s > KNOWN_FORGET_S:
            self.slots, self.slot = 0, -1
        self.penalty *= 0.5 ** ((now_s - self.seen_s) / PENALTY_HALF_LIFE_S)
        self.seen_s = now_s


class Acquaintances:
    """What is remembered of clients (by `client_key`), of so many at once; strangers are forgotten before others."""

    def __init__(self, *, clients_max: int = HTTP_CLIENTS_REMEMBERED_MAX) -> None:
        self._clients_max = clients_max
        self._known: OrderedDict[str, _Acquaintance] = OrderedDict()
        self._strangers: OrderedDict[str, _Acquaintance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known) + len(self._strangers)

    @property
    def known(self) -> int:
        """How many clients are known."""
        return len(self._known)

    def standing(self, client: str, now_s: float) -> Standing:
        """Whether a client is known. `now_s` is any monotonic clock."""
        one = self._known.get(client)
        if one is None:
            return Standing.STRANGER
        one.decay(now_s)
        return Standing.STRANGER if one.penalty > PENALTY_MAX or one.slots < KNOWN_SLOTS_MIN else Standing.KNOWN

    def behaved(self, client: str, now_s: float) -> None:
        """A request of it was answered, without strain."""
        slot = int(now_s // KNOWN_SLOT_S)
        known = self._known.get(client)
        if known is not None and known.slot == slot:  # as it nearly always is
            return
        one = self._find(client, now_s)
        if slot != one.slot:
            one.slot = slot
            one.slots += 1
            self._place(client, one)

    def vouched(self, client: str, now_s: float) -> None:
        """A paired device has come from there: its next connection is not a stranger's."""
        known = self._known.get(client)
        if known is None or now_s - known.seen_s > KNOWN_SLOT_S:
            one = self._find(client, now_s)
            one.slots = max(one.slots, KNOWN_SLOTS_MIN)
            self._place(client, one)

    def misbehaved(self, client: str, now_s: float) -> None:
        """It broke HTTP, came too slowly, or asked for more than anybody may."""
        one = self._find(client, now_s)
        one.penalty += 1.0
        self._place(client, one)

    def _find(self, client: str, now_s: float) -> _Acquaintance:
        one = self._known.get(client) or self._strangers.get(client)
        if one is None:
            return _Acquaintance(seen_s=now_s)
        one.decay(now_s)
        return one

    def _place(self, client: str, one: _Acquaintance) -> None:
        self._known.pop(client, None)
        self._strangers.pop(client, None)
        (self._known if one.slots >= KNOWN_SLOTS_MIN else self._strangers)[client] = one
        if len(self) > self._clients_max:
            (self._strangers or self._known).popitem(last=False)

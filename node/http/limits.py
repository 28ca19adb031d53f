"""The server's bounds as one value, and the three that need bookkeeping: memory, rate, and waiting for memory."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

import trio

from protocols.limits.http import (
    HTTP_BODIES_BYTES_MAX,
    HTTP_BODY_RATE_MIN,
    HTTP_BODY_TIMEOUT_S,
    HTTP_BODY_WINDOW_S,
    HTTP_CLIENTS_REMEMBERED_MAX,
    HTTP_CONNECTIONS_MAX,
    HTTP_CONNECTIONS_PER_CLIENT_MAX,
    HTTP_GRACE_S,
    HTTP_HEAD_TIMEOUT_S,
    HTTP_IDLE_TIMEOUT_S,
    HTTP_LINGER_S,
    HTTP_REQUESTS_PER_CLIENT_BURST,
    HTTP_REQUESTS_PER_CLIENT_RATE,
    HTTP_SEND_STALL_S,
)

__all__ = ["HttpLimits", "MemoryBudget", "RateLimiter", "is_loopback"]


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of one server; the defaults and their reasons stand in `protocols.limits`. Times in seconds.

    `trust_loopback` exempts clients on this machine from what is counted per client.
    """

    connections_max: int = HTTP_CONNECTIONS_MAX
    connections_per_client_max: int = HTTP_CONNECTIONS_PER_CLIENT_MAX
    head_timeout_s: float = HTTP_HEAD_TIMEOUT_S
    body_timeout_s: float = HTTP_BODY_TIMEOUT_S
    body_window_s: float = HTTP_BODY_WINDOW_S
    body_rate_min: int = HTTP_BODY_RATE_MIN
    idle_timeout_s: float = HTTP_IDLE_TIMEOUT_S
    send_stall_s: float = HTTP_SEND_STALL_S
    linger_s: float = HTTP_LINGER_S
    bodies_bytes_max: int = HTTP_BODIES_BYTES_MAX
    requests_per_client_rate: float = HTTP_REQUESTS_PER_CLIENT_RATE
    requests_per_client_burst: int = HTTP_REQUESTS_PER_CLIENT_BURST
    grace_s: float = HTTP_GRACE_S
    trust_loopback: bool = True

    @property
    def tick_s(self) -> float:
        """How often timeouts are looked at: they are late by this much at the most."""
        shortest_s = min(
            self.head_timeout_s, self.body_window_s, self.idle_timeout_s, self.send_stall_s, self.linger_s, 2.0
        )
        return shortest_s / 4


def is_loopback(address: str) -> bool:
    """Whether an IP address is one of this machine's loopback interface."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class MemoryBudget:
    """Bytes that may be held at once, in all and by one client. A client of None has no share of its own to keep to."""

    def __init__(self, bytes_max: int, *, share_bytes_max: int | None = None) -> None:
        self.held_bytes = 0
        self._bytes_max = bytes_max
        self._share_bytes_max = bytes_max if share_bytes_max is None else share_bytes_max
        self._held_by: Counter[str] = Counter()
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    def take_nowait(self, size: int, client: str | None = None) -> bool:
        """Takes `size` bytes if they are there; says whether."""
        if self.held_bytes + size > self._bytes_max:
            return False
        if client is not None:
            if self._held_by[client] + size > self._share_bytes_max:
                return False
            self._held_by[client] += size
        self.held_bytes += size
        return True

    async def take(self, size: int) -> int:
        """Waits for `size` bytes, first come first served; returns how many were taken (the whole budget at most)."""
        size = min(size, self._bytes_max)
        if self._waiting or not self.take_nowait(size):
            ticket = (size, trio.Event())
            self._waiting.append(ticket)
            try:
                await ticket[1].wait()
            except trio.Cancelled:
                if ticket[1].is_set():
                    self.give_back(size)
                else:
                    self._waiting.remove(ticket)
                    self._wake()
                raise
        return size

    def give_back(self, size: int, client: str | None = None) -> None:
        """Returns what was taken."""
        self.held_bytes -= size
        if client is not None:
            self._held_by[client] -= size
            if not self._held_by[client]:
                del self._held_by[client]
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self.take_nowait(self._waiting[0][0]):
            self._waiting.popleft()[1].set()


class RateLimiter:
    """A token bucket for each client: `rate` requests per second, `burst` of them at once."""

    def __init__(self, *, rate: float, burst: int, clients_max: int = HTTP_CLIENTS_REMEMBERED_MAX) -> None:
        self._rate = rate
        self._burst = burst
        self._clients_max = clients_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, client: str, now_s: float) -> bool:
        """Counts one request at `now_s` (any monotonic clock); says whether it is within the rate."""
        tokens, then_s = self._buckets.pop(client, (float(self._burst), now_s))
        tokens = min(self._burst, tokens + (now_s - then_s) * self._rate)
        admitted = tokens >= 1
        self._buckets[client] = (tokens - 1 if admitted else tokens, now_s)
        if len(self._buckets) > self._clients_max:
            self._buckets.popitem(last=False)
        return admitted

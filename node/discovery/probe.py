"""Tries whether somebody listens at an address: a TCP connection that is closed at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from ipaddress import ip_address

import trio

from node.discovery.table import Endpoint

__all__ = ["probe"]

log = logging.getLogger(__name__)


async def probe(
    endpoints: Sequence[Endpoint], *, timeout_s: float, on_answer: Callable[[Endpoint], None]
) -> tuple[Endpoint, ...]:
    """Connects to all of `endpoints` (IP addresses) at the same time and returns those that accepted within
    `timeout_s`, in their given order. `on_answer` is called as each does. Never raises because of the network.

    This proves a listener, not a mailbox: who it is, the transport finds out.
    """
    answered: set[Endpoint] = set()

    async def attempt(endpoint: Endpoint) -> None:
        if await _accepts(endpoint):
            answered.add(endpoint)
            on_answer(endpoint)

    with trio.move_on_after(timeout_s):
        async with trio.open_nursery() as nursery:
            for endpoint in endpoints:
                nursery.start_soon(attempt, endpoint)
    return tuple(endpoint for endpoint in endpoints if endpoint in answered)


async def _accepts(endpoint: Endpoint) -> bool:
    family = trio.socket.AF_INET if ip_address(endpoint[0]).version == 4 else trio.socket.AF_INET6
    try:
        with trio.socket.socket(family, trio.socket.SOCK_STREAM) as sock:
            await sock.connect(endpoint)
            return True
    except OSError as error:
        log.debug("%s port %d does not answer: %s", *endpoint, error)
        return False

"""Which addresses this machine has: read with ifaddr, in a thread, because a machine full of containers has many."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_interface
from pathlib import Path
from typing import Final

import ifaddr
import trio

from protocols.discovery import Interface
from protocols.limits.discovery import MDNS_ANNOUNCED_ADDRESSES_MAX, MDNS_INTERFACES_MAX

__all__ = ["Link", "Network", "read_network"]

log = logging.getLogger(__name__)

_WILDCARD: Final = {4: "0.0.0.0", 6: "::"}


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface: its kernel index, name, state as the kernel words it ("" where it doesn't say), and its
    addresses with their prefixes. IPv6 link-local addresses are not among them: they mean nothing elsewhere."""

    index: int
    name: str
    state: str
    interfaces: tuple[Interface, ...]

    @property
    def is_loopback(self) -> bool:
        return all(i.ip.is_loopback for i in self.interfaces)

    @property
    def ipv4(self) -> str | None:
        """Its first IPv4 address, by which systems without interface indexes select it for multicast."""
        return next((str(i.ip) for i in self.interfaces if isinstance(i.ip, IPv4Address)), None)


@dataclass(frozen=True, slots=True)
class Network:
    """The links that discovery uses: those of the machine, or loopback alone if it has no others. Two equal snapshots
    mean that nothing of interest has changed."""

    links: tuple[Link, ...]

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        return tuple(i for link in self.links for i in link.interfaces)

    def announced(self, bound: tuple[str, ...]) -> tuple[str, ...]:
        """The addresses to announce for a listener bound to `bound` (see `Announcement.hosts`). IPv4 first, bounded."""
        ours = sorted({i.ip for i in self.interfaces}, key=lambda ip: (ip.version, int(ip)))
        wanted = [str(ip) for ip in ours if not bound or str(ip) in bound or _WILDCARD[ip.version] in bound]
        return tuple(wanted[:MDNS_ANNOUNCED_ADDRESSES_MAX])


async def read_network() -> Network:
    """The present snapshot; without links if the system does not tell (it is logged). Takes no network."""
    return await trio.to_thread.run_sync(_read)


def _read() -> Network:
    try:
        adapters = list(ifaddr.get_adapters())
    except OSError as error:
        log.warning("the addresses of this machine can't be read: %s", error)
        return Network(())
    links = sorted((link for a in adapters if (link := _link(a)) is not None), key=lambda link: link.index)
    outside = [link for link in links if not link.is_loopback]
    return Network(tuple((outside or links)[:MDNS_INTERFACES_MAX]))


def _link(adapter: ifaddr.Adapter) -> Link | None:
    found: set[Interface] = set()
    for ip in adapter.ips:
        text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
        try:
            interface = ip_interface(f"{text.partition('%')[0]}/{ip.network_prefix}")
        except ValueError:  # some systems give odd prefixes for tunnels
            continue
        if not (interface.version == 6 and interface.ip.is_link_local) and not interface.ip.is_unspecified:
            found.add(interface)
    state = _state(adapter.name)
    if not found or adapter.index is None or state == "down":
        return None
    return Link(adapter.index, adapter.name, state, tuple(sorted(found, key=lambda i: (i.version, int(i.ip)))))


def _state(name: str) -> str:
    """Linux keeps the addresses of a cable that was pulled; only this file tells that it was."""
    if "/" in name or name in (".", ".."):
        return ""
    try:
        return Path("/sys/class/net", name, "operstate").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""

"""Which addresses of this machine a listening socket can be reached at."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import ifaddr

__all__ = ["spell_out"]


def spell_out(bound: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """(IP address, port) of everything that sockets bound to (IP address, port) can be reached at, loopback first.

    Wildcards are spelled out per interface. Link-local IPv6 addresses are left out there: they mean something else on
    each computer.
    """
    result: dict[tuple[str, int], bool] = {}
    for host, port in bound:
        address = ipaddress.ip_address(str(host).partition("%")[0])
        for ip in _interface_addresses(address.version) if address.is_unspecified else [address]:
            if not (ip.version == 6 and ip.is_link_local and address.is_unspecified):
                result[str(ip), int(port)] = ip.is_loopback
    return sorted(result, key=lambda key: not result[key])


def _interface_addresses(version: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            address = ipaddress.ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0])
            if address.version == version:
                found.append(address)
    return found

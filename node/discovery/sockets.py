"""The mDNS sockets: one per IP version, joined on every link; packets go out on every link.

Made anew whenever the links change: membership of a multicast group dies with its interface.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Final

import trio

from node.discovery.interfaces import Link, Network
from protocols.limits.discovery import MDNS_PACKET_BYTES_MAX

__all__ = ["MulticastSockets", "receive"]

log = logging.getLogger(__name__)

_LINUX: bool = sys.platform.startswith("linux")
_PORT: Final = 5353
_GROUP_4: Final = "224.0.0.251"
_GROUP_6: Final = "ff02::fb"

# What a link that is going down, has no IPv6 or knows no multicast answers: no reason to give up the others.
_GONE: Final = frozenset(
    {
        errno.EADDRNOTAVAIL,
        errno.ENODEV,
        errno.EINVAL,
        errno.ENOPROTOOPT,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EHOSTUNREACH,
        errno.ENOBUFS,
        errno.EPERM,  # a firewall that rejects
        errno.EACCES,
        errno.EADDRINUSE,
        errno.EMSGSIZE,
        errno.ENXIO,
    }
)


class MulticastSockets:
    """Sends to and receives from the mDNS groups on the links of a network. A context manager.

    Raises OSError on creation if not even one link can be used.
    """

    def __init__(self, network: Network) -> None:
        self._links_4: list[Link] = []
        self._links_6: list[Link] = []
        self._sockets: list[socket.socket] = []
        self._complained: set[tuple[int, int]] = set()
        self.readers: list[trio.socket.SocketType] = []
        try:
            self._open_4([link for link in network.links if link.ipv4 is not None])
            self._open_6([link for link in network.links if any(i.version == 6 for i in link.interfaces)])
        except BaseException:
            self.close()
            raise
        if not self._sockets:
            raise OSError(errno.ENETUNREACH, "no link can be used for multicast")
        self.readers = [trio.socket.from_stdlib_socket(s) for s in self._sockets]

    def __enter__(self) -> MulticastSockets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all of it; tasks that wait on `readers` get ClosedResourceError."""
        for reader in self.readers:
            reader.close()
        for sock in self._sockets:
            sock.close()

    def send(self, packets: Iterable[bytes]) -> None:
        """Multicasts on every link. Never blocks, never raises OSError: what can't be sent is lost, as on the air."""
        for packet in packets:
            for sock in self._sockets:
                for link in self._links_4 if sock.family == socket.AF_INET else self._links_6:
                    self._send_on(sock, link, packet)

    def send_to(self, packets: Iterable[bytes], target: tuple[str, int], reader: trio.socket.SocketType) -> None:
        """Unicasts from the socket on which the question came."""
        sock = self._sockets[self.readers.index(reader)]
        for packet in packets:
            try:
                sock.sendto(packet, target)
            except OSError as error:
                log.debug("no mDNS answer to %s: %s", target[0], error)

    def _send_on(self, sock: socket.socket, link: Link, packet: bytes) -> None:
        try:
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _interface_4(link))
                sock.sendto(packet, (_GROUP_4, _PORT))
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.index)
                sock.sendto(packet, (_GROUP_6, _PORT, 0, link.index))
        except BlockingIOError:
            pass
        except OSError as error:
            if (link.index, sock.family) not in self._complained:
                self._complained.add((link.index, sock.family))
                log.debug("multicast on %s does not work: %s", link.name, error)

    def _open_4(self, links: list[Link]) -> None:
        if not links:
            return
        sock = _new_socket(socket.AF_INET)
        self._sockets.append(sock)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, struct.pack("B", 255))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, struct.pack("B", 1))
        sock.bind(("", _PORT))
        for link in links:
            value = _membership_4(_GROUP_4, link)
            if _join(sock, link, socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, value):
                self._links_4.append(link)
        self._drop_unless(sock, self._links_4)

    def _open_6(self, links: list[Link]) -> None:
        if not links or not socket.has_ipv6:
            return
        try:
            sock = _new_socket(socket.AF_INET6)
        except OSError as error:  # built in, but switched off
            log.debug("no IPv6: %s", error)
            return
        self._sockets.append(sock)
        try:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            sock.bind(("::", _PORT))
        except OSError as error:
            log.debug("no mDNS over IPv6: %s", error)
            self._drop_unless(sock, [])
            return
        for link in links:
            value = socket.inet_pton(socket.AF_INET6, _GROUP_6) + struct.pack("@I", link.index)
            if _join(sock, link, socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, value):
                self._links_6.append(link)
        self._drop_unless(sock, self._links_6)

    def _drop_unless(self, sock: socket.socket, links: list[Link]) -> None:
        if not links:
            self._sockets.remove(sock)
            sock.close()


async def receive(reader: trio.socket.SocketType) -> tuple[bytes, tuple[str, int]]:
    """The next packet and the (IP address, port) it came from, the address without zone. Raises OSError."""
    data, address = await reader.recvfrom(MDNS_PACKET_BYTES_MAX)
    return data, (address[0].partition("%")[0], address[1])


def _new_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):  # the BSDs and macOS share a port only so, as do other responders on Linux
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return sock


def _membership_4(group: str, link: Link) -> bytes:
    """A `struct ip_mreqn` where the system knows it, which selects a link by index; else `ip_mreq`, by address."""
    address = socket.inet_aton(group) + socket.inet_aton(link.ipv4 or "0.0.0.0")
    return address + struct.pack("@i", link.index) if _LINUX else address


def _interface_4(link: Link) -> bytes:
    """What IP_MULTICAST_IF takes: the same structure on Linux, an address elsewhere."""
    if _LINUX:
        return _membership_4("0.0.0.0", link)
    return socket.inet_aton(link.ipv4 or "0.0.0.0")


def _join(sock: socket.socket, link: Link, level: int, option: int, value: bytes) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        log.debug("no multicast on %s: %s", link.name, error)
        return False
    return True

"""Where a mailbox listens for other mailboxes, as libp2p multiaddr text: `/ip4/192.168.1.5/tcp/4001/p2p/12D3Koo…`."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from protocols.model import MailboxId

__all__ = ["PeerAddress"]

_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


@dataclass(frozen=True, slots=True, order=True)
class PeerAddress:
    """A TCP address of a mailbox whose identity is known. `host` is an IP address or a DNS name, `port` 1..65535."""

    host: str
    port: int
    mailbox_id: MailboxId

    def __str__(self) -> str:
        return f"/{_family(self.host)}/{self.host}/tcp/{self.port}/p2p/{self.mailbox_id.peer_id}"

    @classmethod
    def parse(cls, text: str) -> PeerAddress:
        """Reads `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT/p2p/PEERID`. Raises ValueError with what is wrong."""
        parts = text.split("/")
        if len(parts) != 7 or parts[0] or parts[3] != "tcp" or parts[5] != "p2p":
            raise ValueError(f"{text!r} is not an address of the form /ip4/HOST/tcp/PORT/p2p/PEERID")
        _, kind, host, _, port, _, peer_id = parts
        if kind not in ("ip4", "ip6", "dns", "dns4", "dns6"):
            raise ValueError(f"{text!r}: {kind!r} is not one of ip4, ip6, dns, dns4, dns6")
        if kind.startswith("ip"):
            if _family(host) != kind:
                raise ValueError(f"{text!r}: {host!r} is not an {kind} address")
        elif len(host) > 253 or not _HOSTNAME.fullmatch(host):
            raise ValueError(f"{text!r}: {host!r} is not a host name")
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
            raise ValueError(f"{text!r}: {port!r} is not a port")
        return cls(host, int(port), MailboxId.from_peer_id(peer_id))


def _family(host: str) -> str:
    try:
        return "ip4" if ipaddress.ip_address(host).version == 4 else "ip6"
    except ValueError:
        return "dns"

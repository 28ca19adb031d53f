"""What mailboxes say of themselves on the local network: names, TXT records and which addresses are worth a try.

Theory of operation. A mailbox is announced by DNS-SD under two instance names, one for each generation of the phones'
app: its id in base64url (43 characters) and in base32 (52). Both name the same key, so both become one neighbour. What
only mailboxes need of each other stands in a TXT record; a mailbox without one speaks HTTP only. Everything that is
heard may be a lie: names and TXT records pass through `parse_instance` and `parse_txt`, which raise RemoteProtocolError
and nothing else, and addresses pass through `lan_targets`, so that nobody can make us connect beyond the local network.

The spec stands in discovery.md beside this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address
from typing import Final, TypeAlias

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.discovery import (
    ADDRESSES_PARSED_KEPT,
    MDNS_TXT_BYTES_MAX,
    NEIGHBOUR_ADDRESSES_MAX,
    NETWORK_TAG_CHARS_MAX,
    PROTOCOL_VERSION_MAX,
)
from protocols.model import MailboxId

__all__ = [
    "NETWORK_DEFAULT",
    "SERVICE_TYPE",
    "PeerInfo",
    "Txt",
    "encode_bye",
    "encode_txt",
    "host_name",
    "instance_names",
    "lan_targets",
    "on_link",
    "parse_instance",
    "parse_txt",
]

Interface: TypeAlias = IPv4Interface | IPv6Interface
Address: TypeAlias = IPv4Address | IPv6Address

SERVICE_TYPE: Final = "_dashchat._tcp.local."
"""The DNS-SD service type: that of the app's local mailboxes, because we are one for the app."""

NETWORK_DEFAULT: Final = "main"
"""The network of everyone who says nothing else, the app's own mailboxes included."""

_COLLISION = re.compile(r" \([0-9]{1,9}\)\Z")
_NETWORK = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_NUMBER = re.compile(r"0|[1-9][0-9]*")

_LAN_NETWORKS: Final[tuple[IPv4Network | IPv6Network, ...]] = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv4Network("169.254.0.0/16"),
    IPv6Network("fc00::/7"),
)


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What a mailbox tells other mailboxes: its libp2p port, its protocol version, the network it belongs to."""

    p2p_port: int
    protocol_version: int
    network: str

    def __post_init__(self) -> None:
        if not 1 <= self.p2p_port <= 65535:
            raise LocalProtocolError(f"p2p port {self.p2p_port} is outside 1..65535")
        if not 1 <= self.protocol_version <= PROTOCOL_VERSION_MAX:
            raise LocalProtocolError(f"protocol version {self.protocol_version} is outside 1..{PROTOCOL_VERSION_MAX}")
        if len(self.network) > NETWORK_TAG_CHARS_MAX or not _NETWORK.fullmatch(self.network):
            raise LocalProtocolError(
                f"network tag {self.network!r} is not 1 to {NETWORK_TAG_CHARS_MAX} of a-z, 0-9 and inner hyphens"
            )


@dataclass(frozen=True, slots=True)
class Txt:
    """A TXT record as understood: `peer` is None for a mailbox that only speaks HTTP; `bye` says that it leaves."""

    peer: PeerInfo | None
    bye: bool


def instance_names(mailbox_id: MailboxId) -> tuple[str, str]:
    """The two full DNS-SD instance names of a mailbox: base64url first, then base32."""
    return (f"{mailbox_id}.{SERVICE_TYPE}", f"{mailbox_id.base32}.{SERVICE_TYPE}")


def host_name(mailbox_id: MailboxId) -> str:
    """The host that both instances point to. One per mailbox: a shared one lets caches mix up two mailboxes."""
    return f"{mailbox_id}.local."


def parse_instance(name: str) -> MailboxId:
    """The mailbox of a full instance name. The service type is compared without regard to case, as DNS does, while
    a base64url label keeps its case, because that is part of the id. One trailing collision counter ` (N)` is cut.

    Raises RemoteProtocolError (`bad-name`).
    """
    cut = len(name) - len(SERVICE_TYPE) - 1
    if cut < 1 or name[cut:].lower() != f".{SERVICE_TYPE}":
        raise RemoteProtocolError("bad-name", f"not an instance of {SERVICE_TYPE}")
    label = _COLLISION.sub("", name[:cut], count=1)
    try:
        return MailboxId.parse(label) if len(label) == 43 else MailboxId.parse_base32(label)
    except ValueError:
        raise RemoteProtocolError("bad-name", "the instance name is not a mailbox id") from None


def encode_txt(info: PeerInfo) -> bytes:
    """The TXT record data of a mailbox: `v`, `p` and `n`, each a length byte and `key=value`."""
    texts = (f"v={info.protocol_version}", f"p={info.p2p_port}", f"n={info.network}")
    return b"".join(bytes([len(text)]) + text.encode("ascii") for text in texts)


def encode_bye() -> bytes:
    """The TXT record data with which the newer app generation's mailboxes take leave."""
    return b"\x03bye"


def parse_txt(data: bytes) -> Txt:
    """Reads TXT record data. Unknown keys are skipped, so that later versions can add some; keys are compared without
    regard to case and the first of equal ones counts, as DNS-SD says. A record without `v` is that of an HTTP-only
    mailbox.

    Raises RemoteProtocolError (`bad-txt`).
    """
    if len(data) > MDNS_TXT_BYTES_MAX:
        raise RemoteProtocolError("bad-txt", f"a TXT record of {len(data)} bytes, more than {MDNS_TXT_BYTES_MAX}")
    values = _txt_values(data)
    bye = "bye" in values
    if "v" not in values:
        return Txt(None, bye)
    version = _number(values, "v", PROTOCOL_VERSION_MAX)
    port = _number(values, "p", 65535)
    network = values.get("n", NETWORK_DEFAULT)
    try:
        return Txt(PeerInfo(port, version, network), bye)
    except LocalProtocolError as error:
        raise RemoteProtocolError("bad-txt", str(error)) from None


def _txt_values(data: bytes) -> dict[str, str]:
    values: dict[str, str] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise RemoteProtocolError("bad-txt", "a TXT string is longer than the record")
        key, _, value = data[at + 1 : end].partition(b"=")
        # What is not ASCII is nothing of ours; as unknown text it is skipped like an unknown key.
        values.setdefault(key.decode("ascii", "replace").lower(), value.decode("ascii", "replace"))
        at = end
    return values


def _number(values: dict[str, str], key: str, highest: int) -> int:
    text = values.get(key, "")
    if len(text) > len(str(highest)) or not _NUMBER.fullmatch(text) or not 1 <= int(text) <= highest:
        raise RemoteProtocolError("bad-txt", f"TXT key {key!r} is not a number from 1 to {highest}")
    return int(text)


def on_link(source: str, interfaces: Sequence[Interface]) -> bool:
    """Whether a packet from `source` can come from our own link, as mDNS demands: same subnet, or IPv6 link-local."""
    address = _address(source)
    if address is None:
        return False
    return (address.version == 6 and address.is_link_local) or any(address in i.network for i in interfaces)


def lan_targets(announced: Iterable[str], interfaces: Sequence[Interface]) -> tuple[str, ...]:
    """The announced addresses that may be connected to, best first, at most NEIGHBOUR_ADDRESSES_MAX.

    Allowed are unicast addresses in the subnets of `interfaces`, private ones (RFC 1918, RFC 4193) and IPv4
    link-local ones. Refused are public addresses of other networks, multicast, broadcast and unspecified ones, IPv6
    link-local ones (useless without a zone), IPv4 in disguise of IPv6, and loopback while we have a network: an
    announcement from outside must not lead to services of this machine. Our own addresses count only if there are no
    others: then the mailbox runs on this machine; else they are those of a bridge that both machines happen to have.

    Order: same subnet, then the rest; IPv4 before IPv6, since hosts shed IPv6 privacy addresses daily.
    """
    ours = {i.ip for i in interfaces}
    offline = all(i.ip.is_loopback for i in interfaces)
    found: dict[Address, tuple[bool, bool, int, int]] = {}
    for text in announced:
        address = _address(text)
        if address is None or not _allowed(address, interfaces, offline=offline):
            continue
        local = any(address in i.network for i in interfaces)
        found[address] = (address in ours, not local, address.version, int(address))
    foreign = [address for address in found if address not in ours]
    ranked = sorted(foreign or found, key=lambda address: found[address])
    return tuple(str(address) for address in ranked[:NEIGHBOUR_ADDRESSES_MAX])


@lru_cache(maxsize=ADDRESSES_PARSED_KEPT)
def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if address.version == 6 and address.scope_id is not None and not address.is_link_local else address


def _allowed(address: Address, interfaces: Sequence[Interface], *, offline: bool) -> bool:
    if address.is_unspecified or address.is_multicast or (address.version == 4 and address.is_reserved):
        return False
    if address.is_loopback:
        return offline
    if address.version == 6 and (address.is_link_local or address.ipv4_mapped is not None):
        return False
    homes = [i.network for i in interfaces if address in i.network]
    if any(_is_edge(address, network) for network in homes):
        return False
    return bool(homes) or any(address in network for network in _LAN_NETWORKS)


def _is_edge(address: Address, network: IPv4Network | IPv6Network) -> bool:
    """Whether it is the network's own or its broadcast address, which are no hosts."""
    if network.version == 6 or network.prefixlen >= 31:
        return False
    return address in (network.network_address, network.broadcast_address)

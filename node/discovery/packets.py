"""mDNS packets: what we say, and what a packet from somebody else says of mailboxes. No sockets, no time.

zeroconf's codec (compiled, and hardened against hostile packets) does the encoding. Its engine is not used: it drops
records with a TTL of zero unless they end something known, while the newer app generation announces with just that TTL;
it puts SRV and address records where that generation does not look for them; and it keeps a cache of everything that
anyone on the link says.

One layout serves all who listen: PTR, SRV and TXT of both instances as answers, the addresses as additional records.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from zeroconf import (  # type: ignore[attr-defined]  # public by use, not by __all__
    DNSAddress,
    DNSIncoming,
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSRecord,
    DNSService,
    DNSText,
)

from node.discovery.api import Announcement
from protocols.discovery import (
    SERVICE_TYPE,
    PeerInfo,
    encode_bye,
    encode_txt,
    host_name,
    instance_names,
    parse_instance,
    parse_txt,
)
from protocols.errors import RemoteProtocolError
from protocols.limits.discovery import MDNS_KNOWN_ANSWERS_MAX, MDNS_NAMES_PER_PACKET_MAX
from protocols.model import MailboxId

__all__ = ["Asked", "Heard", "Sighting", "Speaker", "interesting", "query", "read_packet", "services"]

_A: Final = 1
_PTR: Final = 12
_TXT: Final = 16
_AAAA: Final = 28
_SRV: Final = 33
_ANY: Final = 255
_IN: Final = 1
_FLUSH: Final = 0x8000  # "cache flush" on a record, "unicast answer wanted" on a question
_QUERY: Final = 0x0000
_ANSWER: Final = 0x8400  # response, authoritative

_TTL_HOST_S: Final = 120  # records with an address or a port in them (RFC 6762, section 10)
_TTL_OTHER_S: Final = 4500
_TTL_LEGACY_S: Final = 10  # for those who don't follow changes (section 6.7)
_ENUMERATION: Final = "_services._dns-sd._udp.local."
_MARK: Final = SERVICE_TYPE.split(".", maxsplit=1)[0].encode()


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one packet says of one mailbox. `port` is None if it does not say where it is; `txt_heard` tells an absent
    TXT record from one without mailbox data; `addresses` are as announced, unchecked."""

    mailbox_id: MailboxId
    source: str
    port: int | None
    addresses: tuple[str, ...]
    peer: PeerInfo | None
    txt_heard: bool
    goodbye: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that we have to answer. `legacy` is set for a plain DNS resolver, which wants a unicast answer with
    its own id and questions."""

    legacy: tuple[int, tuple[DNSQuestion, ...]] | None


@dataclass(frozen=True, slots=True)
class Heard:
    """A packet as understood. `refused` are the codes of what was malformed about our service."""

    sightings: tuple[Sighting, ...] = ()
    asked: Asked | None = None
    refused: tuple[str, ...] = ()


@dataclass(slots=True)
class _Parts:
    """The records of one instance in one packet."""

    goodbye: bool = False
    services: list[tuple[int, str]] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)


class Speaker:
    """What this mailbox says: its announcement, its goodbye, and which questions it answers."""

    def __init__(self, announcement: Announcement, addresses: Sequence[str]) -> None:
        self._names = instance_names(announcement.mailbox_id)
        self._host = host_name(announcement.mailbox_id)
        self._port = announcement.http_port
        info = PeerInfo(announcement.p2p_port, announcement.protocol_version, announcement.network)
        self._txt = encode_txt(info)
        self._addresses = tuple(addresses)

    def announcement(self) -> list[bytes]:
        """The packets that say everything about us: announcement and answer to any question."""
        return self._packets(DNSOutgoing(_ANSWER), _TTL_HOST_S, _TTL_OTHER_S, self._txt, flush=_FLUSH)

    def goodbye(self) -> list[bytes]:
        """The packets that take it all back."""
        return self._packets(DNSOutgoing(_ANSWER), 0, 0, encode_bye(), flush=_FLUSH)

    def legacy_answer(self, asked: Asked) -> list[bytes]:
        """The answer to a plain resolver."""
        if asked.legacy is None:
            return []
        number, questions = asked.legacy
        out = DNSOutgoing(_ANSWER, multicast=False, id_=number)
        for question in questions:
            out.add_question(question)
        return self._packets(out, _TTL_LEGACY_S, _TTL_LEGACY_S, self._txt, flush=0)

    def _packets(self, out: DNSOutgoing, host_ttl: int, other_ttl: int, txt: bytes, *, flush: int) -> list[bytes]:
        if other_ttl:  # the service type is shared: never taken back by one mailbox
            out.add_answer_at_time(DNSPointer(_ENUMERATION, _PTR, _IN, other_ttl, SERVICE_TYPE), 0)
        for name in self._names:
            out.add_answer_at_time(DNSPointer(SERVICE_TYPE, _PTR, _IN, other_ttl, name), 0)
            out.add_answer_at_time(
                DNSService(name, _SRV, _IN | flush, host_ttl, 0, 0, self._port, self._host),
                0,
            )
            out.add_answer_at_time(DNSText(name, _TXT, _IN | flush, other_ttl, txt), 0)
        for text in self._addresses:
            address = ip_address(text)
            kind = _A if address.version == 4 else _AAAA
            out.add_additional_answer(DNSAddress(self._host, kind, _IN | flush, host_ttl, address.packed))
        return out.packets()

    def is_asked(self, message: DNSIncoming) -> bool:
        """Whether the query is about us and does not already know the answer."""
        ours = {name.lower() for name in self._names}
        return any(self._concerns(question, message, ours) for question in message.questions)

    def _concerns(self, question: DNSQuestion, message: DNSIncoming, ours: set[str]) -> bool:
        name = question.name.lower()
        if question.type in (_PTR, _ANY) and name == SERVICE_TYPE:
            known = {
                record.alias.lower()
                for record in message.answers()
                if isinstance(record, DNSPointer) and record.name.lower() == SERVICE_TYPE
                if record.ttl >= _TTL_OTHER_S // 2
            }
            return not ours <= known
        if question.type in (_PTR, _ANY) and name == _ENUMERATION:
            return True
        if question.type in (_SRV, _TXT, _ANY) and name in ours:
            return True
        return question.type in (_A, _AAAA, _ANY) and name == self._host.lower()


def interesting(data: bytes, own_host: bytes) -> bool:
    """Whether a packet can be about our service or our host; cheap, so that all other mDNS traffic costs nothing.
    A DNS label stands in a packet as it is at least once, whatever its compression."""
    lowered = data.lower()
    return _MARK in lowered or b"_dns-sd" in lowered or (bool(own_host) and own_host in lowered)


def query(known: Iterable[str]) -> list[bytes]:
    """The packets that ask which mailboxes there are; `known` instance names need not answer."""
    out = DNSOutgoing(_QUERY)
    out.add_question(DNSQuestion(SERVICE_TYPE, _PTR, _IN))
    for _, name in zip(range(MDNS_KNOWN_ANSWERS_MAX), known, strict=False):
        out.add_answer_at_time(DNSPointer(SERVICE_TYPE, _PTR, _IN, _TTL_OTHER_S, name), 0)
    return out.packets()


def services() -> list[bytes]:
    """The packets that ask what kinds of service there are: whoever speaks DNS-SD answers, phones and printers too."""
    out = DNSOutgoing(_QUERY)
    out.add_question(DNSQuestion(_ENUMERATION, _PTR, _IN))
    return out.packets()


def resolve(name: str) -> list[bytes]:
    """The packets that ask where an instance is that was only named."""
    out = DNSOutgoing(_QUERY)
    out.add_question(DNSQuestion(name, _SRV, _IN))
    out.add_question(DNSQuestion(name, _TXT, _IN))
    return out.packets()


def read_packet(data: bytes, source: tuple[str, int], speaker: Speaker | None) -> Heard:
    """Understands a packet from (IP address, port). Never raises: what is malformed is left out and named in `refused`.

    Answers count only from port 5353, as mDNS demands: what an ordinary program can send is no announcement.
    """
    message = DNSIncoming(data, source)
    if not message.valid:
        return Heard(refused=("bad-packet",))
    if message.is_query():
        if speaker is None or not speaker.is_asked(message):
            return Heard()
        return Heard(asked=Asked(None if source[1] == 5353 else (message.id, tuple(message.questions[:4]))))
    return Heard() if source[1] != 5353 else _read_answers(message.answers(), source[0])


def _read_answers(records: Sequence[DNSRecord], source: str) -> Heard:
    parts: dict[str, _Parts] = {}
    hosts: dict[str, list[str]] = {}
    for record in records:
        if isinstance(record, DNSAddress):
            hosts.setdefault(record.name.lower(), []).append(_address_text(record.address))
            continue
        name = record.alias if isinstance(record, DNSPointer) else record.name
        if name not in parts and len(parts) >= 2 * MDNS_NAMES_PER_PACKET_MAX:
            continue
        if not name.lower().endswith("." + SERVICE_TYPE):
            continue
        part = parts.setdefault(name, _Parts())
        if isinstance(record, DNSPointer):
            part.goodbye = part.goodbye or record.ttl == 0
        elif isinstance(record, DNSService):
            part.services.append((record.port, record.server.lower()))
        elif isinstance(record, DNSText):
            part.texts.append(record.text)
    sightings: dict[MailboxId, Sighting] = {}
    refused: list[str] = []
    for name, part in parts.items():
        try:
            sighting = _sighting(name, part, hosts, source)
        except RemoteProtocolError as error:
            refused.append(error.code)
            continue
        before = sightings.get(sighting.mailbox_id)
        if before is not None or len(sightings) < MDNS_NAMES_PER_PACKET_MAX:
            sightings[sighting.mailbox_id] = sighting if before is None else _merge(before, sighting)
    return Heard(tuple(sightings.values()), refused=tuple(refused))


def _sighting(name: str, part: _Parts, hosts: dict[str, list[str]], source: str) -> Sighting:
    mailbox_id = parse_instance(name)
    txts = [parse_txt(text) for text in part.texts]
    goodbye = part.goodbye or any(txt.bye for txt in txts)
    port: int | None = None
    addresses: tuple[str, ...] = ()
    if part.services and not goodbye:
        port, server = part.services[0]
        if port == 0:
            raise RemoteProtocolError("bad-port", "port 0 in a SRV record")
        addresses = tuple(dict.fromkeys(hosts.get(server, ())))
    peer = next((txt.peer for txt in txts if txt.peer is not None), None)
    return Sighting(mailbox_id, source, port, addresses, peer, bool(txts), goodbye)


def _merge(first: Sighting, second: Sighting) -> Sighting:
    """Both labels of one mailbox in one packet. Where they disagree on the port, the first one counts."""
    return Sighting(
        mailbox_id=first.mailbox_id,
        source=first.source,
        port=second.port if first.port is None else first.port,
        addresses=tuple(dict.fromkeys(first.addresses + second.addresses)),
        peer=first.peer or second.peer,
        txt_heard=first.txt_heard or second.txt_heard,
        goodbye=first.goodbye or second.goodbye,
    )


def _address_text(packed: bytes) -> str:
    try:
        return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
    except ValueError:
        return ""

"""What our packets look like to others, and what others' packets mean to us."""

from __future__ import annotations

import hashlib
import socket

from hypothesis import given
from hypothesis import strategies as st
from zeroconf import (
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
from node.discovery.packets import Heard, Sighting, Speaker, interesting, query, read_packet, resolve
from protocols.discovery import SERVICE_TYPE, PeerInfo, encode_txt, instance_names
from protocols.limits.discovery import MDNS_NAMES_PER_PACKET_MAX
from protocols.model import MailboxId

A, PTR, TXT, SRV, IN = 1, 12, 16, 33, 1
INFO = PeerInfo(4001, 1, "main")
MDNS = ("10.0.0.1", 5353)


def mailbox(number: int) -> MailboxId:
    return MailboxId(hashlib.sha256(bytes([number])).digest())


OWN = mailbox(0)


def speaker(*addresses: str) -> Speaker:
    return Speaker(Announcement(OWN, 3411, 4001, 1, "main"), addresses or ("10.0.0.1",))


def answers(*records: DNSRecord, additional: tuple[DNSRecord, ...] = ()) -> bytes:
    out = DNSOutgoing(0x8400)
    for record in records:
        out.add_answer_at_time(record, 0)
    for record in additional:
        out.add_additional_answer(record)
    (packet,) = out.packets()
    return packet


def ptr(name: str, ttl: int = 4500) -> DNSPointer:
    return DNSPointer(SERVICE_TYPE, PTR, IN, ttl, name)


def srv(name: str, port: int = 3000, host: str = "h.local.", ttl: int = 120) -> DNSService:
    return DNSService(name, SRV, IN, ttl, 0, 0, port, host)


def address(text: str, host: str = "h.local.", ttl: int = 120) -> DNSAddress:
    return DNSAddress(host, A, IN, ttl, socket.inet_aton(text))


def hear(packet: bytes, source: tuple[str, int] = MDNS) -> Heard:
    return read_packet(packet, source, speaker())


def test_one_packet_says_everything_about_us() -> None:
    addresses = [f"10.0.{n}.200" for n in range(6)] + ["fd00:1234:5678:9abc::1", "fd00:1234:5678:9abd::1"]
    (packet,) = speaker(*addresses).announcement()
    assert len(packet) < 1400
    heard = read_packet(packet, MDNS, None)
    assert heard.sightings == (Sighting(OWN, "10.0.0.1", 3411, tuple(addresses), INFO, True, False),)
    message = DNSIncoming(packet)
    records = message.answers()
    front = records[: message.num_answers]
    assert {r.name for r in front if isinstance(r, DNSService)} == set(instance_names(OWN))  # in their very case
    assert {r.alias for r in front if isinstance(r, DNSPointer)} == {*instance_names(OWN), SERVICE_TYPE}
    assert all(isinstance(r, DNSAddress) for r in records[message.num_answers :])


def test_our_goodbye_is_one() -> None:
    (packet,) = speaker().goodbye()
    (sighting,) = hear(packet).sightings
    assert (sighting.mailbox_id, sighting.goodbye) == (OWN, True)
    assert {r.ttl for r in DNSIncoming(packet).answers()} == {0}


def test_which_questions_are_ours() -> None:
    names = instance_names(OWN)
    others = instance_names(mailbox(1))

    def asked(name: str, kind: int, *known: DNSPointer) -> bool:
        out = DNSOutgoing(0)
        out.add_question(DNSQuestion(name, kind, IN))
        for record in known:
            out.add_answer_at_time(record, 0)
        (packet,) = out.packets()
        return hear(packet).asked is not None

    assert asked(SERVICE_TYPE, PTR)
    assert asked(SERVICE_TYPE.upper(), 255)
    assert asked("_services._dns-sd._udp.local.", PTR)
    assert asked(names[0], SRV)
    assert asked(names[1].lower(), TXT)
    assert asked(f"{OWN}.local.", A)
    assert not asked("_http._tcp.local.", PTR)
    assert not asked(others[0], SRV)
    assert not asked(names[0], PTR)
    assert asked(SERVICE_TYPE, PTR, ptr(others[0]), ptr(others[1]))
    assert asked(SERVICE_TYPE, PTR, ptr(names[0]))  # the other one is wanted
    assert asked(SERVICE_TYPE, PTR, ptr(names[0], 60), ptr(names[1], 60))  # soon too old
    assert not asked(SERVICE_TYPE, PTR, ptr(names[0]), ptr(names[1]))
    assert all(hear(p).asked is not None for p in query([]))
    assert all(hear(p).asked is None for p in query(names))
    assert all(hear(p).asked is not None for p in resolve(names[1]))


def test_a_plain_resolver_gets_its_own_answer() -> None:
    out = DNSOutgoing(0, multicast=False, id_=4711)
    out.add_question(DNSQuestion(SERVICE_TYPE, PTR, IN))
    (packet,) = out.packets()
    asked = hear(packet, ("10.0.0.9", 40000)).asked
    assert asked is not None
    (answer,) = speaker().legacy_answer(asked)
    message = DNSIncoming(answer)
    assert (message.id, message.questions[0].name) == (4711, SERVICE_TYPE)
    assert {r.ttl for r in message.answers()} == {10}


def test_the_apps_mailbox_of_the_older_generation() -> None:
    name = instance_names(mailbox(1))[0]
    packet = answers(ptr(name), srv(name), DNSText(name, TXT, IN, 4500, b"\0"), additional=(address("10.0.0.1"),))
    assert hear(packet).sightings == (Sighting(mailbox(1), "10.0.0.1", 3000, ("10.0.0.1",), None, True, False),)


def test_the_newer_generation_announces_with_ttl_zero() -> None:
    name = instance_names(mailbox(1))[1].lower()
    packet = answers(srv(name, ttl=0), additional=(address("10.0.0.1", ttl=0),))
    assert hear(packet).sightings == (Sighting(mailbox(1), "10.0.0.1", 3000, ("10.0.0.1",), None, False, False),)
    bye = answers(srv(name, ttl=0), DNSText(name, TXT, IN, 0, b"\x03bye"))
    assert [s.goodbye for s in hear(bye).sightings] == [True]


def test_both_labels_are_one_mailbox_and_others_addresses_are_not_its() -> None:
    first, second = instance_names(mailbox(1))
    packet = answers(
        srv(first),
        srv(second, host="H.LOCAL."),
        DNSText(second, TXT, IN, 4500, encode_txt(INFO)),
        additional=(address("10.0.0.1"), address("10.0.0.7", "else.local.")),
    )
    assert hear(packet).sightings == (Sighting(mailbox(1), "10.0.0.1", 3000, ("10.0.0.1",), INFO, True, False),)


def test_what_is_malformed_is_refused_alone() -> None:
    good, bad = instance_names(mailbox(1))[0], instance_names(mailbox(2))[0]
    packet = answers(
        srv(good),
        srv(bad),
        DNSText(bad, TXT, IN, 4500, b"\x03v=x"),
        srv(f"printer.{SERVICE_TYPE}"),
        srv(instance_names(mailbox(3))[0], port=0),
        ptr("_http._tcp.local."),
    )
    heard = hear(packet)
    assert [s.mailbox_id for s in heard.sightings] == [mailbox(1)]
    assert sorted(heard.refused) == ["bad-name", "bad-port", "bad-txt"]


def test_a_packet_with_many_names_is_cut() -> None:
    out = DNSOutgoing(0x8400)
    for number in range(200):
        out.add_answer_at_time(srv(instance_names(mailbox(number))[0]), 0)
    assert all(len(hear(p).sightings) <= MDNS_NAMES_PER_PACKET_MAX for p in out.packets())


def test_answers_from_another_port_are_no_announcements() -> None:
    packet = answers(srv(instance_names(mailbox(1))[0]))
    assert hear(packet, ("10.0.0.1", 40000)) == Heard()


def test_what_is_worth_parsing() -> None:
    own_host = str(OWN).lower().encode()
    assert all(interesting(p, b"") for p in query([]))
    assert all(interesting(p.upper(), b"") for p in query([]))
    out = DNSOutgoing(0)
    out.add_question(DNSQuestion(f"{OWN}.local.", A, IN))
    assert all(interesting(p, own_host) for p in out.packets())
    assert not interesting(answers(DNSPointer("_http._tcp.local.", PTR, IN, 1, "x._http._tcp.local.")), own_host)
    assert not interesting(b"", b"")


_samples = [
    *speaker().announcement(),
    *speaker().goodbye(),
    *query(instance_names(mailbox(1))),
    answers(srv(instance_names(mailbox(1))[1], ttl=0), additional=(address("10.0.0.1"),)),
]


@given(st.binary(max_size=600))
def test_any_bytes_are_read(data: bytes) -> None:
    hear(data)
    hear(data, ("fe80::1", 1))


@given(st.sampled_from(_samples), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8), st.data())
def test_any_damaged_packet_is_read(packet: bytes, changes: list[tuple[int, int]], data: st.DataObject) -> None:
    damaged = bytearray(packet)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    end = data.draw(st.integers(0, len(damaged)))
    for part in (bytes(damaged), bytes(damaged[:end])):
        heard = hear(part)
        assert len(heard.sightings) <= MDNS_NAMES_PER_PACKET_MAX
        assert all(s.port is None or 1 <= s.port <= 65535 for s in heard.sightings)

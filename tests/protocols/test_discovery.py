"""Names, TXT records and address rules of discovery."""

from __future__ import annotations

import contextlib
from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.discovery import (
    SERVICE_TYPE,
    PeerInfo,
    encode_bye,
    encode_txt,
    host_name,
    instance_names,
    lan_targets,
    on_link,
    parse_instance,
    parse_txt,
)
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.discovery import MDNS_TXT_BYTES_MAX, NEIGHBOUR_ADDRESSES_MAX
from protocols.model import MailboxId

ids = st.binary(min_size=32, max_size=32).map(MailboxId)
networks = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
infos = st.builds(PeerInfo, p2p_port=st.integers(1, 65535), protocol_version=st.integers(1, 65535), network=networks)
LAN = (ip_interface("192.168.1.5/24"), ip_interface("fd00::5/64"), ip_interface("203.0.113.5/24"))


@given(ids)
def test_both_labels_name_the_same_mailbox(mailbox_id: MailboxId) -> None:
    base64url, base32 = instance_names(mailbox_id)
    assert len(base64url) == 43 + 1 + len(SERVICE_TYPE)
    assert len(base32) == 52 + 1 + len(SERVICE_TYPE)
    for name in (base64url, base32, base32.lower()):
        assert parse_instance(name) == mailbox_id
    assert host_name(mailbox_id) == f"{mailbox_id}.local."


@given(ids, st.integers(0, 999_999_999), st.booleans())
def test_one_collision_counter_is_cut(mailbox_id: MailboxId, number: int, shout: bool) -> None:
    service = SERVICE_TYPE.upper() if shout else SERVICE_TYPE
    for label in (str(mailbox_id), mailbox_id.base32.lower()):
        assert parse_instance(f"{label} ({number}).{service}") == mailbox_id
        with pytest.raises(RemoteProtocolError):
            parse_instance(f"{label} (2) ({number}).{service}")


def test_a_label_may_begin_with_a_hyphen_and_keeps_its_case() -> None:
    mailbox_id = MailboxId(b"\xf8" + bytes(31))
    name = instance_names(mailbox_id)[0]
    assert name.startswith("-")
    assert parse_instance(name) == mailbox_id
    assert parse_instance(name.replace("A", "a", 1)) != mailbox_id


@pytest.mark.parametrize(
    "name",
    [
        "",
        SERVICE_TYPE,
        "." + SERVICE_TYPE,
        "A" * 43,
        "A" * 43 + "._http._tcp.local.",
        "A" * 42 + "." + SERVICE_TYPE,
        "A" * 44 + "." + SERVICE_TYPE,
        "A" * 42 + "B." + SERVICE_TYPE,  # the last character has bits to spare: only one spelling is good
        "A" * 42 + "=." + SERVICE_TYPE,
        "A" * 42 + "+." + SERVICE_TYPE,
        "A" * 42 + "é." + SERVICE_TYPE,
        "A" * 43 + " (x)." + SERVICE_TYPE,
        "A" * 43 + "(2)." + SERVICE_TYPE,
        "A" * 43 + " (2) ." + SERVICE_TYPE,
        "A" * 43 + " (\u0662)." + SERVICE_TYPE,  # a digit, but not ours
        "1" * 52 + "." + SERVICE_TYPE,
        "a.b." + SERVICE_TYPE,
    ],
)
def test_what_is_no_mailbox_is_refused(name: str) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        parse_instance(name)
    assert refused.value.code == "bad-name"


@given(st.text())
def test_any_name_is_read_or_refused(text: str) -> None:
    for name in (text, f"{text}.{SERVICE_TYPE}"):
        with contextlib.suppress(RemoteProtocolError):
            parse_instance(name)


@given(infos)
def test_txt_round_trip(info: PeerInfo) -> None:
    data = encode_txt(info)
    assert len(data) <= MDNS_TXT_BYTES_MAX
    assert parse_txt(data).peer == info
    assert not parse_txt(data).bye


def txt(*strings: bytes) -> bytes:
    return b"".join(bytes([len(s)]) + s for s in strings)


def test_txt_of_mailboxes_that_only_speak_http() -> None:
    for data in (b"", b"\0", txt(b"path=/x"), txt(b"p=12"), txt(b"=v"), txt(b"\xff\xfe=\xff")):
        assert parse_txt(data).peer is None
    assert parse_txt(encode_bye()).bye
    assert parse_txt(txt(b"BYE=1")).bye


def test_txt_of_later_versions_and_odd_writers() -> None:
    assert parse_txt(txt(b"new=\xff", b"V=2", b"P=7", b"v=9", b"flag")).peer == PeerInfo(7, 2, "main")


@pytest.mark.parametrize(
    "data",
    [
        txt(b"v=1"),
        txt(b"v=1", b"p"),
        txt(b"v", b"p=1"),
        txt(b"v=1", b"p=0"),
        txt(b"v=1", b"p=65536"),
        txt(b"v=1", b"p=+5"),
        txt(b"v=1", b"p= 5"),
        txt(b"v=1", b"p=05"),
        txt(b"v=1", b"p=-1"),
        txt(b"v=1", "p=\u0665".encode()),
        txt(b"v=0", b"p=1"),
        txt(b"v=99999999999999999999999", b"p=1"),
        txt(b"v=1", b"p=1", b"n="),
        txt(b"v=1", b"p=1", b"n=" + b"a" * 33),
        txt(b"v=1", b"p=1", b"n=Main"),
        txt(b"v=1", b"p=1", b"n=a b"),
        txt(b"v=1", b"p=1", b"n=-a"),
        txt(b"v=1", b"p=1", b"n=<script>"),
        txt(b"v=1", b"p=1", b"n=a\n"),
        b"\x05v=1",
        b"\xff",
        bytes(MDNS_TXT_BYTES_MAX + 1),
    ],
)
def test_hostile_txt_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        parse_txt(data)
    assert refused.value.code == "bad-txt"


@given(st.binary(max_size=2 * MDNS_TXT_BYTES_MAX) | st.lists(st.binary(max_size=40)).map(lambda strings: txt(*strings)))
def test_any_txt_is_read_or_refused(data: bytes) -> None:
    try:
        parse_txt(data)
    except RemoteProtocolError as error:
        assert error.code == "bad-txt"


def test_our_own_nonsense_is_our_fault() -> None:
    for args in ((0, 1, "main"), (1, 0, "main"), (1, 1, "Main"), (1, 1, "")):
        with pytest.raises(LocalProtocolError):
            PeerInfo(*args)


def test_addresses_of_the_lan_best_first() -> None:
    announced = ["10.1.2.3", "fd00::7", "192.168.1.9", "fd12::1", "203.0.113.9", "169.254.3.4"]
    assert lan_targets(announced, LAN) == (
        "192.168.1.9",
        "203.0.113.9",
        "fd00::7",
        "10.1.2.3",
        "169.254.3.4",
        "fd12::1",
    )


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "2606:4700::1111",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "192.168.1.255",
        "192.168.1.0",
        "203.0.113.255",
        "224.0.0.251",
        "ff02::fb",
        "240.0.0.1",
        "127.0.0.1",
        "127.8.8.8",
        "::1",
        "fe80::1",
        "fe80::1%2",
        "fd00::7%2",
        "::ffff:192.168.1.9",
        "::ffff:127.0.0.1",
        "64:ff9b::808:808",
        "100.64.0.1",
        "198.51.100.1",
        "",
        "192.168.1",
        "0x7f000001",
        "192.168.001.009",
        "localhost",
    ],
)
def test_addresses_that_are_not_tried(address: str) -> None:
    assert lan_targets([address], LAN) == ()


def test_our_own_addresses_count_only_alone() -> None:
    assert lan_targets(["192.168.1.5"], LAN) == ("192.168.1.5",)
    assert lan_targets(["192.168.1.5", "192.168.1.9"], LAN) == ("192.168.1.9",)


def test_loopback_counts_only_without_a_network() -> None:
    loopback = (ip_interface("127.0.0.1/8"), ip_interface("::1/128"))
    assert lan_targets(["::1", "127.0.0.1", "8.8.8.8"], loopback) == ("127.0.0.1", "::1")


@given(st.lists(st.ip_addresses().map(str) | st.text()))
def test_never_beyond_the_lan(announced: list[str]) -> None:
    for text in lan_targets([*announced, "192.168.1.9"], LAN):
        address = ip_interface(text).ip
        assert not (address.is_multicast or address.is_unspecified or address.is_loopback)
        assert address.is_private or any(address in i.network for i in LAN)


def test_only_so_many_addresses() -> None:
    assert len(lan_targets([f"192.168.1.{n}" for n in range(1, 250)], LAN)) == NEIGHBOUR_ADDRESSES_MAX


def test_packets_count_only_from_our_link() -> None:
    for source in ("192.168.1.77", "203.0.113.77", "fd00::1234", "fe80::1"):
        assert on_link(source, LAN)
    for source in ("192.168.2.77", "8.8.8.8", "fd01::1", "127.0.0.1", "", "x"):
        assert not on_link(source, LAN)

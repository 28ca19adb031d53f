"""The wires between machines as plain functions: frames in, arrivals out."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from simulations.real.segments import reset_of, segment_of
from simulations.real.wire import Arrival, Cable, Wires
from simulations.scenario import Link

GATEWAY = b"\x02\0\0\0\0\x01"
MULTICAST = b"\x01\0\x5e\0\0\xfb"
NAMES = {"a": ("left", 1), "b": ("left", 2), "c": ("right", 3)}


def mac(name: str) -> bytes:
    return b"\x02\0\0\0\x01" + bytes([NAMES[name][1]])


def address(name: str) -> IPv4Address:
    lan, number = NAMES[name]
    return IPv4Address(f"10.{100 if lan == 'left' else 101}.0.{number}")


def wires(link: Link | None = None, *, route: Link | None = None) -> Wires:
    """a and b on the left, c on the right."""
    link = link or Link(latency_s=0.01, bandwidth_bytes_per_s=1e9)
    routes = {} if route is None else {frozenset(("left", "right")): route}
    made = Wires({"left": link, "right": link}, routes, gateway=GATEWAY, seed=1)
    for name, (lan, _) in NAMES.items():
        made.plug_in(Cable(name, mac(name), address(name), lan, frozenset({f"all-{name}"})))
    return made


def frame(source: str, target: str, payload: bytes = b"x", *, to: bytes | None = None, seq: int = 1000) -> bytes:
    """A TCP segment from one to the other; `to` is the Ethernet address if not the target's."""
    tcp = struct.pack("!HHLLBBHHH", 5000, 4001, seq, 777, 5 << 4, 0x18, 1000, 0, 0) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0)
    ip += address(source).packed + address(target).packed
    return (to or mac(target)) + mac(source) + b"\x08\x00" + ip + tcp


def names(arrivals: list[Arrival]) -> list[str]:
    return [arrival.cable.name for arrival in arrivals]


def test_frames_reach_their_machine_on_the_same_lan_only() -> None:
    made = wires()
    arrivals = list(made.carry("a", frame("a", "b"), 5.0))
    assert names(arrivals) == ["b"]
    assert arrivals[0].frame == frame("a", "b")
    assert 5.01 <= arrivals[0].at_s < 5.02
    assert not list(made.carry("a", frame("a", "c"), 5.0))
    assert names(list(made.carry("a", frame("a", "b", to=MULTICAST), 5.0))) == ["b"]
    assert not list(made.carry("a", b"short", 5.0))


def test_a_route_leads_to_another_lan_but_carries_no_multicast() -> None:
    there = frame("a", "c", to=GATEWAY)
    assert not list(wires().carry("a", there, 0.0))
    made = wires(route=Link(latency_s=0.5))
    (arrival,) = made.carry("a", there, 0.0)
    assert arrival.cable.name == "c"
    assert arrival.at_s >= 0.5
    assert arrival.frame == mac("c") + GATEWAY + there[12:]
    assert "c" not in names(list(made.carry("a", frame("a", "b", to=MULTICAST), 0.0)))


def test_routes_lead_on_over_other_lans_and_share_their_rate() -> None:
    link = Link(latency_s=0.01, bandwidth_bytes_per_s=1e9)
    slow = Link(latency_s=0.1, bandwidth_bytes_per_s=1000)
    routes = {frozenset(("left", "middle")): slow, frozenset(("middle", "right")): slow}
    made = Wires(dict.fromkeys(("left", "middle", "right"), link), routes, gateway=GATEWAY, seed=1)
    for name, (lan, _) in NAMES.items():
        made.plug_in(Cable(name, mac(name), address(name), lan))
    packet = frame("a", "c", bytes(446), to=GATEWAY)
    (first,) = made.carry("a", packet, 0.0)
    assert 1.2 < first.at_s < 1.25, "half a second and a tenth on each route"
    (second,) = made.carry("b", frame("b", "c", bytes(446), to=GATEWAY), 0.0)
    assert second.at_s > first.at_s + 0.4, "the route is shared"


def test_who_walks_is_found_under_its_new_address() -> None:
    made = wires(route=Link())
    made.walk("a", "right", IPv4Address("10.101.0.99"))
    assert names(list(made.carry("c", frame("c", "a"), 0.0))) == ["a"]
    assert not list(made.carry("b", frame("b", "a"), 0.0))
    assert not list(made.carry("b", frame("b", "a", to=GATEWAY), 0.0)), "its old address leads nowhere"


def test_a_narrow_link_takes_its_time_and_drops_what_would_wait_too_long() -> None:
    made = wires(Link(latency_s=0.0, bandwidth_bytes_per_s=1000))
    packet = frame("a", "b", bytes(446))
    assert len(packet) == 500
    times = [arrival.at_s for _ in range(9) for arrival in made.carry("a", packet, 0.0)]
    assert times == [0.5, 1.0, 1.5, 2.0, 2.5]


def test_jitter_changes_no_order() -> None:
    made = wires(Link(latency_s=0.01, jitter_s=0.5, bandwidth_bytes_per_s=1e9))
    times = [arrival.at_s for number in range(200) for arrival in made.carry("a", frame("a", "b"), number / 1000)]
    assert times == sorted(times)
    assert max(time - number / 1000 for number, time in enumerate(times)) > 0.2


def test_bad_weather_loses_its_share() -> None:
    made = wires(Link(good_s=9.0, bad_s=1.0))
    sent = 20_000
    arrived = sum(1 for number in range(sent) for _ in made.carry("a", frame("a", "b"), number / 10))
    assert 0.85 < arrived / sent < 0.95
    breaking = wires(Link(good_s=9.0, bad_s=1.0, break_chance=1.0))
    found = [arrival for number in range(200) for arrival in breaking.carry("a", frame("a", "b"), number / 2)]
    assert any(arrival.cable.name == "a" for arrival in found), "a burst that breaks its streams resets them"
    rainy = wires(Link(multicast_loss=0.5))
    packet = frame("a", "b", to=MULTICAST)
    assert 400 < sum(1 for number in range(1000) for _ in rainy.carry("a", packet, number)) < 600


def test_cuts_by_machine_group_and_lan_also_one_way() -> None:
    made = wires(route=Link())
    assert made.connected(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]
    made.block(1, ["a"], ["all-b"])
    assert not list(made.carry("a", frame("a", "b"), 0.0))
    assert names(list(made.carry("b", frame("b", "a"), 0.0))) == ["a"]
    assert made.connected(["a", "b", "c"]) == [("a", "c"), ("b", "c")]
    made.block(2, ["left"], ["right"])
    assert not list(made.carry("b", frame("b", "c", to=GATEWAY), 0.0))
    made.unblock([1, 2, 99], 0.0)
    assert made.connected(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert names(list(made.carry("a", frame("a", "b"), 0.0))) == ["b"]


def test_a_clog_holds_back_what_arrives_later() -> None:
    made = wires()
    made.block(1, ["a"], ["b"], clog=True)
    packets = [frame("a", "b", bytes([number])) for number in range(3)]
    assert not [arrival for packet in packets for arrival in made.carry("a", packet, 0.0)]
    arrivals = made.unblock([1], 7.0)
    assert [(arrival.at_s, arrival.frame) for arrival in arrivals] == [(7.0, packet) for packet in packets]


def test_a_sleeping_machine_neither_sends_nor_hears() -> None:
    made = wires()
    made.sleep("b")
    assert not list(made.carry("a", frame("a", "b"), 0.0))
    assert not list(made.carry("b", frame("b", "a"), 0.0))
    made.wake("b")
    assert names(list(made.carry("a", frame("a", "b"), 0.0))) == ["b"]


def test_packets_with_tcp_in_them_are_counted_once_they_are_through() -> None:
    made = wires()
    list(made.carry("a", frame("a", "b", to=MULTICAST)[:23] + b"\x11" + frame("a", "b")[24:], 0.0))
    list(made.carry("a", frame("a", "b", bytes(100)), 0.0))
    list(made.carry("a", frame("a", "b", bytes(50), seq=1100), 0.0))
    list(made.carry("b", frame("b", "a", b""), 0.0))
    made.block(1, ["a"], ["b"])
    list(made.carry("a", frame("a", "b", bytes(999)), 0.0))
    assert made.carried_bytes == {("a", "b"): 40 + 100 + 40 + 50, ("b", "a"): 40}


def test_a_reset_carries_the_numbers_that_both_sides_expect() -> None:
    made = wires()
    list(made.carry("a", frame("a", "b", bytes(100), seq=1000), 0.0))
    assert not made.reset(["c"], None, 0.0)
    to_b, to_a = made.reset(["a"], ["b"], 3.0)
    assert (to_b.cable.name, to_a.cable.name) == ("b", "a")
    # sequence number, acknowledgement, flags
    assert struct.unpack_from("!LLBB", to_b.frame, 38) == (1100, 777, 0x50, 0x14)
    assert struct.unpack_from("!LLBB", to_a.frame, 38) == (777, 1100, 0x50, 0x14)
    assert to_b.frame[:6] == mac("b")
    assert not made.reset(["a"], ["b"], 4.0), "a connection breaks once"


def test_segments_are_read_and_answered_with_true_checksums() -> None:
    segment = segment_of(frame("a", "b", bytes(11)))
    assert segment is not None
    assert (segment.packet_bytes, segment.next_seq, segment.ends) == (51, 1011, False)
    packet = reset_of(segment)
    assert sum(struct.unpack("!10H", packet[:20])) % 0xFFFF == 0
    pseudo = packet[12:20] + struct.pack("!HH", 6, 20) + packet[20:]
    assert sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo)) % 0xFFFF == 0
    padded = frame("a", "b", b"") + bytes(20)
    found = segment_of(padded)
    assert found is not None
    assert (found.packet_bytes, found.next_seq) == (40, 1000), "padding of short frames is no payload"
    assert segment_of(frame("a", "b")[:50]) is None
    assert segment_of(b"") is None

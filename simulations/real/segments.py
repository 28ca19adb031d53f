"""TCP segments in Ethernet frames: enough to count what they carry and to break the connection they belong to."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["Segment", "reset_of", "segment_of"]

_ETHERNET_BYTES: Final = 14
_IPV4: Final = b"\x08\x00"
_TCP: Final = 6
_FIN: Final = 0x01
_SYN: Final = 0x02
_RST: Final = 0x04
_ACK: Final = 0x10
_NUMBERS: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment. `flow` is address and port of the sender, then of the receiver; `next_seq` the number of the
    byte that its sender will send next, `ack` that of the byte which it expects."""

    flow: bytes
    next_seq: int
    ack: int
    packet_bytes: int
    """The whole IP packet."""
    ends: bool
    """It closes or breaks the connection."""


def segment_of(frame: bytes) -> Segment | None:
    """The TCP segment in an Ethernet frame, None if there is none (or only a later fragment)."""
    if frame[12:14] != _IPV4 or len(frame) < 54 or frame[23] != _TCP or (frame[20] & 0x1F) or frame[21]:
        return None
    tcp = _ETHERNET_BYTES + 4 * (frame[14] & 0x0F)
    total_bytes = (frame[16] << 8) | frame[17]
    if len(frame) < tcp + 20:
        return None
    seq, ack, offset, flags = struct.unpack_from("!LLBB", frame, tcp + 4)
    payload_bytes = max(0, _ETHERNET_BYTES + total_bytes - tcp - 4 * (offset >> 4))
    length = payload_bytes + bool(flags & _SYN) + bool(flags & _FIN)
    flow = frame[26:30] + frame[tcp : tcp + 2] + frame[30:34] + frame[tcp + 2 : tcp + 4]
    return Segment(flow, (seq + length) % _NUMBERS, ack, total_bytes, bool(flags & (_FIN | _RST)))


def reset_of(segment: Segment, *, back: bool = False) -> bytes:
    """The IPv4 packet that breaks the segment's connection for its receiver, or with `back` for its sender."""
    source, target = segment.flow[:6], segment.flow[6:]
    seq, ack = segment.next_seq, segment.ack
    if back:
        source, target, seq, ack = target, source, ack, seq
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, _TCP, 0, source[:4], target[:4])
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    tcp = struct.pack("!2s2sLLBBHHH", source[4:], target[4:], seq, ack, 5 << 4, _RST | _ACK, 0, 0, 0)
    sum_of_all = _checksum(source[:4] + target[:4] + struct.pack("!HH", _TCP, len(tcp)) + tcp)
    return head + tcp[:16] + struct.pack("!H", sum_of_all) + tcp[18:]


def _checksum(data: bytes) -> int:
    """The internet's checksum of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

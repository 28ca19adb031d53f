"""How regions of the space of handles stand in a message.

Places are the first 8 bytes of handles, as numbers. An empty array says nothing about any place. Otherwise
[width, bounds, modes, fingerprints]: n regions cover the space, with n-1 bounds of `width` bytes each (a place's first
bytes, the rest is zero), strictly ascending and not zero. There is a byte of mode for each region; none at all if they
are all FP. FP regions have FINGERPRINT_BYTES each. A gap can't be expressed (it is a SKIP), an overlap is out of order.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import reduce
from operator import or_
from typing import Any, Final, NamedTuple

import numpy as np

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.sync import FINGERPRINT_BYTES, RANGES_MAX
from protocols.sync.wire import as_array, as_bytes, as_int

__all__ = [
    "END",
    "FP",
    "LIST",
    "SHOW",
    "SKIP",
    "Region",
    "pack_place",
    "pack_regions",
    "region_bytes",
    "unpack_place",
    "unpack_regions",
]

SKIP: Final = 0  # nothing is said about this region
FP: Final = 1  # the sender's fingerprint of it
SHOW: Final = 2  # initiator: list what you have in it
LIST: Final = 3  # responder: here is what I have in it

END: Final = 1 << 64
"""The end of the space of places."""

_PLACE_BYTES: Final = 8


class Region(NamedTuple):
    """The places lower..upper-1, and what is said about the logs there."""

    lower: int
    upper: int
    mode: int
    fingerprint: bytes = b""


def region_bytes(region: Region) -> int:
    """An upper bound of what a region takes in a message, with a SKIP beside it."""
    return 2 * (_PLACE_BYTES + 1) + len(region.fingerprint)


def pack_place(place: int) -> bytes:
    """A place, or the end of the space: the bytes before its zeros, nothing for the end (and for the beginning)."""
    return (place % END).to_bytes(_PLACE_BYTES, "big").rstrip(b"\0")


def unpack_place(value: Any) -> int:
    """The inverse; nothing is the end. Raises RemoteProtocolError."""
    return int.from_bytes(as_bytes(value, "place", length_max=_PLACE_BYTES).ljust(_PLACE_BYTES, b"\0"), "big") or END


def pack_regions(regions: Sequence[Region]) -> list[Any]:
    """`regions` (ascending, disjoint) as they stand in a message. Raises LocalProtocolError if they are not."""
    if not regions:
        return []
    bounds: list[int] = []
    modes = bytearray()
    end = 0
    for region in regions:
        if not end <= region.lower < region.upper:
            raise LocalProtocolError("regions overlap or are out of order")
        if region.lower > end:
            modes.append(SKIP)
            bounds.append(region.lower)
        modes.append(region.mode)
        end = region.upper
        bounds.append(end)
    if end < END:
        modes.append(SKIP)
    else:
        bounds.pop()
    if len(modes) > RANGES_MAX:
        raise LocalProtocolError(f"{len(modes)} regions in one message")
    width = len(pack_place(reduce(or_, bounds, 0)))
    packed = np.array(bounds, ">u8").view(np.uint8).reshape(-1, _PLACE_BYTES)
    return [
        width,
        packed[:, :width].tobytes(),
        b"" if modes.count(FP) == len(modes) else bytes(modes),
        b"".join([region.fingerprint for region in regions]),
    ]


def unpack_regions(value: Any, allowed: Collection[int]) -> list[Region]:
    """The regions about which something is said, in one of the `allowed` modes. Raises RemoteProtocolError."""
    if not as_array(value, "regions"):
        return []
    width, packed, modes, fingerprints = as_array(value, "regions", length=4)
    width = as_int(width, "bound width", maximum=_PLACE_BYTES)
    packed = as_bytes(packed, "bounds", length_max=_PLACE_BYTES * RANGES_MAX)
    modes = as_bytes(modes, "modes", length_max=RANGES_MAX)
    if not modes:
        modes = bytes([FP]) * (1 + (len(packed) // width if width else 0))
    if len(modes) > RANGES_MAX or len(packed) != width * (len(modes) - 1):
        raise RemoteProtocolError("ranges", "bounds do not belong to the modes")
    as_bytes(fingerprints, "fingerprints", length=FINGERPRINT_BYTES * modes.count(FP))
    regions: list[Region] = []
    lower = at = 0
    padded = np.zeros((len(modes) - 1, _PLACE_BYTES), np.uint8)
    padded[:, :width] = np.frombuffer(packed, np.uint8).reshape(-1, width) if width else 0
    uppers: list[int] = padded.view(">u8").reshape(-1).tolist()
    for mode, upper in zip(modes, (*uppers, END), strict=True):
        if upper <= lower:
            raise RemoteProtocolError("ranges", "bounds are not strictly ascending")
        if mode == FP and FP in allowed:
            regions.append(Region(lower, upper, FP, fingerprints[at : at + FINGERPRINT_BYTES]))
            at += FINGERPRINT_BYTES
        elif mode in allowed:
            regions.append(Region(lower, upper, mode))
        elif mode != SKIP:
            raise RemoteProtocolError("ranges", "a region with a mode that does not belong here")
        lower = upper
    return regions

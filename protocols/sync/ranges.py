"""How a list of ranges stands in a message: columns over a tiling of the key space.

An empty array says nothing. Otherwise: [width, bounds, modes, fingerprints, counts, hashes], where n ranges (n bytes of
modes) have n-1 bounds of `width` bytes each (a key's first bytes, the rest is zero), strictly ascending; the first
range starts at the lowest key, the last one ends with the key space. FP ranges have 8 bytes of fingerprint each, LIST
and DIFF a count and so many 8-byte hashes. A gap can't be expressed and an overlap is out of order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.sync import FINGERPRINT_BYTES, HASHES_MAX, RANGES_MAX
from protocols.sync.reconcile import DIFF, FP, LIST, NONE, SKIP, Range
from protocols.sync.wire import as_array, as_bytes, as_int, as_ints

__all__ = ["pack_ranges", "range_bytes", "unpack_ranges"]

_ELEMENTS: Final = 6


def range_bytes(said: Range, key_bytes: int) -> int:
    """An upper bound of what a range takes in a message, with a SKIP beside it."""
    return 2 * (key_bytes + 1) + len(said.fingerprint) + 3 + FINGERPRINT_BYTES * len(said.hashes)


def pack_ranges(ranges: Sequence[Range], key_bytes: int) -> list[Any]:
    """`ranges` (ascending, disjoint) as they stand in a message; what lies between them is skipped.

    Raises LocalProtocolError if they overlap or are too many.
    """
    if not ranges:
        return []
    bounds: list[bytes] = []
    modes = bytearray()
    end: bytes | None = bytes(key_bytes)
    for said in ranges:
        if end is None or said.lower < end:
            raise LocalProtocolError("ranges overlap or are out of order")
        if said.lower > end:
            modes.append(SKIP)
            bounds.append(said.lower)
        modes.append(said.mode)
        end = said.upper
        if end is not None:
            bounds.append(end)
    if end is not None:
        modes.append(SKIP)
    if len(modes) > RANGES_MAX:
        raise LocalProtocolError(f"{len(modes)} ranges in one message")
    width = max((len(bound.rstrip(b"\0")) for bound in bounds), default=0)
    return [
        width,
        b"".join([bound[:width] for bound in bounds]),
        bytes(modes),
        b"".join([said.fingerprint for said in ranges if said.mode == FP]),
        [len(said.hashes) for said in ranges if said.mode in (LIST, DIFF)],
        b"".join([one for said in ranges if said.mode in (LIST, DIFF) for one in said.hashes]),
    ]


def unpack_ranges(value: Any, key_bytes: int) -> list[Range]:
    """The ranges about which something is said, ascending and disjoint. Raises RemoteProtocolError."""
    if not as_array(value, "ranges"):
        return []
    width, packed, modes, fingerprints, counts, hashes = as_array(value, "ranges", length=_ELEMENTS)
    modes = as_bytes(modes, "modes", length_max=RANGES_MAX)
    if not modes or max(modes) > NONE:
        raise RemoteProtocolError("ranges", "ranges without a mode that we know")
    width = as_int(width, "bound width", maximum=key_bytes)
    bounds = _bounds(as_bytes(packed, "bounds", length=width * (len(modes) - 1)), width, len(modes), key_bytes)
    as_bytes(fingerprints, "fingerprints", length=FINGERPRINT_BYTES * modes.count(FP))
    counts = as_ints(counts, "counts", maximum=HASHES_MAX, length_max=RANGES_MAX)
    if len(counts) != modes.count(LIST) + modes.count(DIFF):
        raise RemoteProtocolError("ranges", "counts do not belong to the modes")
    as_bytes(hashes, "hashes", length=FINGERPRINT_BYTES * sum(counts), length_max=FINGERPRINT_BYTES * HASHES_MAX)
    return _assemble(bounds, modes, fingerprints, counts, hashes)


def _bounds(packed: bytes, width: int, count: int, key_bytes: int) -> list[bytes | None]:
    """The n+1 ends of n ranges; the last one is None."""
    ends: list[bytes | None] = [bytes(key_bytes)]
    previous = bytes(key_bytes)
    for index in range(count - 1):
        bound = packed[index * width : (index + 1) * width].ljust(key_bytes, b"\0")
        if bound <= previous:
            raise RemoteProtocolError("ranges", "bounds are not strictly ascending")
        ends.append(bound)
        previous = bound
    ends.append(None)
    return ends


def _assemble(
    bounds: list[bytes | None], modes: bytes, fingerprints: bytes, counts: list[int], hashes: bytes
) -> list[Range]:
    ranges: list[Range] = []
    fp_at = hash_at = count_at = 0
    for index, mode in enumerate(modes):
        fingerprint = b""
        listed: tuple[bytes, ...] = ()
        if mode == FP:
            fingerprint = fingerprints[fp_at : fp_at + FINGERPRINT_BYTES]
            fp_at += FINGERPRINT_BYTES
        elif mode in (LIST, DIFF):
            listed = _hashes(hashes, hash_at, counts[count_at])
            hash_at += FINGERPRINT_BYTES * counts[count_at]
            count_at += 1
        if mode != SKIP:
            lower = bounds[index]
            assert lower is not None  # only the end of the last range is None
            ranges.append(Range(lower, bounds[index + 1], mode, fingerprint, listed))
    return ranges


def _hashes(packed: bytes, start: int, count: int) -> tuple[bytes, ...]:
    """Distinct hashes in any order (a list has the order of its rows)."""
    end = start + FINGERPRINT_BYTES * count
    hashes = tuple(packed[at : at + FINGERPRINT_BYTES] for at in range(start, end, FINGERPRINT_BYTES))
    if len(set(hashes)) != count:
        raise RemoteProtocolError("ranges", "a hash twice in one list")
    return hashes

"""A second implementation of the layouts and hashes, written from `sync.md` and `reconcile.md` alone.

It shares nothing with the code under test but the BLAKE3 library, works number by number and bit by bit, and is there
to disagree: where the specs and the code part, `test_vectors.py` fails. What a peer must refuse raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from blake3 import blake3

END = 2**64
BLOCK_SEQS = 64
LOG_RUNS_MAX = 64

Run = tuple[int, int]
"""First and last of adjacent sequence numbers."""

Held = list[Run] | bytes
"""What an entry says of a log: its runs, or the hash of its row where there are too many."""

Item = tuple[int, bytes, int, int]
"""Seq, digest, first stored, size."""


def need(is_so: bool, what: str) -> None:
    if not is_so:
        raise ValueError(what)


# --- msgpack, as far as it is spoken ----------------------------------------------------------------------------------


def packed(value: Any) -> bytes:
    """Arrays, unsigned integers, bins and strings, each in the shortest form."""
    if isinstance(value, int):
        if value < 128:
            return bytes([value])
        size = next(size for size in (1, 2, 4, 8) if value < 1 << 8 * size)
        return bytes([{1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF}[size]]) + value.to_bytes(size, "big")
    if isinstance(value, bytes):
        return _head(len(value), None, 0xC4) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(len(text), (0xA0, 32), 0xD9) + text
    assert isinstance(value, list), value
    return _head(len(value), (0x90, 16), None) + b"".join(map(packed, value))


def _head(size: int, fixed: tuple[int, int] | None, wide: int | None) -> bytes:
    if fixed is not None and size < fixed[1]:
        return bytes([fixed[0] + size])
    if wide is None:  # an array: no form with one byte of length
        return (b"\xdc" + size.to_bytes(2, "big")) if size < 1 << 16 else b"\xdd" + size.to_bytes(4, "big")
    step = next(step for step in range(3) if size < 1 << (8 << step))
    return bytes([wide + step]) + size.to_bytes(1 << step, "big")


def unpacked(data: bytes) -> Any:
    """The value in `data`, integers of any width."""
    value, at = read_value(data, 0)
    need(at == len(data), "something behind the message")
    return value


def read_value(data: bytes, at: int) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends."""
    kind, size, at = read_head(data, at)
    if kind == "int":
        return size, at
    if kind == "array":
        values = []
        for _ in range(size):
            value, at = read_value(data, at)
            values.append(value)
        return values, at
    need(at + size <= len(data), "cut off")
    body = data[at : at + size]
    return body if kind == "bin" else body.decode(), at + size


def read_head(data: bytes, at: int) -> tuple[str, int, int]:
    """Kind, number (or length), and where its content begins."""
    need(at < len(data), "cut off")
    first, at = data[at], at + 1
    if first < 0x80:
        return "int", first, at
    for kind, low, count in (("array", 0x90, 16), ("str", 0xA0, 32)):
        if low <= first < low + count:
            return kind, first - low, at
    wide = {0xC4: ("bin", 1), 0xC5: ("bin", 2), 0xC6: ("bin", 4), 0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4)}
    wide |= {0xCC: ("int", 1), 0xCD: ("int", 2), 0xCE: ("int", 4), 0xCF: ("int", 8)}
    wide |= {0xDC: ("array", 2), 0xDD: ("array", 4)}
    need(first in wide, "something that is not spoken here")
    kind, size = wide[first]
    need(at + size <= len(data), "cut off")
    return kind, int.from_bytes(data[at : at + size], "big"), at + size


def framed(payload: bytes) -> bytes:
    """A frame with its prefix."""
    return len(payload).to_bytes(4, "big") + payload


# --- columns ----------------------------------------------------------------------------------------------------------


def varints(numbers: Iterable[int]) -> bytes:
    out = bytearray()
    for number in numbers:
        left = number
        while left >= 128:
            out.append(left & 127 | 128)
            left >>= 7
        out.append(left)
    return bytes(out)


def read_varints(data: bytes) -> list[int]:
    numbers: list[int] = []
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            need(byte > 0 or shift == 7, "a longer form than needed")
            need(number < END, "above 2^64-1")
            numbers.append(number)
            number = shift = 0
    need(shift == 0, "ends within a number")
    return numbers


def bytes_of(bits: Sequence[int]) -> bytes:
    """Bits fill bytes from the highest; padding is 0."""
    filled = [*bits, *[0] * (-len(bits) % 8)]
    return bytes(int("".join(map(str, filled[at : at + 8])), 2) for at in range(0, len(filled), 8))


def bits_in(data: bytes) -> list[int]:
    return [byte >> place & 1 for byte in data for place in range(7, -1, -1)]


def number_of(bits: Sequence[int]) -> int:
    return int("".join(map(str, bits)) or "0", 2)


def low_bits(n: int, width: int) -> int:
    floor_log2 = 0
    while 2 << floor_log2 <= n:
        floor_log2 += 1
    return max(0, width - floor_log2)


def ascending(numbers: Sequence[int], width: int) -> bytes:
    if not numbers:
        return b""
    low = low_bits(len(numbers), width)
    lowest = [number >> place & 1 for number in numbers for place in range(low - 1, -1, -1)]
    places = [(number >> low) + i for i, number in enumerate(numbers)]
    return bytes_of(lowest) + bytes_of([int(place in places) for place in range(places[-1] + 1)])


def read_ascending(data: bytes, n: int, width: int) -> list[int]:
    low = low_bits(n, width)
    size = (n * low + 7) // 8
    need(len(data) > size, "too short")
    lowest, bits = bits_in(data[:size]), bits_in(data[size:])
    need(len(bits) < n + (1 << width - low) + 8, "more bits than so many numbers can take")
    places = [place for place, bit in enumerate(bits) if bit]
    need(len(places) == n, "not so many numbers")
    numbers = [(place - i) << low | number_of(lowest[i * low : (i + 1) * low]) for i, place in enumerate(places)]
    need(all(one <= other for one, other in pairwise(numbers)), "not ascending")
    need(numbers[-1] < 1 << width, "not below 2^width")
    return numbers


def spans_field(spans: Sequence[Run]) -> list[int]:
    field: list[int] = []
    last_before = 0
    for first, last in spans:
        field += [first - last_before, last - first]
        last_before = last
    return field


def read_spans(field: Sequence[int]) -> list[Run]:
    need(len(field) > 0 and len(field) % 2 == 0, "spans without an end")
    spans: list[Run] = []
    for at in range(0, len(field), 2):
        first = field[at] + (spans[-1][1] if spans else 0)
        need(not spans or field[at] > 0, "not ascending")
        need(first + field[at + 1] < END, "beyond the last seq")
        spans.append((first, first + field[at + 1]))
    return spans


def entries(logs: Sequence[Held]) -> list[bytes]:
    """kinds, heads, extras, hashes."""
    kinds: list[int] = []
    heads: list[int] = []
    extras: list[int] = []
    hashes = b""
    for held in logs:
        if isinstance(held, bytes):
            kinds.append(3)
            heads.append(0)
            hashes += held
        elif len(held) == 1 and held[0][0] == 0:
            kinds.append(0)
            heads.append(held[0][1])
        elif len(held) == 1:
            kinds.append(1)
            heads.append(held[0][0])
            extras.append(held[0][1] - held[0][0])
        else:
            kinds.append(2)
            heads.append(len(held))
            last_before = -2
            for first, last in held:
                extras += [first - last_before - 2, last - first]
                last_before = last
    bits = [bit for kind in kinds for bit in (kind >> 1, kind & 1)]
    return [bytes_of(bits) if any(kinds) else b"", varints(heads), varints(extras), hashes]


def read_entries(fields: Sequence[bytes], n: int) -> list[Held]:
    kind_bits = bits_in(fields[0]) if fields[0] else [0] * (2 * n)
    need(not fields[0] or len(fields[0]) == (2 * n + 7) // 8, "kinds of other logs")
    heads, extras, hashes = read_varints(fields[1]), read_varints(fields[2]), fields[3]
    need(len(heads) == n, "heads of other logs")
    logs: list[Held] = []
    for i, head in enumerate(heads):
        kind = 2 * kind_bits[2 * i] + kind_bits[2 * i + 1]
        if kind == 0:
            logs.append([(0, head)])
        elif kind == 1:
            need(len(extras) > 0, "extras end early")
            logs.append([(head, head + extras.pop(0))])
        elif kind == 2:
            need(head <= LOG_RUNS_MAX, "too many runs")
            need(len(extras) >= 2 * head, "extras end early")
            runs: list[Run] = []
            for _ in range(head):
                first = extras.pop(0) + (runs[-1][1] + 2 if runs else 0)
                runs.append((first, first + extras.pop(0)))
            logs.append(runs)
        else:
            need(head == 0 and len(hashes) >= 8, "no row hash")
            logs.append(hashes[:8])
            hashes = hashes[8:]
        need(isinstance(logs[-1], bytes) or all(last < END for _, last in logs[-1]), "beyond the last seq")
    need(not extras and not hashes, "something is left")
    return logs


def listing(width: int, fragments: Sequence[int], logs: Sequence[Held]) -> list[Any]:
    return [width, len(logs), ascending(fragments, width), *entries(logs)] if logs else []


def read_listing(value: list[Any]) -> tuple[int, list[int], list[Held]]:
    if not value:
        return 0, [], []
    width, n, fragments, *fields = value
    need(20 <= width <= 64 and n >= 1, "a listing of nothing")
    named = read_ascending(fragments, n, width)
    need(width == 64 or len(set(named)) == n, "a fragment twice")
    return width, named, read_entries(fields, n)


# --- places, regions, ranges ------------------------------------------------------------------------------------------


def place(value: int) -> bytes:
    return (value % END).to_bytes(8, "big").rstrip(b"\0")


def read_place(value: bytes) -> int:
    """As an upper bound."""
    return int.from_bytes(value.ljust(8, b"\0"), "big") or END


def _tiling(said: Sequence[dict[str, Any]]) -> tuple[int, bytes, bytes]:
    """Width, bounds and modes of ranges over 0..END, with SKIP in between."""
    bounds: list[int] = []
    modes: list[int] = []
    end = 0
    for one in said:
        if one["lower"] > end:
            modes.append(0)
            bounds.append(one["lower"])
        modes.append(one["mode"])
        bounds.append(one["upper"])
        end = one["upper"]
    if end < END:
        modes.append(0)
    else:
        bounds.pop()
    long = [bound.to_bytes(8, "big") for bound in bounds]
    width = max((len(bound.rstrip(b"\0")) for bound in long), default=0)
    return width, b"".join(bound[:width] for bound in long), bytes(modes)


def _read_tiling(width: int, packed_bounds: bytes, modes: bytes) -> list[dict[str, Any]]:
    """All of them, SKIP as well."""
    need(width <= 8 and len(packed_bounds) == width * (len(modes) - 1), "bounds of other modes")
    pieces = [packed_bounds[at * width : (at + 1) * width] for at in range(len(modes) - 1)]
    ends = [0, *(int.from_bytes(piece.ljust(8, b"\0"), "big") for piece in pieces), END]
    need(all(one < other for one, other in pairwise(ends)), "not ascending")
    return [
        {"lower": lower, "upper": upper, "mode": mode}
        for (lower, upper), mode in zip(pairwise(ends), modes, strict=True)
    ]


def regions(said: Sequence[dict[str, Any]]) -> list[Any]:
    if not said:
        return []
    width, bounds, modes = _tiling(said)
    return [width, bounds, b"" if set(modes) == {1} else modes, b"".join(one.get("fingerprint", b"") for one in said)]


def read_regions(value: list[Any]) -> list[dict[str, Any]]:
    if not value:
        return []
    width, bounds, modes, fingerprints = value
    found = _read_tiling(width, bounds, modes or bytes([1]) * (1 + (len(bounds) // width if width else 0)))
    for one in found:
        if one["mode"] == 1:
            one["fingerprint"], fingerprints = fingerprints[:8], fingerprints[8:]
            need(len(one["fingerprint"]) == 8, "a fingerprint is missing")
    need(not fingerprints, "a fingerprint too many")
    return [one for one in found if one["mode"]]


def ranges(said: Sequence[dict[str, Any]]) -> list[Any]:
    if not said:
        return []
    lists = [one["hashes"] for one in said if one["mode"] in (2, 3)]
    fingerprints = b"".join(one.get("fingerprint", b"") for one in said)
    return [*_tiling(said), fingerprints, [len(one) for one in lists], b"".join(b"".join(one) for one in lists)]


def read_ranges(value: list[Any]) -> list[dict[str, Any]]:
    if not value:
        return []
    width, bounds, modes, fingerprints, counts, hashes = value
    need(len(modes) > 0 and max(modes) <= 5, "a mode that is none")
    found = _read_tiling(width, bounds, modes)
    counts = list(counts)
    for one in found:
        if one["mode"] == 1:
            one["fingerprint"], fingerprints = fingerprints[:8], fingerprints[8:]
            need(len(one["fingerprint"]) == 8, "a fingerprint is missing")
        elif one["mode"] in (2, 3):
            need(len(counts) > 0, "a count is missing")
            size = 8 * counts.pop(0)
            need(size <= len(hashes), "hashes are missing")
            one["hashes"], hashes = [hashes[at : at + 8] for at in range(0, size, 8)], hashes[size:]
    need(not (counts or fingerprints or hashes), "something is left")
    return [one for one in found if one["mode"]]


# --- rows and hashes --------------------------------------------------------------------------------------------------


def blake(data: bytes, size: int, key: bytes | None = None) -> bytes:
    return (blake3(data) if key is None else blake3(data, key=key)).digest()[:size]


def digest(blob: bytes) -> bytes:
    return blake(blob, 32)


def handle(topic: str, log: str) -> bytes:
    return blake(len(topic.encode()).to_bytes(2, "big") + topic.encode() + log.encode(), 16)


def topic_hash(topic: str) -> bytes:
    return blake(b"\xff\xff" + topic.encode(), 16)


def interest_id(hashes: Sequence[bytes]) -> bytes:
    return blake3(b"".join(sorted(hashes)), derive_key_context="mailboxd sync interest 1").digest()[:16]


def session_key(salt: bytes, boundary_s: int) -> bytes:
    return blake3(salt + boundary_s.to_bytes(8, "big"), derive_key_context="mailboxd sync 2").digest()


def blocks(items: Iterable[Item]) -> list[tuple[int, bytes]]:
    """(number, digest) of each block of a log."""
    content: dict[int, bytes] = {}
    for seq, content_digest, first_stored_s, _ in sorted(items):
        row = seq.to_bytes(8, "big") + content_digest + first_stored_s.to_bytes(8, "big", signed=True)
        content[seq // BLOCK_SEQS] = content.get(seq // BLOCK_SEQS, b"") + row
    return [(number, blake(content[number], 16)) for number in sorted(content)]


def state(items: Iterable[Item]) -> bytes:
    return blake(b"".join(number.to_bytes(8, "big") + block for number, block in blocks(items)), 16)


def runs(items: Iterable[Item]) -> list[Run]:
    found: list[Run] = []
    for seq in sorted({item[0] for item in items}):
        if found and found[-1][1] + 1 == seq:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found


def table_fingerprint(key: bytes, rows: Sequence[bytes]) -> bytes:
    return blake(b"\x4c\x52" + b"".join(sorted(rows)), 8, key)


def row_hash(key: bytes, row: bytes) -> bytes:
    return blake(b"\x4c\x49" + row, 8, key)


def block_fingerprint(key: bytes, log: bytes, some: Sequence[tuple[int, bytes]]) -> bytes:
    return blake(b"\x42" + log + b"\x52" + b"".join(n.to_bytes(8, "big") + block for n, block in some), 8, key)


def block_hash(key: bytes, log: bytes, number: int, block: bytes) -> bytes:
    return blake(b"\x42" + log + b"\x49" + number.to_bytes(8, "big") + block, 8, key)


def cut_between(before: int, after: int) -> int:
    """The bound between two rows, by their places."""
    bit = 1 << 63
    kept = 0
    while before & bit == after & bit:
        kept |= after & bit
        bit >>= 1
    return kept | bit


def fragment_bits(listed: Iterable[int], own: Iterable[int]) -> int:
    """How many bits tell each listed place from all others of one's own, with 4 to spare, 20 at least."""
    places = list(own)
    width = 1
    for one in listed:
        if places.count(one) > 1:
            return 64
        for other in places:
            while width < 64 and one != other and one >> 64 - width == other >> 64 - width:
                width += 1
    return min(64, max(width + 4, 20))

"""The table of messages of `sync.md` once more, over `by_the_spec.py`: JSON as in `vectors.json` to arrays, and back.

In JSON bins are hex, numbers from 2^53 on are strings, places and sequence numbers are numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from tests.protocols.sync import by_the_spec as spec
from tests.protocols.sync.by_the_spec import need

MODES: Final = {
    "regions": {1: "FP", 2: "SHOW", 3: "LIST"},
    "ranges": {1: "FP", 2: "LIST", 3: "DIFF", 4: "DIFFERS", 5: "NONE"},
}

Json = Any


@dataclass(frozen=True)
class Field:
    """One thing that a message says, and the `size` elements of the array in which it stands."""

    name: str
    write: Callable[[Json], list[Any]]
    read: Callable[[list[Any]], Json]
    size: int = 1


def number(value: int) -> Json:
    """A number as it stands in JSON, where many languages have only 53 bits."""
    return value if value < 2**53 else str(value)


def _one(name: str, write: Callable[[Json], Any], read: Callable[[Any], Json]) -> Field:
    return Field(name, lambda value: [write(value)], lambda elements: read(elements[0]))


def _uint(name: str) -> Field:
    return _one(name, int, number)


def _flag(name: str) -> Field:
    return _one(name, int, bool)


def _text(name: str) -> Field:
    return _one(name, str, str)


def _bin(name: str) -> Field:
    return _one(name, bytes.fromhex, bytes.hex)


def _array(name: str, write: Callable[[Json], Any], read: Callable[[Any], Json]) -> Field:
    return _one(name, lambda values: [write(value) for value in values], lambda values: [read(one) for one in values])


# --- what stands in the fields ----------------------------------------------------------------------------------------


def spans_json(spans: Sequence[spec.Run]) -> Json:
    return [[number(first), number(last)] for first, last in spans]


def spans_of(said: Json) -> list[spec.Run]:
    return [(int(first), int(last)) for first, last in said]


def held_json(held: spec.Held) -> Json:
    return {"row_hash": held.hex()} if isinstance(held, bytes) else {"runs": spans_json(held)}


def held_of(said: Json) -> spec.Held:
    return bytes.fromhex(said["row_hash"]) if "row_hash" in said else spans_of(said["runs"])


def _write_entries(said: Json) -> list[Any]:
    return list(spec.entries([held_of(one) for one in said]))


def _read_some_entries(fields: list[Any]) -> Json:
    """Entries of as many logs as there are heads."""
    return [held_json(held) for held in spec.read_entries(fields, len(spec.read_varints(fields[1])))] if fields else []


def listing_json(width: int, fragments: Sequence[int], logs: Sequence[spec.Held]) -> Json:
    listed = [{"fragment": number(one), **held_json(held)} for one, held in zip(fragments, logs, strict=True)]
    return {"width": width, "logs": listed} if listed else None


def write_listing(said: Json) -> list[Any]:
    if said is None:
        return []
    return spec.listing(said["width"], [int(one["fragment"]) for one in said["logs"]], [*map(held_of, said["logs"])])


def read_listing(value: list[Any]) -> Json:
    return listing_json(*spec.read_listing(value))


def tiling_json(said: Sequence[dict[str, Any]], kind: str) -> Json:
    found = []
    for one in said:
        shown = {"from": number(one["lower"]), "to": number(one["upper"]), "mode": MODES[kind][one["mode"]]}
        if "fingerprint" in one:
            shown["fingerprint"] = one["fingerprint"].hex()
        if "hashes" in one:
            shown["hashes"] = [row.hex() for row in one["hashes"]]
        found.append(shown)
    return found


def tiling_of(said: Json, kind: str) -> list[dict[str, Any]]:
    numbers = {name: mode for mode, name in MODES[kind].items()}
    found = []
    for one in said:
        known: dict[str, Any] = {"lower": int(one["from"]), "upper": int(one["to"]), "mode": numbers[one["mode"]]}
        if "fingerprint" in one:
            known["fingerprint"] = bytes.fromhex(one["fingerprint"])
        if "hashes" in one:
            known["hashes"] = [bytes.fromhex(row) for row in one["hashes"]]
        found.append(known)
    return found


def items_json(items: Sequence[spec.Item]) -> Json:
    return [
        {"seq": number(seq), "digest": digest.hex(), "first_stored_s": number(first_stored_s), "size": size}
        for seq, digest, first_stored_s, size in items
    ]


def write_items(said: Json) -> list[Any]:
    seqs = [int(one["seq"]) for one in said]
    return [
        [seq - before for before, seq in pairwise([0, *seqs])],
        b"".join(bytes.fromhex(one["digest"]) for one in said),
        [int(one["first_stored_s"]) for one in said],
        [one["size"] for one in said],
    ]


def read_items(columns: list[Any]) -> Json:
    steps, digests, dates, sizes = columns
    need(len(digests) == 32 * len(steps) and len(steps) == len(dates) == len(sizes), "columns of different lengths")
    items: list[spec.Item] = []
    for at, step in enumerate(steps):
        seq = step + (items[-1][0] if items else 0)
        items.append((seq, digests[32 * at : 32 * at + 32], dates[at], sizes[at]))
        need(at == 0 or items[-2][:2] < items[-1][:2], "not ascending")
    return items_json(items)


def _split(data: bytes, size: int) -> list[bytes]:
    need(len(data) % size == 0, "something is cut off")
    return [data[at : at + size] for at in range(0, len(data), size)]


def _bits_json(bitmap: bytes) -> Json:
    return [8 * at + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1]


def _bitmap(indices: Json) -> bytes:
    value: int = sum(1 << index for index in indices)
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


def _write_named(names: Json) -> list[Any]:
    topics = sorted({one["topic"].encode() for one in names})
    return [
        [topic.decode() for topic in topics],
        [one["fragment"] for one in names],
        [topics.index(one["topic"].encode()) for one in names],
        [one["log"] for one in names],
    ]


def _read_named(columns: list[Any]) -> Json:
    topics, indices, numbers, logs = columns
    return [
        {"fragment": index, "topic": topics[topic], "log": log}
        for index, topic, log in zip(indices, numbers, logs, strict=True)
    ]


def _write_parcel(logs: Json) -> list[Any]:
    heads: list[int] = []
    seqs: list[int] = []
    dates: list[int] = []
    sizes: list[int] = []
    date = 0
    for log in logs:
        watermark = 0 if log["watermark"] is None else min(int(log["watermark"]) + 1, spec.END - 1)
        heads += [log["number"], watermark, len(log["messages"])]
        seq = 0
        for message in log["messages"]:
            step = int(message["first_stored_s"]) - date
            seqs.append(int(message["seq"]) - seq)
            dates.append(2 * step if step >= 0 else -2 * step - 1)
            sizes.append(message["size"])
            seq, date = int(message["seq"]), int(message["first_stored_s"])
    return [spec.varints(column) for column in (heads, seqs, dates, sizes)]


def _read_parcel(columns: list[Any]) -> Json:
    heads, seqs, dates, sizes = map(spec.read_varints, columns)
    need(len(heads) % 3 == 0 and sum(heads[2::3]) == len(seqs) == len(dates) == len(sizes), "other lengths")
    need(all(one < other for one, other in pairwise(heads[0::3])), "not ascending")
    logs: list[Json] = []
    at = date = 0
    for head in range(0, len(heads), 3):
        messages = []
        seq = 0
        for _ in range(heads[head + 2]):
            seq += seqs[at]
            date += dates[at] // 2 if dates[at] % 2 == 0 else -(dates[at] + 1) // 2
            messages.append({"seq": number(seq), "first_stored_s": number(date), "size": sizes[at]})
            at += 1
        watermark = number(heads[head + 1] - 1) if heads[head + 1] else None
        logs.append({"number": heads[head], "watermark": watermark, "messages": messages})
    return logs


def _place_field(name: str) -> Field:
    return _one(name, lambda value: spec.place(int(value)), lambda value: number(spec.read_place(value)))


def _write_region(said: Json) -> list[Any]:
    return [spec.place(int(one)) for one in said] if said else []


def _read_region(value: list[Any]) -> Json:
    return [number(spec.read_place(value[0]) % spec.END), number(spec.read_place(value[1]))] if value else None


def _write_fetch(said: Json) -> list[Any]:
    return [bytes.fromhex(said["handle"]), spec.spans_field(spans_of(said["spans"]))]


def _read_fetch(value: list[Any]) -> Json:
    return {"handle": value[0].hex(), "spans": spans_json(spec.read_spans(value[1]))}


def _write_offer(said: Json) -> list[Any]:
    return [said["topic"], said["log"], int(said["last"]), spec.spans_field(spans_of(said["spans"]))]


def _read_offer(value: list[Any]) -> Json:
    topic, log, last, spans = value
    return {"topic": topic, "log": log, "last": bool(last), "spans": spans_json(spec.read_spans(spans))}


def _write_told(said: Json) -> list[Any]:
    ranges = spec.ranges(tiling_of(said["ranges"], "ranges"))
    return [bytes.fromhex(said["handle"]), ranges, *write_items(said["items"]), int(said["last"])]


def _read_told(value: list[Any]) -> Json:
    handle, ranges, *columns, last = value
    said = tiling_json(spec.read_ranges(ranges), "ranges")
    return {"handle": handle.hex(), "ranges": said, "items": read_items(columns), "last": bool(last)}


def _write_interest(said: Json) -> list[Any]:
    """Left out where it says nothing."""
    return [[bytes.fromhex(said["keeps"]), bytes.fromhex(said["believes"]), int(said["asks"])]] if said else []


def _read_interest(elements: list[Any]) -> Json:
    if not elements:
        return None
    keeps, believes, asks = elements[0]
    return {"keeps": keeps.hex(), "believes": believes.hex(), "asks": bool(asks)}


def _write_pause(said: Json) -> list[Any]:
    """Left out where there is none."""
    return [said] if said else []


def _read_pause(elements: list[Any]) -> Json:
    return elements[0] if elements else 0


_LISTING: Final = _one("listing", write_listing, read_listing)
_REGIONS: Final = _one(
    "regions",
    lambda said: spec.regions(tiling_of(said, "regions")),
    lambda value: tiling_json(spec.read_regions(value), "regions"),
)

LAYOUTS: Final[dict[str, tuple[int, list[Field]]]] = {
    "Hello": (
        1,
        [
            _uint("lowest_version"),
            _uint("highest_version"),
            _text("network"),
            _uint("clock_s"),
            _uint("retention_s"),
            _uint("alive_from_s"),
            _text("software"),
            _bin("salt"),
            _one("first", lambda said: write(said) if said else b"", lambda frame: read(frame) if frame else None),
            _flag("full"),
            Field("interest", _write_interest, _read_interest),
        ],
    ),
    "Refuse": (2, [_text("code"), _text("text"), Field("pause_s", _write_pause, _read_pause)]),
    "News": (3, [_flag("again"), _LISTING]),
    "About": (
        4,
        [
            _flag("again"),
            _one(
                "handles",
                lambda said: b"".join(map(bytes.fromhex, said)),
                lambda value: [one.hex() for one in _split(value, 16)],
            ),
            Field("entries", _write_entries, _read_some_entries, 4),
        ],
    ),
    "Standing": (
        5,
        [
            _one("differing", _bitmap, _bits_json),
            _one("entries", lambda said: _write_entries(said) if said else [], _read_some_entries),
            _LISTING,
            _bin("rest"),
        ],
    ),
    "Survey": (6, [_flag("again"), _REGIONS]),
    "Surveyed": (
        7,
        [
            _REGIONS,
            _one("counts", spec.varints, spec.read_varints),
            _LISTING,
            _place_field("until"),
        ],
    ),
    "Names": (
        8,
        [
            Field(
                "asked",
                lambda said: [
                    said["width"],
                    len(said["fragments"]),
                    spec.ascending([int(one) for one in said["fragments"]], said["width"]),
                ],
                lambda value: {
                    "width": value[0],
                    "fragments": [number(one) for one in spec.read_ascending(value[2], value[1], value[0])],
                },
                3,
            )
        ],
    ),
    "Named": (9, [_uint("answered"), Field("names", _write_named, _read_named, 4)]),
    "Ask": (
        10,
        [
            _one("region", _write_region, _read_region),
            _array(
                "logs",
                lambda said: [bytes.fromhex(said["handle"]), spec.ranges(tiling_of(said["ranges"], "ranges"))],
                lambda value: {"handle": value[0].hex(), "ranges": tiling_json(spec.read_ranges(value[1]), "ranges")},
            ),
        ],
    ),
    "Tell": (
        11,
        [
            _one(
                "rows",
                lambda said: b"".join(bytes.fromhex(one["handle"] + one["row_hash"]) for one in said),
                lambda value: [{"handle": row[:16].hex(), "row_hash": row[16:].hex()} for row in _split(value, 24)],
            ),
            _place_field("until"),
            _array("logs", _write_told, _read_told),
            _flag("more"),
        ],
    ),
    "Transfer": (
        12,
        [
            _array("fetch", _write_fetch, _read_fetch),
            _array("offers", _write_offer, _read_offer),
            _array(
                "merges",
                lambda said: [bytes.fromhex(said["handle"]), *write_items(said["items"])],
                lambda value: {"handle": value[0].hex(), "items": read_items(value[1:])},
            ),
        ],
    ),
    "Want": (
        13,
        [
            _array(
                "wishes",
                lambda said: [said["offer"], spec.spans_field(spans_of(said["spans"]))],
                lambda value: {"offer": value[0], "spans": spans_json(spec.read_spans(value[1]))},
            ),
            _array(
                "earlier",
                lambda said: [said["offer"], *write_items(said["items"])],
                lambda value: {"offer": value[0], "items": read_items(value[1:])},
            ),
        ],
    ),
    "Parcel": (
        14,
        [
            Field("logs", _write_parcel, _read_parcel, 4),
            _bin("data"),
            _flag("last"),
            _one(
                "stopped",
                lambda said: [said[0], int(said[1])] if said else [],
                lambda value: [value[0], number(value[1])] if value else None,
            ),
        ],
    ),
    "Done": (15, [_flag("complete"), _flag("equal"), _flag("acknowledge")]),
    "Topics": (
        16,
        [
            _one(
                "hashes",
                lambda said: b"".join(map(bytes.fromhex, said)),
                lambda value: [one.hex() for one in _split(value, 16)],
            )
        ],
    ),
}


def write(message: Json) -> bytes:
    """A frame without its prefix."""
    kind, layout = LAYOUTS[message["message"]]
    return spec.packed([kind, *(element for field in layout for element in field.write(message[field.name]))])


def read(frame: bytes) -> Json:
    """The inverse."""
    kind, *elements = spec.unpacked(frame)
    name, layout = next((name, layout) for name, (number_, layout) in LAYOUTS.items() if number_ == kind)
    need(
        len(elements) == sum(field.size for field in layout) or name in ("Hello", "Refuse"),
        "another number of elements",
    )
    message: Json = {"message": name}
    for field in layout:
        message[field.name] = field.read(elements[: field.size])
        elements = elements[field.size :]
    return message

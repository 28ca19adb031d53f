"""Writes `protocols/sync/vectors.json` and the frames of `protocols/sync/example.md` from the code:

    python -m tests.protocols.sync.make_vectors

To be run when the protocol changes on purpose; `test_vectors.py` fails while they differ. The second implementation
(`by_the_spec.py`) holds the result against the specs.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any, Final

import numpy as np

import protocols.sync
from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import BLOCK_SEQS, SYNC_VERSION_MAX
from protocols.model import LogName, digest_of, handle_of
from protocols.sync.codec import decode, encode
from protocols.sync.columns import pack_ascending, pack_varints
from protocols.sync.hints import HintedLog, HintedMessage, encode_hints
from protocols.sync.interest import Interest
from protocols.sync.listing import pack_entries
from protocols.sync.ranges import pack_ranges
from protocols.sync.reconcile import BLOCK_KEY_BYTES, BlockRows, Budget, block_digest, block_key, session_key
from protocols.sync.regions import END, pack_place, pack_regions
from protocols.sync.tables import KeyedTable
from protocols.sync.wire import encode_frame, pack
from tests.protocols.sync.annotate import filled
from tests.protocols.sync.messages_by_the_spec import Json, items_json, number, spans_json
from tests.protocols.sync.plain import plain, plain_entries, plain_listing, plain_ranges, plain_regions
from tests.protocols.sync.vector_messages import ENTRIES, MESSAGES, RANGES, REFUSED, REGIONS
from tests.protocols.sync.vector_sessions import SALT, SESSIONS, STAMP_S, session_json
from tests.protocols.sync.world import Box, runs_of

__all__ = ["EXAMPLE", "VECTORS", "text_of", "vectors"]

FOLDER: Final = Path(protocols.sync.__file__).parent
VECTORS: Final = FOLDER / "vectors.json"
EXAMPLE: Final = FOLDER / "example.md"
LINE_CHARACTERS: Final = 160

_ABOUT: Final = (
    "Test vectors of the sync protocol (sync.md, reconcile.md, hints.md), version %d. Bins are hex. Numbers from 2^53 "
    "on are strings. A vector's bytes are those that mailboxd sends; what may be said in other ways (the width of an "
    "integer) is not said so here. `frame` has the four bytes of length in front."
)


def _varints() -> list[Json]:
    cases = [
        ("No number, no byte.", []),
        ("One byte each.", [0, 1, 127]),
        ("From two bytes on the lowest group comes first.", [128, 300, 16_383, 16_384]),
        ("The highest bits.", [2**32, 2**63 - 1, 2**63, SEQ_MAX]),
    ]
    return [
        {
            "description": description,
            "numbers": [number(value) for value in values],
            "hex": pack_varints(np.array(values, np.uint64)).hex(),
        }
        for description, values in cases
    ]


def _ascending() -> list[Json]:
    cases: list[tuple[str, int, list[int]]] = [
        ("No number, no byte.", 20, []),
        ("One number: all 20 bits of it are low bits; then a 1.", 20, [685_290]),
        ("Two numbers of 8 bits: 7 low bits each, one high bit.", 8, [3, 200]),
        ("Equal numbers.", 8, [7, 7, 7]),
        ("Five numbers of 4 bits: 2 low bits each.", 4, [0, 1, 9, 14, 15]),
        ("More numbers than 2^w: no low bits.", 1, [0, 0, 0, 1]),
        ("Numbers of 64 bits.", 64, [0, 1, 2**63, SEQ_MAX]),
        ("A hundred squares.", 14, [n * n for n in range(100)]),
    ]
    return [
        {
            "description": description,
            "width": width,
            "numbers": [number(value) for value in values],
            "hex": pack_ascending(np.array(values, np.uint64), width).hex(),
        }
        for description, width, values in cases
    ]


def _refused_columns() -> list[Json]:
    return [
        {"description": "A varint that goes on behind its column.", "column": "varints", "hex": "ff"},
        {"description": "2^64.", "column": "varints", "hex": "80808080808080808002"},
        {"description": "Eleven bytes.", "column": "varints", "hex": "8080808080808080808001"},
        {"description": "A longer form of 0.", "column": "varints", "hex": "8000"},
        {"description": "One 1 for two numbers.", "column": "ascending", "width": 8, "count": 2, "hex": "030080"},
        {"description": "Three 1s for two numbers.", "column": "ascending", "width": 8, "count": 2, "hex": "0000e0"},
        {"description": "No byte for one number.", "column": "ascending", "width": 20, "count": 1, "hex": ""},
        {"description": "Low bits only.", "column": "ascending", "width": 8, "count": 1, "hex": "07"},
        {"description": "Descending: 7, then 3.", "column": "ascending", "width": 8, "count": 2, "hex": "0e0cc0"},
        {
            "description": "More bits than two numbers can take.",
            "column": "ascending",
            "width": 8,
            "count": 2,
            "hex": "0720a000",
        },
        {"description": "256, of 8 bits.", "column": "ascending", "width": 8, "count": 1, "hex": "0040"},
    ]


def _layouts() -> dict[str, list[Json]]:
    return {
        "entries": [
            {
                "description": description,
                "logs": plain_entries(entries),
                **dict(
                    zip(
                        ("kinds", "heads", "extras", "hashes"),
                        [one.hex() for one in pack_entries(entries)],
                        strict=True,
                    )
                ),
            }
            for description, entries in ENTRIES
        ],
        "places": [
            {"place": number(place), "hex": pack_place(place).hex()}
            for place in (1, 0x80 << 56, 0x0102 << 48, SEQ_MAX, END)
        ],
        "regions": [
            {
                "description": description,
                "regions": plain_regions(regions),
                "msgpack": pack(pack_regions(regions)).hex(),
            }
            for description, regions in REGIONS
        ],
        "ranges": [
            {
                "description": description,
                "ranges": plain_ranges(ranges),
                "msgpack": pack(pack_ranges(ranges, BLOCK_KEY_BYTES)).hex(),
            }
            for description, ranges in RANGES
        ],
    }


# --- hashes -----------------------------------------------------------------------------------------------------------


def _hashed_box() -> Box:
    """Logs of one and of several blocks, with a variant, a date of its own, and the highest sequence number."""
    box = Box()
    tea = [LogName("tea", log) for log in ("alice", "bob", "carol")]
    for seq in range(3):
        box.put(tea[0], seq, b"alice %d" % seq, STAMP_S)
    for seq in (0, 63, 64, 65, 1000, SEQ_MAX):
        box.put(tea[1], seq, b"bob %d" % seq, STAMP_S - 3600)
    box.put(tea[1], 64, b"a variant", STAMP_S)
    for seq in range(0, 140, 2):
        box.put(tea[2], seq, b"", 0 if seq == 100 else STAMP_S)
    box.put(LogName("café", "frank"), 7, b"frank", STAMP_S)
    box.put(LogName("t" * 256, "l" * 256), 0, b"the longest names", STAMP_S)
    return box


def _hashes() -> dict[str, Any]:
    """Handles, blocks, states, and all that is made of them with a session's key."""
    box = _hashed_box()
    view = box.view(0)
    key = session_key(SALT, STAMP_S)
    budget = Budget()
    table = KeyedTable(view, key=key, budget=budget)
    logs = []
    for row, (handle, name, state, blocks, seqs, _) in enumerate(view.logs):
        items = box.items(name, 0, SEQ_MAX)
        rows = BlockRows(
            b"".join([block_key(block) + digest for block, digest in blocks]),
            key=key,
            domain=b"B" + handle,
            budget=budget,
        )
        assert [digest for _, digest in blocks] == [
            block_digest(item for item in items if item.seq // BLOCK_SEQS == block) for block, _ in blocks
        ]
        logs.append(
            {
                "topic": name.topic,
                "log": name.log,
                "handle": handle.hex(),
                "items": items_json(items),
                "runs": spans_json(runs_of(seqs)),
                "blocks": [{"number": number(block), "digest": digest.hex()} for block, digest in blocks],
                "state": state.hex(),
                "row_hash": table.row_hashes([row]).hex(),
                "block_hashes": [one.hex() for one in rows.hashes(0, len(blocks))],
                "block_fingerprint": rows.fingerprint(0, len(blocks)).hex(),
            }
        )
    count = len(view)
    return {
        "description": "All about some logs. Fingerprints are of the rows from..to-1 (or of all but one), ascending.",
        "salt": SALT.hex(),
        "boundary_s": STAMP_S,
        "key": key.hex(),
        "interests": [
            {
                "topics": topics,
                "hashes": [one.hex() for one in sorted(Interest.of(topics).hashes)],
                "id": Interest.of(topics).id.hex(),
            }
            for topics in ([], ["tea"], ["tea", "café", "t" * 256])
        ],
        "digests": [{"blob": blob.hex(), "digest": digest_of(blob).hex()} for blob in (b"", b"alice 0")],
        "logs": logs,
        "fingerprints": [
            {"from": lo, "to": hi, "hex": table.fingerprint(lo, hi).hex()}
            for lo, hi in ((0, count), (0, 0), (1, 3), (count - 1, count))
        ],
        "rest": [{"without": row, "hex": table.rest(np.array([row], np.int64)).hex()} for row in range(count)],
        "cuts": [
            {"before_row": row, "place": number(table.cuts(row - 1, row + 1, 2)[0][0])} for row in range(1, count)
        ],
        "listing": plain_listing(table.listing(np.arange(count))),
        "status_fingerprint": box.fingerprint(0),
    }


# --- messages ---------------------------------------------------------------------------------------------------------


def _messages() -> list[Json]:
    return [
        {"description": description, **plain(message), "frame": encode_frame(encode(message)).hex()}
        for description, message in MESSAGES
    ]


def _refused() -> list[Json]:
    refused: list[Json] = []
    for description, said in REFUSED:
        frame = said if isinstance(said, bytes) else pack(said)
        try:
            decode(frame)
        except RemoteProtocolError as error:
            refused.append({"description": description, "code": error.code, "frame": encode_frame(frame).hex()})
        else:
            raise AssertionError(f"{description}: not refused")
    return refused


def _hints() -> list[Json]:
    names = {handle_of(name): name for name in (LogName("tea", "alice"), LogName("café", "bob"))}
    states = {handle: digest_of(handle)[:16] for handle in names}
    near = [digest_of(b"%d" % at) for at in range(3)]
    hinted = {handle: HintedLog.of(name.topic, states[handle]) for handle, name in names.items()}
    logs = [{"handle": one.hex(), "state": states[one].hex(), "topic": names[one].topic} for one in sorted(names)]
    messages = [
        HintedMessage(name, seq, 1_799_996_400, b"hello %d" % seq) for seq, name in enumerate(names.values(), 2**33)
    ]
    return [
        {
            "description": "Two logs have news; three other mailboxes are connected.",
            "overflow": False,
            "logs": logs,
            "audience": [one.hex() for one in near],
            "clock_s": 0,
            "messages": [],
            "hex": encode_hints(hinted, audience=near)[0].hex(),
        },
        {
            "description": "The same, with a message of each log.",
            "overflow": False,
            "logs": logs,
            "audience": [one.hex() for one in near],
            "clock_s": 1_800_000_000,
            "messages": [[*one.name, one.seq, one.first_stored_s, one.blob.hex()] for one in messages],
            "hex": encode_hints(hinted, audience=near, clock_s=1_800_000_000, messages=messages)[0].hex(),
        },
        {
            "description": "Too much news to be listed.",
            "overflow": True,
            "logs": [],
            "audience": [],
            "clock_s": 0,
            "messages": [],
            "hex": encode_hints({}, overflow=True)[0].hex(),
        },
    ]


def vectors() -> dict[str, Any]:
    """All vectors, as the code has them."""
    return {
        "about": _ABOUT % SYNC_VERSION_MAX,
        "varints": _varints(),
        "ascending": _ascending(),
        "refused_columns": _refused_columns(),
        **_layouts(),
        "hashes": _hashes(),
        "messages": _messages(),
        "refused_frames": _refused(),
        "hints": _hints(),
        "sessions": [session_json(told) for told in SESSIONS],
    }


def text_of(value: Json, indent: str = "") -> str:
    """JSON with what belongs together on one line."""
    line = json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    if len(indent) + len(line) <= LINE_CHARACTERS or not isinstance(value, (dict, list)):
        return line
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {text_of(one, inner)}" for key, one in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + indent + "}"
    if all(isinstance(one, int) for one in value):
        filled = textwrap.fill(line[1:-1], LINE_CHARACTERS, initial_indent=inner, subsequent_indent=inner)
        return "[\n" + filled + "\n" + indent + "]"
    return "[\n" + ",\n".join(inner + text_of(one, inner) for one in value) + "\n" + indent + "]"


def main() -> None:
    """Writes them."""
    made = vectors()
    VECTORS.write_text(text_of(made) + "\n")
    EXAMPLE.write_text(filled(EXAMPLE.read_text(), made["sessions"][0]))


if __name__ == "__main__":
    main()

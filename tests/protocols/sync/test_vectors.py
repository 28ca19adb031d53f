"""`vectors.json`, the specs and the code say the same.

Each vector is held against the code, encoding and decoding, and against a second implementation that was written from
the specs (`by_the_spec.py`). After a change of the protocol: `python -m tests.protocols.sync.make_vectors`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from protocols.errors import RemoteProtocolError
from protocols.limits.units import KIB
from protocols.sync.codec import decode, encode
from protocols.sync.columns import pack_ascending, pack_varints, unpack_ascending, unpack_varints
from protocols.sync.effects import Receive, Send
from protocols.sync.hints import decode_hint
from protocols.sync.listing import pack_entries, unpack_entries
from protocols.sync.messages import Parcel
from protocols.sync.ranges import unpack_ranges
from protocols.sync.reconcile import BLOCK_KEY_BYTES
from protocols.sync.regions import FP, LIST, SHOW, pack_place, unpack_place, unpack_regions
from protocols.sync.session import initiate, respond
from protocols.sync.wire import FrameDecoder, unpack
from tests.protocols.sync import by_the_spec as spec
from tests.protocols.sync import messages_by_the_spec as spoken
from tests.protocols.sync.annotate import filled
from tests.protocols.sync.make_vectors import EXAMPLE, VECTORS, text_of, vectors
from tests.protocols.sync.messages_by_the_spec import Json, held_json, held_of, number
from tests.protocols.sync.plain import plain, plain_entries, plain_ranges, plain_regions
from tests.protocols.sync.session_by_the_spec import Auditor
from tests.protocols.sync.vector_sessions import config_of, fingerprint

ALL: dict[str, Any] = json.loads(VECTORS.read_text())


def title(vector: Json) -> str:
    return str(vector.get("name") or vector.get("description"))


def cases(section: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", ALL[section], ids=title)


def the_frame(vector: Json) -> bytes:
    """Without its prefix, cut as from a stream."""
    decoder = FrameDecoder()
    decoder.feed(bytes.fromhex(vector["frame"]))
    frame = decoder.next_frame()
    assert frame is not None and decoder.at_boundary
    return frame


def test_the_file_is_what_the_code_says() -> None:
    assert VECTORS.read_text() == text_of(vectors()) + "\n", "python -m tests.protocols.sync.make_vectors"


def test_the_example_shows_the_frames_of_its_session() -> None:
    text = EXAMPLE.read_text()
    assert filled(text, ALL["sessions"][0]) == text, "python -m tests.protocols.sync.make_vectors"


def test_the_example_hashes_what_it_says() -> None:
    key = spec.session_key(bytes.fromhex(ALL["sessions"][0]["salt"]), 1_799_398_800)
    handle = spec.handle("tea", "alice")
    held = [(seq, spec.digest(b"alice %d" % seq), 1_799_992_800, 7) for seq in range(2)]
    values = {"K": key, "handle": handle, "digest 0": held[0][1], "digest 1": held[1][1]}
    for side, items in (("initiator", held[:1]), ("responder", held)):
        values[f"block 0, {side}"] = spec.blocks(items)[0][1]
        values[f"state, {side}"] = spec.state(items)
        values[f"fingerprint, {side}"] = spec.table_fingerprint(key, [handle + spec.state(items)])
    table = [line.strip("| ").split(" | ") for line in EXAMPLE.read_text().splitlines() if line.startswith("| ")]
    assert {what: value.strip("`") for what, _, value in table[1:]} == {what: one.hex() for what, one in values.items()}


# --- columns ----------------------------------------------------------------------------------------------------------


@cases("varints")
def test_varints(vector: Json) -> None:
    data, values = bytes.fromhex(vector["hex"]), [int(one) for one in vector["numbers"]]
    assert unpack_varints(data, "x").tolist() == values
    assert pack_varints(np.array(values, np.uint64)) == data
    assert spec.varints(values) == data
    assert spec.read_varints(data) == values


@cases("ascending")
def test_ascending_numbers(vector: Json) -> None:
    data, width = bytes.fromhex(vector["hex"]), vector["width"]
    values = [int(one) for one in vector["numbers"]]
    assert unpack_ascending(data, len(values), width, "x").tolist() == values
    assert pack_ascending(np.array(values, np.uint64), width) == data
    assert spec.ascending(values, width) == data
    assert not values or spec.read_ascending(data, len(values), width) == values


@cases("refused_columns")
def test_columns_that_are_refused(vector: Json) -> None:
    data = bytes.fromhex(vector["hex"])
    if vector["column"] == "varints":
        with pytest.raises(RemoteProtocolError):
            unpack_varints(data, "x")
        with pytest.raises(ValueError):
            spec.read_varints(data)
    else:
        with pytest.raises(RemoteProtocolError):
            unpack_ascending(data, vector["count"], vector["width"], "x")
        with pytest.raises(ValueError):
            spec.read_ascending(data, vector["count"], vector["width"])


@cases("entries")
def test_entries(vector: Json) -> None:
    columns: list[bytes] = [bytes.fromhex(vector[key]) for key in ("kinds", "heads", "extras", "hashes")]
    logs = vector["logs"]
    found = unpack_entries(columns, len(logs))
    assert plain_entries(found) == logs
    assert pack_entries(found) == columns
    assert spec.entries([held_of(one) for one in logs]) == columns
    assert [held_json(one) for one in spec.read_entries(columns, len(logs))] == logs


@pytest.mark.parametrize("vector", ALL["places"], ids=lambda one: one["hex"] or "end")
def test_places(vector: Json) -> None:
    place, data = int(vector["place"]), bytes.fromhex(vector["hex"])
    assert (unpack_place(data), pack_place(place)) == (place, data)
    assert (spec.read_place(data), spec.place(place)) == (place, data)


@cases("regions")
def test_regions(vector: Json) -> None:
    value = unpack(bytes.fromhex(vector["msgpack"]))
    assert plain_regions(unpack_regions(value, {FP, SHOW, LIST})) == vector["regions"]
    assert spec.packed(spec.regions(spoken.tiling_of(vector["regions"], "regions"))).hex() == vector["msgpack"]
    assert spoken.tiling_json(spec.read_regions(value), "regions") == vector["regions"]


@cases("ranges")
def test_ranges(vector: Json) -> None:
    value = unpack(bytes.fromhex(vector["msgpack"]))
    assert plain_ranges(unpack_ranges(value, BLOCK_KEY_BYTES)) == vector["ranges"]
    assert spec.packed(spec.ranges(spoken.tiling_of(vector["ranges"], "ranges"))).hex() == vector["msgpack"]
    assert spoken.tiling_json(spec.read_ranges(value), "ranges") == vector["ranges"]


# --- hashes -----------------------------------------------------------------------------------------------------------
# That the code makes these is what the file's test says; here they are made once more, from the spec.

HASHES = ALL["hashes"]
KEY = bytes.fromhex(HASHES["key"])
ROWS = [bytes.fromhex(log["handle"] + log["state"]) for log in HASHES["logs"]]
PLACES = [int.from_bytes(row[:8], "big") for row in ROWS]


def test_keys_interests_and_digests() -> None:
    assert spec.session_key(bytes.fromhex(HASHES["salt"]), HASHES["boundary_s"]) == KEY
    for one in HASHES["interests"]:
        hashes = sorted(map(spec.topic_hash, one["topics"]))
        assert [topic.hex() for topic in hashes] == one["hashes"]
        assert spec.interest_id(hashes).hex() == one["id"]
    for one in HASHES["digests"]:
        assert spec.digest(bytes.fromhex(one["blob"])).hex() == one["digest"]


@pytest.mark.parametrize("log", HASHES["logs"], ids=lambda log: log["log"][:20])
def test_logs(log: Json) -> None:
    handle = spec.handle(log["topic"], log["log"])
    items = [
        (int(one["seq"]), bytes.fromhex(one["digest"]), one["first_stored_s"], one["size"]) for one in log["items"]
    ]
    blocks = spec.blocks(items)
    assert handle.hex() == log["handle"]
    assert spoken.spans_json(spec.runs(items)) == log["runs"]
    assert [{"number": number(block), "digest": digest.hex()} for block, digest in blocks] == log["blocks"]
    assert spec.state(items).hex() == log["state"]
    assert spec.row_hash(KEY, handle + spec.state(items)).hex() == log["row_hash"]
    assert [spec.block_hash(KEY, handle, *block).hex() for block in blocks] == log["block_hashes"]
    assert spec.block_fingerprint(KEY, handle, blocks).hex() == log["block_fingerprint"]


def test_tables() -> None:
    assert sorted(ROWS) == ROWS
    for one in HASHES["fingerprints"]:
        assert spec.table_fingerprint(KEY, ROWS[one["from"] : one["to"]]).hex() == one["hex"]
    for one in HASHES["rest"]:
        rows = [row for at, row in enumerate(ROWS) if at != one["without"]]
        assert spec.table_fingerprint(KEY, rows).hex() == one["hex"]
    for one in HASHES["cuts"]:
        before, after = PLACES[one["before_row"] - 1], PLACES[one["before_row"]]
        assert spec.cut_between(before, after) == int(one["place"])
    assert spec.blake(b"".join(ROWS), 32).hex() == HASHES["status_fingerprint"]


def test_a_listing() -> None:
    width = spec.fragment_bits(PLACES, PLACES)
    held: list[spec.Held] = [spoken.spans_of(log["runs"]) for log in HASHES["logs"]]
    held = [
        bytes.fromhex(log["row_hash"]) if len(runs) > spec.LOG_RUNS_MAX else runs
        for log, runs in zip(HASHES["logs"], held, strict=True)
    ]
    fragments = [place >> 64 - width for place in PLACES]
    assert spoken.listing_json(width, fragments, held) == HASHES["listing"]
    assert sum(isinstance(one, bytes) for one in held) == 1


# --- messages ---------------------------------------------------------------------------------------------------------


def fields_of(vector: Json) -> Json:
    return {name: value for name, value in vector.items() if name not in ("description", "frame")}


@cases("messages")
def test_messages(vector: Json) -> None:
    frame = the_frame(vector)
    message = decode(frame)
    assert plain(message) == fields_of(vector)
    assert encode(message) == frame
    assert spec.framed(spoken.write(fields_of(vector))).hex() == vector["frame"]
    assert spoken.read(frame) == fields_of(vector)


def test_every_message_has_a_vector() -> None:
    assert {vector["message"] for vector in ALL["messages"]} == set(spoken.LAYOUTS)


@cases("messages")
def test_integers_of_any_width(vector: Json) -> None:
    """The same message with all of its numbers in nine bytes."""

    def widest(value: Any) -> bytes:
        if isinstance(value, int):
            return b"\xcf" + value.to_bytes(8, "big")
        if isinstance(value, list):
            return b"\xdc" + len(value).to_bytes(2, "big") + b"".join(map(widest, value))
        return spec.packed(value)

    assert plain(decode(widest(unpack(the_frame(vector))))) == fields_of(vector)


def test_hellos_of_later_versions_say_more_and_older_ones_less() -> None:
    """Up to 32 elements, of which those that are not known are ignored; two may be left out."""
    whole = spec.unpacked(the_frame(ALL["messages"][0]))
    meant = plain(decode(spec.packed(whole)))
    assert plain(decode(spec.packed(whole[:10]))) == meant
    later = [*whole[:11], [b"", b"", 0], *["later", [7], 9] * 7]
    for count in (12, 13, 32):
        assert plain(decode(spec.packed(later[:count]))) == meant
    for count in (9, 33):
        with pytest.raises(RemoteProtocolError):
            decode(spec.packed(later[:count]))


def test_only_parcels_are_larger_than_64_kib() -> None:
    parcel = encode(Parcel(data=bytes(200 * KIB), is_last=True))
    assert parcel[:2].hex(" ") == "98 0e"
    assert spoken.read(parcel) == plain(decode(parcel))
    survey = the_frame(next(one for one in ALL["messages"] if one["message"] == "Survey"))
    for fields in (unpack(survey), unpack(parcel)[:-1]):
        frame = spec.packed([*fields, bytes(64 * KIB)])
        with pytest.raises(RemoteProtocolError):
            decode(frame)


@cases("refused_frames")
def test_frames_that_are_refused(vector: Json) -> None:
    frame = the_frame(vector)
    with pytest.raises(RemoteProtocolError) as error:
        decode(frame)
    assert error.value.code == vector["code"]


@cases("hints")
def test_hints(vector: Json) -> None:
    data, logs = bytes.fromhex(vector["hex"]), vector["logs"]
    handles = [bytes.fromhex(log["handle"]) for log in logs]
    states = [bytes.fromhex(log["state"])[:8] for log in logs]
    topics = [spec.topic_hash(log["topic"])[:4] for log in logs]
    audience = sorted(bytes.fromhex(one)[:4] for one in vector["audience"])
    hint = decode_hint(data)
    assert [(handle, *log) for handle, log in hint.logs.items()] == list(zip(handles, states, topics, strict=True))
    assert (hint.overflow, sorted(hint.audience)) == (vector["overflow"], audience)
    columns = [b"".join(column) for column in (handles, states, topics, audience)]
    messages = [[*place, bytes.fromhex(blob)] for *place, blob in vector["messages"]]
    assert [[*one.name, one.seq, one.first_stored_s, one.blob] for one in hint.messages] == messages
    assert hint.clock_s == vector["clock_s"]
    assert spec.packed([4, int(vector["overflow"]), *columns, vector["clock_s"], messages]) == data


# --- sessions ---------------------------------------------------------------------------------------------------------


@cases("sessions")
@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_a_side_says_what_the_transcript_says(vector: Json, role: str) -> None:
    """Each side alone, against what the other one said when the file was made."""
    box, config = config_of(vector, role)
    session = initiate(config) if role == "initiator" else respond(config)
    lines = iter(vector["transcript"])
    value = None
    while True:
        try:
            effect = session.send(value)
        except StopIteration:
            break
        value = None
        if isinstance(effect, Send):
            line = next(lines)
            assert (line["from"], the_frame(line).hex()) == (role, effect.frame.hex())
        elif isinstance(effect, Receive):
            line = next(lines)
            assert line["from"] != role, "waits, where the transcript says something"
            value = the_frame(line)
        else:
            value = box.perform(effect)
    assert next(lines, None) is None
    if vector["only"] is None or role == "initiator":
        assert fingerprint(box, vector) == vector["fingerprint_after"]


@cases("sessions")
def test_a_transcript_follows_from_the_specs(vector: Json) -> None:
    auditor = Auditor(vector)
    for line in vector["transcript"]:
        assert spec.framed(spoken.write(line["message"])).hex() == line["frame"]
        auditor.hear(line["from"], spoken.read(the_frame(line)))
    side = auditor.sides["initiator"]
    assert spec.blake(b"".join(map(side.row, side.names())), 32).hex() == vector["fingerprint_after"]


def test_the_auditor_finds_a_lie() -> None:
    """Any hash, count or number of a transcript that is another one is noticed."""
    cold = next(one for one in ALL["sessions"] if one["name"] == "cold")
    heard = 0
    for at, line in enumerate(cold["transcript"]):
        for changed in _lies(line["message"]):
            auditor = Auditor(cold)
            for before in cold["transcript"][:at]:
                auditor.hear(before["from"], before["message"])
            with pytest.raises((ValueError, KeyError, StopIteration)):
                auditor.hear(line["from"], changed)
            heard += 1
    assert heard > 20


def _lies(message: Json) -> list[Json]:
    """The message with one of its hashes changed."""
    lies = []
    text = json.dumps(message)
    for key in ("fingerprint", "rest", "row_hash", "digest", "data"):
        parts = text.split(f'"{key}": "')
        for at in range(1, len(parts)):
            if parts[at][0] != '"':
                digit = "0" if parts[at][0] != "0" else "1"
                lies.append(json.loads(f'"{key}": "'.join([*parts[:at], digit + parts[at][1:], *parts[at + 1 :]])))
    return lies

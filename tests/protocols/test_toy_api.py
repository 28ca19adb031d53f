"""The Toy Mailbox API's codecs: what is taken, what is refused and how, and that nothing else ever happens."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols import toy_api
from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.http import GET_MEMBERS_MAX, STORE_MEMBERS_MAX
from protocols.model import LogName
from protocols.toy_answers import AnswerWriter, TopicAnswer, decode_get_answer, decode_watermarks, encode_watermarks
from protocols.toy_api import BadRequest, Family, decode_get, decode_store, encode_get, encode_store

IDS = st.text(st.characters(exclude_characters=":\0", exclude_categories=["Cs"]), min_size=1, max_size=60)
SEQS = st.integers(0, SEQ_MAX) | st.integers(0, 5)
BLOBS = st.binary(max_size=40)
STORES = st.dictionaries(IDS, st.dictionaries(IDS, st.dictionaries(SEQS, BLOBS, max_size=4), max_size=4), max_size=4)
QUERIES = st.dictionaries(IDS, st.dictionaries(IDS, SEQS, max_size=4), max_size=4)
FAMILIES = st.sampled_from(Family)


def one(key: str = '"0"', value: str = '"AA=="') -> bytes:
    return f'{{"blobs":{{"t":{{"l":{{{key}:{value}}}}}}}}}'.encode("utf-8", "surrogatepass")


def refused(body: bytes, family: Family = Family.BLOBS) -> int:
    with pytest.raises(BadRequest) as caught:
        decode_store(body, family)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return caught.value.status


def get_refused(body: bytes) -> int:
    with pytest.raises(BadRequest) as caught:
        decode_get(body)
    return caught.value.status


def typed(value: dict[str, dict[str, dict[int, bytes]]]) -> dict[str, Any]:
    return {
        t: {log: {str(s): base64.b64encode(b).decode() for s, b in seqs.items()} for log, seqs in logs.items()}
        for t, logs in value.items()
    }


def as_tree(request: toy_api.StoreRequest) -> dict[str, dict[str, dict[int, bytes]]]:
    tree: dict[str, dict[str, dict[int, bytes]]] = {t: {log: {} for log in logs} for t, logs in request.logs.items()}
    for name, seq, blob in request.messages:
        tree[name.topic][name.log][seq] = blob
    return tree


# --- good input --------------------------------------------------------------------------------------------------


@given(STORES, FAMILIES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_a_store_means_what_the_standard_librarys_json_says(
    value: dict[str, dict[str, dict[int, bytes]]], family: Family, ascii_only: bool, indent: Any
) -> None:
    body = json.dumps({family.store: typed(value)}, ensure_ascii=ascii_only, indent=indent).encode()
    assert as_tree(decode_store(body, family)) == value


@given(STORES, FAMILIES)
def test_a_store_survives_the_round_trip(value: dict[str, dict[str, dict[int, bytes]]], family: Family) -> None:
    messages = [(LogName(t, log), s, b) for t, ls in value.items() for log, ms in ls.items() for s, b in ms.items()]
    assert sorted(decode_store(encode_store(family, messages), family).messages) == sorted(messages)


@given(QUERIES, st.booleans())
def test_a_get_means_what_the_standard_librarys_json_says(query: dict[str, dict[str, int]], ascii_only: bool) -> None:
    assert decode_get(json.dumps({"topics": query}, ensure_ascii=ascii_only).encode()) == query
    assert decode_get(encode_get(query)) == query


def test_other_fields_are_ignored() -> None:
    extra = b'"sender_pubkey":[1,2],"signature":null,"x:y":{"a":{"b":":"},"u":"\\u003a"},'
    assert decode_store(b"{" + extra + one()[1:], Family.BLOBS).messages == [(LogName("t", "l"), 0, b"\0")]
    assert decode_get(b"{" + extra + b'"topics":{"t":{}}}') == {"t": {}}


def test_empty_maps_at_any_level_are_fine() -> None:
    assert as_tree(decode_store(b'{"blobs":{}}', Family.BLOBS)) == {}
    assert as_tree(decode_store(b'{"blobs":{"t":{}}}', Family.BLOBS)) == {"t": {}}
    assert as_tree(decode_store(b' {"blobs" : {"t":{"l":{ }}} }\n', Family.BLOBS)) == {"t": {"l": {}}}
    assert decode_get(b'{"topics":{}}') == {}


def test_escapes_are_only_another_spelling() -> None:
    body = b'{"\\u0062lobs":{"\\u0074":{"\\/-":{"\\u0031":"\\u0041A\\u003d="}}}}'
    assert decode_store(body, Family.BLOBS).messages == [(LogName("t", "/-"), 1, b"\0")]


def test_ids_that_look_like_trouble_are_fine() -> None:
    value = {'-0"': {'A="': {1: b"\1"}, "=": {2: b""}, "[{": {}}, "-": {"\\": {0: b"x"}}}
    assert as_tree(decode_store(json.dumps({"blobs": typed(value)}).encode(), Family.BLOBS)) == value
    assert decode_get(b'{"topics":{"-":{"-0":3}}}') == {"-": {"-0": 3}}


def test_the_highest_seq_and_an_empty_blob() -> None:
    body = one('"18446744073709551615"', '""')
    assert decode_store(body, Family.BLOBS).messages == [(LogName("t", "l"), SEQ_MAX, b"")]


# --- bad input ---------------------------------------------------------------------------------------------------

NOT_JSON = {
    "empty": b"",
    "cut off": b'{"blobs":{',
    "trailing comma": b'{"blobs":{},}',
    "NaN": b'{"blobs":NaN}',
    "NaN elsewhere": b'{"blobs":{},"x":NaN}',
    "infinity": b'{"blobs":{},"x":-Infinity}',
    "control character": b'{"blobs":{"\x01":{}}}',
    "control character elsewhere": b'{"blobs":{},"x":"\x01"}',
    "bad UTF-8": b'{"blobs":{"\xff":{}}}',
    "bad UTF-8 in a blob": b'{"blobs":{"t":{"l":{"0":"\xff"}}}}',
    "bad UTF-8 elsewhere": b'{"blobs":{},"x":"\xff"}',
    "UTF-8 of a surrogate": b'{"blobs":{"\xed\xa0\x80":{}}}',
    "BOM": b'\xef\xbb\xbf{"blobs":{}}',
    "UTF-16": '{"blobs":{}}'.encode("utf-16"),
    "UTF-16 without BOM": '{"blobs":{}}'.encode("utf-16-le"),
    "lone surrogate": b'{"blobs":{"\\ud800":{}}}',
    "lone low surrogate": b'{"blobs":{"\\udc00":{}}}',
    "lone surrogate elsewhere": b'{"blobs":{},"x":"\\ud800"}',
    "something after it": b'{"blobs":{}} {}',
    "two values": b'{"blobs":{}}{"blobs":{}}',
    "too deep elsewhere": b'{"blobs":{},"x":' + b"[" * 128 + b"]" * 128 + b"}",
    "much too deep": b'{"blobs":{},"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep at the top": b"[" * 129 + b"]" * 129,
    "deep and cut off": b"[" * 100_000,
    "too deep in our field": b'{"blobs":' + b"[" * 128 + b"]" * 128 + b"}",
    "deep maps": b'{"a":' * 200 + b"1" + b"}" * 200,
    "leading zero": b'{"blobs":{},"x":01}',
    "single quotes": b"{'blobs':{}}",
    "comment": b'{"blobs":{}/**/}',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_gets_400(body: bytes) -> None:
    assert refused(body) == 400
    assert get_refused(body.replace(b"blobs", b"topics")) == 400


def test_nesting_up_to_the_limit_is_fine() -> None:
    decode_store(b'{"blobs":{},"x":' + b"[" * 127 + b"]" * 127 + b"}", Family.BLOBS)
    decode_store(b'{"blobs":{},"x":"' + b"[" * 500 + b'"}', Family.BLOBS)


WRONG_SHAPE = {
    "no field": b"{}",
    "the other family's field": b'{"blips":{}}',
    "null": b"null",
    "number": b"3",
    "string": b'"x"',
    "array": b"[]",
    "array with the map": b'[{"t":{}}]',
    "field null": b'{"blobs":null}',
    "field array": b'{"blobs":[]}',
    "topic null": b'{"blobs":{"t":null}}',
    "log string": b'{"blobs":{"t":{"l":"AA=="}}}',
    "field twice": b'{"blobs":{},"blobs":{}}',
    "field twice, with content": b'{"blobs":{"t":{"l":{"0":"AA=="}}},"blobs":{"t":{"l":{"0":"AA=="}}}}',
}


@pytest.mark.parametrize("body", WRONG_SHAPE.values(), ids=WRONG_SHAPE)
def test_json_of_another_shape_gets_422(body: bytes) -> None:
    assert refused(body) == 422


@pytest.mark.parametrize(
    ("key", "status"),
    [
        *((k, 422) for k in ("-1", "1.5", "1e2", "-0", "18446744073709551616", "9" * 40, "9" * 5000, "-1.5E+3")),
        *((k, 400) for k in ("abc", "", "+1", " 1", "1 ", "01", "0x1", "1_0", "١", "１", "\\n1", "-01", "1.", "NaN")),
    ],
)
def test_seq_keys(key: str, status: int) -> None:
    assert refused(one(f'"{key}"')) == status


@pytest.mark.parametrize(
    "height", ["-1", "1.0", "1e0", '"1"', "null", "true", "18446744073709551616", "-0", "9" * 5000, "[]"]
)
def test_heights_of_the_wrong_type(height: str) -> None:
    assert get_refused(f'{{"topics":{{"t":{{"l":{height}}}}}}}'.encode()) == 422


@pytest.mark.parametrize("height", ["01", "+1", "NaN", "0x1", "1_0", "-", ".5", "1."])
def test_heights_that_are_not_json(height: str) -> None:
    assert get_refused(f'{{"topics":{{"t":{{"l":{height}}}}}}}'.encode()) == 400


BAD_BASE64 = [
    "AA",
    "AA=",
    "A=A=",
    "=",
    "====",
    "A",
    "AAAAA",
    "A-_A",
    "AA==\\n",
    " AA==",
    "AA ==",
    "AB==",
    "AAB=",
    "A/B=",
]


@pytest.mark.parametrize("text", [*BAD_BASE64, "AA==AA==", "A\\u0042==", "AB\\u003d=", "é===", "A\\u0000=="])
def test_base64_other_than_the_canonical_spelling(text: str) -> None:
    assert refused(one(value=f'"{text}"')) == 422


@pytest.mark.parametrize("value", ["null", "1", "true", "[]", "{}"])
def test_a_blob_that_is_no_string(value: str) -> None:
    assert refused(one(value=value)) == 422


@given(st.text("AQgwBEc4+/-_= \n8", max_size=9))
def test_base64_is_taken_exactly_if_it_is_what_an_encoder_writes(text: str) -> None:
    body = json.dumps({"blobs": {"t": {"l": {"0": text}}}}).encode()
    try:
        is_canonical = base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except ValueError:
        is_canonical = False
    if is_canonical:
        assert decode_store(body, Family.BLOBS).messages[0][2] == base64.b64decode(text)
    else:
        assert refused(body) == 422


@pytest.mark.parametrize("bad", ["", "a:b", "a\\u003ab", "a\\u0000", "x" * 257, "é" * 129])
def test_bad_ids_get_400(bad: str) -> None:
    assert refused(f'{{"blobs":{{"{bad}":{{}}}}}}'.encode()) == 400
    assert refused(f'{{"blobs":{{"t":{{"{bad}":{{"0":"AA=="}}}}}}}}'.encode()) == 400
    assert get_refused(f'{{"topics":{{"{bad}":{{}}}}}}'.encode()) == 400
    assert get_refused(f'{{"topics":{{"t":{{"{bad}":1}}}}}}'.encode()) == 400


@pytest.mark.parametrize(
    "body",
    [
        '{"blobs":{"t":{"l":{"0":"AA==","0":"AQ=="}}}}',
        '{"blobs":{"t":{"l":{"0":"AA==","\\u0030":"AA=="}}}}',
        '{"blobs":{"t":{"l":{"0":"AA=="},"l":{"1":"AQ=="}}}}',
        '{"blobs":{"t":{"l":{"0":"AA=="}},"t":{}}}',
    ],
)
def test_a_repeated_key_is_refused_because_a_201_would_cover_what_was_dropped(body: str) -> None:
    assert refused(body.encode()) == 400


def test_a_repeated_key_in_a_get_is_refused() -> None:
    assert get_refused(b'{"topics":{"t":{"l":1,"l":2}}}') == 400
    assert get_refused(b'{"topics":{"t":{},"t":{}}}') == 400
    assert get_refused(b'{"topics":{},"topics":{}}') == 422


def test_more_entries_than_one_request_may_have() -> None:
    seqs = ",".join(f'"{n}":""' for n in range(STORE_MEMBERS_MAX))
    assert refused(f'{{"blobs":{{"t":{{"l":{{{seqs}}}}}}}}}'.encode()) == 413
    heights = ",".join(f'"{n}":0' for n in range(GET_MEMBERS_MAX))
    assert get_refused(f'{{"topics":{{"t":{{{heights}}}}}}}'.encode()) == 413


@given(st.binary(max_size=60))
@example(b'{"blobs":')
def test_arbitrary_bytes_give_a_value_or_bad_request(body: bytes) -> None:
    for decode in (lambda b: decode_store(b, Family.BLOBS), decode_get):
        try:
            decode(body)
        except BadRequest as error:
            assert error.status in (400, 413, 422)


PIECES = [
    '{"blobs":',
    '"topics"',
    "{",
    "}",
    '"t"',
    ":",
    ",",
    '"0"',
    '"AA=="',
    "1",
    "-0",
    "[",
    "]",
    "\\",
    '"',
    "null",
    " ",
]


@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_almost_json_gives_a_value_or_bad_request(pieces: list[str]) -> None:
    body = "".join(pieces).encode()
    for decode in (lambda b: decode_store(b, Family.BLOBS), decode_get):
        try:
            decode(body)
        except BadRequest:
            continue
        json.loads(body)  # what we take is JSON


@given(STORES, st.data())
def test_a_mutated_body_is_taken_only_if_it_is_json(value: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps({"blobs": typed(value)}).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        request = decode_store(body, Family.BLOBS)
    except BadRequest:
        return
    loaded = json.loads(body.decode())["blobs"]
    assert as_tree(request) == {
        t: {log: {int(s): base64.b64decode(b) for s, b in seqs.items()} for log, seqs in logs.items()}
        for t, logs in loaded.items()
    }


# --- large bodies are decoded in slices --------------------------------------------------------------------------


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_api, "JSON_SLICE_BYTES", 7)


@pytest.mark.usefixtures("small_slices")
class TestSlices:
    @given(st.data())
    def test_slices_change_nothing(self, data: st.DataObject) -> None:
        test_a_store_means_what_the_standard_librarys_json_says.hypothesis.inner_test(  # type: ignore[attr-defined]
            data.draw(STORES), data.draw(FAMILIES), data.draw(st.booleans()), data.draw(st.sampled_from([None, 1]))
        )

    @given(STORES, st.data())
    def test_mutations(self, value: Any, data: st.DataObject) -> None:
        test_a_mutated_body_is_taken_only_if_it_is_json.hypothesis.inner_test(value, data)  # type: ignore[attr-defined]

    @given(st.lists(st.sampled_from(PIECES), max_size=20))
    def test_almost_json(self, pieces: list[str]) -> None:
        test_almost_json_gives_a_value_or_bad_request.hypothesis.inner_test(pieces)  # type: ignore[attr-defined]

    @pytest.mark.parametrize("body", [*NOT_JSON.values(), *WRONG_SHAPE.values()])
    def test_refusals(self, body: bytes) -> None:
        assert refused(body) in (400, 422)

    @pytest.mark.parametrize(
        "inner", ['"0":"AA==",', ',"0":"AA=="', '"0":"AA==",,"1":"AA=="', ",", '"0":"AA==" "1":""']
    )
    def test_stray_commas(self, inner: str) -> None:
        assert refused(f'{{"blobs":{{"t":{{"l":{{{inner}}}}}}}}}'.encode()) == 400

    @pytest.mark.parametrize("text", BAD_BASE64)
    def test_bad_base64(self, text: str) -> None:
        assert refused(f'{{"blobs":{{"t":{{"l":{{"0":"AAAA","1":"{text}","2":"AAAA"}}}}}}}}'.encode()) == 422

    def test_a_repeated_key_in_another_slice(self) -> None:
        seqs = ",".join(f'"{n}":"AAAA"' for n in [*range(9), 3])
        assert refused(f'{{"blobs":{{"t":{{"l":{{{seqs}}}}}}}}}'.encode()) == 400


def test_a_full_body_of_the_apps_size_is_sliced_and_right() -> None:
    noise = random.Random(7)
    messages = [
        (LogName(f"{t:064x}", f"{log:064x}"), seq, noise.randbytes(noise.randint(200, 2000)))
        for t in range(3)
        for log in range(4)
        for seq in range(300)
    ]
    body = encode_store(Family.BLIPS, messages)
    assert len(body) > 3 * toy_api.JSON_SLICE_BYTES
    assert decode_store(body, Family.BLIPS).messages == messages


# --- answers -----------------------------------------------------------------------------------------------------


@given(STORES, QUERIES, FAMILIES, st.data())
def test_an_answer_in_parts_is_the_whole_answer(stored: Any, query: Any, family: Family, data: st.DataObject) -> None:
    """Whatever the parts, the document is the same, in the order of the API, and the client reads it back."""
    missing = {t: {log: [1, 5] for log in logs if data.draw(st.booleans())} for t, logs in query.items()}
    topics = sorted({*query, *stored})
    writer = AnswerWriter(family, topics)
    out = []
    for topic in topics:
        logs = stored.get(topic, {})
        for log in sorted({*logs, *missing.get(topic, {})}):
            messages = sorted(logs.get(log, {}).items())
            cut = data.draw(st.integers(0, len(messages)))
            lacks = missing.get(topic, {}).get(log, [])
            out.append(writer.part(LogName(topic, log), messages[:cut], lacks))
            if messages[cut:]:
                out.append(writer.part(LogName(topic, log), messages[cut:], ()))
    out.append(writer.end())
    body = b"".join(out)
    expected = {
        t: {
            family.store: {
                log: {str(s): base64.b64encode(b).decode() for s, b in sorted(seqs.items())}
                for log, seqs in sorted(stored.get(t, {}).items())
                if seqs
            },
            "missing": dict(sorted(missing.get(t, {}).items())),
        }
        for t in topics
    }
    compact = json.dumps({family.answer: expected}, ensure_ascii=False, separators=(",", ":"))
    assert json.loads(body) == json.loads(compact)
    assert list(json.loads(body)[family.answer]) == topics
    assert json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")) == compact
    assert decode_get_answer(body, family) == {
        t: TopicAnswer({g: m for g, m in stored.get(t, {}).items() if m}, missing.get(t, {})) for t in topics
    }


def test_watermarks_cover_the_logs_of_the_request() -> None:
    body = encode_watermarks({"t": ["b", "a"], "s": []}, {LogName("t", "a"): 4})
    assert body == b'{"watermarks":{"s":{},"t":{"a":4,"b":null}}}'
    assert decode_watermarks(body) == {LogName("t", "a"): 4, LogName("t", "b"): None}


@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([*PIECES, '"blobs_by_topic"', '"missing"'])).map("".join).map(str.encode)
)
@example(b'{"blobs_by_topic":{"t":{"blobs":{},"missing":{"l":[-1]}}}}')
@example(b'{"blobs_by_topic":{"a:b":{"blobs":{},"missing":{}}}}')
@example(b'{"watermarks":{"a:b":{"":-1}}}')
def test_a_mailboxs_answer_is_read_or_refused(body: bytes) -> None:
    for decode in (lambda b: decode_get_answer(b, Family.BLOBS), decode_watermarks):
        try:
            decode(body)
        except RemoteProtocolError as error:
            assert error.code == "bad-answer"


@pytest.mark.parametrize(
    "answer", ['{"a:b":{"l":1}}', '{"t":{"l":-1}}', '{"t":{"":1}}', '{"t":{"l":18446744073709551616}}']
)
def test_watermarks_that_make_no_sense(answer: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_watermarks(f'{{"watermarks":{answer}}}'.encode())

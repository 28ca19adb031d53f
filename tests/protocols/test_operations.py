"""Operations are taken for genuine exactly if their author signed them for that log, topic and position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.limits.data import OPERATION_DEPTH_MAX, OPERATION_HEADER_BYTES_MAX
from protocols.model import LogName
from protocols.operations import NotGenuine, check_operation, is_genuine, read_operation
from tests.protocols.operation_maker import Author, wrap

ALICE, BOB = Author(1), Author(2)

# Headers as p2panda-core has them in its own tests (serde.rs, before and after it dropped time and previous), all of
# one author: (bytes, seq, body).
P2PANDA_KEY = "e415c4190cc7f1647a592ebf8e5f905c2adef9948b175b2b5c11e14511b51620"
P2PANDA: dict[str, tuple[str, int, bytes | None]] = {
    "seq 0": (
        "85015820e415c4190cc7f1647a592ebf8e5f905c2adef9948b175b2b5c11e14511b51620584011815a20d4e04a8ddb52a02313cd5237"
        "f7cc799980cb7b666c5a3c17dfb0fb9af383b1368ed200e77d5ace1cf025b358c8f6b931f687f285807f1676176616020000",
        0,
        None,
    ),
    "seq 0, a body": (
        "86015820e415c4190cc7f1647a592ebf8e5f905c2adef9948b175b2b5c11e14511b516205840bb599da5c5164f91e374e2cbe7d5e1fd"
        "c5fdf09310e0ba925e7e4fb9965466106d38f1e4a4bf992f8ebd0c479f8f51cc6c7c1627de7a58c67b7d02d31cc45a000d5820bf7f44"
        "0de32bfc9b3194b002a2d9afab312cb5d74771d3c31d80c0a9058aa08e00",
        0,
        b"Hello, Sloth!",
    ),
    "seq 1": (
        "86015820e415c4190cc7f1647a592ebf8e5f905c2adef9948b175b2b5c11e14511b5162058405af1dbb37160cff5c10373a654b1ecbf"
        "c28622d675b6827961096eaa232c9bcd93b4eabc11276d928e44b5ba77c5472df5f6208b2ec5960cff6e8663058bdf0d00015820442b"
        "fafb2f97793a1e901881ab235938a1704b5ba8c9c379a99b5568813c8da1",
        1,
        None,
    ),
    "dated, seq 0": (
        "88015820e415c4190cc7f1647a592ebf8e5f905c2adef9948b175b2b5c11e14511b516205840b13cf8baf0ac3a34ec5bae23e7b3b402"
        "6935074e47b3639fab2ffa0ff2e44b2770cc8a3f58abe3efc258ab208a1a5dcbbeb255baf5e32d41a9c35ad427311c0000000080f6",
        0,
        None,
    ),
    "dated, seq 0, previous and a body": (
        "89015820e415c4190cc7f1647a592ebf8e5f905c2adef9948b175b2b5c11e14511b516205840983ded3b61dda5cfa43137b1a82824be"
        "2f3b56e7e775b6ba2d8e0762110199ada57fd0dead9d51a5e4b8e6a558ad2968ab0c1239b312fe3241e293e4c91c7b070d5820bf7f44"
        "0de32bfc9b3194b002a2d9afab312cb5d74771d3c31d80c0a9058aa08e0000815820c958b6807db36c041797a834d8b57b5f0b4e4b06"
        "eca78ddbf373ffcb64801e5cf6",
        0,
        b"Hello, Sloth!",
    ),
    "dated, seq 1": (
        "89015820e415c4190cc7f1647a592ebf8e5f905c2adef9948b175b2b5c11e14511b5162058409f1dbc0c3e445a87e99d86fbcdb4ce90"
        "e6f0a12aecd94dd2a1e55c43d5aa693510392b3e8fa2b15b9a9a832d8a9831502a90f91ea68f8bff3641b40f66ded2060000015820c9"
        "58b6807db36c041797a834d8b57b5f0b4e4b06eca78ddbf373ffcb64801e5c80f6",
        1,
        None,
    ),
}


@pytest.mark.parametrize("case", P2PANDA)
def test_headers_that_p2panda_made(case: str) -> None:
    text, seq, body = P2PANDA[case]
    header = bytes.fromhex(text)
    is_dated = case.startswith("dated")
    blob = cbor2.dumps({"header": cbor2.loads(header) if is_dated else header, "body": body})
    name = LogName("any topic", P2PANDA_KEY)
    check_operation(name, seq, blob)
    assert not is_genuine(name, seq + 1, blob)
    assert not is_genuine(name, seq, blob.replace(b"Sloth", b"Snake") if body else blob[:-1] + b"\x41")


@pytest.mark.parametrize("dated", [False, True])
@pytest.mark.parametrize(("seq", "payload"), [(0, b"hello"), (1, b"x" * 70_000), (2**64 - 1, b"y"), (7, None)])
def test_what_an_author_signed_is_genuine(dated: bool, seq: int, payload: bytes | None) -> None:
    check_operation(ALICE.name, seq, ALICE.blob(seq, payload, dated=dated))


def test_topics_are_told_as_bytes_or_as_numbers_or_not_at_all() -> None:
    other = Author(1, topic=b"\x07" * 32)
    for extensions in ({"topic": ALICE.topic}, {"topic": list(ALICE.topic)}, {"log": 1, "topic": ALICE.topic}):
        blob = ALICE.blob(3, extensions=extensions)
        assert is_genuine(ALICE.name, 3, blob)
        assert not is_genuine(other.name, 3, blob), "an operation of one topic passed for one of another"
    for extensions in ({"topic": "a word"}, {"log_id": b"1"}, {}, [1, 2], None):
        blob = ALICE.blob(3, extensions=extensions)
        assert is_genuine(ALICE.name, 3, blob)


def forged(change: Callable[[list[Any]], None], payload: bytes | None = b"hello", *, seq: int = 4) -> bytes:
    """Alice's operation with fields of its header changed after she signed it."""
    header = ALICE.header(seq, b"hello")
    change(header)
    return wrap(header, payload, dated=False)


def put(index: int, value: object) -> Callable[[list[Any]], None]:
    def change(header: list[Any]) -> None:
        header[index] = value

    return change


GENUINE = ALICE.blob(4)
HEADER = cbor2.dumps(ALICE.header(4))
FORGERIES: dict[str, bytes] = {
    "nothing": b"",
    "no operation": b"just a text",
    "another's": BOB.blob(4),
    "another's in her name": forged(put(1, bytes(ALICE.key.verify_key)), seq=4).replace(
        ALICE.header(4)[2], BOB.header(4)[2]
    ),
    "another position": ALICE.blob(5),
    "its position changed": forged(put(5, 4), seq=5),
    "another payload": wrap(ALICE.header(4), b"jello", dated=False),
    "no payload": wrap(ALICE.header(4), None, dated=False),
    "a payload too many": wrap(ALICE.header(4, None), b"", dated=False),
    "another payload and its hash": forged(put(4, blake3(b"jello").digest()), b"jello"),
    "a longer payload": wrap(ALICE.header(4), b"hello!", dated=False),
    "another version": forged(put(0, 2)),
    "no signature": wrap(ALICE.header(4)[:2] + ALICE.header(4)[3:], b"hello", dated=False),
    "an empty signature": forged(put(2, b"")),
    "a zero signature": forged(put(2, bytes(64))),
    "a short signature": forged(put(2, bytes(10))),
    "an author that is no key": forged(put(1, b"\xff" * 32)),
    "another backlink": forged(put(6, bytes(32))),
    "a backlink of 31 bytes": forged(put(6, bytes(31))),
    "a field more": forged(lambda header: header.append(1)),
    "two fields more": forged(lambda header: header.extend([[], {}])),
    "a field less": forged(lambda header: header.pop()),
    "the header as a list": wrap(ALICE.header(4), b"hello", dated=True),
    "the header of the older generation as bytes": wrap(ALICE.header(4, dated=True), b"hello", dated=False),
    "its fields in another order": cbor2.dumps({"body": b"hello", "header": HEADER}),
    "a third field": cbor2.dumps({"header": HEADER, "body": b"hello", "x": 1}),
    "something behind it": GENUINE + b"\0",
    "something behind its header": cbor2.dumps({"header": HEADER + b"\0", "body": b"hello"}),
    "cut off": GENUINE[:-1],
    "a length in a longer form": GENUINE.replace(b"\x65hello", b"\x78\x05hello").replace(
        b"\x45hello", b"\x58\x05hello"
    ),
    "a number in a longer form": cbor2.dumps({"header": b"\x98\x08" + HEADER[1:], "body": b"hello"}),
    "an indefinite body": GENUINE.replace(b"\x45hello", b"\x5f\x45hello\xff"),
    "the body as a text": GENUINE.replace(b"\x45hello", b"\x65hello"),
    "a body of four billion": GENUINE.replace(b"\x45hello", b"\x5a\xff\xff\xff\xff"),
    "a header of 2^64": GENUINE[:8] + b"\x5b" + b"\xff" * 8,
    "a list of 2^64": GENUINE[:8] + b"\x9b" + b"\xff" * 8,
    "a number for a header": cbor2.dumps({"header": 1, "body": None}),
    "a header that is no list": cbor2.dumps({"header": b"\xa0", "body": None}),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_forgeries(case: str) -> None:
    assert is_genuine(ALICE.name, 4, GENUINE)
    assert FORGERIES[case] != GENUINE
    with pytest.raises(NotGenuine) as refused:
        check_operation(ALICE.name, 4, FORGERIES[case])
    assert str(refused.value)


def test_logs_that_are_no_keys() -> None:
    assert not is_genuine(LogName("tea", "alice"), 4, GENUINE)
    assert not is_genuine(LogName(ALICE.name.topic, ALICE.name.log.upper()), 4, GENUINE)


def test_bounds_of_a_header() -> None:
    deep: object = 1
    for _ in range(OPERATION_DEPTH_MAX + 1):
        deep = [deep]
    for extensions in (deep, [0] * 2000, b"x" * OPERATION_HEADER_BYTES_MAX):
        assert not is_genuine(ALICE.name, 4, ALICE.blob(4, extensions=extensions))
    assert is_genuine(ALICE.name, 4, ALICE.blob(4, extensions=[[1.5, True, "text", cbor2.CBORTag(1, 2)], [0] * 500]))


@given(st.binary(max_size=400))
@example(GENUINE[:60])
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    for blob in (data, b"\xa2\x66header" + data, b"\xa2\x66header\x58" + bytes([min(len(data), 255)]) + data):
        try:
            read_operation(blob)
        except NotGenuine:
            continue


@given(st.data())
def test_any_change_of_a_byte_is_noticed(data: st.DataObject) -> None:
    genuine = ALICE.blob(4, b"hello", dated=data.draw(st.booleans()))
    index = data.draw(st.integers(0, len(genuine) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != genuine[index]))
    assert not is_genuine(ALICE.name, 4, genuine[:index] + bytes([byte]) + genuine[index + 1 :])


@given(st.integers(0, 2**64 - 1), st.none() | st.binary(min_size=1, max_size=100), st.booleans())
def test_cbor2_reads_the_same(seq: int, payload: bytes | None, dated: bool) -> None:
    blob = ALICE.blob(seq, payload, dated=dated)
    operation = read_operation(blob)
    outer = cbor2.loads(blob)
    header = outer["header"] if dated else cbor2.loads(outer["header"])
    assert (operation.author, operation.signature, operation.payload) == (header[1], header[2], outer["body"])
    assert operation.signed == cbor2.dumps(header[:2] + header[3:])
    assert (operation.seq, operation.topic) == (seq, ALICE.topic)

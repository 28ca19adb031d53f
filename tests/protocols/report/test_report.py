"""Statements and what two of them prove: whatever is forged, mixed or wild proves nothing and raises one error."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.identity import Identity
from protocols.errors import RemoteProtocolError
from protocols.limits.data import CLOCK_SKEW_MAX_S
from protocols.limits.sync import REPORT_NONCE_BYTES, REPORT_STATEMENT_BYTES_MAX
from protocols.model import topic_hash_of
from protocols.report.exchange import Call, Greeting, Part, Refusal, Statements, decode, encode, meet, parts_of
from protocols.report.statement import Meeting, Signed, Statement, TopicDigest, digest_of_rows
from protocols.report.verdict import judge, read_file, write_file
from protocols.sync.interest import Interest

ALICE, BOB, EVE = (Identity.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
NOW = 1_800_000_000
VECTOR = Path(__file__).parents[3] / "protocols" / "report" / "vectors.json"


def greeting(n: int, *, now_s: int = NOW, network: str = "main", interest: Interest | None = None) -> Greeting:
    return Greeting(bytes([n]) * REPORT_NONCE_BYTES, network, now_s, NOW - 1000 + n, interest)


def meeting(interest: Interest | None = None) -> Meeting:
    met = meet(ALICE.mailbox_id, greeting(1), BOB.mailbox_id, greeting(2, interest=interest))
    assert not isinstance(met, Refusal)
    return met[0]


def topics(**logs: int) -> list[TopicDigest]:
    return sorted(
        TopicDigest(topic_hash_of(name), count, digest_of_rows([bytes(32)] * count)) for name, count in logs.items()
    )


def statement(by: Identity, held: list[TopicDigest], met: Meeting | None = None, at_s: int = NOW) -> Statement:
    return Statement(met or meeting(), by.mailbox_id, at_s, at_s + 1, held)


def test_both_hold_the_same() -> None:
    one, other = statement(ALICE, topics(a=1, b=2)), statement(BOB, topics(a=1, b=2))
    signed = one.sign(ALICE.seed), other.sign(BOB.seed)
    assert signed[0].read() == one
    for pair in (signed, signed[::-1]):
        verdict = judge(*read_file(write_file(*pair).encode()))
        assert verdict.converged
        assert (verdict.asker, verdict.answerer) == (one, other)
        assert (verdict.topics, verdict.logs) == (2, 3)


def test_what_differs_is_told() -> None:
    one = statement(ALICE, topics(same=1, mine=2, more=3)).sign(ALICE.seed)
    other = statement(BOB, topics(same=1, theirs=2, more=4)).sign(BOB.seed)
    verdict = judge(one, other)
    assert not verdict.converged
    found = {
        one.topic_hash: (one.asker and one.asker.logs, one.answerer and one.answerer.logs)
        for one in verdict.differences
    }
    assert found == {
        topic_hash_of("mine"): (2, None),
        topic_hash_of("theirs"): (None, 2),
        topic_hash_of("more"): (3, 4),
    }


def test_nobody_signs_for_another() -> None:
    forged = statement(BOB, topics(a=1)).sign(EVE.seed)
    with pytest.raises(RemoteProtocolError, match="not that of mailbox"):
        judge(statement(ALICE, topics(a=1)).sign(ALICE.seed), forged)
    mine = statement(ALICE, topics(a=1)).sign(ALICE.seed)
    with pytest.raises(RemoteProtocolError, match="same mailbox"):
        judge(mine, mine)
    with pytest.raises(RemoteProtocolError, match="not that of mailbox"):
        judge(mine, Signed(mine.body, bytes(64)))


@pytest.mark.parametrize(
    "change",
    [{"nonces": bytes(32)}, {"boundary_s": 1}, {"network": "other"}, {"scope": bytes(16)}, {"asker": EVE.mailbox_id}],
)
def test_statements_of_different_meetings_prove_nothing(change: dict[str, object]) -> None:
    other = dataclasses.replace(meeting(), **change)  # type: ignore[arg-type]
    with pytest.raises(RemoteProtocolError, match="same meeting"):
        judge(statement(ALICE, []).sign(ALICE.seed), statement(BOB, [], other).sign(BOB.seed))


def test_statements_of_different_moments_prove_nothing() -> None:
    mine = statement(ALICE, []).sign(ALICE.seed)
    assert judge(mine, statement(BOB, [], at_s=NOW + CLOCK_SKEW_MAX_S).sign(BOB.seed)).converged
    for late_s in (CLOCK_SKEW_MAX_S + 2, -CLOCK_SKEW_MAX_S - 2):
        with pytest.raises(RemoteProtocolError, match="same moment"):
            judge(mine, statement(BOB, [], at_s=NOW + late_s).sign(BOB.seed))


def test_any_changed_byte_is_noticed() -> None:
    mine, theirs = statement(ALICE, topics(a=1)).sign(ALICE.seed), statement(BOB, topics(a=1)).sign(BOB.seed)
    for at in range(len(theirs.body)):
        body = bytearray(theirs.body)
        body[at] ^= 1
        with pytest.raises(RemoteProtocolError):
            judge(mine, Signed(bytes(body), theirs.signature))


def test_meetings_that_can_not_be() -> None:
    def refused(one: Greeting, other: Greeting) -> str:
        found = meet(ALICE.mailbox_id, one, BOB.mailbox_id, other)
        assert isinstance(found, Refusal)
        return found.code

    assert refused(greeting(1), greeting(2, network="x")) == "network"
    assert refused(greeting(1), greeting(2, now_s=NOW + 601)) == "clock"
    assert meeting().boundary_s == NOW - 998
    assert meeting(Interest.of(["a"])).scope == Interest.of(["a"]).id


frames = st.one_of(
    st.builds(Call),
    st.builds(Part, st.binary(max_size=50), st.sampled_from([b"", bytes(64)])),
    st.builds(Refusal, st.text("abc", max_size=9), st.text("xyzé", max_size=99)),
    st.builds(
        Greeting,
        st.binary(min_size=REPORT_NONCE_BYTES, max_size=REPORT_NONCE_BYTES),
        st.text("abc-", max_size=9),
        st.integers(0, 2**40),
        st.integers(0, 2**40),
        st.one_of(st.none(), st.sets(st.text("xy", max_size=3)).map(Interest.of)),
    ),
)


@given(frames)
def test_frames_come_as_they_went(frame: Greeting | Call | Part | Refusal) -> None:
    assert decode(encode(frame)) == frame


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=80), frames.map(encode)), st.data())
def test_wild_bytes_raise_one_error(raw: bytes, data: st.DataObject) -> None:
    broken = bytearray(raw)
    if broken:
        broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(0, 255))
    with suppress(RemoteProtocolError):
        assert isinstance(decode(bytes(broken)), Greeting | Call | Part | Refusal)
    with pytest.raises(RemoteProtocolError):
        Signed(bytes(broken), bytes(64)).read()
    with pytest.raises(RemoteProtocolError):
        read_file(bytes(broken))


@pytest.mark.parametrize("value", [None, [], {}, {"format": "x"}, {"format": "mailboxd convergence report 1"}, "x", 1])
@pytest.mark.parametrize(
    "statements", [None, [], [1, 2], [{"body": "!", "signature": ""}] * 2, [{"body": "", "signature": ""}] * 3]
)
def test_other_files_are_no_reports(value: object, statements: object) -> None:
    if isinstance(value, dict):
        value = {**value, "statements": statements}
    with pytest.raises(RemoteProtocolError):
        read_file(json.dumps(value).encode())
    with pytest.raises(RemoteProtocolError):
        read_file(b"[" * 100_000)


def test_long_statements_come_in_parts_and_endless_ones_are_refused() -> None:
    many = sorted(TopicDigest(topic_hash_of(str(n)), n, bytes(16)) for n in range(20_000))
    signed = statement(ALICE, many).sign(ALICE.seed)
    parts = list(parts_of(signed))
    assert len(parts) > 4
    whole = Statements()
    assert [whole.take(part) for part in parts] == [None] * (len(parts) - 1) + [signed]
    assert signed.read().topics == many
    endless = Statements()
    with pytest.raises(RemoteProtocolError):
        for _ in range(REPORT_STATEMENT_BYTES_MAX // 100_000 + 1):
            endless.take(Part(bytes(100_000), b""))
    with pytest.raises(RemoteProtocolError):
        Statements().take(Part(b"", b""))


def vector() -> dict[str, str]:
    """The two statements of a meeting, in hex."""
    one, other = (statement(who, topics(tea=1, coffee=2)).sign(who.seed) for who in (ALICE, BOB))
    return {
        "asker_seed": ALICE.seed.hex(),
        "answerer_seed": BOB.seed.hex(),
        "greeting": encode(greeting(1)).hex(),
        "asker_body": one.body.hex(),
        "asker_signature": one.signature.hex(),
        "answerer_body": other.body.hex(),
        "answerer_signature": other.signature.hex(),
    }


def test_the_vector_is_what_the_code_makes() -> None:
    """After a change of the format that is meant: write `json.dumps(vector(), indent=1)` there."""
    assert json.loads(VECTOR.read_text()) == vector()

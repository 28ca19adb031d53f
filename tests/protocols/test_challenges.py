"""Proofs of work: what is asked for, what counts, and that nothing counts twice, too late, or for somebody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import protocols
from protocols import challenges
from protocols.challenges import Challenger, read_challenge, solve
from protocols.errors import RemoteProtocolError
from protocols.limits.shedding import CHALLENGE_BITS_MAX, CHALLENGE_BUCKET_S, CHALLENGE_KEY_BYTES, CHALLENGE_SLACK_BITS

KEY = bytes(range(CHALLENGE_KEY_BYTES))
NOW_S = 1_790_000_010.0
CLIENT = "192.0.2.7"
VECTORS = json.loads((Path(protocols.__file__).parent / "challenges.json").read_text())


def refused(challenger: Challenger, proof: str, *, client: str = CLIENT, bits: int = 8, now_s: float = NOW_S) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        challenger.take(proof, client, bits, now_s)
    return str(caught.value)


def test_a_proof_counts_once() -> None:
    challenger = Challenger(KEY)
    asked = challenger.challenge(CLIENT, 8, NOW_S)
    proof = solve(asked)
    challenger.take(proof, CLIENT, 8, NOW_S)
    assert "already" in refused(challenger, proof)
    another = solve(asked, first=int(proof.partition(".")[2]) + 1)
    challenger.take(another, CLIENT, 8, NOW_S)
    assert challenger.spent == 2


def test_a_proof_is_good_for_its_client_and_its_time_only() -> None:
    challenger = Challenger(KEY)
    proof = solve(challenger.challenge(CLIENT, 8, NOW_S))
    assert "not given to you" in refused(challenger, proof, client="192.0.2.8")
    assert "not given to you" in refused(Challenger(bytes(CHALLENGE_KEY_BYTES)), proof)
    for late_s in (2 * CHALLENGE_BUCKET_S, -CHALLENGE_BUCKET_S, 1e6):
        assert "too late" in refused(challenger, proof, now_s=NOW_S + late_s)
    challenger.take(proof, CLIENT, 8, NOW_S + CHALLENGE_BUCKET_S)


def test_a_difficulty_that_rose_meanwhile_is_forgiven_a_little() -> None:
    challenger = Challenger(KEY)
    proof = solve(challenger.challenge(CLIENT, 8, NOW_S))
    assert "more work" in refused(challenger, proof, bits=8 + CHALLENGE_SLACK_BITS + 1)
    challenger.take(proof, CLIENT, 8 + CHALLENGE_SLACK_BITS, NOW_S)


def test_work_can_not_be_left_out() -> None:
    challenger = Challenger(KEY)
    nonce = read_challenge(challenger.challenge(CLIENT, 16, NOW_S))[1]
    lazy = next(f"{nonce}.{n}" for n in range(9) if hashlib.sha256(f"{nonce}.{n}".encode()).digest()[0])
    assert "lacks the work" in refused(challenger, lazy)


def test_what_is_remembered_is_bounded_and_forgotten_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenges, "CHALLENGE_PROOFS_MAX", 3)
    challenger = Challenger(KEY)
    proof = "x.-1"
    for turn in range(4):
        proof = solve(challenger.challenge(CLIENT, 1, NOW_S), first=int(proof.partition(".")[2]) + 1)
        if turn < 3:
            challenger.take(proof, CLIENT, 1, NOW_S)
    assert "too many" in refused(challenger, proof, bits=1)
    later_s = NOW_S + 2 * CHALLENGE_BUCKET_S
    challenger.take(solve(challenger.challenge(CLIENT, 1, later_s)), CLIENT, 1, later_s)
    assert challenger.spent == 1


@pytest.mark.parametrize("proof", ["", ".", "x.1", "A" * 36, "A" * 36 + ".", "A" * 36 + ".01", "A" * 36 + ".-1"])
def test_malformed_proofs(proof: str) -> None:
    assert refused(Challenger(KEY), proof)


@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9_-]{36}\.[0-9]{1,19}", fullmatch=True))
def test_any_text_is_refused_in_order(text: str) -> None:
    refused(Challenger(KEY), text)


@given(st.text(max_size=80) | st.from_regex(r"bits=[0-9]{1,4}, nonce=[A-Za-z0-9_-]{35,37}", fullmatch=True))
def test_a_client_reads_or_refuses_any_challenge(text: str) -> None:
    try:
        bits, nonce = read_challenge(text)
    except RemoteProtocolError:
        return
    assert 0 < bits <= CHALLENGE_BITS_MAX
    assert len(nonce) == 36


@given(st.integers(1, 12), st.text(max_size=50), st.floats(0, 1e12), st.integers(0, 2**40))
def test_what_is_solved_is_taken(bits: int, client: str, now_s: float, first: int) -> None:
    challenger = Challenger(KEY)
    challenger.take(solve(challenger.challenge(client, bits, now_s), first=first), client, bits, now_s)


def test_no_client_does_more_than_the_most() -> None:
    with pytest.raises(RemoteProtocolError):
        solve(Challenger(KEY).challenge(CLIENT, CHALLENGE_BITS_MAX + 1, NOW_S))


@pytest.mark.parametrize(("number", "vector"), [*enumerate(VECTORS["challenges"], start=1)])
def test_vectors(number: int, vector: dict[str, str]) -> None:
    """Reckoned here once more from the spec alone."""
    bits, now_s, client = int(vector["bits"]), float(vector["time_s"]), vector["client"]
    said = bytes([1, bits]) + int(now_s // 30).to_bytes(4, "big") + number.to_bytes(5, "big")
    mac = hmac.new(bytes.fromhex(VECTORS["key"]), b"mailbox-challenge" + said + client.encode(), "sha256").digest()
    nonce = base64.urlsafe_b64encode(said + mac[:16]).decode()
    assert vector["challenge"] == f"bits={bits}, nonce={nonce}"
    zeros = 256 - int(hashlib.sha256(vector["proof"].encode()).hexdigest(), 16).bit_length()
    assert vector["proof"].startswith(nonce + ".")
    assert zeros >= bits
    challenger = Challenger(bytes.fromhex(VECTORS["key"]))
    given = [challenger.challenge(client, bits, now_s) for _ in range(number)]
    assert given[-1] == vector["challenge"]
    assert len(set(given)) == number
    assert solve(vector["challenge"]) == vector["proof"]
    challenger.take(vector["proof"], client, bits, now_s)


def test_one_client_can_not_use_up_what_is_there_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenges, "CHALLENGE_PROOFS_PER_CLIENT_MAX", 2)
    challenger = Challenger(KEY)
    for _ in range(2):
        challenger.take(solve(challenger.challenge(CLIENT, 4, NOW_S)), CLIENT, 4, NOW_S)
    assert "from you" in refused(challenger, solve(challenger.challenge(CLIENT, 4, NOW_S)), bits=4)
    other = "192.0.2.8"
    challenger.take(solve(challenger.challenge(other, 4, NOW_S)), other, 4, NOW_S)
    later_s = NOW_S + 2 * CHALLENGE_BUCKET_S
    challenger.take(solve(challenger.challenge(CLIENT, 4, later_s)), CLIENT, 4, later_s)
    assert challenger.spent == 1

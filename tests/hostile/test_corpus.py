"""Every parser of what strangers send, fed with a corpus that is kept, and with what comes of it by damage.

A parser may refuse, in its own way; anything else that it raises is a bug. `tests/corpus/README.md` says what to do
with an input that found one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.discovery.packets import read_packet
from node.http.head import BadHead, ChunkedBody, parse_head
from protocols.admission import messages as admission_messages
from protocols.challenges import Challenger, read_challenge
from protocols.errors import RemoteProtocolError
from protocols.limits.shedding import CHALLENGE_KEY_BYTES
from protocols.operations import NotGenuine, read_operation
from protocols.reach import decode_question
from protocols.sync import codec, hints
from protocols.toy_api import BadRequest, Family, decode_get, decode_store

CORPUS = Path(__file__).parent.parent / "corpus"
CHALLENGER = Challenger(bytes(CHALLENGE_KEY_BYTES))


def text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("latin-1"))


def chunks(data: bytes) -> None:
    body = ChunkedBody()
    for start in range(0, len(data), 7):
        if not body.finished:
            list(body.feed(data[start : start + 7]))


# parser -> (what reads, how it refuses)
PARSERS: dict[str, tuple[Callable[[bytes], object], type[Exception]]] = {
    "admission-frame": (admission_messages.decode, RemoteProtocolError),
    "challenge": (text(read_challenge), RemoteProtocolError),
    "get": (decode_get, BadRequest),
    "hint": (hints.decode_hint, RemoteProtocolError),
    "http-chunks": (chunks, BadHead),
    "http-head": (parse_head, BadHead),
    "mdns-packet": (lambda data: read_packet(data, ("10.0.0.9", 5353), None), RemoteProtocolError),
    "operation": (read_operation, NotGenuine),
    "proof": (text(lambda proof: CHALLENGER.take(proof, "192.0.2.7", 1, 0.0)), RemoteProtocolError),
    "reach-question": (decode_question, RemoteProtocolError),
    "store": (lambda data: decode_store(data, Family.BLOBS), BadRequest),
    "sync-frame": (codec.decode, RemoteProtocolError),
}


def kept(parser: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / parser).iterdir())]


def feed(parser: str, data: bytes) -> bool:
    """Whether it was taken."""
    read, refusal = PARSERS[parser]
    try:
        read(data)
    except refusal:
        return False
    return True


def test_every_parser_has_a_corpus_and_every_corpus_a_parser() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} == set(PARSERS)

    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 500_000


@pytest.mark.parametrize("parser", sorted(PARSERS))
def test_what_is_kept(parser: str) -> None:
    taken = [feed(parser, data) for data in kept(parser)]
    assert any(taken) or parser == "proof", "nothing in the corpus is valid, so it reaches nothing"


@pytest.mark.parametrize("parser", sorted(PARSERS))
def test_what_comes_of_it_by_damage(parser: str) -> None:
    samples = st.sampled_from(kept(parser))
    damage = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=6)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(samples, samples, damage, st.integers(0, 3000), st.integers(0, 3000), st.binary(max_size=8))
    def play(one: bytes, other: bytes, flips: list[tuple[int, int]], cut: int, splice: int, put: bytes) -> None:
        data = bytearray(one[: cut % (len(one) + 1)] + put + other[splice % (len(other) + 1) :])
        for index, byte in flips:
            if data:
                data[index % len(data)] = byte
        feed(parser, bytes(data))
        damaged = bytearray(one)
        for index, byte in flips:
            if damaged:
                damaged[index % len(damaged)] = byte
        feed(parser, bytes(damaged))

    play()

"""The question whether others can connect: what comes back is what was said, and nonsense costs one clear error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.tools import REACH_FRAME_BYTES_MAX, REACH_HOSTS_MAX, REACH_PORTS_MAX
from protocols.reach import Outcome, Trial, decode_answer, decode_question, encode_answer, encode_question
from protocols.sync.wire import pack

PORTS = st.lists(st.integers(1, 65535), min_size=1, max_size=REACH_PORTS_MAX, unique=True)


@given(PORTS)
def test_questions_arrive(ports: list[int]) -> None:
    assert decode_question(encode_question(ports)) == ports


@given(PORTS, st.data())
def test_answers_arrive(ports: list[int], data: st.DataObject) -> None:
    trials = data.draw(
        st.lists(
            st.builds(Trial, st.sampled_from(ports), st.ip_addresses().map(str), st.sampled_from(Outcome)),
            max_size=REACH_PORTS_MAX * REACH_HOSTS_MAX,
        )
    )
    assert decode_answer(encode_answer(trials), ports) == trials


def test_vectors() -> None:
    assert encode_question([3411, 40001]) == bytes.fromhex("92cd0d53cd9c41")
    answer = encode_answer([Trial(3411, "10.0.0.2", Outcome.SILENT)])
    assert answer == bytes.fromhex("9193cd0d53a831302e302e302e3202")


@pytest.mark.parametrize("ports", [[], [0], [65536], [1, 1], [1, 2, 3, 4, 5], ["x"], [1.5], [[1]], [-1]])
def test_questions_that_are_none(ports: list[object]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_question(pack(ports))


@pytest.mark.parametrize("ports", [[], [0], [65536], [1, 1], [1, 2, 3, 4, 5]])
def test_our_own_mistakes(ports: list[int]) -> None:
    with pytest.raises(LocalProtocolError):
        encode_question(ports)


@pytest.mark.parametrize(
    "line",
    [
        [3411, "10.0.0.1"],
        [80, "10.0.0.1", 0],
        [3411, "host", 0],
        [3411, "10.0.0.1", 3],
        [3411, b"x", 0],
        [3411, 1, 0],
        7,
        [3411, "1" * 60, 0],
        [3411, "fe80::1%\x1b[31m", 0],
    ],
)
def test_answers_that_are_none(line: object) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_answer(pack([line]), [3411])


def test_answers_that_are_too_long() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_answer(pack([[1, "::1", 0]] * (REACH_PORTS_MAX * REACH_HOSTS_MAX + 1)), [1])
    with pytest.raises(RemoteProtocolError):
        decode_question(pack([1] * REACH_FRAME_BYTES_MAX))


@given(st.binary(max_size=200))
def test_garbage(data: bytes) -> None:
    for decode in (decode_question, lambda payload: decode_answer(payload, [3411])):
        try:
            decode(data)
        except RemoteProtocolError as error:
            assert error.code

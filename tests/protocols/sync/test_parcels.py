"""Messages on their way: in portions, stopped and gone on with, and what is made of what did not come."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.limits.sync import SYNC_VERSION_MAX
from protocols.model import LogName
from protocols.sync import effects as fx
from protocols.sync import parcels
from protocols.sync.codec import decode, encode
from protocols.sync.deliveries import Delivery, Stretch
from protocols.sync.messages import Hello, Parcel, Transfer
from protocols.sync.spans import spans_of
from tests.protocols.sync.world import HOUR_S, NOW_S, Box, assert_equal, name_of, sync

STAMP_S = int(NOW_S) // HOUR_S * HOUR_S
LOG = name_of(1)


class Recorder:
    """The messages of a session as they were said."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def __call__(self, _count: int, frame: bytes) -> bytes:
        self.said.append(decode(frame))
        return frame

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]


@pytest.mark.parametrize("bound", ["TRANSFER_BYTES_MAX", "TRANSFER_MESSAGES_MAX"])
@pytest.mark.parametrize("giver_asks", [True, False])
def test_a_stream_is_stopped_and_gone_on_with(bound: str, giver_asks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same round: nothing is found anew, and nothing is sent twice."""
    monkeypatch.setattr(parcels, bound, {"TRANSFER_BYTES_MAX": 2000, "TRANSFER_MESSAGES_MAX": 20}[bound])
    monkeypatch.setattr(parcels, "_PAGE_BYTES", 500)
    giver, taker = Box(), Box()
    for log in range(4):
        for seq in range(60):
            giver.put(name_of(log), 2 * seq if log == 1 else seq, bytes(100), STAMP_S)
    record = Recorder()
    outcome = sync(*((giver, taker) if giver_asks else (taker, giver)), on_frame=record)
    assert_equal(giver, taker)
    for side in (outcome.initiator, outcome.responder):
        assert side.error is None and side.result is not None
        assert side.result.received == (240 if side.box is taker else 0)
        assert side.result.gone == 0
    assert outcome.initiator.result is not None and outcome.initiator.result.equal
    stops = [parcel.stopped_at for parcel in record.of(Parcel) if parcel.is_last]
    assert len(record.of(Transfer)) == len(stops) == 12
    assert stops.count(None) == 1
    assert taker.watermarks[name_of(0)] == 59


@dataclass
class Forgetful(Box):
    """Has lost some messages since the pictures were taken; notes what it was told to release."""

    lost: frozenset[int] = frozenset()
    released: list[fx.Span] = field(default_factory=list)

    def perform(self, effect: Any) -> Any:
        if isinstance(effect, fx.Release):
            self.released += effect.lost
        result = super().perform(effect)
        if isinstance(effect, fx.ReadMessages):
            result = fx.Page.of([one for one in result.entries if one[1].seq not in self.lost], result.after)
        return result


@pytest.mark.parametrize("lost", [{3}, {0}, {9}, {4, 5, 6}, set(range(10))])
def test_what_did_not_come_is_free_for_others_and_no_watermark_is_adopted(lost: set[int]) -> None:
    one, other = Forgetful(), Forgetful(lost=frozenset(lost))
    for seq in range(100, 110):
        other.put(LOG, seq - 100, b"%d" % seq, STAMP_S)
    other.watermarks[LOG] = 200
    one.put(LOG, 300, b"mine", STAMP_S)
    other.put(LOG, 300, b"mine", STAMP_S)
    result = sync(one, other).initiator.result
    assert result is not None
    assert (result.received, result.settled, result.equal) == (10 - len(lost), False, False)
    assert {seq for _, first, last in one.released for seq in range(first, last + 1)} == lost
    assert one.watermarks.get(LOG, -1) < 10


def test_the_watermark_of_a_log_of_which_all_has_come() -> None:
    one, other = Box(), Box()
    for seq in range(100, 110):
        other.put(LOG, seq, b"%d" % seq, STAMP_S)
    other.watermarks[LOG] = 109
    sync(one, other)
    assert one.watermarks[LOG] == 109


@pytest.mark.parametrize("question", [b"", b"\x91\x63", b"\xc1", bytes(1000)])
def test_a_first_question_of_a_later_version_is_not_read(question: bytes) -> None:
    """Who speaks more versions asks in its highest one, which counts only if both have it."""
    one, other = Box(), Box()
    other.put(LOG, 1, b"news")

    def later(count: int, frame: bytes) -> bytes:
        message = decode(frame)
        if count == 1:
            assert isinstance(message, Hello)
            return encode(replace(message, version_max=SYNC_VERSION_MAX + 1, first=question))
        if count == 2:
            assert isinstance(message, Hello)
            assert message.first == b""
        return frame

    outcome = sync(one, other, on_frame=later)
    assert outcome.initiator.error is None is outcome.responder.error
    assert outcome.initiator.result is not None and outcome.initiator.result.equal
    assert_equal(one, other)


def test_a_date_in_the_receivers_future_is_the_same_on_both_sides_at_once() -> None:
    """The hour has changed for the giver already, which brings its date down as it gives: there is no other round."""
    turn = STAMP_S + HOUR_S
    trips = []
    for taker_now_s in (turn - 2, turn + 2):
        for giver_asks in (True, False):
            giver, taker = Box(now_s=turn + 2), Box(now_s=taker_now_s)
            giver.put(LogName("t", "l"), 0, b"news")
            outcome = sync(*((giver, taker) if giver_asks else (taker, giver)))
            assert outcome.initiator.result is not None and outcome.initiator.result.equal
            assert_equal(giver, taker)
            trips.append(outcome.initiator.result.round_trips)
    assert trips == [4, 5, 4, 4]  # the taker that asks has an earlier boundary, and asks again


@given(st.lists(st.integers(0, 12)))
def test_what_came_is_told_in_spans(seqs: list[int]) -> None:
    assert parcels.Expected(LOG, [], sorted(seqs)).came() == list(spans_of(sorted(seqs)))


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.binary(max_size=9), min_size=1, max_size=12))))
def test_batches_hold_everything_in_its_order(parts: list[tuple[int, list[bytes]]]) -> None:
    came = [[Delivery(name_of(log), at, blob, b"", 0) for at, blob in enumerate(blobs)] for log, blobs in parts]
    batch, taken = parcels._Batch(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parcels, "BATCH_MESSAGES_MAX", 5)
        patch.setattr(parcels, "BATCH_BYTES_MAX", 20)
        for messages in came:
            batch.add(Stretch.of(messages))
            while batch.is_full:
                taken.append(batch.take())
            assert batch.messages < 5
        if batch.messages:
            taken.append(batch.take())
    assert [one for deliveries in taken for one in deliveries] == [one for messages in came for one in messages]
    assert all(0 < len(deliveries) <= 5 for deliveries in taken)

"""Random pairs of mailboxes end equal, whatever they hold, and in a bounded number of frames."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import BATCH_BYTES_MAX, SURVEY_PART_LOGS
from protocols.model import LogName, Retention, handle_of
from protocols.sync import search as search_module
from protocols.sync.effects import SessionAborted
from protocols.sync.session import Checkpoint, initiate, respond
from tests.protocols.sync import world
from tests.protocols.sync.world import (
    HOUR_S,
    NOW_S,
    Box,
    Outcome,
    Side,
    assert_equal,
    boundary,
    name_of,
    run_pair,
    sync,
)

STAMP_S = int(NOW_S) // HOUR_S * HOUR_S

names = st.builds(LogName, st.sampled_from(["t", "tö", "x" * 64, "𐍈" * 64]), st.sampled_from([*"abcdef", "y" * 256]))
seqs = st.one_of(
    st.integers(0, 8),
    st.integers(56, 72),
    st.integers(0, 5000),
    st.integers(0, SEQ_MAX),
    st.sampled_from([SEQ_MAX, SEQ_MAX - 1, 2**63, 2**32]),
)
blobs = st.sampled_from([b"", b"a", b"b", b"c", b"d" * 300, b"e" * 5000])
ages_h = st.integers(0, 170)
messages = st.tuples(names, seqs, blobs, ages_h)


def fill(box: Box, content: list[tuple[LogName, int, bytes, int]]) -> None:
    for name, seq, blob, age_h in content:
        box.put(name, seq, blob, STAMP_S - age_h * HOUR_S)


def frames_bound(one: Box, other: Box) -> int:
    """What a session may take at the very most, as the spec states it."""
    logs = len(set(one.logs) | set(other.logs))
    blocks = sum(len({seq // 64 for seq in held}) for box in (one, other) for held in box.logs.values())
    items = sum(len(variants) for box in (one, other) for held in box.logs.values() for variants in held.values())
    size = sum(
        len(blob)
        for box in (one, other)
        for held in box.logs.values()
        for variants in held.values()
        for _, blob in variants.values()
    )
    depth = 2 + math.ceil(math.log2(max(2, logs / SURVEY_PART_LOGS))) + math.ceil(math.log2(max(2, blocks)))
    return 10 + 4 * depth + (logs + blocks) // 8 + items // 16 + 8 * (size // BATCH_BYTES_MAX + 1)


@given(
    shared=st.lists(messages, max_size=60),
    mine=st.lists(messages, max_size=30),
    theirs=st.lists(messages, max_size=30),
    retentions=st.tuples(st.sampled_from([168, 168, 24, 100]), st.sampled_from([168, 168, 24, 100])),
    skews=st.tuples(st.integers(-299, 299), st.integers(-299, 299)),
    watermark=st.integers(0, 10),
)
@settings(deadline=None, max_examples=250)
def test_two_mailboxes_end_equal(
    shared: list[tuple[LogName, int, bytes, int]],
    mine: list[tuple[LogName, int, bytes, int]],
    theirs: list[tuple[LogName, int, bytes, int]],
    retentions: tuple[int, int],
    skews: tuple[int, int],
    watermark: int,
) -> None:
    one, other = (
        Box(now_s=NOW_S + skew, retention=Retention(hours * HOUR_S))
        for skew, hours in zip(skews, retentions, strict=True)
    )
    fill(one, shared + mine)
    fill(other, shared + theirs)
    for name in list(other.logs)[:2]:
        other.watermarks[name] = max(watermark, other.watermarks.get(name, -1))
    bound = frames_bound(one, other)
    union = set(one.alive(boundary(one, other))) | set(other.alive(boundary(one, other)))
    outcome = sync(one, other)
    assert_equal(one, other)
    assert set(one.alive(boundary(one, other))) <= union
    assert outcome.frames <= bound
    again = sync(other, one)
    assert again.initiator.result is not None
    assert (again.initiator.result.received, again.initiator.result.sent, again.initiator.result.merged) == (0, 0, 0)


@given(
    shared=st.lists(messages, max_size=20),
    theirs=st.lists(messages, min_size=1, max_size=20),
    data=st.data(),
)
@settings(deadline=None, max_examples=100)
def test_a_hinted_session_brings_what_the_hinted_logs_lack(
    shared: list[tuple[LogName, int, bytes, int]],
    theirs: list[tuple[LogName, int, bytes, int]],
    data: st.DataObject,
) -> None:
    one, other = Box(), Box()
    fill(one, shared)
    fill(other, shared + theirs)
    hinted = data.draw(st.sets(st.sampled_from(sorted({name for name, *_ in theirs})), min_size=1))
    before = {name: one.items(name, 0, SEQ_MAX) for name in one.logs}
    sync(one, other, only=[handle_of(name) for name in hinted])
    at = boundary(one, other)
    for name in set(one.logs) | set(other.logs):
        if name not in hinted:
            assert one.items(name, 0, SEQ_MAX) == before.get(name, [])
            continue
        held = [{item.seq for item in box.items(name, 0, SEQ_MAX)} for box in (one, other)]
        alive = [{i.seq for i in box.items(name, 0, SEQ_MAX) if i.first_stored_s >= at} for box in (one, other)]
        assert alive[0] <= held[1]
        assert alive[1] <= held[0]
    # Other dates and contents of what both have, beside such news in one log, may wait for the next whole comparison.
    outcome = sync(one, other)
    assert outcome.initiator.result is not None and outcome.initiator.result.equal


def big_pair(seed: int) -> tuple[Box, Box]:
    """Hundreds of logs, some long, some forked, with differences of all kinds."""
    rng = random.Random(seed)
    one, other = Box(), Box()
    for log in range(rng.choice([3, 40, 400])):
        name = name_of(log)
        length = rng.choice([1, 10, 100]) if log else 6000
        for seq in range(length):
            blob, age_h = b"%d/%d" % (log, seq), rng.randrange(100)
            for box in (one, other):
                if rng.random() > 0.02:
                    box.put(name, seq, blob, STAMP_S - (age_h + (rng.random() < 0.01)) * HOUR_S)
                if rng.random() < 0.002:
                    box.put(name, seq, b"fork %d" % rng.randrange(99), STAMP_S)
    for box in (one, other):
        for log in range(1000, 1000 + rng.randrange(100)):
            box.put(name_of(log, topic=1 + (box is other)), log, rng.randbytes(rng.choice([10, 10, 100_000])))
    return one, other


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=6)
def test_large_mailboxes_end_equal(seed: int) -> None:
    one, other = big_pair(seed)
    bound = frames_bound(one, other)
    outcome = sync(one, other)
    assert_equal(one, other)
    assert outcome.frames <= bound


def cut_after(frames: int) -> Callable[[int, bytes], bytes | None]:
    return lambda count, frame: frame if count <= frames else None


@given(
    shared=st.lists(messages, max_size=10),
    mine=st.lists(messages, max_size=20),
    theirs=st.lists(messages, max_size=20),
    cuts=st.lists(st.integers(0, 12), max_size=4),
)
@settings(deadline=None, max_examples=100)
def test_cut_after_any_frame_and_resumed(
    shared: list[tuple[LogName, int, bytes, int]],
    mine: list[tuple[LogName, int, bytes, int]],
    theirs: list[tuple[LogName, int, bytes, int]],
    cuts: list[int],
) -> None:
    one, other = Box(), Box()
    fill(one, shared + mine)
    fill(other, shared + theirs)
    for frames in cuts:
        outcome = sync(one, other, on_frame=cut_after(frames))
        for side in (outcome.initiator, outcome.responder):
            assert side.error is None or type(side.error) is SessionAborted
    sync(one, other)
    assert_equal(one, other)


def test_a_session_cut_late_keeps_what_was_committed() -> None:
    one, other = Box(), Box()
    for seq in range(4000):
        other.put(name_of(seq % 7), seq, b"%d" % seq * 100)
    whole = sync(Box(), other)
    sync(one, other, on_frame=cut_after(whole.frames // 2))
    held = sum(len(log) for log in one.logs.values())
    assert 1000 < held < 4000
    rest = sync(one, other)
    assert rest.initiator.result is not None
    assert rest.initiator.result.received == 4000 - held
    assert_equal(one, other)


class Restless(Box):
    """A mailbox that changes whenever it is asked for something."""

    def perform(self, effect: object) -> object:
        rng = self.rng
        if rng.random() < 0.2 and self.changes:
            self.changes -= 1
            kind = rng.randrange(3)
            name = name_of(rng.randrange(8))
            held = self.logs.get(name)
            if kind == 0 or not held:
                self.put(name, rng.choice([rng.randrange(300), rng.randrange(SEQ_MAX)]), rng.randbytes(5))
            elif kind == 1:
                del held[rng.choice(list(held))]
            else:
                variants = held[rng.choice(list(held))]
                for digest, (stamp, blob) in variants.items():
                    variants[digest] = (stamp - HOUR_S, blob)
        return super().perform(effect)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_mailboxes_that_change_meanwhile_agree_once_they_rest(seed: int) -> None:
    boxes = [Restless(), Restless()]
    rng = random.Random(seed)
    for box in boxes:
        box.rng = rng
        box.changes = 200
        for log in range(8):
            for seq in range(rng.randrange(200)):
                if rng.random() < 0.9:
                    box.put(name_of(log), seq, b"%d" % seq)
    for round_number in range(4):
        one, other = boxes[round_number % 2], boxes[1 - round_number % 2]
        outcome = run_pair(Side(one, initiate(one.config())), Side(other, respond(other.config())))
        assert _unharmed(outcome)
    for box in boxes:
        box.changes = 0
    sync(boxes[0], boxes[1])
    assert_equal(boxes[0], boxes[1])


def _unharmed(outcome: Outcome) -> bool:
    return outcome.initiator.error is None and outcome.responder.error is None


@given(
    shared=st.lists(messages, max_size=40),
    mine=st.lists(messages, max_size=15),
    theirs=st.lists(messages, max_size=15),
    checkpoints=st.tuples(
        st.sampled_from(["right", "none", "old", "absurd"]), st.sampled_from(["right", "none", "old"])
    ),
)
@settings(deadline=None, max_examples=100)
def test_news_since_the_last_time_lead_to_the_same(
    shared: list[tuple[LogName, int, bytes, int]],
    mine: list[tuple[LogName, int, bytes, int]],
    theirs: list[tuple[LogName, int, bytes, int]],
    checkpoints: tuple[str, str],
) -> None:
    """Checkpoints spare bytes; wrong ones cost some, and nothing else."""
    one, other = Box(), Box()
    fill(one, shared)
    first = sync(one, other)
    assert first.initiator.result and first.responder.result
    right = (first.initiator.result.checkpoint, first.responder.result.checkpoint)
    assert None not in right
    fill(one, mine)
    fill(other, theirs)
    meant = {"right": right, "none": (None, None), "old": (Checkpoint(0),) * 2, "absurd": (Checkpoint(2**63),) * 2}
    outcome = sync(one, other, checkpoints=(meant[checkpoints[0]][0], meant[checkpoints[1]][1]))
    assert_equal(one, other)
    assert outcome.initiator.result and outcome.initiator.result.equal
    if not mine and not theirs and checkpoints == ("right", "right"):
        assert outcome.initiator.result.round_trips == 1
        assert outcome.bytes < 210  # 40 of them apart from the hellos


def spread(logs: int, missing: set[tuple[int, int]]) -> Box:
    box = Box()
    for log in range(logs):
        for seq in range(100):
            if (log, seq) not in missing:
                box.put(name_of(log), seq, b"")
    return box


@given(seed=st.integers(0, 2**32), shape=st.sampled_from(["tail", "random"]), count=st.sampled_from([1, 10, 60]))
@settings(deadline=None, max_examples=4)
def test_how_many_round_trips_it_takes(seed: int, shape: str, count: int) -> None:
    """One with checkpoints, two without (and one to move what was found, one to confirm it)."""
    rng = random.Random(seed)
    sides: tuple[set[tuple[int, int]], set[tuple[int, int]]] = (set(), set())
    for log in rng.sample(range(120), count):
        sides[rng.randrange(2)].add((log, 99 if shape == "tail" else rng.randrange(100)))
    one, other = spread(120, sides[0]), spread(120, sides[1])
    cold = sync(one, other)
    assert cold.initiator.result and cold.responder.result
    assert cold.initiator.result.equal
    assert cold.initiator.result.round_trips <= 2 + 2 + 1
    for log, seq in {(log, 100 + seq) for log, seq in sides[0]}:
        one.put(name_of(log), seq, b"")
    for log, seq in {(log, 100 + seq) for log, seq in sides[1]}:
        other.put(name_of(log), seq, b"")
    marks = (cold.initiator.result.checkpoint, cold.responder.result.checkpoint)
    warm = sync(one, other, checkpoints=marks)
    assert warm.initiator.result and warm.initiator.result.equal
    assert warm.initiator.result.round_trips <= 1 + 1 + 1 + 1  # with the acknowledgement
    assert_equal(one, other)


def test_a_full_mailbox_is_left_in_peace() -> None:
    """What one has no room for is asked for once in a session, and moved by nobody."""
    for asks in (True, False):
        full, giver = Box(is_full=True), Box()
        full.put(name_of(1), 0, b"mine")
        for log in range(50):
            giver.put(name_of(log), 7, b"x" * 100)
        outcome = sync(*((full, giver) if asks else (giver, full)))
        result = outcome.initiator.result
        assert result is not None
        assert list(full.logs) == [name_of(1)]
        assert giver.logs[name_of(1)].keys() == {0, 7}, "it still gives what it has"
        assert not result.settled and not result.equal
        assert outcome.bytes < 2500


def test_logs_that_begin_alike_are_told_apart() -> None:
    """Handles whose first 8 bytes are the same can't be told apart by fragments: only by their whole names."""
    one, other = Box(), Box()
    twins = Twins({name_of(1), name_of(2), name_of(3)})
    for number, box in enumerate((one, other)):
        for log in range(10):
            box.put(name_of(log), 0, b"both")
        box.put(name_of(1 + number), 1, b"news of %d" % number)
        box.put(name_of(3), 5 + number, b"more")
    with twins:
        sync(one, other)
        assert_equal(one, other)


class Twins:
    """Gives some logs handles that differ in their last 8 bytes only."""

    def __init__(self, names: set[LogName]) -> None:
        self._names = names
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        for module in (world, search_module):
            self._patch.setattr(module, "handle_of", self._handle_of)

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _handle_of(self, name: LogName) -> bytes:
        handle = handle_of(name)
        return b"\x77" * 8 + handle[8:] if name in self._names else handle

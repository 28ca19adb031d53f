"""Syncs limited to some topics: what both keep moves, nothing else does, and it takes no more than it must."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError
from protocols.limits.data import TOPIC_HASH_BYTES
from protocols.limits.sync import FRAME_BYTES_MAX, INTEREST_TOPICS_MAX
from protocols.model import LogName, handle_of, topic_hash_of
from protocols.sync.codec import decode, encode
from protocols.sync.interest import EVERYTHING_ID, Interest, common, id_of
from protocols.sync.messages import Hello, Topics
from protocols.sync.session import Checkpoint
from tests.protocols.sync.world import Box, Outcome, View, assert_equal, sync

TOPICS = ("garden", "kitchen", "office", "attic")
names = st.builds(LogName, st.sampled_from(TOPICS), st.sampled_from(["anna", "ben", "cem"]))
messages = st.tuples(names, st.integers(0, 150), st.binary(max_size=3))
interests = st.none() | st.sets(st.sampled_from([*TOPICS, "cellar"])).map(Interest.of)


def fill(box: Box, stored: Sequence[tuple[LogName, int, bytes]]) -> Box:
    for name, seq, blob in stored:
        box.put(name, seq, blob)
    return box


def of_topics(box: Box, interest: Interest | None) -> Box:
    """Only what is held of these topics."""
    chosen = {name: held for name, held in box.logs.items() if interest is None or interest.covers(name.topic)}
    return Box(logs={name: {seq: dict(known) for seq, known in held.items()} for name, held in chosen.items()})


def shape_of(box: Box) -> set[tuple[LogName, int, bytes]]:
    return {(name, seq, digest) for name, held in box.logs.items() for seq in held for digest in held[seq]}


def trips(outcome: Outcome) -> int:
    assert outcome.initiator.result is not None
    return outcome.initiator.result.round_trips


@given(
    mine=st.lists(messages, max_size=30),
    theirs=st.lists(messages, max_size=30),
    one_keeps=interests,
    other_keeps=interests,
    one_believes=interests,
    other_believes=interests,
)
@settings(deadline=None)
def test_what_both_keep_is_brought_in_step_and_nothing_else(
    mine: list[tuple[LogName, int, bytes]],
    theirs: list[tuple[LogName, int, bytes]],
    one_keeps: Interest | None,
    other_keeps: Interest | None,
    one_believes: Interest | None,
    other_believes: Interest | None,
) -> None:
    """Whatever each believed the other to keep."""
    one, other = fill(Box(interest=one_keeps), mine), fill(Box(interest=other_keeps), theirs)
    covered = common(one_keeps, other_keeps)
    before = [shape_of(box) - shape_of(of_topics(box, covered)) for box in (one, other)]
    outcome = sync(one, other, peer_interests=(one_believes, other_believes))
    assert_equal(of_topics(one, covered), of_topics(other, covered))
    assert [shape_of(box) - shape_of(of_topics(box, covered)) for box in (one, other)] == before
    for side, keeps in ((outcome.initiator, other_keeps), (outcome.responder, one_keeps)):
        assert side.result is not None
        assert side.result.interest == covered
        assert side.result.peer_interest == keeps
    assert outcome.initiator.result and outcome.initiator.result.equal


@given(stored=st.lists(messages, max_size=30), one_keeps=interests, other_keeps=interests)
@settings(deadline=None)
def test_who_has_met_before_needs_one_round_trip_and_sends_no_topics(
    stored: list[tuple[LogName, int, bytes]], one_keeps: Interest | None, other_keeps: Interest | None
) -> None:
    one, other = fill(Box(interest=one_keeps), stored), fill(Box(interest=other_keeps), stored)
    first = sync(one, other)
    assert trips(first) == (1 if one_keeps is None and other_keeps is None else 2)
    assert first.initiator.result and first.responder.result
    known = (first.initiator.result.peer_interest, first.responder.result.peer_interest)
    marks = (first.initiator.result.checkpoint, first.responder.result.checkpoint)
    second = sync(one, other, peer_interests=known, checkpoints=marks)
    assert trips(second) == 1
    assert second.bytes < 210 + 75  # the ids of what each keeps, twice


def test_a_checkpoint_counts_for_the_topics_that_it_was_made_for() -> None:
    """What was not in common then is no news, and must be found all the same."""
    one, other = Box(interest=Interest.of(["garden"])), Box()
    fill(other, [(LogName("kitchen", "anna"), seq, b"") for seq in range(10)])
    fill(one, [(LogName("garden", "anna"), seq, b"") for seq in range(10)])
    first = sync(one, other)
    assert first.initiator.result and first.responder.result
    marks = (first.initiator.result.checkpoint, first.responder.result.checkpoint)
    assert marks[0] == Checkpoint(one.serial, Interest.of(["garden"]).id)
    one.interest = None
    second = sync(one, other, checkpoints=marks)
    assert_equal(one, other)
    assert second.initiator.result and second.initiator.result.checkpoint == Checkpoint(one.serial, EVERYTHING_ID)


def test_a_large_interest_travels_once() -> None:
    topics = [f"{number:064x}" for number in range(INTEREST_TOPICS_MAX)]
    interest = Interest.of(topics)
    one, other = (
        Box(interest=interest),
        fill(Box(), [(LogName(topics[7], "anna"), 1, b"hello"), (LogName("a", "b"), 1, b"")]),
    )
    first = sync(one, other)
    assert list(one.logs) == [LogName(topics[7], "anna")]
    assert first.initiator.bytes_out > len(interest.packed)
    again = sync(one, other, peer_interests=(None, interest))
    assert again.bytes < 300


def test_a_hint_of_another_topic_leads_to_nothing() -> None:
    one, other = Box(interest=Interest.of(["garden"])), fill(Box(), [(LogName("attic", "anna"), 1, b"")])
    sync(one, other, only=[handle_of(LogName("attic", "anna"))])
    assert not one.logs


# --- the set itself --------------------------------------------------------------------------------------------------


@given(st.sets(st.sampled_from(TOPICS)), st.sets(st.sampled_from(TOPICS)))
def test_interests_are_sets(one: set[str], other: set[str]) -> None:
    both = common(Interest.of(one), Interest.of(other))
    assert both == Interest.of(one & other)
    assert both is not None and both.hashes == {topic_hash_of(topic) for topic in one & other}
    assert len(both) == len(one & other)
    assert [topic for topic in TOPICS if both.covers(topic)] == [topic for topic in TOPICS if topic in one & other]
    assert (Interest.of(one).id == Interest.of(other).id) == (one == other)


def test_no_interest_is_everything_and_an_empty_one_is_not() -> None:
    some = Interest.of(["garden"])
    assert common(None, None) is None
    assert common(None, some) is some and common(some, None) is some
    assert id_of(None) == EVERYTHING_ID != id_of(Interest.of([]))


# --- bad peers -------------------------------------------------------------------------------------------------------


def errors(outcome: Outcome) -> Iterator[str]:
    for side in (outcome.initiator, outcome.responder):
        if isinstance(side.error, RemoteProtocolError):
            yield side.error.code


@pytest.mark.parametrize("asks", [True, False])
def test_topics_that_are_not_those_of_the_hello_are_refused(asks: bool) -> None:
    def lie(_count: int, frame: bytes) -> bytes:
        return encode(Topics(Interest.of(["cellar"]))) if isinstance(decode(frame), Topics) else frame

    pair = (Box(interest=Interest.of(["attic"])), Box())
    assert list(errors(sync(*(pair if asks else pair[::-1]), on_frame=lie))) == ["topics"]


def test_nobody_is_asked_for_topics_who_keeps_all() -> None:
    def on_frame(count: int, frame: bytes) -> bytes:
        hello = decode(frame)
        if count != 2:
            return frame
        assert isinstance(hello, Hello)
        return encode(Hello(2, 2, hello.network, hello.now_s, 604800, hello.alive_from_s, "liar", asks_topics=True))

    outcome = sync(Box(), Box(), on_frame=on_frame)
    assert list(errors(outcome)) == ["topics"]


class Careless(Box):
    """Agrees on some topics and compares all."""

    def view(self, alive_from_s: int, interest: Interest | None = None) -> View:
        return super().view(alive_from_s, None)


@pytest.mark.parametrize("asks", [True, False])
def test_who_names_or_offers_a_log_of_another_topic_is_refused(asks: bool) -> None:
    careful = Box(interest=Interest.of(["garden"]))
    careless = fill(Careless(), [(LogName("kitchen", "anna"), 1, b"")])
    pair = (careful, careless) if asks else (careless, careful)
    outcome = sync(*pair, on_frame=lambda _count, frame: frame)
    assert "unrequested" in list(errors(outcome))
    assert not careful.logs


@pytest.mark.parametrize(
    ("hashes", "code"),
    [
        ([b"b" * 16, b"a" * 16], "order"),
        ([b"a" * 16, b"a" * 16], "order"),
        ([b"a" * 15], "malformed"),
        ([number.to_bytes(TOPIC_HASH_BYTES, "big") for number in range(INTEREST_TOPICS_MAX + 1)], "limit"),
    ],
)
def test_malformed_topics(hashes: list[bytes], code: str) -> None:
    frame = encode(Topics(Interest(b"".join(hashes))))
    assert len(frame) < FRAME_BYTES_MAX
    with pytest.raises(RemoteProtocolError) as caught:
        decode(frame)
    assert caught.value.code == code

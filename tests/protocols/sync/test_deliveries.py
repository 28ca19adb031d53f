"""Messages in columns are the same messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.model import LogName
from protocols.sync.deliveries import Deliveries, Delivery, Stretch, by_log

LOGS = [LogName("t", "a"), LogName("t", "b"), LogName("u", "a")]
messages = st.builds(
    Delivery, st.sampled_from(LOGS), st.integers(0, 5), st.binary(max_size=3), st.binary(max_size=2), st.integers(0, 3)
)


def together(some: list[Delivery]) -> list[Delivery]:
    """Those of each log together, in the order in which the logs came."""
    names = list(dict.fromkeys(one.name for one in some))
    return sorted(some, key=lambda one: names.index(one.name))


@given(st.lists(messages), st.integers(0, 4), st.slices(8))
def test_nothing_is_lost(some: list[Delivery], alive_from_s: int, part: slice) -> None:
    deliveries = Deliveries.of(some)
    assert list(deliveries) == together(some)
    assert deliveries == together(some)
    assert deliveries != [*some, some[0]] if some else not deliveries
    assert len(deliveries) == len(some)
    assert deliveries.blobs_bytes == sum(len(one.blob) for one in some)
    assert deliveries[part] == together(some)[part]
    assert list(deliveries.from_s(alive_from_s)) == [
        one for one in together(some) if one.first_stored_s >= alive_from_s
    ]
    assert Deliveries.of(deliveries) is deliveries


@given(st.lists(st.lists(messages, min_size=1)))
def test_a_log_in_several_stretches_is_put_together(groups: list[list[Delivery]]) -> None:
    stretches = [Stretch.of([one._replace(name=group[0].name) for one in group]) for group in groups]
    whole = Deliveries(stretches)
    found = by_log(whole)
    assert [one for stretch in found.values() for one in stretch.deliveries()] == together(list(whole))
    assert all(stretch.name == name for name, stretch in found.items())
    assert all(stretch.size == sum(map(len, stretch.blobs)) for stretch in found.values())


@given(st.lists(messages, min_size=1), st.integers(0, 9), st.integers(0, 9))
def test_a_part(some: list[Delivery], start: int, end: int) -> None:
    same = [one._replace(name=LOGS[0]) for one in some]
    part = Stretch.of(same).part(start, end)
    assert list(part.deliveries()) == same[start:end]
    assert part.size == sum(len(one.blob) for one in same[start:end])

"""What every store does when its storage limit is reached: who gives way, what is recorded, what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio.testing

from node.store import _eviction, _ledger, _schema, _shares, sqlite
from node.store.api import Arrival, Change, Store, StoreFull
from protocols.limits.data import SEQ_MAX
from protocols.limits.store import (
    EVICT_YOUNG_S,
    EVICTED_SPANS_MAX,
    LOG_OVERHEAD_BYTES,
    MESSAGE_OVERHEAD_BYTES,
    TOPIC_NEW_S,
)
from protocols.model import LogName, MailboxId, digest_of
from protocols.sync.effects import Span
from tests.contracts.test_store import open_store, read

LIMIT = 200_000
BLOB = 1000
NEIGHBOUR = MailboxId(bytes(32))
OTHER = MailboxId(b"\x01" * 32)


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _no_two_share_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another salt one client in 256 would have a source in common with another one."""
    monkeypatch.setattr(_schema, "new_salt", lambda: b"")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock) -> Callable[[float], None]:
    """Lets time pass, for the memory's clock and for those of the writer's thread."""
    passed_s = 0.0
    clocks = SimpleNamespace(
        time=lambda: time.time() + passed_s,
        monotonic=lambda: time.monotonic() + passed_s,
        perf_counter=time.perf_counter,
    )
    for module in (_ledger, _eviction):
        monkeypatch.setattr(module, "time", clocks)

    def pass_by(seconds: float) -> None:
        nonlocal passed_s
        passed_s += seconds
        mock_clock.jump(seconds)

    return pass_by


def arrival(name: LogName, seq: int, *, first: int = 3600, size: int = BLOB) -> Arrival:
    blob = f"{name} {seq} ".encode().ljust(size, b".")
    return Arrival(name, seq, blob, digest_of(blob), first)


async def fill(store: Store, name: LogName, count: int, *, start: int = 0, **source: object) -> int:
    """Stores messages one by one until one is refused; how many were stored."""
    for seq in range(start, start + count):
        try:
            await store.put([arrival(name, seq)], **source)  # type: ignore[arg-type]
        except StoreFull:
            return seq - start
    return count


async def held(store: Store, name: LogName) -> list[int]:
    return [item.seq for item in await store.items(name, 0, SEQ_MAX)]


async def test_nothing_gives_way_to_what_can_never_find_room(
    kind: str, tmp_path: Path, later: Callable[[float], None]
) -> None:
    mine = LogName("tea", "alice")
    async with open_store(kind, tmp_path, LIMIT) as store:
        assert await fill(store, mine, 100, origin=NEIGHBOUR) == 100
        later(EVICT_YOUNG_S + 60)
        with pytest.raises(StoreFull, match="too large"):
            await store.put([arrival(mine, seq) for seq in range(100, 300)], origin=NEIGHBOUR)
        assert await held(store, mine) == list(range(100))


async def test_a_flood_gives_way_to_others_and_is_refused_itself(kind: str, tmp_path: Path) -> None:
    honest, flood, late = LogName("tea", "alice"), LogName("spam", "mallory"), LogName("cake", "bob")
    async with open_store(kind, tmp_path, LIMIT) as store:
        assert await fill(store, honest, 20, client="10.0.0.1") == 20
        stored = await fill(store, flood, 1000, client="10.0.0.66")
        assert stored < 200  # what was just acknowledged does not give way to more of the same
        assert await fill(store, late, 40, client="10.0.0.2") == 40
        assert await held(store, honest) == list(range(20))
        assert await held(store, late) == list(range(40))
        left = await held(store, flood)
        assert left == list(range(stored - len(left), stored))  # the oldest went
        assert store.evictions.messages == store.evictions.young == stored - len(left)
        totals = store.statistics()
        assert totals.bytes + totals.messages * MESSAGE_OVERHEAD_BYTES + totals.logs * LOG_OVERHEAD_BYTES <= LIMIT
        assert list((await store.verify()).problems) == []


async def test_many_topics_of_one_source_have_one_share(kind: str, tmp_path: Path) -> None:
    """Also where source tells nothing: honest topics that are known for a day come before thousands of new ones."""
    async with open_store(kind, tmp_path, LIMIT) as store:
        for turn in range(200):
            await fill(store, LogName(f"spam {turn}", "mallory"), 1, client="10.0.0.66")
        assert await fill(store, LogName("tea", "alice"), 40, client="10.0.0.1") == 40
        assert await held(store, LogName("tea", "alice")) == list(range(40))


@pytest.mark.parametrize("topics", [2, 3, 6])
async def test_a_flood_of_a_mailbox_in_a_few_new_topics_gives_way_before_its_small_new_ones(
    topics: int, kind: str, tmp_path: Path
) -> None:
    small = [LogName(topic, "alice") for topic in ("tea", "cake")]
    async with open_store(kind, tmp_path, LIMIT) as store:
        for name in small:
            assert await fill(store, name, 3, origin=NEIGHBOUR) == 3
        for turn in range(1000):
            await fill(store, LogName(f"spam {turn % topics}", "mallory"), 1, start=turn, origin=NEIGHBOUR)
        assert await fill(store, LogName("coffee", "bob"), 20, client="10.0.0.1") == 20
        assert store.evictions.messages >= 20
        for name in small:
            assert await held(store, name) == list(range(3))


async def test_a_flood_that_comes_by_several_ways_gives_way_before_what_one_of_them_says_beside_it(
    kind: str, tmp_path: Path
) -> None:
    """A mailbox that has brought hardly more of it than of what others say is not where its size shows."""
    async with open_store(kind, tmp_path, LIMIT) as store:
        for topic, count in (("tea", 12), ("cake", 11), ("spam", 15), ("spum", 14), ("spim", 13)):
            assert await fill(store, LogName(topic, "alice"), count, origin=NEIGHBOUR) == count
        assert await fill(store, LogName("spam", "mallory"), 30, origin=OTHER) == 30
        for client in ("10.0.0.1", "10.0.0.2"):
            assert await fill(store, LogName(client, "bob"), 26, client=client) == 26
        assert 0 < store.evictions.messages < 30
        assert await held(store, LogName("tea", "alice")) == list(range(12))
        assert await held(store, LogName("cake", "alice")) == list(range(11))


async def test_a_flood_in_many_small_topics_does_not_make_it_the_talkers_who_give_way(
    kind: str, tmp_path: Path
) -> None:
    async with open_store(kind, tmp_path, LIMIT) as store:
        for turn in range(30):
            await fill(store, LogName(f"spam {turn}", "mallory"), 1, origin=NEIGHBOUR)
        assert await fill(store, LogName("tea", "alice"), 15, origin=NEIGHBOUR) == 15
        for turn in range(30, 60):
            await fill(store, LogName(f"spam {turn}", "mallory"), 1, origin=NEIGHBOUR)
        for client in ("10.0.0.1", "10.0.0.2"):
            assert await fill(store, LogName(client, "bob"), 20, client=client) == 20
        assert 0 < store.evictions.messages < 30
        assert await held(store, LogName("tea", "alice")) == list(range(15))


async def test_known_topics_of_a_mailbox_come_before_a_flood_of_new_ones(
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    async with open_store(kind, tmp_path, LIMIT) as store:
        for topic in ("tea", "cake"):
            assert await fill(store, LogName(topic, "alice"), 20, origin=NEIGHBOUR) == 20
        later(TOPIC_NEW_S + 1)
        for turn in range(400):
            await fill(store, LogName(f"spam {turn}", "mallory"), 1, origin=NEIGHBOUR)
        later(EVICT_YOUNG_S * 2)
        assert await fill(store, LogName("tea", "alice"), 20, start=20, origin=NEIGHBOUR) == 20
        assert await held(store, LogName("tea", "alice")) == list(range(40))
        assert await held(store, LogName("cake", "alice")) == list(range(20))


@pytest.mark.parametrize("is_known", [True, False])
async def test_what_a_mailbox_brought_does_not_give_way_to_a_flood_that_it_brings_in_large_pieces(
    is_known: bool,
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    spam = LogName("spam", "mallory")
    async with open_store(kind, tmp_path, LIMIT) as store:
        for topic in ("tea", "cake"):
            assert await fill(store, LogName(topic, "alice"), 10, origin=NEIGHBOUR) == 10
        later(TOPIC_NEW_S + 1 if is_known else EVICT_YOUNG_S * 2)
        await fill(store, LogName("coffee", "bob"), 20, client="10.0.0.1")
        await fill(store, LogName("milk", "eve"), 20, client="10.0.0.2")
        with pytest.raises(StoreFull):
            await store.put([arrival(spam, seq) for seq in range(130)], origin=NEIGHBOUR)
        for topic in ("tea", "cake"):
            assert await held(store, LogName(topic, "alice")) == list(range(10))


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_small_topic_does_not_give_way_to_a_flood_that_comes_in_one_piece_with_it(
    is_known: bool,
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    tea, spam = LogName("tea", "alice"), LogName("spam", "mallory")
    async with open_store(kind, tmp_path, LIMIT) as store:
        assert await fill(store, tea, 10, origin=NEIGHBOUR) == 10
        assert await fill(store, spam, 60, origin=NEIGHBOUR) == 60
        later(TOPIC_NEW_S + 1 if is_known else EVICT_YOUNG_S * 2)
        await fill(store, LogName("coffee", "bob"), 30, client="10.0.0.1")
        await fill(store, LogName("milk", "eve"), 30, client="10.0.0.2")
        pieces = [arrival(tea, 10), *(arrival(spam, seq) for seq in range(60, 130))]
        assert (await store.put(pieces, origin=NEIGHBOUR)).stored == 71
        assert await held(store, tea) == list(range(11))
        assert (await held(store, spam))[-1] == 129


async def test_who_has_most_gives_way_to_himself_after_a_while(
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    name = LogName("tea", "alice")
    async with open_store(kind, tmp_path, LIMIT) as store:
        stored = await fill(store, name, 1000, client="a")
        assert await fill(store, name, 1, start=stored, client="a") == 0
        later(EVICT_YOUNG_S * 2)
        assert await fill(store, name, 10, start=stored, client="a") == 10
        assert (await held(store, name))[-1] == stored + 9
        assert store.evictions.messages >= 10
        assert store.evictions.young == 0


async def test_what_was_let_go_is_recorded_not_asked_for_and_forgotten_with_its_week(
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    name = LogName("tea", "alice")
    removed: list[Change] = []
    async with open_store(kind, tmp_path, LIMIT) as store:
        store.subscribe(lambda change: removed.append(change) if change.is_eviction else None)
        stored = await fill(store, name, 1000, start=5, client="a")  # without a watermark, as 0 is missing
        later(EVICT_YOUNG_S * 2)
        await fill(store, name, 1, start=5 + stored, client="a")
        gone = [item.item.seq for change in removed for item in change.removed]
        assert gone == list(range(5, 5 + len(gone)))
        entries = await read(store, {"tea": {"alice": 10 + stored}})
        assert list(entries[0].missing) == [0, 1, 2, 3, 4, *range(6 + stored, 11 + stored)]
        wanted = await store.admit([Span(name, 0, SEQ_MAX)], origin=NEIGHBOUR, is_full=False, is_news=False)
        assert wanted.wanted == [Span(name, 0, 4), Span(name, 5 + len(gone), SEQ_MAX)]
        assert wanted.evicted == [Span(name, 5, 4 + len(gone))]
    if kind == "memory":
        return
    async with open_store(kind, tmp_path, LIMIT) as store:
        again = await store.admit([Span(name, 0, SEQ_MAX)], origin=NEIGHBOUR, is_full=False, is_news=False)
        assert again == wanted
        assert list((await store.verify()).problems) == []
        while await store.expire(3601, messages_max=500):
            pass
        again = await store.admit([Span(name, 0, SEQ_MAX)], origin=NEIGHBOUR, is_full=False, is_news=False)
        assert again.wanted == [Span(name, 0, SEQ_MAX)]


async def test_records_of_a_log_are_few(
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    name = LogName("tea", "alice")
    async with open_store(kind, tmp_path, LIMIT) as store:
        for seq in range(0, 4000, 5):
            later(10)
            await store.put([arrival(name, seq)], client="a")
        found = await store.admit([Span(name, 0, SEQ_MAX)], origin=NEIGHBOUR, is_full=False, is_news=False)
        assert 1 <= len(found.evicted) <= EVICTED_SPANS_MAX
        assert store.evictions.messages > 600


async def test_a_full_store_takes_from_a_neighbour_only_what_pushes_out_others(
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    small, large, new = LogName("tea", "alice"), LogName("big", "bob"), LogName("new", "carol")
    async with open_store(kind, tmp_path, LIMIT) as store:
        await fill(store, small, 5, origin=NEIGHBOUR)
        later(TOPIC_NEW_S + 1)
        await fill(store, large, 1000, origin=NEIGHBOUR)
        later(TOPIC_NEW_S + 1)
        spans = [Span(name, 1000, 1001) for name in (large, new, small)]
        options = {"origin": NEIGHBOUR, "is_full": True}
        found = await store.admit(spans, **options, is_news=False)  # type: ignore[arg-type]
        assert found.wanted == [Span(name, 1000, 1001) for name in (new, small)]
        assert found.refused == [Span(large, 1000, 1001)]
        assert (await store.admit(spans, **options, is_news=True)).wanted == spans  # type: ignore[arg-type]
        assert (await store.admit(spans, origin=NEIGHBOUR, is_full=False, is_news=False)).wanted == spans


def test_sources_are_told_apart_by_salt() -> None:
    numbers = {_shares.source_of(None, f"10.0.0.{host}", b"salt") for host in range(50)}
    assert len(numbers) > 35
    assert numbers != {_shares.source_of(None, f"10.0.0.{host}", b"other") for host in range(50)}
    assert _shares.source_of(NEIGHBOUR, "", b"") not in range(257)
    assert sqlite.EVICT_ROUNDS_MAX > 100


async def test_scattered_messages_do_not_hide_what_lies_between(
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    """A neighbour that puts a few messages far ahead into a log, and has them evicted, does not close the log."""
    honest, flood = LogName("tea", "alice"), LogName("tea", "mallory")
    async with open_store(kind, tmp_path, LIMIT) as store:
        await fill(store, honest, 20, origin=OTHER)
        for seq in (20, *range(100_000, 900_000, 100_000)):
            await store.put([arrival(honest, seq)], origin=NEIGHBOUR)
        await fill(store, flood, 1000, origin=NEIGHBOUR)
        later(EVICT_YOUNG_S + 1)
        await fill(store, LogName("cake", "bob"), 40, client="10.0.0.9")
        assert store.evictions.messages > 9
        found = await store.admit([Span(honest, 21, 99_999)], origin=OTHER, is_full=False, is_news=True)
        assert found.wanted == [Span(honest, 21, 99_999)]
        assert found.evicted == []


@pytest.mark.parametrize("apart", [1, 1000])
async def test_what_was_let_go_for_a_request_of_a_neighbour_is_not_stored_with_it(
    apart: int,
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    """It may bring again what is held, and that may be the first to give way to what is new in the same request: also
    where so much lies scattered that the record of what was let go can't name it all."""
    name = LogName("spam", "mallory")
    changes: list[Change] = []
    async with open_store(kind, tmp_path, LIMIT) as store:
        stored = 0
        with suppress(StoreFull):
            while await store.put([arrival(name, stored * apart)], origin=NEIGHBOUR):
                stored += 1
        later(EVICT_YOUNG_S * 2)
        store.subscribe(changes.append)
        request = [arrival(name, at * apart) for at in (*range(10), *range(stored, stored + 10))]
        result = await store.put(request, origin=NEIGHBOUR)
        gone = [one.item.seq for change in changes if change.is_eviction for one in change.removed]
        assert gone[:10] == [one.seq for one in request[:10]]
        assert [one for change in changes for one in change.stored] == request[10:]
        assert result[:3] == (10, 0, 10)
        assert result.watermarks == {name: stored + 9 if apart == 1 else 0}
        assert await held(store, name) == [at * apart for at in range(len(gone), stored + 10)]
        assert list((await store.verify()).problems) == []


async def test_what_was_let_go_meanwhile_is_not_stored_for_a_neighbour_but_for_a_client(
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    """Between a neighbour's being asked for messages and its sending them others may have made them give way."""
    name, all_gone = LogName("spam", "mallory"), LogName("spam", "malvolio")
    async with open_store(kind, tmp_path, LIMIT) as store:
        await fill(store, all_gone, 3, origin=NEIGHBOUR)
        stored = await fill(store, name, 1000, origin=NEIGHBOUR)
        later(EVICT_YOUNG_S * 2)
        assert await fill(store, LogName("tea", "alice"), 20, client="10.0.0.1") == 20
        left = await held(store, name)
        assert left[0] > 0
        assert await held(store, all_gone) == []
        again = [arrival(all_gone, 1), arrival(name, 0), arrival(name, left[0])]
        result = await store.put(again, origin=OTHER)
        assert result[:3] == (0, 1, 2)
        assert result.watermarks == {name: stored - 1, all_gone: 2}
        assert await held(store, name) == left
        assert store.statistics().logs == 2
        assert (await store.put(again[:2], client="10.0.0.2")).stored == 2
        assert (await store.put(again[:2], origin=OTHER))[:3] == (0, 2, 0)
        assert await held(store, all_gone) == [1]
        assert 0 in await held(store, name)
        assert list((await store.verify()).problems) == []


async def test_what_a_client_brings_again_is_kept_even_if_it_gave_way_to_the_same_request(
    kind: str,
    tmp_path: Path,
    later: Callable[[float], None],
    mock_clock: trio.testing.MockClock,  # whose time this is
) -> None:
    """It was told that all of it is kept."""
    name = LogName("tea", "alice")
    async with open_store(kind, tmp_path, LIMIT) as store:
        stored = await fill(store, name, 1000, client="a")
        later(EVICT_YOUNG_S * 2)
        seqs = [*range(10), *range(stored, stored + 10)]
        result = await store.put([arrival(name, seq) for seq in seqs], client="a")
        assert result[:3] == (20, 0, 0)
        assert set(seqs) <= set(await held(store, name))
        assert store.evictions.messages >= 20
        assert list((await store.verify()).problems) == []

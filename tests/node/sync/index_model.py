"""What the index is tested with: a store with moods, steps that change it, and what must be in the index then."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import trio
from hypothesis import strategies as st

from node.store.api import Arrival, Change, ItemColumns, StoredItem, StoreUnavailable
from node.store.memory import MemoryStore
from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import BLOCK_SEQS
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.sync.reconcile import block_digest, log_state

TOPICS = ["t", "f" * 64, "F" * 64]
LOGS = [LogName(topic, log) for topic in TOPICS for log in ("l", "é", "0" * 63 + "g", *(f"{i:064x}" for i in range(4)))]
SEQS = st.one_of(st.integers(0, 200), st.integers(60, 70), st.sampled_from([SEQ_MAX, SEQ_MAX - 1, 2**63, 2**63 - 1]))
AGES = st.one_of(st.integers(0, 5), st.sampled_from([2**32 - 2, 2**32 - 1, 2**32, 2**53]))
BOUNDARIES = st.one_of(AGES, st.just(2**53 + 1))
BLOBS = st.binary(max_size=1)

PUT = st.tuples(st.just("put"), st.lists(st.tuples(st.sampled_from(LOGS), SEQS, BLOBS, AGES), min_size=1, max_size=12))
EXPIRE = st.tuples(st.just("expire"), AGES)
MERGE = st.tuples(st.just("merge"), st.tuples(st.sampled_from(LOGS), SEQS, BLOBS, AGES))


class MoodyStore(MemoryStore):
    """A store of which a read fails or is cancelled, and which may announce its commits late, as a store with threads
    does: what it reads is there before anyone has been told."""

    def __init__(self) -> None:
        super().__init__()
        self.fails_in: int | None = None
        self.cancels_in: int | None = None
        self.scope = trio.CancelScope()
        self.silent = False
        self._unannounced: list[Change] = []

    async def items(self, name: LogName, seq_from: int, seq_to: int) -> Sequence[Item]:
        items = await super().items(name, seq_from, seq_to)
        await self._sulk()
        return items

    async def columns_of(self, spans: Sequence[tuple[LogName, int, int]], *, alive_from_s: int = 0) -> ItemColumns:
        columns = await super().columns_of(spans, alive_from_s=alive_from_s)
        await self._sulk()
        return columns

    async def _sulk(self) -> None:
        if self.fails_in is not None:
            self.fails_in -= 1
            if self.fails_in <= 0:
                raise StoreUnavailable("a bad sector")
        if self.cancels_in is not None:
            self.cancels_in -= 1
            if self.cancels_in <= 0:
                self.scope.cancel()
                await trio.lowlevel.checkpoint()

    def _announce(self, change: Change) -> None:
        if self.silent:
            self._unannounced.append(change)
        else:
            super()._announce(change)

    def speak(self) -> None:
        """Announces what was held back."""
        self.silent = False
        held_back, self._unannounced = self._unannounced, []
        for change in held_back:
            self._announce(change)


class Expected(NamedTuple):
    """One log as it must be in a view, straight from the definitions."""

    name: LogName
    state: bytes
    blocks: list[tuple[int, bytes]]
    seqs: set[int]


async def expected(
    store: MemoryStore, alive_from_s: int, topics: frozenset[str] | None = None
) -> dict[bytes, Expected]:
    """What a view must hold, by handle, in ascending order."""
    logs: dict[bytes, Expected] = {}
    for name in LOGS:
        held = await MemoryStore.items(store, name, 0, SEQ_MAX)
        alive = [item for item in held if item.first_stored_s >= alive_from_s]
        blocks = [(n, block_digest(items)) for n, items in groupby(alive, lambda item: item.seq // BLOCK_SEQS)]
        if blocks and (topics is None or name.topic in topics):
            seqs = {item.seq for item in alive}
            logs[handle_of(name)] = Expected(name, log_state(blocks), blocks, seqs)
    return dict(sorted(logs.items()))


async def change(store: MemoryStore, kind: str, what: Any) -> None:
    """Carries out what PUT, EXPIRE or MERGE made up."""
    if kind == "put":
        await store.put([Arrival(n, s, b, digest_of(b), a) for n, s, b, a in what])
    elif kind == "expire":
        while await store.expire(what, messages_max=2):
            pass
    elif kind == "merge":
        name, seq, blob, age = what
        await store.merge([StoredItem(name, Item(seq, digest_of(blob), age, len(blob)))])

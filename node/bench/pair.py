"""Two mailboxes as reconciliation sees them: what they hold is known, the index is the mailbox's own, and there is
neither disk nor content.

Messages stand in logs of LOG_MESSAGES. Both sides begin with what both hold in the end; then each takes in what it
alone holds. So their indexes know what has changed since they last held the same.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from node.bench.messages import log_name, stamp_now_s
from node.store.api import Arrival, Change, ItemColumns, ScanPage
from node.sync.index import IndexView, LogIndex
from protocols.limits.data import DIGEST_BYTES
from protocols.model import LogName

__all__ = ["LOG_MESSAGES", "Pair", "Side", "make_pair"]

LOG_MESSAGES: Final = 100

_PAGE_LOGS: Final = 64
"""Logs in a page of a scan: about as many messages as SQLite's pages have."""

_Places: TypeAlias = npt.NDArray[np.int64]
"""Messages by their place: LOG_MESSAGES * log number + seq."""

_Held: TypeAlias = npt.NDArray[np.bool_]
"""For every place whether that message is held; a row for each log."""


class _Messages:
    """All messages that there are, whoever holds them."""

    def __init__(self, messages: int) -> None:
        logs = -(-messages // LOG_MESSAGES)
        self.count = messages
        self.names = [log_name(log) for log in range(logs)]
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.digests = np.frombuffer(np.random.default_rng(1).bytes(DIGEST_BYTES * messages), f"V{DIGEST_BYTES}")
        self.first_stored_s = stamp_now_s()

    def items(self, counts: npt.NDArray[np.int64], places: _Places) -> ItemColumns:
        """Some messages as a store tells them: log i has the next `counts[i]`."""
        seqs = (places % LOG_MESSAGES).astype(np.uint64)
        ages = np.full(len(places), self.first_stored_s)
        return ItemColumns(counts, seqs, self.digests[places].tobytes(), ages)

    def arrival(self, place: int) -> Arrival:
        """One message as a commit announces it, without its content."""
        log, seq = divmod(place, LOG_MESSAGES)
        return Arrival(self.names[log], seq, b"", self.digests[place].tobytes(), self.first_stored_s)


class _Ids:
    """What a store would tell the index of the messages that one side holds; implements `node.store.api.ItemSource`."""

    def __init__(self, messages: _Messages, held: _Held) -> None:
        self._messages = messages
        self._held = held
        self._listeners: list[Callable[[Change], None]] = []

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        self._listeners.append(listener)

    async def scan(self) -> AsyncGenerator[ScanPage, None]:
        for lo in range(0, len(self._held), _PAGE_LOGS):
            counts = self._held[lo : lo + _PAGE_LOGS].sum(axis=1)
            places = np.flatnonzero(self._held[lo : lo + _PAGE_LOGS]) + LOG_MESSAGES * lo
            names = [self._messages.names[lo + at] for at in np.flatnonzero(counts).tolist()]
            if names:
                yield ScanPage(names, self._messages.items(counts[counts > 0], places))

    async def columns_of(self, spans: Sequence[tuple[LogName, int, int]], *, alive_from_s: int = 0) -> ItemColumns:
        assert alive_from_s <= self._messages.first_stored_s, "everything is alive"
        found: list[_Places] = [np.zeros(0, np.int64)]
        for name, first, last in spans:
            log = self._messages.numbers[name]
            found.append(np.flatnonzero(self._held[log, first : last + 1]) + LOG_MESSAGES * log + first)
        counts = np.array([len(places) for places in found[1:]], np.int64)
        return self._messages.items(counts, np.concatenate(found))

    def add(self, places: _Places) -> None:
        """Takes these messages in, as one commit."""
        self._held.reshape(-1)[places] = True
        change = Change(stored=[self._messages.arrival(place) for place in places.tolist()])
        for listener in self._listeners:
            listener(change)


@dataclass(frozen=True, slots=True)
class Side:
    """One mailbox. `since` is the serial of its index from when both sides held the same.

    `build_ms` is what making the index took, `update_ms` what taking in the changes took.
    """

    held: _Held
    view: IndexView
    since: int
    build_ms: float
    update_ms: float

    def picture(self) -> IndexView:
        """The index's picture, of which nothing has been computed yet."""
        view = self.view
        return IndexView(view.leaves, serial=view.serial, serials_from=view.serials_from)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two mailboxes. `changed` messages are held by one of them only (all, if one is fresh).

    `index_bytes_per_message` is what the index of the one that holds more allocates.
    """

    messages: int
    shape: str
    changed: int
    numbers: dict[LogName, int]
    """The row of each log in `Side.held`."""
    initiator: Side
    responder: Side
    index_bytes_per_message: float

    @property
    def build_ms(self) -> float:
        """What making an index took: the better one of two tries, unless one of them holds nothing."""
        return min(side.build_ms for side in (self.initiator, self.responder) if side.held.any())

    @property
    def changed_logs(self) -> int:
        """How many logs differ."""
        return int((self.initiator.held != self.responder.held).any(axis=1).sum())


async def make_pair(messages: int, shape: str, changed: int) -> Pair:
    """Two mailboxes with `messages` between them of which `changed` (see `Pair`) are on one side only."""
    everything = _Messages(messages)
    alone = _differences(shape, messages, changed)
    common = np.zeros((len(everything.names), LOG_MESSAGES), np.bool_)
    if shape != "fresh":
        common.reshape(-1)[:messages] = True
        common.reshape(-1)[np.concatenate(alone)] = False
        initiator, responder = [await _grown(everything, common.copy(), places) for places in alone]
    else:
        full = common.copy()
        full.reshape(-1)[:messages] = True
        initiator, responder = await _loaded(everything, common), await _loaded(everything, full)
    per_message = await _index_bytes(_Ids(everything, responder.held)) / max(1, int(responder.held.sum()))
    return Pair(messages, shape, changed, everything.numbers, initiator, responder, per_message)


async def _grown(messages: _Messages, held: _Held, places: _Places) -> Side:
    """A mailbox that has taken in `places` since both held the same."""
    ids = _Ids(messages, held)
    index = LogIndex(ids)
    build_ms = await _load_ms(index)
    since = (await index.view(0)).serial
    begun_s = time.perf_counter()
    ids.add(places)
    view = await index.view(0)
    return Side(held, view, since, build_ms, 1000 * (time.perf_counter() - begun_s))


async def _loaded(messages: _Messages, held: _Held) -> Side:
    """A mailbox that held nothing when both held the same."""
    index = LogIndex(_Ids(messages, held))
    since = (await index.view(0)).serial
    build_ms = await _load_ms(index)
    return Side(held, await index.view(0), since, build_ms, 0.0)


async def _load_ms(index: LogIndex) -> float:
    gc.collect()
    begun_s = time.perf_counter()
    await index.load()
    return 1000 * (time.perf_counter() - begun_s)


async def _index_bytes(ids: _Ids) -> int:
    """What an index of these allocates, with all that a session asks of it."""
    gc.collect()
    tracemalloc.start()
    try:
        before_bytes, _ = tracemalloc.get_traced_memory()
        index = LogIndex(ids)
        await index.load()
        assert (await index.view(0)).prefixes is not None
        gc.collect()
        now_bytes, _ = tracemalloc.get_traced_memory()
        return now_bytes - before_bytes
    finally:
        tracemalloc.stop()


def _differences(shape: str, messages: int, changed: int) -> tuple[_Places, _Places]:
    """What the initiator alone holds, and what the responder alone holds: half of it each, by chance."""
    chance = random.Random(messages)
    alone: dict[int, list[int]] = defaultdict(list)
    if shape == "random":
        for place in chance.sample(range(messages), changed):
            alone[chance.randrange(2)].append(place)
    elif shape == "tail":
        sides = [chance.randrange(2) for _ in range(-(-messages // LOG_MESSAGES))]
        for place in _tails(messages, changed, chance).tolist():
            alone[sides[place // LOG_MESSAGES]].append(place)
    return np.sort(np.array(alone[0], np.int64)), np.sort(np.array(alone[1], np.int64))


def _tails(messages: int, changed: int, chance: random.Random) -> _Places:
    """The last message of as many logs as there are changes; more of each, if there are fewer logs."""
    logs = -(-messages // LOG_MESSAGES)
    depth = changed // max(1, logs - 1)  # as far from the ends as could be needed; the last log may be short
    last = np.minimum(LOG_MESSAGES * np.arange(1, logs + 1), messages) - 1
    order = np.array(chance.sample(range(logs), logs))
    ends = last[order] - np.arange(min(depth + 1, LOG_MESSAGES))[:, None]
    candidates: _Places = ends[ends >= LOG_MESSAGES * order]
    return candidates[:changed]

"""The index made anew out of everything that the store holds.

Everything is gathered in flat columns, in the order in which the store gives it; only at the end are the logs sorted by
handle and cut into leaves. So a million messages cost no more objects than a thousand do.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from node.store.api import ItemColumns, ScanPage, Store
from node.sync.index_blocks import ROW_BYTES, TAIL_BYTES, blocks_of, parts_of
from node.sync.index_leaf import SPLIT_LOGS, Leaf, leaf_of, spread
from node.sync.index_names import Names, PackedName, pack_name
from node.sync.index_reading import Pace, sized
from protocols.limits import BLOCK_SEQS, DIGEST_BYTES, HANDLE_BYTES
from protocols.model import LogName, handle_of

__all__ = ["load"]

_SORT_BYTES: Final = 100
"""What sorting in one log counts as: it takes about as long as copying so much."""

_NO_ITEMS: Final = ItemColumns(np.zeros(0, np.int64), np.zeros(0, np.uint64), b"", np.zeros(0, np.int64))


async def load(store: Store, serial: int) -> list[Leaf]:
    """Leaves of everything in the store, each log with this serial. Raises StoreUnavailable."""
    pace = Pace()
    gathering = _Gathering()
    async for page in store.scan():
        gathering.add(page)
        await pace.spend(messages=len(page.items.seqs))
    gathering.finish()
    order = await sized(_SORT_BYTES * len(gathering), gathering.order)
    leaves: list[Leaf] = []
    for lo, hi in parts_of(len(order), SPLIT_LOGS):
        leaves.append(gathering.leaf(order[lo:hi], serial))
        await pace.spend(blocks=hi - lo)
    return leaves


class _Gathering:
    """Flat columns of all logs that have come. The last block stays open: the next page may go on with it."""

    def __init__(self) -> None:
        self._handles = bytearray()
        self._counts = array("q")
        self._rows = bytearray()
        self._tails = bytearray()
        self._names: list[PackedName] = []
        self._topics: dict[bytes, bytes] = {}
        self._last: LogName | None = None
        self._open = ScanPage([], _NO_ITEMS)
        self._starts: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """How many logs have come."""
        return len(self._counts)

    def add(self, page: ScanPage) -> None:
        """Takes the next page."""
        names, whole, held = _without_last_block(_joined(self._open, page))
        self._take(names, whole)
        self._open = ScanPage(names[-1:], held)

    def finish(self) -> None:
        """Closes the last block."""
        self._take(*self._open)

    def _take(self, names: Sequence[LogName], items: ItemColumns) -> None:
        counts, rows, tails = blocks_of(items)
        at = len(self._rows)
        self._rows += rows
        self._tails += tails
        for name, count in zip(names, counts.tolist(), strict=True):
            if not count:
                continue
            key = self._rows[at : at + 8]
            if name != self._last or key <= self._rows[at - ROW_BYTES : at - ROW_BYTES + 8]:
                self._last = name
                topic, log = pack_name(name)
                self._handles += handle_of(name)
                self._names.append((self._topics.setdefault(topic, topic), log))
                self._counts.append(0)
            self._counts[-1] += count
            at += ROW_BYTES * count

    def order(self) -> npt.NDArray[np.int64]:
        """The logs in ascending order of handle, each once."""
        handles = np.frombuffer(self._handles, ">u8").reshape(-1, HANDLE_BYTES // 8).astype(np.uint64)
        order = np.lexsort((handles[:, 1], handles[:, 0]))
        # A log that has come twice was emptied in between: all its blocks are marked, and the later ones are nearer.
        again = (handles[order[1:]] == handles[order[:-1]]).all(axis=1)
        once: npt.NDArray[np.int64] = np.delete(order, np.flatnonzero(again))
        return once

    def leaf(self, chosen: npt.NDArray[np.int64], serial: int) -> Leaf:
        """A leaf of some of the logs."""
        if self._starts is None:
            every = np.frombuffer(self._counts, np.int64)
            self._starts = np.cumsum(every) - every
        counts = np.frombuffer(self._counts, np.int64)[chosen]
        held = spread(self._starts[chosen], counts)
        return leaf_of(
            np.frombuffer(self._handles, f"V{HANDLE_BYTES}")[chosen].tobytes(),
            counts.tolist(),
            np.frombuffer(self._rows, f"V{ROW_BYTES}")[held].tobytes(),
            np.frombuffer(self._tails, f"V{TAIL_BYTES}")[held].tobytes(),
            Names([self._names[log] for log in chosen.tolist()]),
            serial.to_bytes(8, "little") * len(chosen),
        )


def _joined(held: ScanPage, page: ScanPage) -> ScanPage:
    """The block that was held back, and what follows it."""
    if not held.names:
        return page
    names, items = [*held.names, *page.names], [held.items, page.items]
    counts = np.concatenate([one.counts for one in items])
    seqs = np.concatenate([one.seqs for one in items])
    if names[0] == names[1] and held.items.seqs[-1] <= page.items.seqs[0]:
        counts = np.append(counts[0] + counts[1], counts[2:])
        del names[0]
    first_stored_s = np.concatenate([one.first_stored_s for one in items])
    return ScanPage(names, ItemColumns(counts, seqs, b"".join([one.digests for one in items]), first_stored_s))


def _without_last_block(page: ScanPage) -> tuple[Sequence[LogName], ItemColumns, ItemColumns]:
    """The names, the items without those of the last block, and these."""
    counts, seqs, digests, first_stored_s = page.items
    last = len(seqs) - int(counts[-1])
    cut = last + int(np.searchsorted(seqs[last:], seqs[-1] // np.uint64(BLOCK_SEQS) * np.uint64(BLOCK_SEQS)))
    held = len(seqs) - cut
    whole = ItemColumns(
        np.append(counts[:-1], counts[-1] - held), seqs[:cut], digests[: DIGEST_BYTES * cut], first_stored_s[:cut]
    )
    rest = ItemColumns(np.array([held]), seqs[cut:], digests[DIGEST_BYTES * cut :], first_stored_s[cut:])
    return page.names, whole, rest

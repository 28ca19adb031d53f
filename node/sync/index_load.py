"""The index made anew out of everything that the store holds.

Everything is gathered in flat columns, in the order in which the store gives it; only at the end are the logs sorted by
handle and cut into leaves. So a million messages cost no more objects than a thousand do.
"""

from __future__ import annotations

from array import array
from contextlib import aclosing
from typing import Final

import numpy as np
import numpy.typing as npt

from node.store.api import ItemSource
from node.sync.index_blocks import ROW_BYTES, TAIL_BYTES, parts_of
from node.sync.index_edit import SPLIT_LOGS
from node.sync.index_leaf import Leaf, leaf_of, spread
from node.sync.index_names import Names, PackedName, pack_name
from node.sync.index_reading import BlockPage, Pace, scan_blocks, sized
from protocols.limits.data import HANDLE_BYTES
from protocols.model import LogName, handle_of

__all__ = ["load"]

_SORT_BYTES: Final = 100
"""What sorting in one log counts as: it takes about as long as copying so much."""


async def load(store: ItemSource, serial: int) -> list[Leaf]:
    """Leaves of everything in the store, each log with this serial. Raises StoreUnavailable."""
    pace = Pace()
    gathering = _Gathering()
    async with aclosing(scan_blocks(store, pace)) as pages:
        async for page in pages:
            gathering.add(page)
            await pace.spend(blocks=len(page.names))
    order = await sized(_SORT_BYTES * len(gathering), gathering.order)
    leaves: list[Leaf] = []
    for lo, hi in parts_of(len(order), SPLIT_LOGS):
        leaves.append(gathering.leaf(order[lo:hi], serial))
        await pace.spend(blocks=hi - lo)
    return leaves


class _Gathering:
    """Flat columns of all logs that have come."""

    def __init__(self) -> None:
        self._handles = bytearray()
        self._counts = array("q")
        self._rows = bytearray()
        self._tails = bytearray()
        self._names: list[PackedName] = []
        self._topics: dict[bytes, bytes] = {}
        self._last: LogName | None = None
        self._starts: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """How many logs have come."""
        return len(self._counts)

    def add(self, page: BlockPage) -> None:
        """Takes the next page."""
        counts, rows, tails = page.blocks
        at = len(self._rows)
        self._rows += rows
        self._tails += tails
        for name, count in zip(page.names, counts.tolist(), strict=True):
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

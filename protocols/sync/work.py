"""What an initiator has found and not transferred yet, in bounded portions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocols.limits import (
    BATCH_BYTES_MAX,
    BATCH_ITEMS_MAX,
    HANDLE_BYTES,
    KIB,
    SESSION_ITEMS_MAX,
    SESSION_WORK_ITEMS,
)
from protocols.model import Item, LogName
from protocols.sync.common import Context, Steps, read_blocks
from protocols.sync.compare import Comparison
from protocols.sync.effects import ReadWatermarks
from protocols.sync.messages import KEY_BYTES, TransferLog, item_bytes
from protocols.sync.reconcile import Range

__all__ = ["DifferingLog", "Portion", "Work"]

_MERGE_FRAME_BYTES: Final = 12 * KIB
_SHARED_FRAME_BYTES: Final = 24 * KIB
"""Shares of one transfer frame (60 KiB together): merges, and a fetch and an offer, which get both if alone."""

_OFFERED_BLOCKS: Final = 16
"""Blocks of our own that are read at a time for offers."""


@dataclass(slots=True)
class DifferingLog:
    """A log in which the two sides differ, while it is being worked on.

    `to_ask` are block ranges to refine (None: the whole log), `question` what is said about them next, `asked` what
    awaits an answer, `listed` the block behind each hash listed, `unmatched` our blocks that the peer does not have
    like that. `missing` counts needs that have not arrived, `failed` says that one of them will not, `closed` that
    everything is known, `offers` counts what of ours is still to be offered.
    """

    handle: bytes
    name: LogName | None
    peer_knows: bool = False
    peer_watermark: int | None = None
    to_ask: list[tuple[bytes, bytes | None] | None] = field(default_factory=list)
    question: list[Range] = field(default_factory=list)
    asked: dict[tuple[bytes, bytes | None], int] = field(default_factory=dict)
    listed: dict[bytes, int] = field(default_factory=dict)
    unmatched: set[int] = field(default_factory=set)
    told_block: int = -1
    missing: int = 0
    offers: int = 0
    failed: bool = False
    closed: bool = False


class Portion:
    """Items of several logs that go out in one message, up to its limits."""

    def __init__(self, frame_bytes: int) -> None:
        self._room = frame_bytes
        self._blob_room = BATCH_BYTES_MAX
        self.logs: dict[bytes, tuple[DifferingLog, dict[tuple[int, bytes], Item]]] = {}
        self.count = 0

    def add(
        self, log: DifferingLog, item: Item, *, name_bytes: int = 0, counts_bytes: bool = True, only_key: bool = False
    ) -> bool:
        """Whether there was room. The first one always fits."""
        known = self.logs.get(log.handle)
        size = (KEY_BYTES if only_key else item_bytes(item)) + (0 if known else HANDLE_BYTES + 32 + name_bytes)
        blob_bytes = item.size if counts_bytes else 0
        if self.count and (self.count >= BATCH_ITEMS_MAX or size > self._room or blob_bytes > self._blob_room):
            return False
        if known is None:
            known = self.logs[log.handle] = (log, {})
        known[1][item.seq, item.digest] = item
        self._room -= size
        self._blob_room -= blob_bytes
        self.count += 1
        return True

    def __iter__(self) -> Iterator[tuple[DifferingLog, list[Item]]]:
        """Logs and their items as they stand in a message: ascending."""
        for handle in sorted(self.logs):
            log, items = self.logs[handle]
            yield log, [items[key] for key in sorted(items)]


@dataclass(slots=True)
class _Offer:
    log: DifferingLog
    numbers: deque[int]


class Work:
    """Differences found: needs, offers, and merges both ways."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.needs: deque[tuple[DifferingLog, Item]] = deque()
        self.merges_mine: list[tuple[LogName, Item]] = []
        self.watermarks: list[tuple[LogName, int]] = []
        self._merges_theirs: deque[tuple[DifferingLog, Item]] = deque()
        self._offers: deque[tuple[DifferingLog, Item]] = deque()
        self._offer_blocks: deque[_Offer] = deque()
        self._offer_rows: deque[Iterator[int]] = deque()
        self._found = 0
        self._offered = 0

    @property
    def due(self) -> bool:
        """Whether so much has been found that it should be transferred before searching on."""
        return self._found >= SESSION_WORK_ITEMS

    @property
    def empty(self) -> bool:
        """Whether nothing is left to transfer or store."""
        return not (self.needs or self.merges_mine or self.watermarks or self._merges_theirs or self._offering)

    @property
    def _offering(self) -> bool:
        return bool(self._offers or self._offer_blocks or self._offer_rows)

    # --- what the search finds ---------------------------------------------------------------------------------

    def add(self, log: DifferingLog, found: Comparison) -> None:
        """Takes what a comparison found."""
        assert log.name is not None
        name = log.name
        self.needs.extend((log, item) for item in found.need)
        self._offers.extend((log, item) for item in found.have)
        self._merges_theirs.extend((log, item) for item in found.merge_theirs)
        self.merges_mine.extend((name, item) for item in found.merge_mine)
        log.missing += len(found.need)
        log.offers += len(found.have)
        self._found += len(found.need) + len(found.have) + len(found.merge_mine) + len(found.merge_theirs)

    def offer_blocks(self, log: DifferingLog, numbers: Sequence[int]) -> None:
        """The peer has nothing in these blocks of ours."""
        log.offers += 1
        self._offer_blocks.append(_Offer(log, deque(numbers)))

    def offer_rows(self, rows: Iterable[int]) -> None:
        """The peer does not have the logs in these rows of our view."""
        self._offer_rows.append(iter(rows))

    def close(self, log: DifferingLog) -> None:
        """Everything about this log is known."""
        log.closed = True
        self._settle(log)

    def arrived(self, log: DifferingLog, *, stored: bool) -> None:
        """A need has been met, or never will be."""
        log.missing -= 1
        log.failed = log.failed or not stored
        self._settle(log)

    def _settle(self, log: DifferingLog) -> None:
        """A peer's watermark counts once we hold all that it holds of the log."""
        done = log.closed and not log.missing and not log.failed
        if done and log.name and log.peer_watermark is not None and self._context.adopts_watermarks:
            self.watermarks.append((log.name, log.peer_watermark))
            log.peer_watermark = None

    # --- what is transferred next ------------------------------------------------------------------------------

    def take_needs(self) -> Portion:
        """What to fetch next."""
        portion = Portion(_SHARED_FRAME_BYTES * (1 if self._offering else 2))
        while self.needs and portion.add(*self.needs[0], only_key=True):
            self.needs.popleft()
        self._found = len(self.needs) + len(self._offers) + len(self._merges_theirs)
        return portion

    def take_merges(self) -> list[TransferLog]:
        """Earlier dates for what the peer holds."""
        portion = Portion(_MERGE_FRAME_BYTES)
        while self._merges_theirs and portion.add(*self._merges_theirs[0], counts_bytes=False):
            self._merges_theirs.popleft()
        return [TransferLog(log.handle, items) for log, items in portion]

    def take_offers(self, *, beside_fetch: bool) -> Steps[list[tuple[LogName, TransferLog]]]:
        """What to offer next, and whose it is. A log's watermark goes with the last of its items."""
        portion = Portion(_SHARED_FRAME_BYTES * (1 if beside_fetch else 2))
        while True:
            if not self._offers and not (yield from self._more_offers()):
                break
            if not self._offers:
                continue
            log, item = self._offers[0]
            name_bytes = 4 + _name_bytes(log.name) if log.name and not log.peer_knows else 0
            if not portion.add(log, item, name_bytes=name_bytes):
                break
            self._offers.popleft()
            log.offers -= 1
            self._offered += 1
            self._agree_on_present(log, item)
        if self._offered > SESSION_ITEMS_MAX:
            self._stop_offering()
        return (yield from self._offer_logs(portion))

    def _agree_on_present(self, log: DifferingLog, item: Item) -> None:
        """The peer will bring a first stored in its future down to its present, so we do it too."""
        present_s = self._context.peer.retention.stamp(self._context.peer.now_s)
        if log.name is not None and self._context.alive_from_s <= present_s < item.first_stored_s:
            self.merges_mine.append((log.name, item._replace(first_stored_s=present_s)))

    def _offer_logs(self, portion: Portion) -> Steps[list[tuple[LogName, TransferLog]]]:
        logs = [(log.name, log, items) for log, items in portion if log.name is not None]
        watermarks: Sequence[int | None] = (yield ReadWatermarks([name for name, _, _ in logs])) if logs else []
        offers: list[tuple[LogName, TransferLog]] = []
        for (name, log, items), watermark in zip(logs, watermarks, strict=True):
            final = log.closed and not log.offers
            offer = TransferLog(log.handle, items, None if log.peer_knows else name, watermark if final else None)
            log.peer_knows = True
            offers.append((name, offer))
        return offers

    def _stop_offering(self) -> None:
        if self._offering:
            self._offers.clear()
            self._offer_blocks.clear()
            self._offer_rows.clear()
            self._context.result.complete = False

    def _more_offers(self) -> Steps[bool]:
        """Reads some more of what the peer lacks; False if there is no more. It may turn out to be nothing."""
        if not self._offer_blocks and not self._next_row():
            return False
        offer = self._offer_blocks[0]
        assert offer.log.name is not None
        numbers = [offer.numbers.popleft() for _ in range(min(_OFFERED_BLOCKS, len(offer.numbers)))]
        items = yield from read_blocks(self._context, offer.log.name, numbers)
        alive = [item for item in items if item.first_stored_s >= self._context.alive_from_s]
        self._offers.extend((offer.log, item) for item in alive)
        offer.log.offers += len(alive)
        if not offer.numbers:
            offer.log.offers -= 1
            self._offer_blocks.popleft()
        return True

    def _next_row(self) -> bool:
        view = self._context.view
        while self._offer_rows:
            row = next(self._offer_rows[0], None)
            if row is None:
                self._offer_rows.popleft()
                continue
            handle = view.handles[row]
            log = DifferingLog(handle, view.name(handle), closed=True)
            if log.name is not None:
                self.offer_blocks(log, [number for number, _ in view.blocks(handle)])
                return True
        return False


def _name_bytes(name: LogName) -> int:
    return len(name.topic.encode()) + len(name.log.encode())

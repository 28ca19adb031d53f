"""The initiator: searches, transfers what it found both ways, and searches on, until nothing is left."""

from __future__ import annotations

from collections.abc import Sequence

from protocols.errors import RemoteProtocolError
from protocols.limits import SESSION_ITEMS_MAX, SESSION_TURNS_MAX
from protocols.model import Item, LogName
from protocols.sync.blobs import receive_blobs, send_blobs
from protocols.sync.codec import encode
from protocols.sync.common import Context, Steps, receive
from protocols.sync.effects import Claim, Commit, Delivery, Send, Settle
from protocols.sync.messages import Ask, Done, Tell, Transfer, TransferLog, Want
from protocols.sync.search import Search
from protocols.sync.work import DifferingLog, Portion, Work

__all__ = ["Initiator", "wanted_of"]


class Initiator:
    """What the initiator does after the hellos. `first_ask` may go out with the hello; then give `run` its answer."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._result = context.result
        self._work = Work(context)
        self._search = Search(context, self._work, only=context.config.only)
        self._rows_total = context.budget.rows_left
        self._turns = 1
        self._wants_ack = False

    def first_ask(self) -> Ask:
        """The opening question."""
        return self._search.next_ask()

    def run(self, told: Tell) -> Steps[None]:
        """Everything from the first answer to the last acknowledgement."""
        yield from self._search.take(told)
        while True:
            exhausted = self._exhausted()
            if self._work.due or self._search.finished or exhausted:
                while not self._work.empty:
                    yield from self._transfer()
            if self._search.finished or exhausted:
                break
            yield from self._ask()
        if not self._search.finished:
            self._result.complete = False
        yield Settle()
        yield Send(encode(Done(self._result.complete, self._wants_ack)))
        if self._wants_ack:
            self._result.round_trips += 1
            yield from receive(Done)

    def _exhausted(self) -> bool:
        """Whether the session should end in good order because of a limit; a following one goes on."""
        return (
            self._result.described >= SESSION_ITEMS_MAX
            or self._turns >= SESSION_TURNS_MAX // 2
            or self._context.budget.rows_left < self._rows_total // 2
            or not self._result.complete
        )

    def _ask(self) -> Steps[None]:
        yield Send(encode(self._search.next_ask()))
        self._turns += 1
        self._result.round_trips += 1
        tell = yield from receive(Tell)
        yield from self._search.take(tell)

    # --- transfer ----------------------------------------------------------------------------------------------

    def _transfer(self) -> Steps[None]:
        """One round: fetches a portion, offers a portion, and has what came stored while the next round runs."""
        fetch = yield from self._claim(self._work.take_needs())
        offers = yield from self._work.take_offers(beside_fetch=bool(fetch))
        merges = self._work.take_merges()
        deliveries: list[Delivery] = []
        if fetch or offers or merges:
            deliveries = yield from self._exchange(fetch, offers, merges)
        merges_mine, self._work.merges_mine = self._work.merges_mine, []
        watermarks, self._work.watermarks = self._work.watermarks, []
        self._result.merged += len(merges_mine)
        if deliveries or merges_mine or watermarks:
            yield Commit(deliveries, merges_mine, watermarks)

    def _claim(self, portion: Portion) -> Steps[list[tuple[DifferingLog, list[Item]]]]:
        granted: list[tuple[DifferingLog, list[Item]]] = []
        for log, items in portion:
            assert log.name is not None
            free: Sequence[bool] = yield Claim(log.name, items)
            mine = [item for item, ours in zip(items, free, strict=True) if ours]
            for _ in range(len(items) - len(mine)):
                self._work.arrived(log, stored=False)
            self._result.skipped += len(items) - len(mine)
            if mine:
                granted.append((log, mine))
        return granted

    def _exchange(
        self,
        fetch: list[tuple[DifferingLog, list[Item]]],
        offers: list[tuple[LogName, TransferLog]],
        merges: list[TransferLog],
    ) -> Steps[list[Delivery]]:
        asked = [TransferLog(log.handle, items) for log, items in fetch]
        request = Transfer([offer for _, offer in offers], merges, asked)
        yield Send(encode(request))
        self._turns += 1
        self._result.round_trips += 1
        self._wants_ack = self._wants_ack or bool(offers or merges)
        want = yield from receive(Want)
        offered = [(name, item) for name, offer in offers for item in offer.items]
        wanted = wanted_of(want, offered)
        self._take_earlier(want, offered)
        deliveries: list[Delivery] = []
        if fetch:
            deliveries = yield from self._receive(fetch)
        if wanted:
            sent, sent_bytes = yield from send_blobs(wanted)
            self._result.sent += sent
            self._result.sent_bytes += sent_bytes
        return deliveries

    def _take_earlier(self, want: Want, offered: Sequence[tuple[LogName, Item]]) -> None:
        for index, first_stored_s in want.earlier:
            if index >= len(offered) or first_stored_s >= offered[index][1].first_stored_s:
                raise RemoteProtocolError(
                    "unrequested", "a date of something that was not offered, or not an earlier one"
                )
            name, item = offered[index]
            self._work.merges_mine.append((name, item._replace(first_stored_s=self._context.clamp(first_stored_s))))

    def _receive(self, fetch: list[tuple[DifferingLog, list[Item]]]) -> Steps[list[Delivery]]:
        wanted = [(log, item) for log, items in fetch for item in items]
        blobs = yield from receive_blobs([item for _, item in wanted])
        deliveries: list[Delivery] = []
        for (log, item), blob in zip(wanted, blobs, strict=True):
            self._work.arrived(log, stored=blob is not None)
            if blob is None:
                self._result.gone += 1
                continue
            assert log.name is not None
            deliveries.append(Delivery(log.name, item.seq, blob, item.digest, item.first_stored_s))
            self._result.received_bytes += len(blob)
        self._result.received += len(deliveries)
        return deliveries


def wanted_of(want: Want, offered: Sequence[tuple[LogName, Item]]) -> list[tuple[LogName, Item]]:
    """The offered items whose bit is set. Raises RemoteProtocolError if the bitmap is not one of these items."""
    bits = int.from_bytes(want.bitmap, "little")
    if len(want.bitmap) != -(-len(offered) // 8) or bits >> len(offered):
        raise RemoteProtocolError("unrequested", "a wish for what was not offered")
    return [one for index, one in enumerate(offered) if bits >> index & 1]

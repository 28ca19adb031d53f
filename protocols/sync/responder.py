"""The responder: answers one request after the other until the initiator has done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from protocols.errors import RemoteProtocolError
from protocols.limits import BATCH_BYTES_MAX, BLOCK_SEQS, SESSION_ITEMS_MAX, SESSION_TURNS_MAX
from protocols.model import Item, LogName
from protocols.sync.answers import Answers
from protocols.sync.blobs import receive_blobs, send_blobs
from protocols.sync.codec import decode, encode
from protocols.sync.common import Context, SessionRefused, Steps, read_blocks
from protocols.sync.effects import Claim, Commit, Delivery, Receive, Send, Settle
from protocols.sync.messages import Ask, Done, Message, Refuse, Tell, Transfer, TransferLog, Want

__all__ = ["Responder"]


class Responder:
    """What the responder does after the hellos."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._result = context.result
        self._answers = Answers(context)
        self._offered_names: dict[bytes, LogName] = {}
        self._incomplete: set[LogName] = set()  # logs of which something offered was not stored: no watermark then
        self._result.full = False

    def answer(self, ask: Ask) -> Steps[Tell]:
        """The next frame of the answer to a question."""
        self._result.full = self._result.full or bool(ask.ranges)
        self._answers.accept(ask)
        tell = yield from self._answers.tell()
        if self._result.described > 2 * SESSION_ITEMS_MAX:
            raise RemoteProtocolError("limit", "more questions than an honest session has")
        return tell

    def run(self) -> Steps[None]:
        """Serves requests until Done, or until the stream ends between two requests."""
        for _ in range(SESSION_TURNS_MAX):
            frame = yield Receive()
            if frame is None:
                self._result.complete = False
                return
            message: Message = decode(frame)
            self._result.round_trips += 1
            match message:
                case Ask():
                    tell = yield from self.answer(message)
                    yield Send(encode(tell))
                case Transfer():
                    yield from self._transfer(message)
                case Done():
                    yield from self._done(message)
                    return
                case Refuse():
                    raise SessionRefused(message.code, message.text, by_peer=True)
                case _:
                    raise RemoteProtocolError("state", f"{type(message).__name__} at the wrong moment")
        raise RemoteProtocolError("limit", f"more than {SESSION_TURNS_MAX} requests in one session")

    def _done(self, done: Done) -> Steps[None]:
        self._result.complete = done.complete
        yield Settle()  # the acknowledgement speaks for everything that we were given
        if done.ack:
            yield Send(encode(Done(self._result.complete)))

    # --- transfer ----------------------------------------------------------------------------------------------

    def _transfer(self, request: Transfer) -> Steps[None]:
        """Says what is wanted of an offer, sends what is asked for, and takes what was wanted."""
        _check_bytes([item for log in request.offers for item in log.items])
        merges = [
            (name, item._replace(first_stored_s=self._context.clamp(item.first_stored_s)))
            for log in request.merges
            for name in (self._name(log),)
            for item in log.items
        ]
        wanted: list[tuple[LogName, Item]] = []
        bitmap = 0
        index = 0
        earlier: list[tuple[int, int]] = []
        for log in request.offers:
            name = self._name(log)
            own = yield from self._held(name, log.items)
            chosen = yield from self._choose(name, log.items, own, merges)
            for item in log.items:
                key = (item.seq, item.digest)
                if key in chosen:
                    bitmap |= 1 << index
                    wanted.append((name, chosen[key]))
                elif key in own and own[key].first_stored_s < self._context.clamp(item.first_stored_s):
                    earlier.append((index, own[key].first_stored_s))
                index += 1
        if merges:
            self._result.merged += len(merges)
            yield Commit((), merges)
        serving = yield from self._serving(request.fetch)
        yield Send(encode(Want(bitmap.to_bytes(-(-index // 8), "little"), earlier)))
        if request.fetch:
            sent, sent_bytes = yield from send_blobs(serving)
            self._result.sent += sent
            self._result.sent_bytes += sent_bytes
        yield from self._take(request.offers, wanted)

    def _name(self, log: TransferLog) -> LogName:
        name = log.name or self._context.view.name(log.handle) or self._offered_names.get(log.handle)
        if name is None:
            raise RemoteProtocolError("name", "a transfer of a log that has no name")
        if log.name is not None:
            self._offered_names[log.handle] = log.name
        return name

    def _choose(
        self,
        name: LogName,
        offered: Sequence[Item],
        own: Mapping[tuple[int, bytes], Item],
        merges: list[tuple[LogName, Item]],
    ) -> Steps[dict[tuple[int, bytes], Item]]:
        """What we want of an offer, with first stored as we keep it; what we hold goes to `merges` if it is earlier
        there. What our own rule lets die is dropped silently."""
        candidates: list[Item] = []
        for item in offered:
            kept = item._replace(first_stored_s=self._context.clamp(item.first_stored_s))
            known = own.get((item.seq, item.digest))
            if known is None:
                if not self._context.expired(kept.first_stored_s):
                    candidates.append(kept)
            elif kept.first_stored_s < known.first_stored_s:
                merges.append((name, kept))
        if not candidates:
            return {}
        granted: Sequence[bool] = yield Claim(name, candidates)
        chosen = {(item.seq, item.digest): item for item, ours in zip(candidates, granted, strict=True) if ours}
        if len(chosen) < len(candidates):
            self._result.skipped += len(candidates) - len(chosen)
            self._incomplete.add(name)
        return chosen

    def _held(self, name: LogName, items: Sequence[Item]) -> Steps[dict[tuple[int, bytes], Item]]:
        """What we hold in the blocks of `items`, by (seq, digest)."""
        numbers = [number for number, _ in groupby(items, lambda item: item.seq // BLOCK_SEQS)]
        held = yield from read_blocks(self._context, name, numbers)
        return {(item.seq, item.digest): item for item in held}

    def _serving(self, fetch: Sequence[TransferLog]) -> Steps[list[tuple[LogName, Item]]]:
        """What is asked for, with its true size; a size of -1 marks what is no longer there.

        Raises RemoteProtocolError if it is more than one batch, or a log that we never told of.
        """
        serving: list[tuple[LogName, Item]] = []
        for log in fetch:
            name = self._context.view.name(log.handle)
            if name is None:
                raise RemoteProtocolError("unrequested", "a fetch from a log that was not told")
            held = yield from self._held(name, log.items)
            for item in log.items:
                known = held.get((item.seq, item.digest))
                alive = known is not None and known.first_stored_s >= self._context.alive_from_s
                serving.append((name, known if known is not None and alive else item._replace(size=-1)))
        _check_bytes([item for _, item in serving if item.size >= 0])
        return serving

    def _take(self, offers: Sequence[TransferLog], wanted: list[tuple[LogName, Item]]) -> Steps[None]:
        deliveries: list[Delivery] = []
        if wanted:
            blobs = yield from receive_blobs([item for _, item in wanted])
            for (name, item), blob in zip(wanted, blobs, strict=True):
                if blob is None:
                    self._result.gone += 1
                    self._incomplete.add(name)
                else:
                    deliveries.append(Delivery(name, item.seq, blob, item.digest, item.first_stored_s))
                    self._result.received_bytes += len(blob)
            self._result.received += len(deliveries)
        watermarks: list[tuple[LogName, int]] = []
        for log in offers:
            name = self._name(log)
            if log.watermark is not None and name not in self._incomplete and self._context.adopts_watermarks:
                watermarks.append((name, log.watermark))
        if deliveries or watermarks:
            yield Commit(deliveries, (), watermarks)


def _check_bytes(items: Sequence[Item]) -> None:
    if len(items) > 1 and sum(item.size for item in items) > BATCH_BYTES_MAX:
        raise RemoteProtocolError("limit", f"several messages of more than {BATCH_BYTES_MAX} bytes in one transfer")

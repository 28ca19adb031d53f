"""What a mailbox takes that was told to take only what is signed (`run --require-signed`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import trio

from node.aside import aside
from node.store.api import Arrival
from protocols.limits.store import JUDGE_SLICE_MESSAGES, UNSIGNED_PAUSE_S, UNSIGNED_REMEMBERED_MAX
from protocols.model import LogName
from protocols.operations import NotGenuine, check_operation, is_genuine, may_be_genuine
from protocols.sync.effects import Span

__all__ = ["SignedOnly"]


class SignedOnly:
    """Tells genuine messages from others, beside the mailbox's other work. What other mailboxes sent in vain is not
    asked for again at once, so that it does not travel in every sync."""

    def __init__(self) -> None:
        self.refused = 0
        self._until_at: OrderedDict[tuple[LogName, int], float] = OrderedDict()

    async def check(self, messages: Sequence[tuple[LogName, int, bytes]]) -> None:
        """Raises NotGenuine, with the place of the first message that is not."""
        for start in range(0, len(messages), JUDGE_SLICE_MESSAGES):
            try:
                await aside(_check, messages[start : start + JUDGE_SLICE_MESSAGES])
            except NotGenuine:
                self.refused += 1
                raise

    async def genuine(self, arrivals: Sequence[Arrival], *, asked: bool = True) -> list[Arrival]:
        """Those that are. What nobody `asked` for is not remembered: that would keep the true ones out."""
        taken: list[Arrival] = []
        for start in range(0, len(arrivals), JUDGE_SLICE_MESSAGES):
            some = arrivals[start : start + JUDGE_SLICE_MESSAGES]
            for arrival, verdict in zip(some, await aside(_verdicts, some), strict=True):
                self.refused += not verdict
                if verdict:
                    taken.append(arrival)
                elif asked:
                    self._remember(arrival.name, arrival.seq)
        return taken

    def worth_asking(self, spans: Sequence[Span]) -> list[Span]:
        """Those in which there may be something for us."""
        return [span for span in spans if may_be_genuine(span.name) and not self._was_refused(span)]

    def _remember(self, name: LogName, seq: int) -> None:
        self._until_at.pop((name, seq), None)
        self._until_at[name, seq] = trio.current_time() + UNSIGNED_PAUSE_S
        if len(self._until_at) > UNSIGNED_REMEMBERED_MAX:
            self._until_at.popitem(last=False)

    def _was_refused(self, span: Span) -> bool:
        now_at = trio.current_time()
        return span.last - span.first < JUDGE_SLICE_MESSAGES and all(
            self._until_at.get((span.name, seq), 0.0) > now_at for seq in range(span.first, span.last + 1)
        )


def _check(messages: Sequence[tuple[LogName, int, bytes]]) -> None:
    for name, seq, blob in messages:
        try:
            check_operation(name, seq, blob)
        except NotGenuine as error:
            raise NotGenuine(
                f"This mailbox takes signed messages only, and that with seq {seq} is not: {error}."
            ) from None


def _verdicts(arrivals: Sequence[Arrival]) -> list[bool]:
    return [is_genuine(arrival.name, arrival.seq, arrival.blob) for arrival in arrivals]

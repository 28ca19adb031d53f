"""Server-sent events: the latest of several values, to a bounded number of listeners.

There is no queue. Each listener knows which version of each value it has seen; one that reads slowly skips what came in
between, and one that does not read at all is dropped by the server's own limit on sending. A heartbeat finds out those
who have gone.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from node.http.messages import HttpError
from protocols.limits.shedding import LIVE_HEARTBEAT_S, LIVE_LISTENERS_MAX

__all__ = ["Listener", "Live"]

_HEARTBEAT = b": still here\n\n"


class Live:
    """The values, by name. From the trio thread only."""

    def __init__(self, *, listeners_max: int = LIVE_LISTENERS_MAX, heartbeat_s: float = LIVE_HEARTBEAT_S) -> None:
        self.heartbeat_s = heartbeat_s
        self.listeners = 0
        self.is_closed = False
        self.changed = trio.Event()
        self.arrived = trio.Event()
        """Set when somebody begins to listen."""
        self.values: dict[str, tuple[int, bytes]] = {}
        """Of each name the version and the event as it is sent."""
        self._listeners_max = listeners_max

    def put(self, name: str, value: object) -> None:
        """Makes `value`, of plain JSON values, the latest; listeners are told if it differs from the one before."""
        event = b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(value))
        version, before = self.values.get(name, (0, b""))
        if event != before:
            self.values[name] = version + 1, event
            self.wake()

    def wake(self) -> None:
        """Has all listeners look whether there is something for them."""
        self.changed.set()
        self.changed = trio.Event()

    def listen(self, *, while_true: Callable[[], bool] = lambda: True) -> Listener:
        """An answer's body that ends when `while_true` is no longer so. Raises HttpError if there are too many."""
        if self.listeners >= self._listeners_max or self.is_closed:
            raise HttpError.busy(503, "Too many pages watch this mailbox; close some.", retry_after_s=10)
        return Listener(self, while_true)

    def open(self) -> None:
        """Lets listeners in, after `close`, too."""
        self.is_closed = False

    def close(self) -> None:
        """Ends all streams, so that they don't hold up the end of the server."""
        self.is_closed = True
        self.wake()


class Listener:
    """One stream of events."""

    def __init__(self, live: Live, while_true: Callable[[], bool]) -> None:
        self._live = live
        self._while_true = while_true
        self._seen: dict[str, int] = {}
        self._is_open = True
        live.listeners += 1
        live.arrived.set()
        live.arrived = trio.Event()

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> bytes:
        live = self._live
        while True:
            await trio.lowlevel.checkpoint()
            if live.is_closed or not self._while_true():
                raise StopAsyncIteration
            due = {n: version for n, (version, _) in live.values.items() if version > self._seen.get(n, 0)}
            if due:
                self._seen |= due
                return b"".join(live.values[name][1] for name in due)
            with trio.move_on_after(live.heartbeat_s) as scope:
                await live.changed.wait()
            if scope.cancelled_caught:
                return _HEARTBEAT

    async def aclose(self) -> None:
        """Makes room for another one."""
        if self._is_open:
            self._is_open = False
            self._live.listeners -= 1

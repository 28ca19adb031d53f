"""The client for programs without trio: the same client in a thread of its own, called from any other."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import trio

from node.client.client import Client, MailboxState, open_client
from node.client.deliveries import Message
from protocols.client.address import Mailbox
from protocols.model import LogName

__all__ = ["BlockingClient"]

_T = TypeVar("_T")


class BlockingClient:
    """A context manager; takes the arguments of `open_client`. Its methods may be called from any thread, and raise
    what the client's do."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        self._data_dir = data_dir
        self._options = options
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mailboxd-client", daemon=True)
        self._failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._client: Client | None = None
        self._stop = trio.Event()
        self._is_broken_off = False

    def __enter__(self) -> BlockingClient:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_broken_off = error is not None
        if self._thread.is_alive() and self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._stop.set)
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    @property
    def own_log(self) -> str:
        """The id of the log in which this client writes."""
        assert self._client is not None
        return self._client.own_log

    def publish(self, topic: str, content: bytes | Callable[[LogName, int], bytes]) -> int:
        """See `Client.publish`."""
        return self._call(lambda client: client.publish(topic, content))

    def next_message(self, timeout_s: float | None = None) -> Message | None:
        """The next message of others, or None if none came within `timeout_s` (without it: waits for ever). Asking for
        the next one says that the one before was taken."""

        async def wait(client: Client) -> Message | None:
            with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
                return await anext(client.messages())
            return None

        return self._call(wait)

    def messages(self, timeout_s: float | None = None) -> Iterator[Message]:
        """Messages until none has come for `timeout_s`."""
        while (message := self.next_message(timeout_s)) is not None:
            yield message

    def trigger(self) -> None:
        """See `Client.trigger`."""
        self._call(_plain(Client.trigger))

    def flushed(self, mailboxes: int = 1, *, timeout_s: float) -> bool:
        """Waits until at least so many mailboxes hold all that was written; False if that took too long."""

        async def wait(client: Client) -> bool:
            with trio.move_on_after(timeout_s):
                await client.flushed(mailboxes)
                return True
            return False

        return self._call(wait)

    def mailboxes(self) -> list[MailboxState]:
        """See `Client.mailboxes`."""
        return self._call(_plain(Client.mailboxes))

    def add(self, address: Mailbox) -> None:
        """See `Client.add`."""
        self._call(_plain(lambda client: client.add(address)))

    def remove(self, url: str) -> None:
        """See `Client.remove`."""
        self._call(_plain(lambda client: client.remove(url)))

    def _call(self, act: Callable[[Client], Awaitable[_T]]) -> _T:
        if self._client is None or self._token is None:
            raise RuntimeError("the client is not open; use it in a `with` block")
        try:
            return trio.from_thread.run(act, self._client, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            raise self._failure or RuntimeError("the client was closed") from None

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except _BrokenOff:
            pass
        except BaseException as error:  # it is raised in the thread that uses the client
            self._failure = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        async with open_client(self._data_dir, **self._options) as client:
            self._token, self._client = trio.lowlevel.current_trio_token(), client
            self._started.set()
            await self._stop.wait()
            if self._is_broken_off:
                raise _BrokenOff


class _BrokenOff(Exception):
    """The `with` block ended in an error: what it was working on does not count as taken."""


def _plain(act: Callable[[Client], _T]) -> Callable[[Client], Awaitable[_T]]:
    async def call(client: Client) -> _T:
        return act(client)

    return call

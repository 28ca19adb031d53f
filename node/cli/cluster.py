"""Real mailboxes as child processes of this one, and links between them that can be cut: for the demonstration, and
for tests that kill, cut and measure.

A link is a small TCP relay that stands between one mailbox and the address of another. Cutting it breaks its
connections and refuses new ones, as a pulled cable does in the end, while both mailboxes and their HTTP go on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trio

from node.datadir import DataDir, DataDirError, NodeInfo, read_node_info
from node.identity import Identity

__all__ = ["ClusterError", "Link", "MailboxProcess"]

_LOOK_INTERVAL_S: Final = 0.05
_STOP_PATIENCE_S: Final = 10.0
_RELAY_BYTES: Final = 64 * 1024


class ClusterError(Exception):
    """A mailbox did not do what was asked; the message is fit for a user."""


class Link:
    """A relay on a port of this machine to a mailbox's p2p port. Not connected until `target` is set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.target: tuple[str, int] | None = None
        self.carried_bytes = 0
        self.port = 0
        self._is_cut = False
        self._connections: set[trio.CancelScope] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Relays until cancelled; `started` once `port` is known."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._relay, listeners)

    def cut(self) -> None:
        """Breaks all connections; new ones are closed at once until `heal`."""
        self._is_cut = True
        for scope in self._connections:
            scope.cancel()

    def heal(self) -> None:
        """Lets new connections through again."""
        self._is_cut = False

    async def _relay(self, near: trio.SocketStream) -> None:
        if self._is_cut or self.target is None:
            return
        with trio.CancelScope() as scope, suppress(OSError, trio.BrokenResourceError):
            self._connections.add(scope)
            try:
                async with await trio.open_tcp_stream(*self.target) as far, trio.open_nursery() as nursery:
                    for stream in (near, far):
                        stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
                    nursery.start_soon(self._pump, near, far)
                    nursery.start_soon(self._pump, far, near)
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # either side went away: so does the other
            finally:
                self._connections.discard(scope)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        while data := await source.receive_some(_RELAY_BYTES):
            self.carried_bytes += len(data)
            await sink.send_all(data)
        await sink.send_eof()


class MailboxProcess:
    """A `mailboxd run` of its own. `identity` is known before it starts, so that others can be told of it."""

    def __init__(self, name: str, data_dir: Path, *, log_path: Path | None = None) -> None:
        """Makes the data directory and the identity if they are missing; `log_path` (default: `log` in the data
        directory) is where its log goes. Raises DataDirError or IdentityError."""
        self.name = name
        self.data_dir = data_dir
        self.log_path = log_path or data_dir / "log"
        with DataDir.open(data_dir) as opened:
            self.identity = Identity.load_or_create(opened.identity_path)
        self._process: subprocess.Popen[bytes] | None = None
        self._info: NodeInfo | None = None

    def address_through(self, link: Link) -> str:
        """This mailbox's address for a neighbour at the other end of `link`."""
        return f"/ip4/127.0.0.1/tcp/{link.port}/p2p/{self.identity.peer_id}"

    def start(self, *options: str, prefix: Sequence[str] = (), program: Sequence[str] = ("-m", "node.cli")) -> None:
        """Starts it with further options of `mailboxd run`. `prefix` is a command that runs it in its own place (as
        `setpriv` does), `program` what Python runs."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILBOXD_")}
        command = [sys.executable, *program, "run", "--data-dir", str(self.data_dir), "--name", self.name]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*prefix, *command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the parent, which then stops its children
            )
        self._info = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Raises ClusterError if it was not started."""
        if self._process is None:
            raise ClusterError(f"mailbox {self.name} is not running")
        return self._process.pid

    @property
    def info(self) -> NodeInfo:
        """Where it listens. Raises ClusterError before `wait_ready`."""
        if self._info is None:
            raise ClusterError(f"mailbox {self.name} is not ready")
        return self._info

    async def wait_ready(self, *, timeout_s: float = 30.0) -> NodeInfo:
        """Waits until it can be used. Raises ClusterError, with its last words, if it ends or takes longer."""
        with trio.move_on_after(timeout_s):
            while self._process is not None and self._process.poll() is None:
                with suppress(DataDirError):
                    info = read_node_info(self.data_dir)
                    if info.pid == self.pid:
                        self._info = info
                        return info
                await trio.sleep(_LOOK_INTERVAL_S)
            raise ClusterError(f"mailbox {self.name} ended at its start: {self.last_words()}")
        raise ClusterError(f"mailbox {self.name} was not ready after {timeout_s:g} s: {self.last_words()}")

    async def status(self) -> dict[str, Any]:
        """What `mailboxd status --json` prints. Raises ClusterError."""
        from node.http.client import AdminClient, ClientError  # noqa: PLC0415

        def ask() -> dict[str, Any]:
            with AdminClient.open(self.data_dir) as client:
                return client.status()

        try:
            return await trio.to_thread.run_sync(ask)
        except (ClientError, DataDirError) as error:
            raise ClusterError(f"mailbox {self.name}: {error}") from error

    def last_words(self) -> str:
        """The last line of its log."""
        with suppress(OSError):
            lines = self.log_path.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else "it said nothing"
        return "it said nothing"

    def kill(self) -> None:
        """SIGKILL, as a power cut would; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def stop(self) -> int | None:
        """SIGTERM, and SIGKILL if that takes too long. Returns the exit code, None if it was not running."""
        process, self._process = self._process, None
        if process is None:
            return None
        with trio.CancelScope(shield=True), suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
            try:
                await trio.to_thread.run_sync(process.wait, _STOP_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

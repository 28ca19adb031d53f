"""Real mailboxes: `mailboxd run` on a machine of its own, with a disk that can fill up and a date that can be wrong."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from node.cli.cluster import ClusterError, MailboxProcess
from node.datadir import DataDirError
from node.identity import IdentityError
from node.workload import WorkloadError
from protocols.errors import RemoteProtocolError
from protocols.limits.simulation import REAL_ANSWER_TIMEOUT_S, REAL_START_TIMEOUT_S
from protocols.toy_answers import TopicAnswer, decode_get_answer
from protocols.toy_api import Family, encode_get
from simulations.real.clocks import set_error
from simulations.real.disks import BALLAST, Disk
from simulations.real.network import Machine
from simulations.scenario import Mailboxes

__all__ = ["MailboxError", "RealMailbox"]

HTTP_PORT: Final = 3411
P2P_PORT: Final = 4001
_IDENTITY_FILE: Final = "identity.key"


class MailboxError(Exception):
    """A mailbox did not do what was asked; the message is fit for a user."""


class RealMailbox:
    """One mailbox: its machine, its process and what it was told. `is_up` from ready to told or seen to be gone."""

    def __init__(self, machine: Machine, group: Mailboxes, folder: Path, *, disk: Disk | None) -> None:
        """`folder` holds its data and its log. Raises MailboxError."""
        self.machine = machine
        self.group = group
        self.name = machine.name
        self.disk = disk
        self.is_up = False
        self.is_asleep = False
        self.crashes = 0
        self.starts = 0
        self.clock_error_s = group.clock_offset_s
        self.drift_ppm = group.clock_drift_ppm
        self.options: Sequence[str] = ()
        self._folder = folder
        self._clock_file = folder / f"{self.name}.clock"
        self._turn = trio.Lock()
        self._wanted = False
        try:
            self.process = MailboxProcess(self.name, folder / self.name, log_path=folder / f"{self.name}.log")
        except (DataDirError, IdentityError) as error:
            raise MailboxError(f"mailbox {self.name}: {error}") from error

    @property
    def address(self) -> str:
        """Its libp2p address as things stand."""
        return f"/ip4/{self.machine.address}/tcp/{P2P_PORT}/p2p/{self.process.identity.peer_id}"

    async def start(self, *, needs_clock: bool = False) -> None:
        """Starts it and waits until it can be used; nothing to do if it runs. Raises MailboxError."""
        self._wanted = True
        async with self._turn:
            if self.is_up or not self._wanted:
                return
            self.starts += 1
            program = ["-m", "node.cli"]
            if needs_clock:
                self.set_clock(self.clock_error_s)
                program = ["-m", "simulations.real.clocks", str(self._clock_file)]
            with self.machine.namespace.entered():
                self.process.start(*self.options, prefix=_die_with_us(), program=program)
            try:
                await self.process.wait_ready(timeout_s=REAL_START_TIMEOUT_S)
            except ClusterError as error:
                if self._wanted:
                    raise MailboxError(str(error)) from error
            else:
                self.is_up = True

    def crash(self) -> None:
        """kill -9."""
        self._wanted = self.is_up = False
        self.process.kill()
        self.crashes += 1

    async def stop(self) -> int | None:
        """An orderly end; returns its exit code, None if it did not run."""
        self._wanted = False
        async with self._turn:
            if not self.is_up:
                self.process.kill()
                return None
            self.is_up = False
            return await self.process.stop()

    def kill(self) -> None:
        """At the end of the play."""
        self._wanted = self.is_up = False
        self.process.kill()

    def wipe(self) -> None:
        """kill -9, and nothing but its identity is left."""
        self.crash()
        for path in self.process.data_dir.iterdir():
            if path.name in (_IDENTITY_FILE, BALLAST):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def pause(self) -> None:
        """The machine falls asleep in the middle of whatever it does."""
        self.is_asleep = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """And goes on there."""
        self.is_asleep = False
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ClusterError, ProcessLookupError):
            os.kill(self.process.pid, number)

    def why_gone(self) -> str | None:
        """Its last words if it ended without having been told; it counts as down then."""
        if not self.is_up or self.process.is_running:
            return None
        self.is_up = False
        return self.process.last_words()

    def set_clock(self, error_s: float) -> None:
        """From now on its date is wrong by so much, if it was started with a clock of its own."""
        self.clock_error_s = error_s
        set_error(self._clock_file, error_s)

    # --- questions -------------------------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any] | None:
        """What `mailboxd status --json` prints, None if it does not answer in time."""
        try:
            token = (self.process.data_dir / "admin-token").read_text().strip()
            port = int(self.process.info.admin.rsplit(":", 1)[1])
        except (OSError, ClusterError, ValueError):
            return None
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self._ask(port, "GET", "/admin/status", headers=headers)
        return None if answer is None else msgspec.json.decode(answer, type=dict[str, Any])

    async def holds(self, topics: dict[str, dict[str, int]]) -> dict[str, TopicAnswer] | None:
        """What it serves of these topics above these heights, None if it does not answer in time."""
        answer = await self._ask(HTTP_PORT, "POST", "/blips/get", encode_get(topics))
        if answer is None:
            return None
        try:
            return dict(decode_get_answer(answer, Family.BLIPS))
        except RemoteProtocolError as error:
            raise MailboxError(f"mailbox {self.name} answers {error}") from error

    async def _ask(
        self, port: int, method: str, path: str, body: bytes = b"", *, headers: dict[str, str] | None = None
    ) -> bytes | None:
        if not self.is_up or self.is_asleep:
            return None
        with trio.move_on_after(REAL_ANSWER_TIMEOUT_S):
            try:
                session = await self.machine.open("127.0.0.1", port)
                try:
                    status, answer = await session.request(method, path, body, headers=headers)
                finally:
                    with trio.CancelScope(shield=True):
                        await session.aclose()
            except (OSError, WorkloadError):
                return None
            return answer if status == 200 else None
        return None


def _die_with_us() -> list[str]:
    """A command that has the kernel kill what it runs when we are gone."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []

"""Whole mailboxes as child processes, for tests through the front door."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from node.http.client import AdminClient

__all__ = ["MailboxProcess", "eventually"]


def eventually(condition: Callable[[], Any], *, timeout_s: float = 60.0, what: str = "it") -> Any:
    """Waits until `condition` is true and returns its value; fails after a generous time that no test measures."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(0.02)
    return value


class MailboxProcess:
    """`mailboxd run` on a data directory. `args` are further options; `prefix` e.g. `ip netns exec NAME`."""

    def __init__(self, data_dir: Path, *args: str, prefix: Sequence[str] = (), http: str = "127.0.0.1:0") -> None:
        self.data_dir = data_dir
        self.log_path = data_dir.parent / f"{data_dir.name}.log"
        self._prefix = list(prefix)
        self._command = [
            sys.executable,
            "-m",
            "node.cli",
            "run",
            "--data-dir",
            str(data_dir),
            "--http",
            http,
            *args,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True, env: Mapping[str, str] | None = None) -> MailboxProcess:
        if (self.data_dir / "node.json").exists():
            (self.data_dir / "node.json").unlink()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, *self._command], stdout=log, stderr=log, env=clean_environment(env)
            )
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.__exit__()  # whoever starts it has nothing yet to stop it by
                raise
        return self

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self._process and self._process.poll() is None, f"it ended at once:\n{self.log()}"
            return (self.data_dir / "node.json").exists()

        eventually(ready, timeout_s=180, what="the start")

    @property
    def info(self) -> dict[str, Any]:
        """What stands in node.json."""
        info: dict[str, Any] = json.loads((self.data_dir / "node.json").read_text())
        return info

    @property
    def pid(self) -> int:
        """Of the mailbox itself, not of what started it."""
        return int(self.info["pid"])

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def address(self) -> str:
        """The p2p address to give to others as --peer."""
        return str(self.info["p2p"][0])

    def status(self) -> dict[str, Any]:
        """What `mailboxd status --json` prints; asked for without that command, which takes half a second to start."""
        if self._prefix:  # another network namespace
            return dict(json.loads(self.command("status", "--json").stdout))
        with AdminClient.open(self.data_dir) as client:
            return client.status()

    def command(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A `mailboxd` command on this data directory, where the mailbox runs."""
        done = subprocess.run(
            [*self._prefix, sys.executable, "-m", "node.cli", *args, "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env=clean_environment(),
        )
        assert not check or done.returncode == 0, f"mailboxd {' '.join(args)}: {done.stdout}{done.stderr}"
        return done

    def request(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """One request to the phones' API; `body` goes as JSON."""
        host, port = self.info["http"][0].removeprefix("http://").rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=60)
        try:
            headers = {} if body is None else {"content-type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def store(self, topic: str, log: str, messages: Mapping[int, bytes]) -> int:
        """Stores messages as a phone does; returns the HTTP status."""
        blobs = {str(seq): base64.b64encode(blob).decode() for seq, blob in messages.items()}
        return self.request("POST", "/blobs/store", {"blobs": {topic: {log: blobs}}})[0]

    def read(self, topic: str) -> dict[tuple[str, int], bytes]:
        """(log, seq) -> blob of a whole topic, as a phone gets it."""
        status, body = self.request("POST", "/blobs/get", {"topics": {topic: {}}})
        assert status == 200, body
        logs = json.loads(body)["blobs_by_topic"][topic]["blobs"]
        return {(log, int(seq)): base64.b64decode(blob) for log, seqs in logs.items() for seq, blob in seqs.items()}

    def peer(self, other: str) -> dict[str, Any] | None:
        """What the status says about the mailbox with this id."""
        return next((peer for peer in self.status()["peers"] if peer["mailbox_id"] == other), None)

    def in_sync_with(self, *others: MailboxProcess) -> bool:
        """Whether all of them hold the same as this one."""
        return {self.status()["fingerprint"]} == {other.status()["fingerprint"] for other in others}

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the mailbox itself."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, of the mailbox itself."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """SIGTERM and wait; returns the exit code."""
        assert self._process
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        assert self._process
        return self._process.wait(timeout=30)

    def __enter__(self) -> MailboxProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without the user's own mailboxd settings, and with `extra`."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("MAILBOXD_")}
    return own | dict(extra or {})

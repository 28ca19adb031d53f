"""Child processes of tests that print JSON lines, and waiting for what they say."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from tests.netns import Host
from tests.node.discovery.agent import mailbox_of

QUICK = {
    "probe_interval_s": 0.5,
    "probe_retry_s": 0.3,
    "probe_retry_max_s": 1.0,
    "lost_after_s": 2.0,
    "goodbye_recheck_s": 3.0,
}
PATIENCE_S = 30  # far above what anything here takes, for slow machines


class Talker:
    """A running process and what it has said."""

    def __init__(self, host: Host, module: str, *words: str) -> None:
        self.process = host.popen([sys.executable, "-m", module, *words], stdout=subprocess.PIPE, text=True)
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.expect("started")

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def expect(self, key: str, value: Any = None, **also: Any) -> dict[str, Any]:
        """Waits for the next line with `key` (of this value, with these others too); skips what comes before."""
        skipped = []
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {key}={value} {also}; said {skipped}") from None
            if key in line and value in (None, line[key]) and also.items() <= line.items():
                return line
            skipped.append(line)

    def said(self) -> list[dict[str, Any]]:
        """What it has said since, without waiting."""
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
        return lines

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> dict[str, Any]:
        """Ends an agent in good order; returns its statistics."""
        self.process.send_signal(signal.SIGTERM)
        statistics = self.expect("statistics")["statistics"]
        assert self.process.wait(PATIENCE_S) == 0
        return dict(statistics)


class Agent(Talker):
    """A process with MdnsDiscovery and a listener."""

    def __init__(self, host: Host, seed: str, **timing: float) -> None:
        self.id = str(mailbox_of(seed))
        super().__init__(host, "tests.node.discovery.agent", seed, json.dumps({**QUICK, **timing}))


class Other(Talker):
    """A process that stands for another implementation."""

    def __init__(self, host: Host, *words: str) -> None:
        super().__init__(host, "tests.node.discovery.others", *words)


def meet(a: Agent, b: Agent) -> None:
    a.expect("found", b.id)
    b.expect("found", a.id)

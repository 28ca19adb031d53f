"""mDNS discovery between real network namespaces, with the real sockets."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from typing import Any

import pytest

from tests.netns import Host, Lan
from tests.node.discovery.agent import mailbox_of

QUICK = {
    "probe_interval_s": 0.5,
    "probe_retry_s": 0.3,
    "probe_retry_max_s": 1.0,
    "lost_after_s": 2.0,
    "goodbye_recheck_s": 3.0,
}
PATIENCE_S = 30  # far above what anything here takes, for slow machines


class Agent:
    """A running agent and what it has said."""

    def __init__(self, host: Host, seed: str, **timing: float) -> None:
        self.id = str(mailbox_of(seed))
        words = [sys.executable, "-m", "tests.node.discovery.agent", seed, json.dumps({**QUICK, **timing})]
        self.process = host.popen(words, stdout=subprocess.PIPE, text=True)
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.expect("started")

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def expect(self, key: str, value: Any = None, **also: Any) -> dict[str, Any]:
        """Waits for the next line with `key` (of this value, with these others too); skips what comes before."""
        skipped = []
        while True:
            try:
                line = self.lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                raise AssertionError(f"no {key}={value} {also}; said {skipped}") from None
            if key in line and value in (None, line[key]) and also.items() <= line.items():
                return line
            skipped.append(line)

    def silent(self) -> bool:
        return self.lines.empty()


def meet(a: Agent, b: Agent) -> None:
    a.expect("found", b.id)
    b.expect("found", a.id)


def test_two_mailboxes_find_each_other(lan: Lan) -> None:
    ha, hb = lan.add_host(), lan.add_host()
    a, b = Agent(ha, "a"), Agent(hb, "b")
    found = a.expect("found", b.id)
    assert found["hosts"] == [hb.address]
    assert (found["http_port"], found["p2p_port"], found["version"], found["network"]) == (3411, 4001, 1, "main")
    b.expect("found", a.id)

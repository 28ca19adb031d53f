"""Starts `tests.node.transport.mailbox` as a process."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from protocols.addresses import PeerAddress


@asynccontextmanager
async def other_process(host: str = "127.0.0.1") -> AsyncIterator[tuple[trio.Process, PeerAddress]]:
    """A mailbox's transport in another process, and its address. It is killed at the end."""
    async with trio.open_nursery() as nursery:
        command = [sys.executable, "-m", "tests.node.transport.mailbox", host]
        run = functools.partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
        process: trio.Process = await nursery.start(run)
        line = bytearray()
        with trio.fail_after(30):
            while not line.endswith(b"\n"):
                assert process.stdout is not None
                chunk = await process.stdout.receive_some(1)
                if not chunk:
                    raise RuntimeError("the other process ended at its start")
                line += chunk
        try:
            yield process, PeerAddress.parse(line.decode().strip())
        finally:
            process.kill()

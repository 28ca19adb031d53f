"""How fast one libp2p stream carries bytes from this process to another: the ceiling of every transfer.

`python -m node.bench.stream` is the other process: it prints its address, counts what comes, and ends with its stdin.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from node.bench.rates import BenchError
from node.config import ListenAddress
from node.transport.api import Stream, TransportError
from node.transport.libp2p import Libp2pTransport
from protocols.addresses import PeerAddress
from protocols.limits.sync import FRAME_BYTES_MAX

__all__ = ["stream_bytes_per_s"]

_PROTOCOL: Final = "/mailboxd/bench-sink/1"
_START_PATIENCE_S: Final = 30.0


def _transport() -> Libp2pTransport:
    return Libp2pTransport(signing_key_seed=os.urandom(32), listen=ListenAddress("127.0.0.1", 0), network="bench")


async def stream_bytes_per_s(seconds: float, *, write_bytes: int = FRAME_BYTES_MAX) -> float:
    """Writes for so long, in pieces of a sync frame; counts until the other side has everything. Raises BenchError."""
    ours = _transport()
    block = os.urandom(write_bytes)
    try:
        async with trio.open_nursery() as nursery, _sink() as address:
            await nursery.start(ours.run)
            await ours.connect([address])
            stream = await ours.open_stream(address.mailbox_id, _PROTOCOL)
            sent = 0
            begun_at = trio.current_time()
            while trio.current_time() < begun_at + seconds:
                await stream.send_all(block)
                sent += len(block)
            await stream.close()
            answer = await stream.receive_some(100)
            elapsed_s = trio.current_time() - begun_at
            nursery.cancel_scope.cancel()
    except* TransportError as group:
        raise BenchError(f"the libp2p stream failed: {group.exceptions[0]}") from None
    if answer != b"%d" % sent:
        raise BenchError("the libp2p stream did not carry all that was written")
    return sent / elapsed_s


@asynccontextmanager
async def _sink() -> AsyncIterator[PeerAddress]:
    """The address of the other process, which is ended afterwards."""
    async with trio.open_nursery() as nursery:
        command = [sys.executable, "-m", "node.bench.stream"]
        process: trio.Process = await nursery.start(
            partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False)
        )
        assert process.stdout is not None
        line = bytearray()
        with trio.move_on_after(_START_PATIENCE_S):
            while not line.endswith(b"\n") and (piece := await process.stdout.receive_some(4096)):
                line += piece
        if not line.endswith(b"\n"):
            raise BenchError("the process at the other end of the libp2p stream did not start")
        yield PeerAddress.parse(line.decode().strip())
        nursery.cancel_scope.cancel()


async def _serve() -> None:
    async def count(stream: Stream) -> None:
        received = 0
        while piece := await stream.receive_some(FRAME_BYTES_MAX):
            received += len(piece)
        await stream.send_all(b"%d" % received)

    transport = _transport()
    transport.serve(_PROTOCOL, count)
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.run)
        sys.stdout.write(f"{transport.addresses()[0]}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(_serve)

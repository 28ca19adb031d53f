"""A mailbox's transport in a process of its own, to be killed or frozen: prints its address, then serves."""

from __future__ import annotations

import os
import sys

import trio

from node.config import ListenAddress
from node.transport.api import Stream
from node.transport.libp2p import Libp2pTransport


async def main() -> None:
    transport = Libp2pTransport(signing_key_seed=os.urandom(32), listen=ListenAddress(sys.argv[1], 0), network="test")

    async def echo(stream: Stream) -> None:
        while chunk := await stream.receive_some(65536):
            await stream.send_all(chunk)

    async def sink(stream: Stream) -> None:
        count = 0
        while chunk := await stream.receive_some(65536):
            count += len(chunk)
        await stream.send_all(str(count).encode())

    transport.serve("/echo/1", echo)
    transport.serve("/sink/1", sink)
    transport.listen("pings", lambda publisher, data: nursery.start_soon(transport.publish, "pongs", data))
    async with trio.open_nursery() as nursery:
        await nursery.start(transport.run)
        print(transport.addresses()[0], flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)

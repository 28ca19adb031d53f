"""A process for tests: a TCP listener on the HTTP port (3411) and MdnsDiscovery; prints what it reports as JSON lines.

    python -m tests.node.discovery.agent SEED [TIMING as JSON]

SIGTERM ends it in good order. The first line is {"started": true}.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
import sys

import trio

from node.discovery.api import Announcement, Found, Lost
from node.discovery.mdns import MdnsDiscovery
from node.discovery.table import Timing
from protocols.model import MailboxId


def mailbox_of(seed: str) -> MailboxId:
    return MailboxId(hashlib.sha256(seed.encode()).digest())


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def report(event: Found | Lost) -> None:
    if isinstance(event, Found):
        n = event.neighbour
        say(
            found=str(n.mailbox_id),
            hosts=n.hosts,
            http_port=n.http_port,
            p2p_port=n.p2p_port,
            version=n.protocol_version,
            network=n.network,
        )
    else:
        say(lost=str(event.mailbox_id), reason=event.reason)


async def hang_up(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def main(seed: str, timing: dict[str, float]) -> None:
    poll_s = timing.pop("interface_poll_s", 0.2)
    query_s = timing.pop("query_interval_s", 15.0)
    port = int(timing.pop("http_port", 3411))
    discovery = MdnsDiscovery(timing=Timing(**timing), interface_poll_s=poll_s, query_interval_s=query_s)
    announcement = Announcement(mailbox_of(seed), port, 4001, 1, "main")
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_tcp, hang_up, port)
        await nursery.start(discovery.run, announcement, report)
        say(started=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                break
        say(statistics=dataclasses.asdict(discovery.statistics()))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})

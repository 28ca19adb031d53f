"""What the client kit costs: messages per second through a real mailbox, and the CPU time of a poll."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio

from node.client import Mailbox, open_client
from tests.mailboxes import MailboxProcess

MESSAGES = 10_000
POLLS = 40

pytestmark = pytest.mark.benchmark


def cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def test_messages_through_a_mailbox(tmp_path: Path) -> None:
    async def main(address: Mailbox) -> None:
        async with open_client(tmp_path / "anna", topics=["t"], mailboxes=[address]) as anna:
            begun_s, begun_cpu_s = time.monotonic(), cpu_s()
            for _ in range(500):
                await anna.publish("t", os.urandom(300))
            print(f"\npublish, one after the other: {500 / (time.monotonic() - begun_s):,.0f} messages/s")
            begun_s, begun_cpu_s = time.monotonic(), cpu_s()
            async with trio.open_nursery() as nursery:
                for _ in range(MESSAGES - 500):
                    nursery.start_soon(anna.publish, "t", os.urandom(300))
            count = MESSAGES - 500
            print(f"publish, many at once: {count / (time.monotonic() - begun_s):,.0f} messages/s")
            await anna.flushed()
            print(
                f"publish until the mailbox has them: {count / (time.monotonic() - begun_s):,.0f} messages/s, "
                f"{(cpu_s() - begun_cpu_s) / count * 1e6:.0f} us of CPU each"
            )
        begun_s, begun_cpu_s = time.monotonic(), cpu_s()
        async with open_client(tmp_path / "bob", topics=["t"], mailboxes=[address]) as bob:
            for _ in range(MESSAGES):
                await anext(bob.messages())
            print(
                f"receive and take a backlog: {MESSAGES / (time.monotonic() - begun_s):,.0f} messages/s, "
                f"{(cpu_s() - begun_cpu_s) / MESSAGES * 1e6:.0f} us of CPU each"
            )

    with MailboxProcess(tmp_path / "box", "--no-mdns", "--p2p", "127.0.0.1:0") as box:
        trio.run(main, Mailbox(box.info["http"][0]))


@pytest.mark.parametrize("logs", [10, 1000])
def test_a_poll_without_news(tmp_path: Path, logs: int) -> None:
    async def main(address: Mailbox) -> None:
        async with open_client(tmp_path / "me", topics=["t"], mailboxes=[address]) as client:
            for _ in range(logs):
                await anext(client.messages())
            (seat,) = client._seats.values()
            begun_cpu_s = cpu_s()
            for _ in range(POLLS):
                await seat.talk(polls=True)
            print(f"\npoll of {logs} logs: {(cpu_s() - begun_cpu_s) / POLLS * 1e3:.2f} ms of CPU")

    with MailboxProcess(tmp_path / "box", "--no-mdns", "--p2p", "127.0.0.1:0") as box:
        box.request("POST", "/blobs/store", {"blobs": {"t": {f"{log:064x}": {"0": "AAAA"} for log in range(logs)}}})
        trio.run(main, Mailbox(box.info["http"][0]))

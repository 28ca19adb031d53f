"""100,000 messages shaped like the app's, over HTTP into three mailboxes, one of them killed in the middle of a sync.

Prints how long it took, what went over the wire between each pair, and the memory of each mailbox.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pytest
import trio

from node import workload
from protocols.model import digest_of
from tests.mailboxes import MailboxProcess, eventually

pytestmark = pytest.mark.benchmark

MESSAGES = int(os.environ.get("MESSAGES", "100000"))
CONNECTIONS = 8


async def test_hundred_thousand_messages_in_three_mailboxes(tmp_path: Path) -> None:
    options = ("--no-mdns", "--p2p", "127.0.0.1:0", "--sync-interval", "5")
    a = MailboxProcess(tmp_path / "a", *options).start()
    b = MailboxProcess(tmp_path / "b", *options, "--peer", a.address()).start()
    c = MailboxProcess(tmp_path / "c", *options, "--peer", a.address(), "--peer", b.address()).start()
    mailboxes = [a, b, c]
    try:
        await play(mailboxes)
    finally:
        for mailbox in mailboxes:
            mailbox.__exit__()


async def play(mailboxes: list[MailboxProcess]) -> None:
    messages = list(workload.generate(messages=MESSAGES))
    requests = list(workload.in_requests(messages))
    begun = time.monotonic()
    third = len(requests) // 3
    killed = mailboxes[2]
    # Everything goes to one of the three; every tenth request also to another one.
    for part, mailbox in enumerate(mailboxes):
        share = requests[part * third : (part + 1) * third if part < 2 else None]
        twice = requests[(part - 1) % 3 * third :][: third // 10]
        async with trio.open_nursery() as nursery:
            if part == 1:
                nursery.start_soon(trio.to_thread.run_sync, kill_in_the_middle_of_a_sync, killed, mailbox)
            report = await workload.send(share + twice, [mailbox.info["http"][0]], connections=CONNECTIONS)
        print(f"{mailbox.data_dir.name}: {report}")
    stored_s = time.monotonic() - begun

    def all_equal() -> bool:
        states = [mailbox.status() for mailbox in mailboxes]
        return len({s["fingerprint"] for s in states}) == 1 and all(s["messages"] == MESSAGES for s in states)

    eventually(all_equal, timeout_s=300, what="convergence")
    print(f"{MESSAGES} messages, {sum(len(m.blob) for m in messages) / 1e6:.1f} MB of content")
    print(f"all stored after {stored_s:.1f} s, all three equal and complete after {time.monotonic() - begun:.1f} s")
    for mailbox in mailboxes:
        check_complete(mailbox, messages)
        describe(mailbox)
        verified = mailbox.command("verify")
        print(f"  verify: {verified.stdout.strip().splitlines()[-1]}")


def kill_in_the_middle_of_a_sync(mailbox: MailboxProcess, ahead: MailboxProcess) -> None:
    wait_for_sync_under_way(mailbox, ahead)
    mailbox.kill()
    print(f"\n{mailbox.data_dir.name} was killed (-9) in the middle of a sync")
    mailbox.start()
    print(f"{mailbox.data_dir.name} runs again with {mailbox.status()['messages']} messages")


def wait_for_sync_under_way(mailbox: MailboxProcess, ahead: MailboxProcess) -> None:
    """Until it is syncing, has received something, and still lacks something that the other one has."""

    def under_way() -> bool:
        status = mailbox.status()
        syncing = any(peer["state"] == "syncing" for peer in status["peers"])
        return syncing and status["relayed"]["synced_in"] > 0 and status["messages"] < ahead.status()["messages"]

    eventually(under_way, timeout_s=60, what="a sync under way")


def check_complete(mailbox: MailboxProcess, messages: list[workload.WorkloadMessage]) -> None:
    """Reads every topic back over HTTP and compares every message's digest."""
    import base64  # noqa: PLC0415
    import json  # noqa: PLC0415

    expected: dict[str, dict[str, dict[str, bytes]]] = defaultdict(lambda: defaultdict(dict))
    for topic, log, seq, blob in messages:
        expected[topic][log][str(seq)] = digest_of(blob)
    for topic, logs in expected.items():
        status, body = mailbox.request("POST", "/blobs/get", {"topics": {topic: {}}})
        assert status == 200
        answer = json.loads(body)["blobs_by_topic"][topic]["blobs"]
        held = {
            log: {seq: digest_of(base64.b64decode(blob)) for seq, blob in entries.items()}
            for log, entries in answer.items()
        }
        assert held == {log: dict(entries) for log, entries in logs.items()}


def describe(mailbox: MailboxProcess) -> None:
    status = mailbox.status()
    memory = psutil.Process(mailbox.pid).memory_info().rss
    print(
        f"{mailbox.data_dir.name}: {status['messages']} messages, {status['logs']} logs, {memory / 1e6:.0f} MB memory"
    )
    for peer in status["peers"]:
        print(
            f"  with {peer['mailbox_id'][:8]}: {peer['bytes_in'] / 1e6:.1f} MB in, {peer['bytes_out'] / 1e6:.1f} MB out"
        )

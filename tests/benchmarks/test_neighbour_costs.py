"""What a neighbour and a hint cost, beside what the planning model takes them for."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio

from node.bench.processes import cpu_s
from node.config import ListenAddress
from node.transport.libp2p import Libp2pTransport
from simulations.analytic import costs
from tests.mailboxes import MailboxProcess, eventually

pytestmark = pytest.mark.benchmark

AROUND = 30
IDLE_S = 20.0
HINTS = 100

AROUND_FEW = 5
MESSAGES = 100
MESSAGE_BYTES = 300
EVERY_S = 0.3
SETTLED_S = 8.0

TCP_IP_BYTES = 52
"""Of a segment, with timestamps."""


async def test_an_idle_connection_and_a_hint() -> None:
    """All mailboxes are in one process: what it needs is divided among the two ends of each connection."""
    heard = 0

    def hear(_publisher: object, _data: bytes) -> None:
        nonlocal heard
        heard += 1

    async with trio.open_nursery() as nursery:
        middle, *around = (
            Libp2pTransport(
                signing_key_seed=hashlib.sha256(b"%d" % number).digest(),
                listen=ListenAddress("127.0.0.1", 0),
                network="bench",
            )
            for number in range(AROUND + 1)
        )
        for transport in (middle, *around):
            transport.listen("news", hear)
            await nursery.start(transport.run)
        alone = await cpu_share(IDLE_S)
        for transport in around:
            await transport.connect(middle.addresses())
        await trio.sleep(10)
        connected = await cpu_share(IDLE_S)
        began_s = time.process_time()
        for _ in range(HINTS):
            await middle.publish("news", os.urandom(round(costs.hint_bytes(AROUND))))
            await trio.sleep(0.15)
        hints = time.process_time() - began_s - connected * 0.15 * HINTS
        nursery.cancel_scope.cancel()
    assert heard > 0.9 * HINTS * AROUND
    print(f"\nof a core, for an end of an idle connection: {(connected - alone) / (2 * AROUND):.6f}")
    print(f"  the model takes it for {costs.CONNECTION_CPU:.6f}")
    print(f"CPU seconds for a copy of a hint, sent or heard: {hints / (2 * heard):.6f}")
    print(f"  the model takes it for {costs.HINT_CPU_S:.6f}")


async def cpu_share(for_s: float) -> float:
    """Of one core, what this process needs meanwhile."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await trio.sleep(for_s)
    return (time.process_time() - cpu_s) / (time.perf_counter() - began_s)


def test_a_message_that_comes_with_its_hint(tmp_path: Path) -> None:
    """Mailboxes as processes, around one that a phone gives a message now and then. What storing it costs the one in
    the middle is measured without neighbours."""
    alone = stored_and_told(tmp_path / "alone", around=0)
    one = stored_and_told(tmp_path / "one", around=1)
    several = stored_and_told(tmp_path / "several", around=AROUND_FEW)
    wire = costs.ON_THE_WIRE
    receiver_s = min(one.receiver_s, several.receiver_s)
    print(f"\nCPU seconds of whoever hears a hint with a message: {one.receiver_s:.5f}, {several.receiver_s:.5f}")
    print(f"  beside the hint: {receiver_s - costs.HINT_CPU_S:.5f}; the model: {costs.HINTED_MESSAGES_CPU_S:.5f}")
    print(f"CPU seconds of whoever tells one neighbour: {one.sender_s - alone.sender_s:.5f}", end="")
    print(f", each other one: {(several.sender_s - one.sender_s) / (AROUND_FEW - 1):.5f}")
    print(f"  the model: {costs.HINT_CPU_S:.5f}")
    for count, told in ((1, one), (AROUND_FEW, several)):
        in_frame = costs.hint_bytes(count) + costs.HINTED_MESSAGE_BYTES + wire.names_bytes + MESSAGE_BYTES
        print(f"bytes on the wire for each of {count} neighbours: {told.wire_bytes:.0f}", end="")
        print(f"; the model: {in_frame + wire.hint_bytes:.0f}")


@dataclass(frozen=True)
class Told:
    """For each message: CPU seconds of both sides, and bytes for each neighbour."""

    sender_s: float
    receiver_s: float
    wire_bytes: float


def stored_and_told(directory: Path, around: int) -> Told:
    directory.mkdir()
    options = ("--no-mdns", "--sync-interval", "3600", "--p2p", "127.0.0.1:0")
    topic, log = (hashlib.sha256(name).hexdigest() for name in (b"topic", b"log"))
    with ExitStack() as stack:
        middle = stack.enter_context(MailboxProcess(directory / "middle", *options))
        peer = ("--peer", middle.address())
        others = [
            stack.enter_context(MailboxProcess(directory / f"{number}", *options, *peer)) for number in range(around)
        ]
        for other in others:
            for one, its in ((other, middle), (middle, other)):
                eventually(partial(has_met, one, its.info["mailbox_id"]), what="the meeting")
        middle.store(topic, log, {0: bytes(MESSAGE_BYTES)})
        time.sleep(SETTLED_S)
        pids = [mailbox.pid for mailbox in (middle, *others)]
        sessions = middle.status()["sessions"]["count"]
        idle = measured(pids, middle, lambda _: None)
        busy = measured(pids, middle, lambda seq: middle.store(topic, log, {seq: os.urandom(MESSAGE_BYTES)}))
        assert {mailbox.status()["messages"] for mailbox in (middle, *others)} == {MESSAGES + 1}
        assert middle.status()["sessions"]["count"] == sessions, "or this shows something else"
    each = [(more - less) / MESSAGES for less, more in zip(idle, busy, strict=True)]
    return Told(each[0], sum(each[1:-1]) / max(1, around), each[-1] / max(1, around))


def has_met(mailbox: MailboxProcess, other: str) -> bool:
    return (mailbox.peer(other) or {}).get("state") == "in-sync"


def measured(pids: Sequence[int], middle: MailboxProcess, act: Callable[[int], object]) -> list[float]:
    """CPU seconds of these, and bytes on the wire, while something is done MESSAGES times."""

    def now() -> list[float]:
        return [*(cpu_s(pid) or 0.0 for pid in pids), wire_bytes(middle)]

    before, began_s = now(), time.monotonic()
    for number in range(1, MESSAGES + 1):
        act(number)
        time.sleep(max(0.0, began_s + EVERY_S * number - time.monotonic()))
    return [more - less for less, more in zip(before, now(), strict=True)]


def wire_bytes(mailbox: MailboxProcess) -> float:
    """What has gone to and from its p2p port, with the heads of TCP and IP; 0 where the system does not tell."""
    port = mailbox.address().split("/tcp/")[1].split("/")[0]
    try:
        command = ["ss", "-tinH", "state", "established", f"sport = :{port}"]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return 0.0
    counts = re.findall(r"\b(bytes_sent|bytes_received|segs_out|segs_in):(\d+)", told)
    return float(sum(int(count) * (1 if name.startswith("bytes") else TCP_IP_BYTES) for name, count in counts))

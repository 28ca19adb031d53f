"""How fast phones are served. Figures depend on the machine; ratios within one run are what is claimed."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

import pytest
import trio

from node.bench.http import play_apart
from node.bench.http_clients import Load, LoadFigures
from node.http.toy import toy_router
from node.store.api import Store
from node.store.memory import MemoryStore
from node.store.sqlite import SqliteStore
from protocols.model import LogName
from protocols.toy_api import Family, encode_store
from tests.node.http.harness import MAILBOX_ID, mailbox_over, serving

pytestmark = pytest.mark.benchmark

SECONDS = 3.0
ROUNDS = 3


async def stores(store: Store) -> LoadFigures:
    """64 keep-alive clients, one message of 300 bytes per request."""
    async with serving(toy_router(mailbox_over(store), MAILBOX_ID)) as site:
        return await play_apart(Load(site.port, "store", 64, SECONDS, messages=1, blob_bytes=300))


def line(what: str, figures: LoadFigures) -> str:
    rate = figures.requests / figures.elapsed_s
    return f"{what:<44} {rate:>8.0f}/s   p50 {figures.p50_ms:.2f} ms   p99 {figures.p99_ms:.2f} ms"


async def test_durable_stores_against_a_commit_per_request(tmp_path: Path) -> None:
    """Alternating between both ways, on one disk; `mailboxd bench` measures the same without HTTP."""
    grouped: list[LoadFigures] = []
    single: list[LoadFigures] = []
    for turn in range(ROUNDS):
        async with SqliteStore.open(tmp_path / f"grouped{turn}.sqlite3") as store:
            grouped.append(await stores(store))
        async with SqliteStore.open(tmp_path / f"single{turn}.sqlite3", requests_per_commit_max=1) as store:
            single.append(await stores(store))
    memory = await stores(MemoryStore())
    print()
    for figures in grouped:
        print(line("64 clients, group commit", figures))
    for figures in single:
        print(line("64 clients, a commit per request", figures))
    print(line("64 clients, memory", memory))
    rates = [median(figures.requests / figures.elapsed_s for figures in group) for group in (grouped, single)]
    print(f"ratio group commit / commit per request: {rates[0] / rates[1]:.2f}")
    print(f"ratio group commit / memory:             {rates[0] * memory.elapsed_s / memory.requests:.2f}")


async def test_a_full_body_holds_up_nobody_for_long(tmp_path: Path) -> None:
    """While 64 MiB bodies are taken in, how late does a timer in the same loop ring?"""
    for size, name in ((900, "900 bytes"), (200, "200 bytes"), (1 << 20, "1 MiB")):
        blob = bytes(range(256)) * (size // 256) + bytes(size % 256)
        count = (62 << 20) // (size * 4 // 3 + 14)
        body = encode_store(Family.BLOBS, ((LogName("t" * 64, "l" * 64), seq, blob) for seq in range(count)))
        async with (
            SqliteStore.open(tmp_path / f"{size}.sqlite3") as store,
            serving(toy_router(mailbox_over(store), MAILBOX_ID)) as site,
            trio.open_nursery() as nursery,
        ):
            late: list[float] = []

            async def tick(late: list[float] = late) -> None:
                while True:
                    due = trio.current_time() + 0.002
                    await trio.sleep_until(due)
                    late.append(trio.current_time() - due)

            sender = Path(__file__).with_name("http_send.py")
            (tmp_path / "body").write_bytes(body)
            nursery.start_soon(tick)
            begun = trio.current_time()
            command = [sys.executable, str(sender), str(site.port), str(tmp_path / "body")]
            done = await trio.run_process(command, capture_stdout=True)
            took_s = trio.current_time() - begun
            nursery.cancel_scope.cancel()
        late.sort()
        print(
            f"\n{count} messages of {name}: HTTP {done.stdout.decode().strip()}, {took_s:.1f} s; timers late by",
            end=" ",
        )
        print(f"p99 {1000 * late[len(late) * 99 // 100]:.1f} ms, at most {1000 * late[-1]:.1f} ms")

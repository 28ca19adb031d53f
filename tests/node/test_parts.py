"""A mailbox's parts and its administration without the program around them: over memory, in one process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from node.administration import Desk
from node.admission.policy import Admission
from node.clock import SystemClock
from node.config import ListenAddress, OperatorLimits, RunConfig
from node.datadir import DataDir
from node.http.server import serve_http
from node.identity import Identity
from node.parts import Parts, http_limits
from node.ports import open_ports
from node.store.memory import MemoryStore
from node.transport.memory import MemoryNetwork, MemoryTransport
from protocols.limits.http import HTTP_REQUESTS_PER_CLIENT_BURST, HTTP_REQUESTS_PER_CLIENT_RATE
from tests.node.http.harness import Site

ANY = ListenAddress("127.0.0.1", 0)
TOKEN = "t" * 43
BEARER = (("Authorization", f"Bearer {TOKEN}"),)


class NoFile:
    """Settings that are kept nowhere. Keeps what it was asked to."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.saved: list[Mapping[str, Any]] = []

    def shown(self, config: RunConfig) -> dict[str, Any]:
        return {"paused": {"value": config.paused, "locked": None}}

    def check(self, changes: Mapping[str, Any]) -> RunConfig:
        return RunConfig(self.config.data_dir, paused=bool(changes.get("paused")))

    def save(self, changes: Mapping[str, Any]) -> None:
        self.saved.append(changes)


@dataclass(frozen=True, slots=True)
class Box:
    """A mailbox that runs: where phones and where its user reach it."""

    parts: Parts
    phones: Site
    desk: Site
    file: NoFile


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Box]:
    config = RunConfig(folder, http=(ANY,), p2p=ANY, **options)
    identity = Identity.from_seed(bytes(range(32)))
    with DataDir.open(folder) as data_dir:
        async with open_ports(config, data_dir, tls=None) as ports, trio.open_nursery() as nursery:
            parts = Parts.join(
                config,
                folder=folder,
                identity=identity,
                admission=Admission(),
                admin_token=TOKEN,
                store=MemoryStore(),
                transport=MemoryTransport(MemoryNetwork(), identity.mailbox_id),
                clock=SystemClock(),
            )
            await nursery.start(parts.core.run)
            await nursery.start(serve_http, ports.phones, parts.phones.routes)
            file = NoFile(config)
            desk = Desk(
                parts, config, ports, token=TOKEN, p2p_port=1, settings_file=file, keep_awake=lambda _is_on: None
            )
            await nursery.start(desk.run, ports.admin)
            statistics = parts.phones.statistics
            yield Box(
                parts,
                Site(ports.phones[0].address.port, statistics, nursery.cancel_scope),
                Site(ports.admin[0].address.port, statistics, nursery.cancel_scope),
                file,
            )
            nursery.cancel_scope.cancel()


async def test_what_a_phone_stores_stands_in_the_status(tmp_path: Path) -> None:
    async with running(tmp_path, name="Library") as box:
        stored = await box.phones.ask("POST", "/blips/store", b'{"blips": {"tea": {"alice": {"0": "aGVsbG8="}}}}')
        assert stored.status == 201
        assert (await box.desk.ask("GET", "/admin/status")).status == 401
        answer = await box.desk.ask("GET", "/admin/status", headers=BEARER)
        status = json.loads(answer.body)
        assert (status["name"], status["messages"], status["relayed"]["stored"]) == ("Library", 1, 1)
        assert status["mailbox_id"] == str(box.parts.identity.mailbox_id)


async def test_every_part_has_its_routes(tmp_path: Path) -> None:
    wanted = {
        "/admin/admission": "devices",
        "/admin/bundles": "retention_s",
        "/admin/peers": "peers",
        "/admin/settings": "paused",
        "/metrics": "mailboxd",
    }
    async with running(tmp_path) as box:
        for path, word in wanted.items():
            answer = await box.desk.ask("GET", path, headers=BEARER)
            assert answer.status == 200, path
            assert word in answer.body.decode(), path
        assert (await box.desk.ask("GET", "/")).status == 200


async def test_doors_that_are_closed_at_the_desk_are_closed_to_phones(tmp_path: Path) -> None:
    async with running(tmp_path) as box:
        assert (await box.phones.ask("GET", "/health")).status == 200
        changed = await box.desk.ask("POST", "/admin/settings", b'{"paused": true}', headers=BEARER)
        assert changed.status == 200
        assert box.file.saved == [{"paused": True}]
        assert (await box.phones.ask("GET", "/health")).status == 503


async def test_it_starts_with_closed_doors_if_it_is_told_to(tmp_path: Path) -> None:
    async with running(tmp_path, paused=True) as box:
        assert (await box.phones.ask("GET", "/health")).status == 503
        assert (await box.desk.ask("GET", "/admin/status", headers=BEARER)).status == 200


def test_a_burst_lasts_as_long_at_every_rate() -> None:
    for rate in (1, 10, 500):
        limits = http_limits(OperatorLimits(requests_per_client=rate))
        burst_s = limits.requests_per_client_burst / limits.requests_per_client_rate
        assert abs(burst_s - HTTP_REQUESTS_PER_CLIENT_BURST / HTTP_REQUESTS_PER_CLIENT_RATE) < 1

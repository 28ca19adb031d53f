"""Records of a bundle that are brought by HTTP: taken, refused, and what is said when the store can't."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

import pytest

from node.http.admin.bundles import add_bundle_routes, record_body
from node.http.messages import Router
from node.sneakernet import write_bundle
from node.store.api import Arrival, PutResult, StoreError, StoreFull, StoreUnavailable
from node.store.memory import MemoryStore
from protocols.sneakernet.bundle import BundleHead
from protocols.sneakernet.seal import Kind, SealReader
from tests.node.http.harness import Site, serving
from tests.node.test_sneakernet import ALICE, BOB, WEEK, arrival, mailbox, terms, wanted_by


class FailingStore(MemoryStore):
    def __init__(self, error: StoreError | None) -> None:
        super().__init__()
        self.error = error

    async def put(self, arrivals: Sequence[Arrival], *, origin: object = None, client: str = "") -> PutResult:
        if self.error is not None:
            raise self.error
        return await super().put(arrivals, origin=origin, client=client)


async def bodies() -> list[bytes]:
    """Of all records of a bundle with one message."""
    source, out = MemoryStore(), bytearray()
    await source.put([arrival("tea", "alice", 0, b"hello")])
    await write_bundle(source, terms(ALICE), await wanted_by(MemoryStore(), terms(BOB)), out.extend)
    seal = SealReader(Kind.BUNDLE)
    seal.feed(out)
    made = []
    while (record := seal.next_record()) is not None:
        assert seal.origin is not None
        head = BundleHead.read(seal.origin)
        made.append(record_body(record, maker=seal.origin.maker, maker_retention_s=head.retention_s))
    return made


async def bring(site: Site, body: bytes) -> tuple[int, bytes]:
    answer = await site.ask("POST", "/admin/bundles", body, headers=(("content-type", "application/octet-stream"),))
    return answer.status, answer.body


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, 200), (StoreFull("no room"), 507), (StoreUnavailable("the disk failed"), 503)],
)
async def test_what_becomes_of_a_record(error: StoreError | None, status: int) -> None:
    store, router = FailingStore(error), Router()
    add_bundle_routes(router, mailbox(store), network="main", interest=None)
    async with serving(router) as site:
        answers = [await bring(site, body) for body in await bodies()]
    assert {got for got, _ in answers} == {status}
    if error is None:
        assert sum(json.loads(body)["stored"] for _, body in answers) == store.statistics().messages == 1
    else:
        assert answers[0][1].decode().strip() == f"{error}."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x" * 10,
        struct.pack(">32sQI", bytes(32), 1, 2**31),
        struct.pack(">32sQI", bytes(32), 1, 1) + b"\x05",
        struct.pack(">32sQI", bytes(32), 1, 1) + b"\x90",
        struct.pack(">32sQI", bytes(32), 1, 4) + b"\x93\x01\x02\x03" + b"data",
    ],
)
async def test_nonsense_is_refused(body: bytes) -> None:
    router = Router()
    add_bundle_routes(router, mailbox(MemoryStore()), network="main", interest=None)
    async with serving(router) as site:
        status, text = await bring(site, body)
    assert status == 400
    assert b"no record of a bundle" in text


async def test_the_rules_are_told() -> None:
    router = Router()
    add_bundle_routes(router, mailbox(MemoryStore()), network="main", interest=None)
    async with serving(router) as site:
        answer = await site.ask("GET", "/admin/bundles")
    assert json.loads(answer.body) == {"network": "main", "retention_s": WEEK, "topics": None}

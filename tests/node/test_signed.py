"""A mailbox with `--require-signed` takes what authors signed and nothing else, and holds that against nobody."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import trio
import trio.testing

from node import signed
from node.aside import inline
from node.signed import SignedOnly
from node.store.api import Arrival
from protocols.limits.store import UNSIGNED_PAUSE_S
from protocols.model import LogName, digest_of
from protocols.operations import NotGenuine
from protocols.sync.effects import Span
from tests.mailboxes import MailboxProcess
from tests.memory_world import World
from tests.protocols.operation_maker import Author

ALICE = Author()


def body(blobs: dict[int, bytes], name: LogName = ALICE.name) -> dict[str, object]:
    messages = {str(seq): base64.b64encode(blob).decode() for seq, blob in blobs.items()}
    return {"blips": {name.topic: {name.log: messages}}}


def test_phones_are_told_what_is_not_signed_and_nothing_of_it_is_stored(tmp_path: Path) -> None:
    with MailboxProcess(tmp_path / "data", "--no-mdns", "--p2p", "127.0.0.1:0", "--require-signed") as mailbox:
        status, answer = mailbox.request("POST", "/blips/store", body({0: ALICE.blob(0), 1: b"forged"}))
        assert status == 400
        assert b"takes signed messages only, and that with seq 1 is not: it is not an operation." in answer
        assert mailbox.request("POST", "/blips/store", body({0: b"x"}, LogName("tea", "alice")))[0] == 400
        status, answer = mailbox.request("POST", "/blips/store", body({0: ALICE.blob(0), 1: ALICE.blob(1)}))
        assert (status, json.loads(answer)) == (201, {"watermarks": {ALICE.name.topic: {ALICE.name.log: 1}}})
        assert mailbox.status()["messages"] == 2
        assert mailbox.status()["require_signed"] is True
        assert "signed by their authors" in mailbox.command("status").stdout


async def test_peers_keep_the_rest_without_penalty(autojump_clock: trio.testing.MockClock) -> None:
    with inline():  # a thread takes no virtual time
        await peers_keep_the_rest()


async def peers_keep_the_rest() -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        opaque = LogName("tea", "alice")
        anyone = await world.start("anyone")
        await anyone.core.mailbox.deliver([(opaque, 0, b"opaque"), (ALICE.name, 0, ALICE.blob(0))])
        await anyone.core.mailbox.deliver([(ALICE.name, seq, b"forged") for seq in (0, 1)])
        strict = await world.start("strict", peers=(anyone,), require_signed=True)
        await trio.sleep(300)
        held = await strict.core.mailbox.store.items(ALICE.name, 0, 9)
        assert [(item.seq, item.digest) for item in held] == [(0, digest_of(ALICE.blob(0)))]
        assert strict.core.mailbox.store.statistics().messages == 1
        (peer,) = strict.core.engine.table.all()
        assert "not signed" in peer.reason
        assert (peer.strikes, peer.proven) == (0, True)
        traffic = strict.core.engine.counters.bytes_in
        # What is genuine still comes at once, and what is not hardly travels any more.
        await anyone.core.mailbox.deliver([(ALICE.name, 2, ALICE.blob(2))])
        await trio.sleep(60)
        assert [item.seq for item in await strict.core.mailbox.store.items(ALICE.name, 0, 9)] == [0, 2]
        assert strict.core.engine.counters.bytes_in - traffic < 20_000
        nursery.cancel_scope.cancel()


async def test_what_was_sent_in_vain_is_asked_for_again_after_a_while(autojump_clock: trio.testing.MockClock) -> None:
    only = SignedOnly()
    forged = Arrival(ALICE.name, 5, b"forged", digest_of(b"forged"), 0)
    genuine = Arrival(ALICE.name, 6, ALICE.blob(6), digest_of(ALICE.blob(6)), 0)
    assert await only.genuine([forged, genuine]) == [genuine]
    spans = [Span(ALICE.name, 5, 5), Span(ALICE.name, 5, 6), Span(LogName("tea", "alice"), 0, 9)]
    assert only.worth_asking(spans) == [Span(ALICE.name, 5, 6)]
    await trio.sleep(UNSIGNED_PAUSE_S + 1)
    assert only.worth_asking(spans) == spans[:2]


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed, "UNSIGNED_REMEMBERED_MAX", 3)
    only = SignedOnly()
    forged = [Arrival(ALICE.name, seq, b"forged", digest_of(b"forged"), 0) for seq in range(10)]
    assert await only.genuine(forged) == []
    assert [span.first for span in only.worth_asking([Span(ALICE.name, s, s) for s in range(10)])] == [*range(7)]
    assert only.refused == 10
    with pytest.raises(NotGenuine):
        await only.check([(ALICE.name, 0, b"forged")])

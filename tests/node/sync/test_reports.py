"""Convergence reports between mailboxes in memory, and between real ones through the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from node.admission.doorkeeper import Doorkeeper
from node.admission.policy import Admission
from node.aside import inline
from node.clock import SystemClock
from node.identity import Identity
from node.mailbox import Mailbox
from node.store.api import Arrival
from node.store.memory import MemoryStore
from node.sync.index import LogIndex
from node.sync.reports import ReportFailed, Reports
from node.transport.memory import MemoryNetwork, MemoryTransport
from protocols.limits.sync import REPORT_ANSWERS_MAX, REPORT_SILENCE_MIN_S, REPORT_TRIES_MAX, REPORT_WORD_S
from protocols.model import LogName, Retention, digest_of, topic_hash_of
from protocols.report.exchange import PROTOCOL, Call, encode
from protocols.report.verdict import Verdict, judge
from protocols.sync.interest import Interest
from protocols.sync.wire import FrameDecoder, encode_frame
from tests.mailboxes import MailboxProcess, eventually


class Party:
    """A mailbox that can do nothing but reports."""

    def __init__(self, network: MemoryNetwork, seed: int, *, topics: Interest | None = None, tag: str = "main") -> None:
        self.identity = Identity.from_seed(bytes([seed]) * 32)
        self.transport = MemoryTransport(network, self.identity.mailbox_id)
        self.mailbox = Mailbox(MemoryStore(), clock=SystemClock(), retention=Retention())
        self.index = LogIndex(self.mailbox.store)
        self.admission = Admission()
        door = Doorkeeper(self.admission, self.transport, network=tag, entropy=os.urandom)
        self.reports = Reports(
            identity=self.identity,
            mailbox=self.mailbox,
            index=self.index,
            transport=self.transport,
            doorkeeper=door,
            network=tag,
            interest=topics,
            entropy=os.urandom,
        )

    async def hold(self, topic: str, log: str, *blobs: bytes) -> None:
        await self.mailbox.deliver([(LogName(topic, log), seq, blob) for seq, blob in enumerate(blobs)])

    async def report_with(self, other: Party) -> Verdict:
        await self.transport.connect(other.transport.addresses())
        return judge(*await self.reports.ask(other.identity.mailbox_id))


async def started(nursery: trio.Nursery, *parties: Party) -> None:
    for party in parties:
        await nursery.start(party.transport.run)


async def test_two_that_hold_the_same_prove_it(nursery: trio.Nursery) -> None:
    network = MemoryNetwork()
    one, other = Party(network, 1), Party(network, 2)
    await started(nursery, one, other)
    assert (await one.report_with(other)).topics == 0
    for party in (one, other):
        await party.hold("a", "x", b"0", b"1")
        await party.hold("b", "y", b"0")
    await trio.sleep(0.2)  # the answerer rests
    verdict = await one.report_with(other)
    assert verdict.converged
    assert (verdict.topics, verdict.logs) == (2, 2)
    assert verdict.asker.signer == one.identity.mailbox_id


async def test_what_differs_is_named(nursery: trio.Nursery) -> None:
    network = MemoryNetwork()
    one, other = Party(network, 1), Party(network, 2)
    await started(nursery, one, other)
    await one.hold("a", "x", b"0", b"1")
    await other.hold("a", "x", b"0")
    await other.hold("b", "y", b"0")
    verdict = await one.report_with(other)
    assert {difference.topic_hash for difference in verdict.differences} == {topic_hash_of("a"), topic_hash_of("b")}


async def test_only_topics_of_both_are_stated(nursery: trio.Nursery) -> None:
    network = MemoryNetwork()
    one, other = Party(network, 1, topics=Interest.of(["a", "b"])), Party(network, 2, topics=Interest.of(["b", "c"]))
    await started(nursery, one, other)
    for topic in "abc":
        await one.hold(topic, "x", b"0")
        await other.hold(topic, "x", b"0" if topic == "b" else b"1")
    verdict = await one.report_with(other)
    assert verdict.converged
    assert [topic.topic_hash for topic in verdict.answerer.topics] == [topic_hash_of("b")]


async def test_who_is_not_let_in_and_who_is_elsewhere(nursery: trio.Nursery) -> None:
    network = MemoryNetwork()
    one, other, alien = Party(network, 1), Party(network, 2), Party(network, 3, tag="trial")
    await started(nursery, one, other, alien)
    with pytest.raises(ReportFailed, match="in the network 'main', the other in 'trial'"):
        await one.report_with(alien)
    await one.transport.connect(other.transport.addresses())
    other.admission.only_trusted = True
    with pytest.raises(ReportFailed, match="does not let you in"):
        await one.reports.ask(other.identity.mailbox_id)


async def test_messages_that_keep_coming_in_make_no_report(nursery: trio.Nursery) -> None:
    """Whatever is signed was true at one moment: while the asker's store changes there is none."""
    network = MemoryNetwork()
    one, other = Party(network, 1), Party(network, 2)
    await started(nursery, one, other)
    calls = 0
    view = other.index.view

    async def busy_view(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        blob = b"%d" % calls
        await one.mailbox.store.put([Arrival(LogName("t", "l"), calls, blob, digest_of(blob), 2_000_000_000)])
        return await view(*arguments)  # type: ignore[arg-type]

    other.index.view = busy_view  # type: ignore[method-assign,assignment]
    with pytest.raises(ReportFailed, match="kept coming in"):
        await one.report_with(other)
    assert calls == REPORT_TRIES_MAX


@pytest.mark.parametrize("first", [b"", b"\xff" * 9, b"\x00\x00\x00\x02\x91\x07", encode_frame(encode(Call()))])
async def test_who_breaks_the_protocol_hurts_nobody(nursery: trio.Nursery, first: bytes) -> None:
    network = MemoryNetwork()
    one, other = Party(network, 1), Party(network, 2)
    await started(nursery, one, other)
    await one.transport.connect(other.transport.addresses())
    stream = await one.transport.open_stream(other.identity.mailbox_id, PROTOCOL)
    if first:
        await stream.send_all(first)
        frames = FrameDecoder()
        while (frame := frames.next_frame()) is None:
            frames.feed(await stream.receive_some(1000))
        assert frame[1] == 4  # a refusal
    await stream.close()
    await trio.sleep(0.1)
    assert (await one.report_with(other)).converged


def test_from_the_command_line(tmp_path: Path) -> None:
    options = ("--no-mdns", "--p2p", "127.0.0.1:0")
    with MailboxProcess(tmp_path / "a", *options) as one:
        assert one.store("tea", "alice", {0: b"zero", 1: b"one"}) == 201
        with MailboxProcess(tmp_path / "b", *options, "--peer", one.address()) as other:
            eventually(lambda: one.peer(other.info["mailbox_id"]), what="meeting")
            file = tmp_path / "report.json"
            peer = one.info["mailbox_id"][:12]
            made = eventually(
                lambda: (
                    (done := other.command("report", "--output", str(file), peer, check=False)).returncode == 0 and done
                ),
                what="a report",
            )
            assert "both held exactly the same: 1 log in 1 topic" in made.stdout
    checked = one.command("report", "--verify", str(file), "--json")
    assert json.loads(checked.stdout)["converged"] is True
    report = json.loads(file.read_text())
    report["statements"].reverse()
    file.write_text(json.dumps(report))
    assert one.command("report", "--verify", str(file)).returncode == 0
    report["statements"][0] = report["statements"][1]
    file.write_text(json.dumps(report))
    refused = one.command("report", "--verify", str(file), check=False)
    assert refused.returncode == 1
    assert "proves nothing: both statements are by the same mailbox" in refused.stderr


async def test_askers_who_say_nothing_keep_nobody_from_asking(autojump_clock: MockClock) -> None:
    """As many as are answered at once are silent, and one of them all the time: the honest one has its report at once,
    and no silent one is waited for for long."""
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork()
        one, other = Party(network, 1), Party(network, 2)
        silent = [Party(network, 10 + number) for number in range(REPORT_ANSWERS_MAX)]
        await started(nursery, one, other, *silent)
        with inline():
            for party in silent:
                await party.transport.connect(other.transport.addresses())
                for _ in range(3):  # only the last one counts
                    await party.transport.open_stream(other.identity.mailbox_id, PROTOCOL)
            await trio.sleep(REPORT_SILENCE_MIN_S)
            begun_at = trio.current_time()
            assert (await one.report_with(other)).converged
            assert trio.current_time() - begun_at < 1
            await trio.sleep(REPORT_WORD_S + 1)
            assert not other.reports._asked
        nursery.cancel_scope.cancel()


async def test_a_silent_asker_gives_way_only_after_a_while(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        network = MemoryNetwork()
        one, other = Party(network, 1), Party(network, 2)
        silent = [Party(network, 10 + number) for number in range(REPORT_ANSWERS_MAX)]
        await started(nursery, one, other, *silent)
        for party in silent:
            await party.transport.connect(other.transport.addresses())
            await party.transport.open_stream(other.identity.mailbox_id, PROTOCOL)
        await trio.sleep(REPORT_SILENCE_MIN_S / 2)
        with pytest.raises(ReportFailed, match="a report just now"):
            await one.report_with(other)
        nursery.cancel_scope.cancel()

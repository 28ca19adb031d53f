"""Hostile input that no other file here is about. README.md has the whole list."""

from __future__ import annotations

import re
from pathlib import Path

import msgpack
import pytest
import trio
from trio.testing import MockClock

from node.aside import inline
from node.sync.engine import SYNC_PROTOCOL
from node.transport.memory import MemoryTransport
from protocols.errors import RemoteProtocolError
from protocols.limits import http, replication, sync, transport
from protocols.limits.units import KIB, MIB
from protocols.model import MailboxId, Retention
from protocols.report.statement import Signed
from protocols.sync.codec import decode, encode
from protocols.sync.messages import Done, Hello
from protocols.sync.wire import FrameDecoder, encode_frame
from tests.memory_world import World
from tests.protocols.report.test_report import ALICE, statement

NODE = Path(__file__).parent.parent.parent / "node"


def test_32_secrets_are_compared_in_constant_time() -> None:
    """Wherever a token or a proof that somebody sent is compared, it is so by a function made for that."""
    compared = re.compile(r"\b\w*(token|proof)(\.\w+)?\)? (==|!=) (?!None)|(==|!=) [\w.]*(token|proof)\b")
    found = [
        f"{path.relative_to(NODE)}: {line.strip()}"
        for path in NODE.rglob("*.py")
        for line in path.read_text().splitlines()
        if compared.search(line) and "len(token)" not in line
    ]
    assert found == []
    assert "compare_digest" in (NODE / "http" / "door.py").read_text()
    assert "compare_digest" in (NODE / "http" / "admin" / "guard.py").read_text()
    assert "compare_digest" in (NODE / "admission" / "pairing.py").read_text()


def test_45_maps_are_refused_and_long_numbers_are_numbers() -> None:
    done = encode(Done(True, True))
    assert done == b"\x94\x0f\x01\x01\x00"
    for long in (
        b"\x94\xcc\x0f\x01\x01\x00",
        b"\x94\x0f\xcf" + bytes(7) + b"\x01\x01\x00",
        b"\xdc\x00\x04\x0f\x01\x01\x00",
    ):
        assert decode(long) == decode(done)
    for junk in (b"\x82\x01\x01\x01\x02", b"\x94\x0f\x82\x01\x01\x01\x02\x01\x00", msgpack.packb([{15: 1}])):
        with pytest.raises(RemoteProtocolError):
            decode(junk)


async def test_47_a_later_version_is_brought_down_to_ours(autojump_clock: MockClock) -> None:
    """Whoever speaks later versions too is answered by the highest of both; who speaks only those is told so."""
    with inline():
        async with trio.open_nursery() as nursery:
            mailbox = await World(nursery, seed=1).start("mailbox", sync_interval_s=100_000.0)
            network = mailbox.core.transport
            assert isinstance(network, MemoryTransport)
            caller = MemoryTransport(network._network, MailboxId(b"\xff" * 32))
            await nursery.start(caller.run)
            await caller.connect(network.addresses())
            heard = {}
            for lowest, highest in ((1, 9), (9, 9)):
                stream = await caller.open_stream(mailbox.mailbox_id, SYNC_PROTOCOL)
                now_s = int(mailbox.clock.now_s())
                retention = Retention()
                alive_from_s = retention.alive_from(now_s)
                hello = Hello(
                    lowest, highest, "sim", now_s, retention.retention_s, alive_from_s, "new/9", bytes(8), b""
                )
                await stream.send_all(encode_frame(encode(hello)))
                frames = FrameDecoder()
                while (frame := frames.next_frame()) is None:
                    frames.feed(await stream.receive_some(65_536))
                heard[lowest] = decode(frame)
                await stream.abort()
            answer, refusal = heard[1], heard[9]
            assert isinstance(answer, Hello)
            assert answer.version_max == sync.SYNC_VERSION_MAX
            assert not answer.first  # it can't know that we would have understood its first question
            assert (refusal.code, "9 to 9" in refusal.text) == ("version", True)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", [0, 1, 10, 32, 63, 64, 65, 1000])
def test_48_signatures_of_any_length_are_refused_alike(size: int) -> None:
    body = statement(ALICE, []).sign(ALICE.seed).body
    with pytest.raises(RemoteProtocolError, match="signature is not that of"):
        Signed(body, bytes(size)).read()


def test_the_figures_that_were_promised() -> None:
    assert http.HTTP_CONNECTIONS_MAX == 1000
    assert http.HTTP_CONNECTIONS_PER_CLIENT_MAX == 32
    assert http.HTTP_HEAD_TIMEOUT_S == 10
    assert http.HTTP_HEAD_BYTES_MAX == 16 * KIB
    assert http.HTTP_IDLE_TIMEOUT_S == 60
    assert 64 * KIB <= sync.CONTROL_FRAME_BYTES_MAX <= sync.FRAME_BYTES_MAX <= 256 * KIB
    assert replication.PEER_SESSIONS_MAX == 4
    # What waits to be sent to one mailbox: a page and a batch for each session, and the connection's own queue.
    page_bytes = sync.BATCH_BYTES_MAX // 2
    queued_bytes = transport.CONNECTIONS_PER_PEER_MAX * (transport.SEND_QUEUE_BYTES + transport.SEND_BATCH_BYTES)
    assert replication.PEER_SESSIONS_MAX * page_bytes + queued_bytes <= 8 * MIB

"""The mailbox that libp2p attackers are let loose on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import trio

from node.config import ListenAddress
from node.transport.api import Stream
from node.transport.libp2p import Libp2pTransport
from node.transport.libp2p_yamux import Yamux
from protocols.model import MailboxId
from tests.hostile.libp2p_attacker import Attacker

ECHO, FAULTY, DEAF = "/mailboxd/echo/1", "/mailboxd/faulty/1", "/mailboxd/deaf/1"
TOPIC = "/mailboxd/test/news"


def make() -> Libp2pTransport:
    return Libp2pTransport(signing_key_seed=os.urandom(32), listen=ListenAddress("127.0.0.1", 0), network="test")


class Victim:
    def __init__(self) -> None:
        self.transport = make()
        self.heard: list[tuple[MailboxId, bytes]] = []
        self.lost = 0
        self.transport.serve(ECHO, self._echo)
        self.transport.serve(FAULTY, self._faulty)
        self.transport.serve(DEAF, self._deaf)
        self.transport.listen("news", lambda publisher, payload: self.heard.append((publisher, payload)))

    async def _echo(self, stream: Stream) -> None:
        while chunk := await stream.receive_some(65536):
            await stream.send_all(chunk)

    async def _faulty(self, stream: Stream) -> None:
        raise ExceptionGroup("a bug", [ValueError("in a handler"), KeyError("and another")])

    async def _deaf(self, stream: Stream) -> None:
        await trio.sleep_forever()

    @property
    def unread_bytes(self) -> int:
        assert self.transport._swarm is not None
        return self.transport._swarm._budget.unread_bytes

    def connection_of(self, attacker: Attacker) -> Yamux:
        assert self.transport._swarm is not None
        (conn,) = self.transport._swarm.get_connections(attacker.peer_id)
        muxed: Yamux = conn.muxed_conn
        return muxed


@pytest.fixture
async def victim() -> AsyncIterator[Victim]:
    """A running mailbox and an honest neighbour, who must be connected and served all the time and afterwards."""
    it, honest = Victim(), make()
    honest.on_connection(lambda peer, up: None if up else pytest.fail("the honest peer was cut off"))
    async with trio.open_nursery() as nursery:
        await nursery.start(it.transport.run)
        await nursery.start(honest.run)
        await honest.connect(it.transport.addresses())
        before = it.transport._swarm
        yield it
        with trio.fail_after(5):
            old = await honest.open_stream(it.transport.local, ECHO)
            await old.send_all(b"are you still there?")
            assert await old.receive_some(100) == b"are you still there?"
            await old.close()
        newcomer = make()
        await nursery.start(newcomer.run)
        with trio.fail_after(5):
            await newcomer.connect(it.transport.addresses())
            stream = await newcomer.open_stream(it.transport.local, ECHO)
            await stream.send_all(b"hello")
            assert await stream.receive_some(100) == b"hello"
        assert it.transport._swarm is before, "the host died and was restarted"
        honest._watchers.clear()
        nursery.cancel_scope.cancel()


def task_count() -> int:
    def count(task: trio.lowlevel.Task) -> int:
        return 1 + sum(count(child) for nursery in task.child_nurseries for child in nursery.child_tasks)

    root = trio.lowlevel.current_root_task()
    assert root is not None
    return count(root)


async def settle(condition: object, timeout_s: float = 8) -> None:
    assert callable(condition)
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.02)

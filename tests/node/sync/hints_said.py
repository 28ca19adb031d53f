"""What the tests of hints share: mailboxes that have met, and what they hold and say."""

from __future__ import annotations

import pytest
import trio

from node.sync.peers import PeerState
from protocols.model import LogName
from protocols.sync.hints import Hint, decode_hint
from tests.memory_world import SimulatedMailbox

__all__ = ["HOUR_S", "LOG", "held", "met", "said_by", "sessions"]

LOG = LogName("topic", "log")
HOUR_S = 3600


async def met(*mailboxes: SimulatedMailbox) -> None:
    """Waits until all have met all others, and nothing is due for long."""
    with trio.fail_after(60):
        for one in mailboxes:
            for other in mailboxes:
                while one is not other and standing(one, other) is not PeerState.IN_SYNC:  # noqa: ASYNC110
                    await trio.sleep(0.1)
    await trio.sleep(20)


def standing(one: SimulatedMailbox, other: SimulatedMailbox) -> PeerState | None:
    peer = one.core.engine.table.get(other.mailbox_id)
    return None if peer is None else peer.state


async def held(mailbox: SimulatedMailbox, name: LogName = LOG) -> dict[int, bytes]:
    page = await mailbox.core.mailbox.read({name.topic: {}})
    return {seq: blob for entry in page.entries if entry.name == name for seq, blob in entry.messages}


def sessions(*mailboxes: SimulatedMailbox) -> int:
    return sum(mailbox.core.engine.counters.sessions for mailbox in mailboxes)


def said_by(mailbox: SimulatedMailbox, monkeypatch: pytest.MonkeyPatch) -> list[Hint]:
    """What a mailbox announces from now on."""
    said: list[Hint] = []
    publish = mailbox.core.transport.publish

    async def note(channel: str, data: bytes) -> None:
        said.append(decode_hint(data))
        await publish(channel, data)

    monkeypatch.setattr(mailbox.core.transport, "publish", note)
    return said

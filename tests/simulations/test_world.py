"""The simulated world: the node's own code, a clock that jumps, partitions and crashes."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from protocols.model import LogName
from simulations.world import SimulatedMailbox, World


async def spread(mailboxes: list[SimulatedMailbox], seed: int, count: int) -> int:
    """Stores `count` messages at random places; returns how many different ones."""
    choice = random.Random(seed)
    seen = set()
    for _ in range(count):
        key = (LogName(f"t{choice.randrange(3)}", f"l{choice.randrange(5)}"), choice.randrange(40))
        seen.add(key)
        blob = repr(key).encode()
        await choice.choice(mailboxes).core.mailbox.deliver([(*key, blob)])
        await trio.sleep(choice.random())
    return len(seen)


@pytest.mark.parametrize("seed", range(5))
async def test_a_day_of_cuts_and_crashes_ends_equal(seed: int, autojump_clock: MockClock) -> None:
    choice = random.Random(seed)
    async with trio.open_nursery() as nursery:
        world = World(nursery, seed=seed)
        mailboxes: list[SimulatedMailbox] = []
        for name in "abcde":
            mailboxes.append(await world.start(name, peers=tuple(mailboxes)))
        for _ in range(6):
            one, other = choice.sample(mailboxes, 2)
            world.network.cut(one.mailbox_id, other.mailbox_id)
            await trio.sleep(choice.uniform(0, 600))
            victim = choice.randrange(len(mailboxes))
            mailboxes[victim].scope.cancel()
            await trio.sleep(choice.uniform(0, 600))
            peers = tuple(one for number, one in enumerate(mailboxes) if number != victim)
            mailboxes[victim] = await world.start("abcde"[victim], peers=peers, store=mailboxes[victim].store)
            await spread(mailboxes, seed, 20)
        world.network.heal_all()
        await trio.sleep(120)
        assert len({await mailbox.fingerprint() for mailbox in mailboxes}) == 1
        assert len({mailbox.store.statistics().messages for mailbox in mailboxes}) == 1
        nursery.cancel_scope.cancel()


async def test_all_that_was_stored_is_everywhere(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = World(nursery, seed=7)
        a = await world.start("a")
        b = await world.start("b", peers=(a,))
        c = await world.start("c", peers=(b,))
        stored = await spread([a, b, c], 7, 200)
        await trio.sleep(60)
        assert [mailbox.store.statistics().messages for mailbox in (a, b, c)] == [stored] * 3
        nursery.cancel_scope.cancel()

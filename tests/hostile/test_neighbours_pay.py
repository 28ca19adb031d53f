"""What one stranger does is not counted against another: not by a shared address, link or hour."""

from __future__ import annotations

import base64
from typing import Final

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from node.admission.guesses import Guesses
from node.admission.pairing import Pairing
from node.admission.policy import Admission, Password
from node.aside import inline
from node.clock import SystemClock
from node.discovery.api import Found, Neighbour
from node.http.head import Head
from node.http.limits import HttpLimits
from node.http.messages import HttpError, Request, Router
from node.http.pairing import add_pairing_route
from node.http.standing import Standing
from node.http.turnstile import Turnstile
from node.parts import whereabouts
from node.sync.reports import ReportFailed
from node.transport.memory import MemoryNetwork
from protocols.limits.admission import GUESSERS_REMEMBERED_MAX, GUESSES_FREE, GUESSES_TOTAL_BURST
from protocols.model import MailboxId
from tests.memory_world import World
from tests.node.http.harness import MAILBOX_ID
from tests.node.sync.test_reports import Party, started

STRANGER: Final = MailboxId(bytes(31) + b"\x07")
GET: Final = Head("POST", "/blips/get", {}, 0, keep_alive=True)


def test_who_is_turned_away_pushes_nobodys_guesses_out() -> None:
    """A neighbour that the user has named has guesses of its own; identities for nothing don't give it new ones."""
    guesses = Guesses()
    for number in range(GUESSES_TOTAL_BURST):
        assert guesses.begin(f"stranger {number}", 0.0) == 0
        guesses.over()
    allowed = 0
    for round_ in range(3):
        while not guesses.begin("named", 0.0, known=True):
            allowed += 1
            guesses.over()
        for number in range(GUESSERS_REMEMBERED_MAX + 1):
            assert guesses.begin(f"{round_} {number}", 0.0) > 0
    assert allowed == GUESSES_FREE


@pytest.mark.parametrize(("wrong", "right"), [("fe80::1", "fe80::2"), ("192.0.2.1", "192.0.2.2")])
async def test_guesses_on_a_link_are_counted_one_by_one(wrong: str, right: str) -> None:
    """All link-local addresses of a LAN are in one /64: a stranger's guesses are not its neighbours'."""
    router = Router()
    add_pairing_route(router, Pairing(Admission(password=Password(bytes(32), bytes(16))), MAILBOX_ID, SystemClock()))
    share = base64.urlsafe_b64encode(b"\x01" * 32).rstrip(b"=")  # nothing that anybody computes with for long

    async def status(client: str) -> int:
        body = b'{"share": "%b"}' % share
        request = Request("POST", "/pair", "", {}, body, client)
        with pytest.raises(HttpError) as refused:
            await router.routes["/pair"]["POST"].handler(request)
        return refused.value.status

    assert [await status(wrong) for _ in range(GUESSES_FREE + 1)] == [400] * GUESSES_FREE + [429]
    assert await status(right) == 400


def test_a_paired_phone_has_a_rate_of_its_own() -> None:
    """Who shares its /64, or its router, can't use it up."""
    turnstile = Turnstile(HttpLimits())
    with pytest.raises(HttpError, match="Too many requests"):
        for _ in range(10_000):
            turnstile.admit(GET, "2001:db8::bad", device=None, stores=False, now_s=1.0)
    admitted = turnstile.admit(GET, "2001:db8::900d", device="k3vq7m2a", stores=False, now_s=1.0)
    assert admitted is Standing.PAIRED
    with pytest.raises(HttpError, match="Too many requests"):
        for _ in range(10_000):
            turnstile.admit(GET, "2001:db8::900d", device="k3vq7m2a", stores=False, now_s=1.0)


class Left(Exception):
    """The asker has had enough."""


async def test_a_report_that_is_given_up_counts_as_one(nursery: trio.Nursery) -> None:
    """Who asks for a statement and goes away has cost as much as who stays: the next one waits as long."""
    network = MemoryNetwork()
    one, other = Party(network, 1), Party(network, 2)
    await started(nursery, one, other)
    mine, theirs = one.index.view, other.index.view
    looks = 0

    async def slow_view(*arguments: object) -> object:
        await trio.sleep(0.5)
        return await theirs(*arguments)  # type: ignore[arg-type]

    async def leave(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise Left
        return await mine(*arguments)  # type: ignore[arg-type]

    other.index.view = slow_view  # type: ignore[method-assign,assignment]
    one.index.view = leave  # type: ignore[method-assign,assignment]
    await one.transport.connect(other.transport.addresses())
    with pytest.raises(Left):
        await one.reports.ask(other.identity.mailbox_id)
    await trio.testing.wait_all_tasks_blocked(0.05)
    with pytest.raises(ReportFailed, match="a report just now"):
        await one.reports.ask(other.identity.mailbox_id)


async def test_a_stranger_has_a_mailbox_with_a_password_try_no_addresses(autojump_clock: MockClock) -> None:
    """Whoever announces itself at somebody else's address could look through a network that it does not reach."""
    found = Found(Neighbour(STRANGER, ("10.8.0.1",), 3411, 4001, 1, "sim"))
    for admission, known in ((Admission(), 1), (Admission(password=Password(bytes(32), bytes(16))), 0)):
        with inline():
            async with trio.open_nursery() as nursery:
                mailbox = await World(nursery, seed=1).start("mailbox", admission=admission)
                mailbox.core.engine.report(found)
                assert len(whereabouts(mailbox.core, STRANGER).announced) == known
                nursery.cancel_scope.cancel()

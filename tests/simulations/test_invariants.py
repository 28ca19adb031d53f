"""Each invariant can fail: a bug put into the node on purpose is found by the one that is there for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from node.mailbox import Mailbox
from node.store._shares import Shares, Victim
from node.store.api import Arrival, PutResult, StoreError
from node.store.memory import MemoryStore
from node.sync.brought import Brought
from node.sync.driver import SessionTraffic
from node.sync.engine import SyncEngine
from node.sync.index import LogIndex
from node.sync.news import News
from node.sync.peers import SessionEnd
from protocols.limits.data import RETENTION_DEFAULT_S
from protocols.limits.replication import HINT_HEARD_MAX
from protocols.model import LogName, MailboxId, Retention, digest_of
from protocols.sync.hints import Hint
from protocols.sync.session import SessionResult
from protocols.sync.tables import KeyedTable
from simulations.disk import Disk, SimulatedStore
from simulations.invariants import Bounds, Frugality
from simulations.machines import Host
from simulations.play import play
from simulations.recording import Verdict
from simulations.scenario import Behaviour, Crash, Lan, Mailboxes, Phones, Route, Scenario, Walk

QUIET = Scenario(
    name="quiet",
    title="Three mailboxes and a phone",
    duration_s=600,
    calm_from_s=100,
    settle_s=60,
    lans=[Lan("home")],
    mailboxes=[Mailboxes("m", "home", 3)],
    phones=[Phones("p", "home", 2, messages_per_hour=120, writes_until_s=500)],
)
CRASHING = replace(QUIET, faults=[Crash(at_s, ["m"]) for at_s in range(60, 500, 20)], calm_from_s=500, duration_s=700)
EXPIRING = replace(
    QUIET,
    lans=[Lan("home"), Lan("elsewhere")],
    mailboxes=[
        Mailboxes("m", "home", 3, retention_s=120),
        Mailboxes("late", "home", retention_s=120, starts_at_s=1850),
    ],
    phones=[*QUIET.phones, Phones("away", "elsewhere", messages_per_hour=0)],
    faults=[Walk(600, ["p"], "elsewhere"), Walk(1900, ["away"], "home")],
    duration_s=2000,
)
REPLAYED = replace(
    EXPIRING, mailboxes=[*EXPIRING.mailboxes, Mailboxes("parrot", "home", behaviour=Behaviour.REPLAYS, retention_s=120)]
)
APART = replace(
    QUIET,
    lans=[Lan("home"), Lan("away")],
    routes=[Route(("home", "away"))],
    mailboxes=[*QUIET.mailboxes, Mailboxes("n", "away", peers=["m-1"])],
)
FLOODED = replace(
    QUIET,
    # What found no room is asked for again after a quarter of an hour, by sessions that are as rare by then.
    settle_s=2100,
    duration_s=3500,
    mailboxes=[Mailboxes("m", "home", 2, storage_limit_bytes=64_000), Mailboxes("large", "home")],
    phones=[
        *QUIET.phones,
        Phones("flood", "home", topics=["spam"], messages_per_hour=600, message_bytes=2000, writes_until_s=400),
    ],
)
HOSTILE = replace(
    QUIET,
    mailboxes=[
        Mailboxes("m", "home", 3, sync_interval_s=5),
        Mailboxes("f", "home", behaviour=Behaviour.FLOODS),
    ],
    phones=[Phones("p", "home", 2, messages_per_hour=120, writes_until_s=150)],
)


def verdict_of(name: str, scenario: Scenario) -> Verdict:
    return next(verdict for verdict in play(scenario, 1).verdicts if verdict.name == name)


@pytest.mark.parametrize(
    "scenario",
    [QUIET, CRASHING, EXPIRING, HOSTILE],
    ids=["quiet", "crashing", "expiring", "hostile"],
)
def test_the_node_as_it_is_keeps_them_all(scenario: Scenario) -> None:
    verdicts = play(scenario, 1).verdicts
    assert [verdict for verdict in verdicts if not verdict.holds] == []
    assert all(verdict.checks for verdict in verdicts if verdict.name not in ("progress", "fair-eviction"))


def test_the_node_as_it_is_keeps_them_all_in_a_flood() -> None:
    verdicts = {verdict.name: verdict for verdict in play(FLOODED, 1).verdicts}
    assert [verdict for verdict in verdicts.values() if not verdict.holds] == []
    assert verdicts["convergence"].checks and verdicts["fair-eviction"].checks


def patched(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, make: Callable[[Any], Any]) -> None:
    monkeypatch.setattr(kind, name, make(getattr(kind, name)))


def syncs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_self: SyncEngine, _peer: object, *, full: bool) -> None:
        _self._retry(_peer)  # type: ignore[arg-type]

    monkeypatch.setattr(SyncEngine, "_sync", never)


def takes_nothing_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shares, "would_take", lambda self, source, topic, *, is_news: False)


def acknowledges_before_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def deliver(self: Mailbox, messages: Sequence[tuple[LogName, int, bytes]], *, client: str = "") -> PutResult:
        trio.lowlevel.spawn_system_task(later, self, messages, client)
        return PutResult(len(messages), 0, 0, {name: None for name, _, _ in messages})

    async def later(self: Mailbox, messages: Sequence[tuple[LogName, int, bytes]], client: str) -> None:
        with suppress(StoreError):
            await original(self, messages, client=client)

    async def sync(_self: Disk) -> None:
        await trio.sleep(15)

    original = Mailbox.deliver
    monkeypatch.setattr(Mailbox, "deliver", deliver)
    monkeypatch.setattr(Disk, "sync", sync)


def serves_what_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retention, "alive_from", lambda self, now_s: 0)


def one_lets_messages_die_before_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    forgetful: list[Mailbox] = []

    async def expire(self: Mailbox) -> None:
        if not forgetful:
            forgetful.append(self)
        early_s = RETENTION_DEFAULT_S - 300 if self in forgetful else 0
        while await self.store.expire(self.alive_from_s() + early_s, messages_max=100):
            pass

    monkeypatch.setattr(Mailbox, "_expire_due", expire)


def talks_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        SessionTraffic, "bytes_out", property(lambda self: 10_000, lambda self, value: None), raising=False
    )


def stores_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(self: MemoryStore, *what: Any) -> Any:
        change = original(self, *what)
        return change._replace(stored=[*change.stored, *change.stored])

    original = MemoryStore._apply
    monkeypatch.setattr(MemoryStore, "_apply", apply)


def remembers_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(News, "states_remembered", property(lambda self: HINT_HEARD_MAX + 1))


def is_put_off_by_one_flooder(monkeypatch: pytest.MonkeyPatch) -> None:
    def rest(self: SyncEngine, peer: Any) -> None:
        peer.due_at = trio.current_time() + 1e6

    monkeypatch.setattr(SyncEngine, "_rest", rest)


def takes_what_has_expired_from_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    def alive(_self: Brought, hint: Hint) -> Sequence[Arrival]:
        return [Arrival(name, seq, blob, digest_of(blob), dated_s) for name, seq, dated_s, blob in hint.messages]

    monkeypatch.setattr(Brought, "_alive", alive)


def surveys_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyedTable, "rest", lambda self, excluded: bytes([len(self), id(self) % 251] * 4))


def remembers_only_what_it_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def succeeded(self: SyncEngine, peer: Any, result: SessionResult, *others: Any, incoming: bool) -> None:
        original(self, peer, replace(result, checkpoint=None) if incoming else result, *others, incoming=incoming)

    original = SyncEngine._succeeded
    monkeypatch.setattr(SyncEngine, "_succeeded", succeeded)


def forgets_at_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_over(self: SimulatedStore, before: SimulatedStore) -> None:
        before.close()

    monkeypatch.setattr(SimulatedStore, "take_over", take_over)


def the_smallest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def victim(self: Shares[Any], _source: int, _asked: object, _size: int) -> Victim[Any] | None:
        shares = ((size, topic, source) for source, topics in self._sources.items() for topic, size in topics.items())
        least = min(shares, default=None)
        return None if least is None else Victim(least[2], least[1], young=True, spare_bytes=0)

    monkeypatch.setattr(Shares, "victim", victim)


def raises_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def keep_up(_self: LogIndex) -> None:
        await trio.sleep(100)
        raise RuntimeError("a bug")

    monkeypatch.setattr(LogIndex, "keep_up", keep_up)


@pytest.mark.parametrize(
    ("name", "scenario", "bug"),
    [
        ("convergence", APART, syncs_nothing),
        ("convergence", FLOODED, takes_nothing_at_its_limit),
        ("fair-eviction", FLOODED, the_smallest_gives_way),
        ("durability", CRASHING, acknowledges_before_it_is_durable),
        ("expiry", EXPIRING, serves_what_has_expired),
        ("frugality", QUIET, talks_too_much),
        ("stored-once", QUIET, stores_twice),
        ("no-resurrection", EXPIRING, serves_what_has_expired),
        ("no-resurrection", REPLAYED, takes_what_has_expired_from_hints),
        ("no-resurrection", QUIET, one_lets_messages_die_before_their_end),
        ("bounds", HOSTILE, remembers_without_bound),
        ("progress", HOSTILE, is_put_off_by_one_flooder),
        ("silence", QUIET, surveys_each_time),
        ("silence", QUIET, remembers_only_what_it_asked_itself),
        ("same-after-restart", CRASHING, forgets_at_a_restart),
        ("no-faults", QUIET, raises_once_in_a_while),
    ],
)
def test_a_bug_is_found(
    name: str, scenario: Scenario, bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    verdict = verdict_of(name, scenario)
    assert verdict.counterexample is not None
    assert verdict.counterexample.startswith("at ")


class Watched:
    """What frugality asks of a world: whether those who talk are correct, and a place for what it finds."""

    def __init__(self) -> None:
        self.recorder = self

    def is_correct(self, _peer: MailboxId) -> bool:
        return True

    def happened(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("incoming", "round_trips", "holds"), [(False, 1, False), (False, 2, True), (True, 2, False), (True, 3, True)]
)
async def test_frugality_lets_only_those_say_much_who_had_something_to_ask(
    incoming: bool, round_trips: int, holds: bool
) -> None:
    """The farewell is a round trip for the side that has not begun."""
    frugality = Frugality(cast(Any, Watched()))
    result = SessionResult(round_trips=round_trips, equal=True, full=True)
    end = SessionEnd(MailboxId(bytes(32)), incoming, 0.0, result, 5_000, 5_000, None)
    frugality.session_ended(cast(Any, SimpleNamespace(name="m")), end)
    assert (frugality.counterexample is None) is holds


def test_the_queues_of_a_crowd_are_measured_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    measure = Bounds._sizes

    def note(host: Host) -> tuple[int, ...]:
        measured.append(host.name)
        return measure(host)

    monkeypatch.setattr(Bounds, "_sizes", staticmethod(note))
    monkeypatch.setattr("simulations.invariants._MAILBOXES_A_SAMPLE", 1)
    assert verdict_of("bounds", replace(QUIET, duration_s=200)).holds
    assert set(measured[-3:]) == {"m-1", "m-2", "m-3"}
    assert len(measured) <= 240

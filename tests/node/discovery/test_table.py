"""The neighbour table: who is reported, tried, lost and pushed out."""

from __future__ import annotations

import hashlib
import itertools
import random
from ipaddress import ip_interface

from hypothesis import given, settings
from hypothesis import strategies as st

from node.discovery.api import Found, Lost
from node.discovery.packets import Sighting
from node.discovery.table import Job, NeighbourTable, Timing
from protocols.discovery import PeerInfo
from protocols.limits.discovery import NEIGHBOURS_LIVE_MAX, NEIGHBOURS_LIVE_PER_HOST_MAX, NEIGHBOURS_WAITING_MAX
from protocols.model import MailboxId

LAN = (ip_interface("10.0.0.5/16"),)
PEER = PeerInfo(4001, 1, "main")


def mailbox(number: int) -> MailboxId:
    return MailboxId(hashlib.sha256(number.to_bytes(8, "big")).digest())


OWN = mailbox(2**40)


def seen(
    number: int,
    *addresses: str,
    source: str | None = None,
    port: int | None = 3411,
    peer: PeerInfo | None = PEER,
    txt_heard: bool = True,
    goodbye: bool = False,
) -> Sighting:
    return Sighting(mailbox(number), source or addresses[0], port, addresses, peer, txt_heard, goodbye)


def new_table(network: str | None = "main") -> NeighbourTable:
    table = NeighbourTable(OWN, network=network, timing=Timing())
    table.network_changed(LAN, [3411, 4001], 0.0)
    return table


def jobs(table: NeighbourTable, now_s: float) -> list[Job]:
    return table.due(now_s, live_max=10_000, waiting_max=10_000)


def probe_all(table: NeighbourTable, now_s: float, dead: set[tuple[str, int]] | None = None) -> list[Job]:
    """Plays a world in which everybody answers except `dead`."""
    done = jobs(table, now_s)
    for job in done:
        table.probed(job.mailbox_id, [e for e in job.endpoints if e not in (dead or ())], now_s, final=True)
    return done


def test_found_only_after_an_answer() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0)
    assert table.take_events() == []
    probe_all(table, 0, dead={("10.0.0.1", 3411)})
    assert table.take_events() == []
    assert jobs(table, 2.9) == []  # and tried again
    probe_all(table, 3.0)
    (event,) = table.take_events()
    assert isinstance(event, Found)
    assert event.neighbour.hosts == ("10.0.0.1",)
    assert (event.neighbour.p2p_port, event.neighbour.network) == (4001, "main")


def test_pauses_between_tries_grow_to_a_minute_and_end_after_ten() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0)
    times = []
    for tenth in range(8000):
        if probe_all(table, tenth / 10, dead={("10.0.0.1", 3411)}):
            times.append(tenth / 10)
        table.expire(tenth / 10)
    assert times[:6] == [0, 3, 9, 21, 45, 93]
    assert all(b - a == 60 for a, b in itertools.pairwise(times[5:]))
    assert table.waiting == 0
    assert times[-1] <= 600


def test_lost_after_a_minute_without_answer_though_announced() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0)
    probe_all(table, 0)
    table.take_events()
    for second in range(1, 61):
        table.sighted(seen(1, "10.0.0.1"), second)
        probe_all(table, second, dead={("10.0.0.1", 3411)})
        table.expire(second)
        assert bool(table.take_events()) == (second == 60)


def test_stays_while_it_answers_without_being_announced() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0)
    for second in range(0, 4000, 5):
        probe_all(table, second)
        table.expire(second)
    assert len(table.take_events()) == 1
    assert len(table.neighbours()) == 1


def test_live_ones_are_tried_every_fifteen_seconds() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0)
    assert [s for s in range(61) if probe_all(table, s)] == [0, 15, 30, 45, 60]


def test_goodbye_and_return() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0)
    probe_all(table, 0)
    table.take_events()
    table.sighted(seen(1, "10.0.0.1", port=None, goodbye=True), 100)
    table.sighted(seen(1, "10.0.0.1", port=None, goodbye=True), 100.1)  # it is said more than once
    assert table.take_events() == [Lost(mailbox(1), "it said goodbye")]
    assert jobs(table, 114) == []  # it has time to stop
    table.sighted(seen(1, "10.0.0.1"), 101)  # restarted
    probe_all(table, 102)
    (event,) = table.take_events()
    assert isinstance(event, Found)


def test_a_forged_goodbye_is_checked_not_believed() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0)
    probe_all(table, 0)
    table.take_events()
    table.sighted(seen(1, "10.0.0.66", port=None, goodbye=True), 5)
    assert table.take_events() == []
    assert len(probe_all(table, 5)) == 1
    # with a forged source it works, but not again and again
    for second in range(100, 130):
        table.sighted(seen(1, "10.0.0.1", port=None, goodbye=True), second)
        probe_all(table, second)
    kinds = [type(event) for event in table.take_events()]
    assert kinds == [Lost, Found]


def test_a_goodbye_of_someone_unknown_is_nothing() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1", port=None, goodbye=True), 0)
    assert (table.take_events(), table.waiting) == ([], 0)


def test_never_ourselves_in_any_spelling() -> None:
    table = NeighbourTable(MailboxId.parse("A" * 42 + "E"), network=None, timing=Timing())
    table.network_changed(LAN, [], 0)
    for label in ("A" * 42 + "E", "a" + "A" * 41 + "E"):
        sighting = Sighting(MailboxId.parse(label), "10.0.0.1", 3411, ("10.0.0.1",), None, True, False)
        table.sighted(sighting, 0)
    assert table.waiting == 0


def test_our_own_listener_is_nobody_else() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.5"), 0)
    assert jobs(table, 0) == []
    table.sighted(seen(1, "10.0.0.5", port=3412), 0)  # another mailbox on this machine
    assert jobs(table, 0) == [Job(mailbox(1), (("10.0.0.5", 3412),), False)]


def test_networks_are_kept_apart() -> None:
    table = new_table("test")
    table.sighted(seen(1, "10.0.0.1"), 0)
    table.sighted(seen(2, "10.0.0.2", peer=None), 0)  # the app's own, on "main"
    table.sighted(seen(3, "10.0.0.3", peer=PeerInfo(4001, 1, "test")), 0)
    probe_all(table, 0)
    assert [n.mailbox_id for n in table.neighbours()] == [mailbox(3)]
    everything = new_table(None)
    for number, peer in ((1, PEER), (2, None), (3, PeerInfo(1, 1, "test"))):
        everything.sighted(seen(number, f"10.0.0.{number}", peer=peer), 0)
    probe_all(everything, 0)
    assert {n.network for n in everything.neighbours()} == {"main", "test"}


def test_a_packet_without_txt_takes_nothing_back() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0)
    probe_all(table, 0)
    table.take_events()
    table.sighted(seen(1, "10.0.0.1", peer=None, txt_heard=False), 1)
    probe_all(table, 15)
    assert table.take_events() == []


def test_a_new_port_counts_once_the_old_one_is_silent() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0)
    probe_all(table, 0)
    table.take_events()
    table.sighted(seen(1, "10.0.0.66", port=6666), 10)  # an impostor who answers
    probe_all(table, 12)
    assert table.take_events() == []
    table.sighted(seen(1, "10.0.0.1", port=3500), 20)  # a restart on another port
    probe_all(table, 22, dead={("10.0.0.1", 3411)})
    (event,) = table.take_events()
    assert isinstance(event, Found)
    assert (event.neighbour.http_port, event.neighbour.hosts) == (3500, ("10.0.0.1",))


def test_what_an_impostor_says_of_the_libp2p_port_is_not_taken_over() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0)
    probe_all(table, 0)
    table.take_events()
    table.sighted(seen(1, "10.0.0.1", source="10.0.0.66", peer=PeerInfo(6666, 1, "main")), 10)
    probe_all(table, 15)
    assert table.take_events() == []
    table.sighted(seen(1, "10.0.0.1", peer=PeerInfo(4002, 1, "main")), 20)
    probe_all(table, 22)
    (event,) = table.take_events()
    assert isinstance(event, Found)
    assert event.neighbour.p2p_port == 4002


def test_addresses_that_answer_are_reported_and_follow_our_links() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1", "192.168.7.1"), 0)
    (job,) = jobs(table, 0)
    table.probed(job.mailbox_id, [("192.168.7.1", 3411)], 0.1, final=False)
    table.probed(job.mailbox_id, [("192.168.7.1", 3411), ("10.0.0.1", 3411)], 0.2, final=True)
    assert [e.neighbour.hosts for e in table.take_events() if isinstance(e, Found)] == [
        ("192.168.7.1",),
        ("10.0.0.1", "192.168.7.1"),  # same subnet first
    ]
    table.network_changed([ip_interface("192.168.7.5/24")], [], 1)
    probe_all(table, 1)  # at once
    (event,) = table.take_events()
    assert isinstance(event, Found)
    assert event.neighbour.hosts == ("192.168.7.1", "10.0.0.1")


def test_ten_thousand_names_are_capped_and_live_ones_stay() -> None:
    table = new_table()
    for number in range(1, 101):
        table.sighted(seen(number, f"10.0.1.{number}"), 0)
    probe_all(table, 0)
    table.take_events()
    for number in range(1_000, 11_000):
        table.sighted(seen(number, f"10.0.2.{number % 250 + 1}", source=f"10.0.3.{number % 7 + 1}"), 1)
    table.sighted(seen(500, "10.0.0.50"), 2)  # an honest newcomer from a quiet source ...
    for number in range(11_000, 21_000):
        table.sighted(seen(number, f"10.0.2.{number % 250 + 1}", source=f"10.0.3.{number % 7 + 1}"), 3)
    assert table.waiting == NEIGHBOURS_WAITING_MAX
    assert len(table.neighbours()) == 100
    assert mailbox(500) in {job.mailbox_id for job in jobs(table, 4)}  # ... is not pushed out


def test_one_listener_under_many_names_is_reported_a_few_times() -> None:
    table = new_table()
    for number in range(1, 400):
        table.sighted(seen(number, "10.0.0.66", port=6666), 0)
    probe_all(table, 0)
    assert len(table.neighbours()) == NEIGHBOURS_LIVE_PER_HOST_MAX
    assert table.refused_full == 399 - NEIGHBOURS_LIVE_PER_HOST_MAX


def test_live_ones_are_bounded_and_never_evicted() -> None:
    table = new_table()
    for number in range(1, 2_000):
        table.sighted(seen(number, f"10.0.{number % 200 + 1}.{number // 200 + 1}"), number)
        probe_all(table, number)
    assert [n.mailbox_id for n in table.neighbours()] == [mailbox(n) for n in range(1, NEIGHBOURS_LIVE_MAX + 1)]


def test_slots_are_kept_and_nobody_starves() -> None:
    table = new_table()
    for number in range(1, 101):
        table.sighted(seen(number, f"10.0.1.{number}"), 0)
    tried: list[MailboxId] = []
    for _ in range(10):
        batch = table.due(0, live_max=0, waiting_max=10)
        assert len(batch) == 10
        tried += [job.mailbox_id for job in batch]
    assert len(set(tried)) == 100
    assert table.due(0, live_max=0, waiting_max=10) == []  # all are being tried


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_any_history_keeps_the_promises(seed: int) -> None:
    """Found and Lost alternate per mailbox, what is reported is what `neighbours` says, bounds hold."""
    draw = random.Random(seed)
    table = new_table()
    reported: dict[MailboxId, object] = {}
    pending: list[Job] = []
    now_s = 0.0
    for _ in range(400):
        now_s += draw.choice([0, 0.1, 1, 5, 30])
        action = draw.randrange(6)
        address = f"10.0.0.{draw.randrange(1, 9)}"
        if action <= 1:
            peer = draw.choice([PEER, None, PeerInfo(1, 1, "x")])
            goodbye = draw.random() < 0.2
            port = None if goodbye else draw.choice([3411, 3412])
            table.sighted(seen(draw.randrange(9), address, port=port, peer=peer, goodbye=goodbye), now_s)
        elif action == 2:
            pending += table.due(now_s, live_max=draw.randrange(5), waiting_max=draw.randrange(5))
        elif action == 3 and pending:
            job = pending.pop(draw.randrange(len(pending)))
            answers = [e for e in job.endpoints if draw.random() < 0.6]
            table.probed(job.mailbox_id, answers[:1], now_s, final=False)
            table.probed(job.mailbox_id, answers, now_s, final=True)
        elif action == 4:
            table.expire(now_s)
        elif draw.random() < 0.1:
            table.network_changed(draw.choice([LAN, ()]), [3411], now_s)
        for event in table.take_events():
            if isinstance(event, Found):
                assert reported.get(event.neighbour.mailbox_id) != event.neighbour
                assert event.neighbour.mailbox_id != OWN
                assert event.neighbour.hosts
                reported[event.neighbour.mailbox_id] = event.neighbour
            else:
                del reported[event.mailbox_id]
        assert reported == {n.mailbox_id: n for n in table.neighbours()}


def test_a_mailbox_with_which_we_are_connected_is_not_probed_until_the_connection_is_gone() -> None:
    table = new_table()
    table.sighted(seen(1, "10.0.0.1"), 0.0)
    probe_all(table, 0.0)
    table.met(mailbox(1), 1.0, up=True)
    assert table.next_due_s() == float("inf")
    table.expire(10_000.0)
    assert jobs(table, 10_000.0) == []
    assert [type(event) for event in table.take_events()] == [Found]
    table.met(mailbox(1), 10_000.0, up=False)
    dead = {("10.0.0.1", 3411)}
    assert len(probe_all(table, 10_000.0, dead)) == 1
    table.expire(10_000.0 + Timing().lost_after_s + 1)
    assert [type(event) for event in table.take_events()] == [Lost]


def test_whoever_connects_before_it_is_found_is_probed_once() -> None:
    table = new_table()
    table.met(mailbox(1), 0.0, up=True)
    table.sighted(seen(1, "10.0.0.1"), 1.0)
    assert len(probe_all(table, 1.0)) == 1
    assert table.is_live(mailbox(1), "10.0.0.1")
    assert not table.is_live(mailbox(1), "10.0.0.2")
    assert jobs(table, 10_000.0) == []

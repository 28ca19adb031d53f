"""The policies against everything at once: mailboxes that break, fill up, forget, part and meet, and a client that
crashes anywhere. The client's file is the real one."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from node.client.store import ClientStore, state_of
from protocols.client.answers import Cause, Refused
from protocols.client.book import Book, Messages, Skip
from protocols.client.exchange import Ask, Effect, Give, Keep, Load, NoteGone, NoteSent, exchange
from protocols.model import LogName
from tests.protocols.client.model_mailbox import ModelMailbox

TOPIC = "garden"
OTHERS = ("anna", "bob")
PATIENCE_S = 60.0

which = st.integers(0, 2)
other = st.sampled_from(OTHERS)


class Crash(Exception):
    """The client is killed here."""


def content(name: LogName, seq: int) -> bytes:
    return f"{name.log} {seq} ".encode() * (30 if seq % 7 == 3 else 1)


class ClientWorld(RuleBasedStateMachine):
    """A client between three mailboxes, and two others who write."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.mailboxes = [ModelMailbox(f"m{number}") for number in range(3)]
        self.now_s = 1000.0
        self.written = dict.fromkeys(OTHERS, 0)
        self.own_seqs: list[int] = []
        self.delivered: list[tuple[LogName, int, bool]] = []
        self.open()

    def open(self) -> None:
        self.store = ClientStore(Path(self.directory.name), own_log="me")
        self.book = Book(self.store.own_log, [TOPIC])
        for name, record in self.do(partial(self.store.records, [TOPIC])):
            self.book.restore(name, record)
        for mailbox in self.mailboxes:
            self.book.restore_ledger(mailbox.name, self.do(partial(self.store.ledger, mailbox.name)))

    def crash(self) -> None:
        self.store.close()
        self.open()

    def do(self, work: Any) -> Any:
        return self.store.together([work], durable=False)[0]

    def teardown(self) -> None:
        try:
            self.settle()
            self.check_all_is_everywhere()
        finally:
            self.store.close()
            self.directory.cleanup()

    # --- what happens ------------------------------------------------------------------------------------------------

    @initialize()
    def meet_one(self) -> None:
        self.turn(0, True)

    @rule()
    def publish(self) -> None:
        name, seq = self.book.place(TOPIC)
        self.book.write(name, seq)
        states = {name: state_of(self.book.record(name))}
        self.do(partial(self.store.keep, [(name, seq, content(name, seq))], states, at_s=self.now_s))
        self.own_seqs.append(seq)

    @rule(log=other, to=st.sets(which), count=st.integers(1, 3))
    def somebody_writes(self, log: str, to: set[int], count: int) -> None:
        name = LogName(TOPIC, log)
        for _ in range(count):
            seq = self.written[log]
            self.written[log] += 1
            for number in to:
                if not self.mailboxes[number].is_full:
                    self.mailboxes[number].replicate(self.bearing(name, seq))

    @rule(log=other, seq=st.integers(0, 20), to=which)
    def somebody_brings_an_old_one(self, log: str, seq: int, to: int) -> None:
        if seq < self.written[log]:
            name = LogName(TOPIC, log)
            self.mailboxes[to].replicate(self.bearing(name, seq))

    @staticmethod
    def bearing(name: LogName, seq: int) -> ModelMailbox:
        bearer = ModelMailbox("bearer")
        bearer.held[name] = {seq: content(name, seq)}
        return bearer

    @rule(number=which, polls=st.booleans())
    def turn(self, number: int, polls: bool) -> None:
        self.run_turn(number, polls)

    @rule(number=which, polls=st.booleans(), at=st.integers(0, 5), is_done=st.booleans(),
          cause=st.sampled_from([Cause.UNREACHABLE, Cause.BUSY, Cause.FAULTY]))  # fmt: skip
    def turn_that_breaks(self, number: int, polls: bool, at: int, is_done: bool, cause: Cause) -> None:
        self.run_turn(number, polls, refuse_at=at, is_done=is_done, cause=cause)

    @rule(number=which, polls=st.booleans(), at=st.integers(0, 9), is_done=st.booleans())
    def turn_that_is_killed(self, number: int, polls: bool, at: int, is_done: bool) -> None:
        try:
            self.run_turn(number, polls, crash_at=at, is_done=is_done)
        except Crash:
            self.crash()

    @rule(one=which, two=which)
    def mailboxes_sync(self, one: int, two: int) -> None:
        self.mailboxes[one].replicate(self.mailboxes[two])
        self.mailboxes[two].replicate(self.mailboxes[one])

    @rule(log=other, below=st.integers(0, 12), everywhere=st.booleans(), number=which)
    def some_expire(self, log: str, below: int, everywhere: bool, number: int) -> None:
        for mailbox in self.mailboxes if everywhere else [self.mailboxes[number]]:
            mailbox.expire(LogName(TOPIC, log), min(below, mailbox.watermarks.get(LogName(TOPIC, log), -1) + 1))

    @rule(number=which)
    def a_mailbox_loses_all(self, number: int) -> None:
        self.mailboxes[number].wipe()

    @rule(number=which, is_full=st.booleans(), bytes_max=st.sampled_from([None, 100, 400]))
    def a_mailbox_has_limits(self, number: int, is_full: bool, bytes_max: int | None) -> None:
        self.mailboxes[number].is_full = is_full
        self.mailboxes[number].bytes_max = bytes_max

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        answering = {mailbox.name for mailbox in self.mailboxes}
        self.book.give_up(self.now_s, patience_s=PATIENCE_S, answering=answering)

    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        self.take_delivery(count)

    @precondition(lambda self: self.book.pick(1) is not None)
    @rule()
    def deliver_and_be_killed(self) -> None:
        """The application got it, its thanks did not get through: it gets that one message again."""
        before = list(self.delivered)
        picked = self.book.pick(1)
        if isinstance(picked, Messages):
            self.crash()
            assert self.delivered == before

    # --- what the client does ----------------------------------------------------------------------------------------

    def run_turn(self, number: int, polls: bool, *, refuse_at: int = -1, crash_at: int = -1, is_done: bool = False,
                 cause: Cause = Cause.BUSY) -> None:  # fmt: skip
        mailbox = self.mailboxes[number]
        steps = exchange(self.book, mailbox.name, polls=polls, now_s=self.now_s)
        result: Any = None
        refused: Refused | None = None
        asked = done = 0
        while True:
            try:
                effect = steps.throw(refused) if refused else steps.send(result)
            except StopIteration:
                return
            refused = None
            if done == crash_at and not is_done:
                raise Crash
            try:
                if isinstance(effect, Ask | Give):
                    asked += 1
                    if asked - 1 == refuse_at and not is_done:
                        raise Refused(cause, "broken before")
                    result = self.carry_out(mailbox, effect)
                    if asked - 1 == refuse_at:
                        raise Refused(cause, "broken after")
                else:
                    result = self.carry_out(mailbox, effect)
            except Refused as error:
                refused = error
            if done == crash_at:
                raise Crash
            done += 1

    def carry_out(self, mailbox: ModelMailbox, effect: Effect) -> Any:
        match effect:
            case Ask(query):
                return mailbox.get(query)
            case Give(messages):
                assert messages
                return mailbox.store(messages)
            case Load(keys):
                return self.do(partial(self.store.blobs, keys))
            case Keep(messages):
                states = {name: state_of(self.book.record(name)) for name, _, _ in messages}
                return self.do(partial(self.store.keep, messages, states, at_s=self.now_s))
            case NoteSent(sent):
                return self.do(partial(self.store.note_sent, mailbox.name, sent))
            case NoteGone(name, gone):
                return self.do(partial(self.store.note_gone, mailbox.name, name, json.dumps(list(gone))))

    def take_delivery(self, count: int) -> None:
        for _ in range(count):
            picked = self.book.pick(1)
            if picked is None:
                return
            if isinstance(picked, Skip):
                self.book.skipped(picked)
            else:
                assert picked.first == picked.last
                (blob,) = self.do(partial(self.store.blobs, [(picked.name, picked.first)]))
                assert blob == content(picked.name, picked.first)
                self.delivered.append((picked.name, picked.first, picked.is_late))
                self.book.delivered(picked.name, picked.first, is_late=picked.is_late)
            self.do(partial(self.store.note, {picked.name: state_of(self.book.record(picked.name))}))

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def each_is_delivered_once_and_in_order(self) -> None:
        assert len({(name, seq) for name, seq, _ in self.delivered}) == len(self.delivered)
        in_order: dict[LogName, int] = {}
        for name, seq, is_late in self.delivered:
            assert name.log != "me"
            assert (seq < in_order.get(name, -1)) == is_late
            in_order[name] = max(seq, in_order.get(name, -1))

    @invariant()
    def own_numbers_are_used_once(self) -> None:
        assert self.own_seqs == list(range(len(self.own_seqs)))

    def settle(self) -> None:
        """All is well again, and some minutes pass."""
        for mailbox in self.mailboxes:
            mailbox.is_full, mailbox.bytes_max = False, None
        self.crash()  # what a mailbox refused for its size is tried again
        for _ in range(4):
            for number in range(3):
                self.run_turn(number, True)
            self.time_passes(61.0)
            self.take_delivery(1000)
        self.each_is_delivered_once_and_in_order()

    def check_all_is_everywhere(self) -> None:
        got = {(name, seq) for name, seq, _ in self.delivered}
        held = {(name, seq) for mailbox in self.mailboxes for name, seqs in mailbox.held.items() for seq in seqs}
        assert {key for key in held if key[0].log != "me"} <= got
        for mailbox in self.mailboxes:
            for name, seq in [*got, *((LogName(TOPIC, "me"), seq) for seq in self.own_seqs)]:
                assert mailbox.has_had(name, seq), (mailbox.name, name, seq)
        requests = [mailbox.requests for mailbox in self.mailboxes]
        for number in range(3):
            self.run_turn(number, True)
        assert [m.requests - before for m, before in zip(self.mailboxes, requests, strict=True)] == [1, 1, 1]


TestClient = ClientWorld.TestCase
TestClient.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

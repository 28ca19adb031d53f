"""What a client knows: per log what it holds and what its application got, per mailbox what that one lacks.

Theory of operation. A log's record has the seqs that are held (`runs`), the first that was not yet delivered
(`next_seq`) and those that came too late for their place (`late`). Delivery is in order. At a gap it waits until the
gap is filled, until every mailbox that answers has said that the gap's messages are gone, or until patience ends; then
the gap is skipped, and what turns up of it afterwards is delivered late rather than never.

How a mailbox says so: it is told our highest seq h of a log and lists what is `missing` there. What lies in a gap of
ours and is not listed is held there or was (see `protocols/toy_api.md`, watermark); a second question from below the
gap shows which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from protocols.client.runs import Run, Runs, runs_of
from protocols.limits.client import CLIENT_LOGS_PER_TOPIC_MAX, CLIENT_REFUSED_MAX, CLIENT_REGIVE_S, CLIENT_RUNS_MAX
from protocols.limits.data import SEQ_MAX
from protocols.limits.store import MISSING_MAX
from protocols.model import LogName, check_id

__all__ = ["Book", "Check", "Key", "Ledger", "Message", "Messages", "Record", "Skip"]

Key = tuple[LogName, int]
Message = tuple[LogName, int, bytes]
Check = Callable[[LogName, int, bytes], bool]


@dataclass(slots=True)
class Record:
    """One log. `written` holds the seqs that we wrote ourselves: they are not delivered to us."""

    runs: Runs = field(default_factory=Runs)
    next_seq: int = 0
    late: Runs = field(default_factory=Runs)
    written: Runs = field(default_factory=Runs)
    waits_since_s: float | None = None
    """When we began to wait at a gap; not kept over a restart, as the two below."""
    waits_for: int = -1
    """The highest seq that we held by then: patience with all gaps below it ends at the same time."""
    skips_to: int = -1
    """Gaps below it are given up."""

    @property
    def gap(self) -> Run | None:
        """The gap before what is to be delivered next."""
        held = self.runs.next_from(self.next_seq)
        return None if held is None or held == self.next_seq else (self.next_seq, held - 1)

    @property
    def skips(self) -> bool:
        """Whether that gap is given up."""
        gap = self.gap
        return gap is not None and gap[1] < self.skips_to


@dataclass(slots=True)
class Ledger:
    """One mailbox: how far our own logs are there, and which seqs are gone there for good."""

    sent: dict[LogName, int] = field(default_factory=dict)
    gone: dict[LogName, Runs] = field(default_factory=dict)
    has_met: bool = False
    """It has answered a poll since we started."""
    full_until_s: float = 0.0
    refused: set[Key] = field(default_factory=set)
    """What it does not take, until we restart."""
    given: dict[LogName, Runs] = field(default_factory=dict)
    """What it took from us of what it said was missing, since `given_from_s`."""
    given_from_s: float = 0.0


class Messages(NamedTuple):
    """Messages `first` to `last` of a log are to be delivered, in this order. `is_late`: later ones were before."""

    name: LogName
    first: int
    last: int
    is_late: bool


class Skip(NamedTuple):
    """Messages `first` to `last` of a log are given up, and delivery goes on behind them."""

    name: LogName
    first: int
    last: int


class Book:
    """All logs of some topics. `own_log` is the log in which we write, the same in each topic. Nothing here is durable:
    whoever changes it writes down what `record`, `ledger` and the results say. `check` may turn messages away, for
    example those without a good signature: they count as not received."""

    def __init__(self, own_log: str, topics: Iterable[str], *, check: Check | None = None) -> None:
        self.own_log = check_id("log", own_log)
        self._logs: dict[str, dict[str, Record]] = {check_id("topic", topic): {} for topic in topics}
        self._ledgers: dict[str, Ledger] = {}
        self._check = check
        self._ready: dict[LogName, None] = {}
        self._waiting: set[LogName] = set()
        self.rejected = 0

    # --- what is there -----------------------------------------------------------------------------------------------

    @property
    def topics(self) -> Sequence[str]:
        """Which topics it is about."""
        return list(self._logs)

    def restore(self, name: LogName, record: Record) -> None:
        """Puts a log as it was before a restart."""
        self._logs[name.topic][name.log] = record
        self._look(name)

    def record(self, name: LogName) -> Record:
        """The log's record, made if need be. Raises KeyError for a topic that is not ours."""
        return self._logs[name.topic].setdefault(name.log, Record())

    def names(self) -> Iterator[LogName]:
        """All logs."""
        return (LogName(topic, log) for topic, logs in self._logs.items() for log in logs)

    def restore_ledger(self, mailbox: str, ledger: Ledger) -> None:
        """Puts what was known of a mailbox before a restart, unless more is known since."""
        self._ledgers.setdefault(mailbox, ledger)

    def ledger(self, mailbox: str) -> Ledger:
        """What is known of a mailbox."""
        return self._ledgers.setdefault(mailbox, Ledger())

    def heights(self) -> dict[str, dict[str, int]]:
        """topic -> log -> the highest seq that we have."""
        return {
            topic: {log: record.runs.highest for log, record in logs.items() if record.runs}
            for topic, logs in self._logs.items()
        }

    # --- what comes in -----------------------------------------------------------------------------------------------

    def place(self, topic: str) -> Key:
        """The place of the next own message in `topic`. Raises KeyError for a topic that is not ours, ValueError if
        the log is at its end."""
        name = LogName(topic, self.own_log)
        seq = self.record(name).runs.highest + 1
        if seq > SEQ_MAX:
            raise ValueError("this log has no place left")
        return name, seq

    def write(self, name: LogName, seq: int) -> None:
        """An own message takes its place."""
        record = self.record(name)
        record.runs.add(seq)
        record.written.add(seq)
        if record.next_seq == seq:
            record.next_seq = seq + 1
        self._look(name)

    def take(self, name: LogName, messages: Mapping[int, bytes]) -> list[Message]:
        """Takes what a mailbox served of one log; returns what is new, in order."""
        logs = self._logs[name.topic]
        record = logs.get(name.log)
        if record is None:
            if len(logs) >= CLIENT_LOGS_PER_TOPIC_MAX:
                self.rejected += len(messages)
                return []
            record = Record()
        taken: list[Message] = []
        for seq in sorted(messages):
            if seq in record.runs:
                continue
            crowded = len(record.runs) >= CLIENT_RUNS_MAX and not record.runs.touches(seq)
            if crowded or (self._check is not None and not self._check(name, seq, messages[seq])):
                self.rejected += 1
                continue
            record.runs.add(seq)
            if seq < record.next_seq:
                record.late.add(seq)
            taken.append((name, seq, messages[seq]))
        if taken:
            logs[name.log] = record
            self._look(name)
        return taken

    # --- what goes out -----------------------------------------------------------------------------------------------

    def unsent(self, mailbox: str) -> Iterator[Key]:
        """Own messages above what the mailbox is believed to hold."""
        ledger = self.ledger(mailbox)
        for topic, logs in self._logs.items():
            name = LogName(topic, self.own_log)
            record = logs.get(self.own_log)
            if record is not None and (name in ledger.sent or ledger.has_met):
                yield from self._held_from(name, record, ledger.sent.get(name, -1) + 1)

    def behind(self, mailbox: str) -> int:
        """How many own messages the mailbox is not yet known to hold."""
        sent = self.ledger(mailbox).sent
        count = 0
        for topic, logs in self._logs.items():
            if self.own_log in logs:
                start = sent.get(LogName(topic, self.own_log), -1) + 1
                count += sum(last - max(first, start) + 1 for first, last in logs[self.own_log].runs if last >= start)
        return count

    def lacking(self, mailbox: str, name: LogName, missing: Runs, *, now_s: float) -> list[Key]:
        """What we can give of what the mailbox says is missing there, and did not give a moment ago."""
        ledger = self.ledger(mailbox)
        if now_s - ledger.given_from_s >= CLIENT_REGIVE_S:
            ledger.given, ledger.given_from_s = {}, now_s
        given = ledger.given.get(name, Runs())
        held = self.record(name).runs
        return [
            (name, seq)
            for first, last in missing
            for start, end in _common(held, first, last)
            for seq in range(start, end + 1)
            if seq not in given and (name, seq) not in ledger.refused
        ]

    def note_given(self, mailbox: str, keys: Iterable[Key]) -> None:
        """The mailbox has acknowledged these."""
        given = self.ledger(mailbox).given
        for name, seq in keys:
            given.setdefault(name, Runs()).add(seq)

    def note_refused(self, mailbox: str, key: Key) -> None:
        """The mailbox does not take this one."""
        refused = self.ledger(mailbox).refused
        if len(refused) < CLIENT_REFUSED_MAX:
            refused.add(key)

    def note_sent(self, mailbox: str, name: LogName, seq: int) -> bool:
        """The mailbox holds the own log `name` up to `seq`; returns whether that is news."""
        sent = self.ledger(mailbox).sent
        if name.log != self.own_log or seq <= sent.get(name, -1):
            return False
        sent[name] = seq
        return True

    # --- gaps --------------------------------------------------------------------------------------------------------

    def suspects(self, mailbox: str, name: LogName, missing: Sequence[int], missing_total: int, *, height: int) -> Runs:
        """Seqs in our gaps of which the mailbox, told our `height`, did not say that they are missing there: it holds
        them, or they are gone. `missing` ascends; `missing_total` is the length of all lists in its answer, for they
        may be cut."""
        record = self.record(name)
        if len(record.runs) == 1 and 0 in record.runs:
            return Runs()
        last = min(record.runs.highest, height)
        if missing:
            last = min(last, missing[-1] if missing_total >= MISSING_MAX else missing[0] + MISSING_MAX - 1)
        gone = self.ledger(mailbox).gone.get(name, Runs())
        listed = runs_of(missing)
        return Runs(
            run for gap in record.runs.gaps(0, last) for unlisted in listed.gaps(*gap) for run in gone.gaps(*unlisted)
        )

    def note_gone(self, mailbox: str, name: LogName, suspects: Runs, served: Iterable[int]) -> Runs | None:
        """Asked from below `suspects`, the mailbox served only `served`: the rest is gone there. Returns all that is
        gone there of this log if that is news."""
        here = runs_of(served)
        gone = self.ledger(mailbox).gone.setdefault(name, Runs())
        before = list(gone)
        for suspect in suspects:
            for first, last in here.gaps(*suspect):
                gone.add(first, last)
        if len(gone) > CLIENT_RUNS_MAX:
            gone = self.ledger(mailbox).gone[name] = Runs()  # it plays with us; patience decides then
        return None if list(gone) == before else gone

    def give_up(self, now_s: float, *, patience_s: float, answering: Set[str]) -> bool:
        """Looks at the gaps where delivery waits, given the mailboxes that answer at present; returns whether any is
        given up now."""
        any_given_up = False
        for name in list(self._waiting):
            record = self.record(name)
            gap = record.gap
            assert gap is not None
            if record.waits_since_s is None:
                record.waits_since_s, record.waits_for = now_s, record.runs.highest
            gone = [gap_runs.covers(*gap) for m in answering if (gap_runs := self.ledger(m).gone.get(name, Runs()))]
            everywhere = bool(answering) and len(gone) == len(answering) and all(gone)
            is_enough = now_s - record.waits_since_s >= patience_s
            if everywhere or is_enough:
                record.skips_to = record.waits_for if is_enough else gap[1] + 1
                any_given_up = True
                self._look(name)
        return any_given_up

    @property
    def is_waiting(self) -> bool:
        """Whether delivery of some log waits at a gap."""
        return bool(self._waiting)

    # --- delivery ----------------------------------------------------------------------------------------------------

    def pick(self, messages_max: int) -> Messages | Skip | None:
        """What is to be delivered next, up to so many messages; None if there is nothing."""
        while self._ready:
            name = next(iter(self._ready))
            found = self._next_of(name, messages_max)
            if found is not None:
                return found
            del self._ready[name]
        return None

    def is_taken(self, name: LogName, seq: int) -> bool:
        """Whether the application has taken this message, or nobody waits for it: it may be forgotten."""
        record = self._logs.get(name.topic, {}).get(name.log)
        return record is None or (seq < record.next_seq and seq not in record.late) or seq in record.written

    def delivered(self, name: LogName, seq: int, *, is_late: bool) -> None:
        """The application has taken a message that was picked."""
        record = self.record(name)
        if is_late:
            _remove(record, seq)
        else:
            record.next_seq = max(record.next_seq, seq + 1)
        self._look(name)

    def skipped(self, skip: Skip) -> None:
        """The application knows of a gap that was picked."""
        record = self.record(skip.name)
        for first, last in _common(record.runs, skip.first, skip.last):  # came meanwhile
            record.late.add(first, last)
        record.next_seq = max(record.next_seq, skip.last + 1)
        self._look(skip.name)

    def _next_of(self, name: LogName, messages_max: int) -> Messages | Skip | None:
        record = self.record(name)
        for first, last in record.late:
            return Messages(name, first, min(last, first + messages_max - 1), is_late=True)
        end = record.runs.last_from(record.next_seq)
        if end is not None:
            first = record.next_seq
            last = min(end, first + messages_max - 1)
            own = next(_common(record.written, first, last), None)
            return Messages(name, first, last if own is None else own[0] - 1, is_late=False)
        gap = record.gap
        return None if gap is None or not record.skips else Skip(name, *gap)

    def _look(self, name: LogName) -> None:
        """Finds out whether the log has something to deliver, and whether it waits at a gap."""
        record = self.record(name)
        while (own := record.written.last_from(record.next_seq)) is not None:
            record.next_seq = own + 1
        if record.next_seq > record.waits_for:
            record.waits_since_s = None
        self._ready.pop(name, None)  # to the end: each log in turn
        self._waiting.discard(name)
        if record.late or record.next_seq in record.runs or record.skips:
            self._ready[name] = None
        elif record.gap is not None:
            self._waiting.add(name)

    @staticmethod
    def _held_from(name: LogName, record: Record, start: int) -> Iterator[Key]:
        for first, last in list(record.runs):
            for seq in range(max(first, start), last + 1):
                yield name, seq


def _common(runs: Runs, first: int, last: int) -> Iterator[Run]:
    """The parts of `runs` from `first` to `last`."""
    at = runs.next_from(first)
    while at is not None and at <= last:
        end = runs.last_from(at)
        assert end is not None
        yield at, min(end, last)
        at = runs.next_from(end + 1)


def _remove(record: Record, seq: int) -> None:
    late = Runs()
    for first, last in record.late:
        if first <= seq <= last:
            if first < seq:
                late.add(first, seq - 1)
            if seq < last:
                late.add(seq + 1, last)
        else:
            late.add(first, last)
    record.late = late

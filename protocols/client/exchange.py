"""One conversation with one mailbox: bring what is new, ask what is new there, give what it lacks.

A generator that yields what it asks of the world and gets the results sent in; a `Refused` is thrown in where a mailbox
did not do it. What it yields to be kept must be durable, in the order in which it was yielded, before anything is done
that follows from it. So nothing is lost and nothing is told twice wherever it is broken off: what a mailbox got without
our noting it is given again, which changes nothing there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from protocols.client.answers import Cause, Refused
from protocols.client.book import Book, Key, Message
from protocols.client.runs import Runs, runs_of
from protocols.limits.client import (
    CLIENT_ASK_MEMBERS_MAX,
    CLIENT_GIVE_BYTES,
    CLIENT_GIVE_MESSAGES,
    CLIENT_MISSING_MAX,
    CLIENT_REFUSALS_MAX,
)
from protocols.limits.replication import TOY_PEER_TOPICS_MAX
from protocols.model import LogName
from protocols.toy_answers import TopicAnswer

__all__ = ["Ask", "Effect", "Give", "Keep", "Load", "NoteGone", "NoteSent", "Outcome", "exchange"]

Query: TypeAlias = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Ask:
    """A get: topic -> log -> height. Gives a mapping of topic to TopicAnswer."""

    query: Query


@dataclass(frozen=True, slots=True)
class Give:
    """A store. Gives the watermarks that the mailbox told, if any: a mapping of LogName to int or None."""

    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Load:
    """Gives the blobs of these messages, None for each that was forgotten."""

    keys: Sequence[Key]


@dataclass(frozen=True, slots=True)
class Keep:
    """Received messages, to be kept with the records of their logs."""

    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class NoteSent:
    """The mailbox holds own logs up to these seqs."""

    sent: Mapping[LogName, int]


@dataclass(frozen=True, slots=True)
class NoteGone:
    """All seqs of a log that are gone at the mailbox."""

    name: LogName
    gone: Runs


Effect: TypeAlias = Ask | Give | Load | Keep | NoteSent | NoteGone
Steps: TypeAlias = Generator[Effect, Any, None]


@dataclass(slots=True)
class Outcome:
    """How it went. `refused` is why it failed or is not complete, None if all is well."""

    received: int = 0
    given: int = 0
    refused: Refused | None = None

    @property
    def failed(self) -> bool:
        """Whether the mailbox is out of order for us; one that is only full is not."""
        return self.refused is not None and self.refused.cause is not Cause.FULL


def exchange(book: Book, mailbox: str, *, polls: bool, now_s: float) -> Generator[Effect, Any, Outcome]:
    """One turn with `mailbox`; without `polls` only own messages are brought. `now_s` is a steady clock's time."""
    talk = _Exchange(book, mailbox, now_s)
    try:
        yield from talk.bring()
        if polls:
            yield from talk.poll()
            talk.ledger.has_met = True
            yield from talk.bring()
        talk.outcome.refused = talk.fullness or (Refused(Cause.FULL, "it is full") if talk.is_full else None)
    except Refused as refused:
        talk.outcome.refused = refused
    return talk.outcome


class _Exchange:
    def __init__(self, book: Book, mailbox: str, now_s: float) -> None:
        self.outcome = Outcome()
        self.ledger = book.ledger(mailbox)
        self.fullness: Refused | None = None
        self._book = book
        self._mailbox = mailbox
        self._now_s = now_s
        self._refusals = 0

    # --- giving ------------------------------------------------------------------------------------------------------

    def bring(self) -> Steps:
        """Own messages that the mailbox is not believed to hold."""
        unsent = self._book.unsent(self._mailbox)
        while not self.is_full and (keys := list(islice(unsent, CLIENT_GIVE_MESSAGES))):
            yield from self._give(keys)
            if not self.is_full:
                yield from self._note_sent(keys)  # also those that we have forgotten

    @property
    def is_full(self) -> bool:
        """Whether it takes nothing for now."""
        return self._now_s < self.ledger.full_until_s

    def _give(self, keys: Sequence[Key]) -> Steps:
        """Raises Refused; not because the mailbox is full, which is noted."""
        for start in range(0, len(keys), CLIENT_GIVE_MESSAGES):
            part = keys[start : start + CLIENT_GIVE_MESSAGES]
            blobs = yield Load(part)
            messages = [(*key, blob) for key, blob in zip(part, blobs, strict=True) if blob is not None]
            for batch in _batches(messages):
                try:
                    yield from self._store(batch)
                except Refused as refused:
                    if refused.cause is not Cause.FULL:
                        raise
                    self.fullness = refused
                    self.ledger.full_until_s = self._now_s + refused.retry_after_s
                    return

    def _store(self, messages: Sequence[Message]) -> Steps:
        """Stores the messages; those that the mailbox does not take are found by halving and left out from then on."""
        try:
            watermarks = yield Give(messages)
        except Refused as refused:
            if refused.cause not in (Cause.TOO_LARGE, Cause.BAD) or self._refusals >= CLIENT_REFUSALS_MAX:
                raise
            if len(messages) == 1:
                self._refusals += 1
                self._book.note_refused(self._mailbox, messages[0][:2])
                return
            yield from self._store(messages[: len(messages) // 2])
            yield from self._store(messages[len(messages) // 2 :])
            return
        self.outcome.given += len(messages)
        self._book.note_given(self._mailbox, (message[:2] for message in messages))
        yield from self._note_sent((name, mark) for name, mark in watermarks.items() if mark is not None)
        yield from self._note_sent((name, seq) for name, seq, _ in messages)  # they go in order: so far it has them

    def _note_sent(self, marks: Iterable[Key]) -> Steps:
        news = {name: seq for name, seq in marks if self._book.note_sent(self._mailbox, name, seq)}
        if news:
            yield NoteSent(news)

    # --- asking ------------------------------------------------------------------------------------------------------

    def poll(self) -> Steps:
        """Asks for all that is new in all topics, and gives what is missing there."""
        for query in _parts(self._book.heights()):
            yield from self._ask(query)

    def _ask(self, query: Query) -> Steps:
        try:
            answers = _bounded((yield Ask(query)))
        except Refused as refused:
            if refused.cause is not Cause.TOO_LARGE or len(query) < 2:
                raise
            half = len(query) // 2
            yield from self._ask(dict(islice(query.items(), half)))
            yield from self._ask(dict(islice(query.items(), half, None)))
            return
        yield from self._take(query, answers)
        yield from self._look_into_gaps(query, answers)
        yield from self._give_missing(query, answers)

    def _take(self, query: Query, answers: Mapping[str, TopicAnswer]) -> Steps:
        taken: list[Message] = []
        for topic in query:
            if topic in answers:
                for log, messages in answers[topic].messages.items():
                    taken += self._book.take(LogName(topic, log), messages)
        if taken:
            self.outcome.received += len(taken)
            yield Keep(taken)

    def _give_missing(self, query: Query, answers: Mapping[str, TopicAnswer]) -> Steps:
        lacking: list[Key] = []
        complete: dict[LogName, int] = {}
        for topic, heights in query.items():
            missing = answers[topic].missing if topic in answers else {}
            for log, height in heights.items():
                name = LogName(topic, log)
                complete[name] = height
                if log in missing:
                    lacking += self._book.lacking(
                        self._mailbox, name, runs_of(seq for seq in missing[log] if seq <= height), now_s=self._now_s
                    )
        if lacking:
            if not self.is_full:
                yield from self._give(lacking)
            if self.is_full:  # who was not given what it lacks does not hold the log
                for name, _ in lacking:
                    complete.pop(name, None)
        yield from self._note_sent((name, seq) for name, seq in complete.items() if name.log == self._book.own_log)

    # --- gaps --------------------------------------------------------------------------------------------------------

    def _look_into_gaps(self, query: Query, answers: Mapping[str, TopicAnswer]) -> Steps:
        """Asks from below our gaps, where the mailbox may hold what is in them or may know that it is gone."""
        suspects = self._suspects(query, answers)
        fresh: dict[str, dict[str, int]] = {}
        heights = self._book.heights()
        for topic, asked in query.items():
            new = {log: height for log, height in heights[topic].items() if log not in asked}
            if any(LogName(topic, log) for log in new if self._book.record(LogName(topic, log)).gap):
                fresh[topic] = heights[topic]  # a log new to us has a gap: only with its height we learn more
        if fresh:
            answer = _bounded((yield Ask(fresh)))
            yield from self._take(fresh, answer)
            suspects |= self._suspects(fresh, answer)
        if not suspects:
            return
        below: dict[str, dict[str, int]] = {}
        heights = self._book.heights()
        for name, runs in suspects.items():
            first = next(iter(runs))[0]
            asked = below.setdefault(name.topic, heights[name.topic])
            if first:
                asked[name.log] = first - 1
            else:
                del asked[name.log]
        answer = yield Ask(below)
        yield from self._take(below, answer)
        for name, runs in suspects.items():
            if name.topic in answer:
                served = answer[name.topic].messages.get(name.log, {})
                gone = self._book.note_gone(self._mailbox, name, runs, served)
                if gone is not None:
                    yield NoteGone(name, gone)

    def _suspects(self, query: Query, answers: Mapping[str, TopicAnswer]) -> dict[LogName, Runs]:
        total = sum(len(seqs) for answer in answers.values() for seqs in answer.missing.values())
        found: dict[LogName, Runs] = {}
        for topic, heights in query.items():
            if topic not in answers:
                continue
            for log in heights:
                name = LogName(topic, log)
                missing = sorted(answers[topic].missing.get(log, ()))
                runs = self._book.suspects(self._mailbox, name, missing, total, height=heights[log])
                if runs:
                    found[name] = runs
        return found


def _bounded(answers: Mapping[str, TopicAnswer]) -> Mapping[str, TopicAnswer]:
    """The answers with lists of missing seqs that can be worked through, cut as a mailbox cuts them: at the end, but
    never left out."""
    lists = [seqs for answer in answers.values() for seqs in answer.missing.values()]
    if sum(map(len, lists)) <= CLIENT_MISSING_MAX:
        return answers
    left = CLIENT_MISSING_MAX
    bounded: dict[str, TopicAnswer] = {}
    for topic, answer in answers.items():
        missing: dict[str, Sequence[int]] = {}
        for log, seqs in answer.missing.items():
            missing[log] = seqs[: max(1, left)]
            left -= len(missing[log])
        bounded[topic] = TopicAnswer(answer.messages, missing)
    return bounded


def _batches(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """In requests that even the oldest generation takes."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        if batch and size + len(message[2]) > CLIENT_GIVE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += len(message[2])
    if batch:
        yield batch


def _parts(heights: Query) -> Iterator[Query]:
    part: dict[str, Mapping[str, int]] = {}
    members = 0
    for topic, logs in heights.items():
        full = len(part) >= TOY_PEER_TOPICS_MAX or members + len(logs) > CLIENT_ASK_MEMBERS_MAX
        if part and full:
            yield part
            part, members = {}, 0
        part[topic] = logs
        members += 1 + len(logs)
    if part:
        yield part

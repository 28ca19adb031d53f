"""`mailboxd bench reconcile`: what it costs two mailboxes to find out what they don't have in common.

The protocol's own code on both sides, over indexes of known content: every question and answer is encoded and decoded
as on the wire, but nothing is sent, and no message is moved. What was found is compared with what there was to be
found.
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt
import trio
from blake3 import blake3

from node.bench.pair import LOG_MESSAGES, Pair, Side, make_pair
from node.bench.rates import BenchError
from node.bench.yardstick import negentropy, negentropy_bytes
from node.core import VERSION
from node.sync.index import IndexView
from protocols.limits.sync import SALT_BYTES, SYNC_VERSION_MAX
from protocols.model import Retention
from protocols.sync import answers
from protocols.sync.codec import decode, encode
from protocols.sync.common import Checkpoint, Context, PeerInfo, SessionConfig, SessionResult
from protocols.sync.effects import Send
from protocols.sync.messages import Hello, Message, Named, Names, News, Standing, Survey, Surveyed
from protocols.sync.reconcile import session_key
from protocols.sync.search import Reply, Search
from protocols.sync.session import initiate, respond
from protocols.sync.wire import encode_frame
from protocols.sync.work import Portion, Work

__all__ = ["ReconcileCase", "Requests", "measure_pair", "measure_reconcile"]

_REPETITIONS_MIN: Final = 5
_REPETITIONS_MAX: Final = 100
_MEASURING_S: Final = 0.5
"""How long the repetitions of a case go on, once there are enough of them."""

_ROWS: Final = 1_000_000
_ROW_BYTES: Final = 32
_HASHING_ROUNDS: Final = 10

_SALT_BYTES: Final = SALT_BYTES + 2
"""The salt and its header: what the hello holds for the sake of reconciliation."""

_HELLOS_BYTES: Final = _SALT_BYTES + 2 * 4
"""What the first question and answer need less when they travel in the hellos: the salt is counted there, and so are
the length prefixes."""

_NETWORK: Final = "main"


@dataclass(slots=True)
class Requests:
    """Questions of one kind, and the answers to them; frames with their length prefixes."""

    count: int = 0
    question_bytes: int = 0
    reply_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ReconcileCase:
    """What finding the differences costs; CPU is that of one thread, the best and the median of `repetitions`.

    `bytes` are questions, answers and the salt, both ways; the hellos around them (`handshake_bytes`) are the same
    whatever there is to be found. To a fresh mailbox `bytes`, `round_trips` and CPU say what it lacks; the names of the
    logs, which negentropy has no equal of, are counted apart (`names_…`). `session_bytes` is everything together.
    `frame_bytes_max` is the longest frame. `bound_bytes` is the least that can say which of the places that there are
    hold a difference. Ratios are to negentropy, None where that was not measured.
    """

    messages: int
    logs: int
    shape: str
    changed: int
    changed_logs: int
    mode: str
    correct: bool
    bytes: int
    round_trips: int
    cpu_ms: float
    cpu_ms_initiator: float
    cpu_ms_responder: float
    cpu_ms_median: float
    repetitions: int
    names_bytes: int
    names_round_trips: int
    names_cpu_ms: float
    handshake_bytes: int
    session_bytes: int
    frame_bytes_max: int
    requests: Mapping[str, Requests]
    build_ms: float
    update_ms: float
    index_bytes_per_message: float
    hash_1m_rows_ms: float
    bound_bytes: int
    negentropy_bytes: int | None
    negentropy_round_trips: int | None
    ratio_bytes: float | None


async def measure_reconcile(
    *, messages: int, changed: int, shape: str, modes: Iterable[str], progress: Callable[[str], None]
) -> list[ReconcileCase]:
    """Raises BenchError, also if not exactly the differences were found."""
    progress(f"{messages:,} messages: making two mailboxes ({shape}, {changed:,})")
    pair = await make_pair(messages, shape, changed)
    cases = []
    for mode in modes:
        progress(f"{messages:,} messages, {shape}, {changed:,}: {mode}")
        cases.append(await measure_pair(pair, mode))
    return cases


async def measure_pair(pair: Pair, mode: str) -> ReconcileCase:
    """One case. Raises BenchError."""
    handshake_bytes = _handshake_bytes(pair, mode)
    runs: list[_Run] = []
    with _without_garbage_collection():
        begun_s = time.perf_counter()
        while len(runs) < _REPETITIONS_MIN or (
            len(runs) < _REPETITIONS_MAX and time.perf_counter() < begun_s + _MEASURING_S
        ):
            runs.append(_play(pair, mode))
            await trio.lowlevel.checkpoint()
    best = min(runs, key=lambda run: run.cpu_ms)
    if any((run.traffic_bytes, run.round_trips) != (best.traffic_bytes, best.round_trips) for run in runs):
        raise BenchError("the same differences did not cost the same each time")
    # Whatever the shape of no difference is called, it is the same.
    place = (pair.messages, pair.shape if pair.changed else "none", pair.changed)
    other, other_bytes = negentropy(*place), negentropy_bytes(*place)
    return ReconcileCase(
        messages=pair.messages,
        logs=len(pair.numbers),
        shape=pair.shape,
        changed=pair.changed,
        changed_logs=pair.changed_logs,
        mode=mode,
        correct=True,
        bytes=best.traffic_bytes,
        round_trips=best.round_trips,
        cpu_ms=best.cpu_ms,
        cpu_ms_initiator=best.initiator_ms,
        cpu_ms_responder=best.responder_ms,
        cpu_ms_median=median(run.cpu_ms for run in runs),
        repetitions=len(runs),
        names_bytes=best.names_bytes,
        names_round_trips=best.names_round_trips,
        names_cpu_ms=min(run.names_ms for run in runs),
        handshake_bytes=handshake_bytes,
        session_bytes=handshake_bytes + best.traffic_bytes + best.names_bytes - _HELLOS_BYTES,
        frame_bytes_max=best.frame_bytes_max,
        requests=best.requests,
        build_ms=pair.build_ms,
        update_ms=max(pair.initiator.update_ms, pair.responder.update_ms),
        index_bytes_per_message=pair.index_bytes_per_message,
        hash_1m_rows_ms=hash_1m_rows_ms(),
        bound_bytes=_bound_bytes(pair),
        negentropy_bytes=other_bytes,
        negentropy_round_trips=None if other is None else other.round_trips,
        ratio_bytes=None if other_bytes is None else best.traffic_bytes / other_bytes,
    )


@cache
def hash_1m_rows_ms() -> float:
    """What hashing the rows of a million logs takes on this machine, the best of several rounds."""
    rows, key = os.urandom(_ROW_BYTES * _ROWS), os.urandom(32)
    rounds_ms = []
    for _ in range(_HASHING_ROUNDS):
        begun_s = time.thread_time()
        blake3(rows, key=key).digest()
        rounds_ms.append(1000 * (time.thread_time() - begun_s))
    return min(rounds_ms)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """It would strike at one repetition and not at another; a session makes next to no garbage that needs it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _bound_bytes(pair: Pair) -> int:
    """As many bits as tell apart all the ways in which so many of the places in question can be held by one side only,
    and by which: the places are messages, or (tail) ends of logs."""
    if pair.shape == "fresh":
        return 0  # that it has nothing
    places = len(pair.numbers) if pair.shape == "tail" else pair.messages
    chosen = min(pair.changed, places)
    ways = math.lgamma(places + 1) - math.lgamma(chosen + 1) - math.lgamma(places - chosen + 1)
    return math.ceil((ways / math.log(2) + chosen) / 8)


# --- one session ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Run:
    """What one session costs."""

    traffic_bytes: int = _SALT_BYTES
    round_trips: int = 0
    initiator_ms: float = 0.0
    responder_ms: float = 0.0
    names_bytes: int = 0
    names_round_trips: int = 0
    names_ms: float = 0.0
    frame_bytes_max: int = 0
    requests: dict[str, Requests] = field(default_factory=dict)

    @property
    def cpu_ms(self) -> float:
        return self.initiator_ms + self.responder_ms

    def note(self, kind: str, asked: bytes, answered: bytes, cpu_s: tuple[float, float], *, apart: bool) -> None:
        """One question and its answer, and what each side has spent on them."""
        asked_bytes, answered_bytes = len(encode_frame(asked)), len(encode_frame(answered))
        self.frame_bytes_max = max(self.frame_bytes_max, asked_bytes, answered_bytes)
        requests = self.requests.setdefault(kind, Requests())
        requests.count += 1
        requests.question_bytes += asked_bytes
        requests.reply_bytes += answered_bytes
        if apart:
            self.names_bytes += asked_bytes + answered_bytes
            self.names_round_trips += 1
            self.names_ms += 1000 * sum(cpu_s)
        else:
            self.traffic_bytes += asked_bytes + answered_bytes
            self.round_trips += 1
            self.initiator_ms += 1000 * cpu_s[0]
            self.responder_ms += 1000 * cpu_s[1]


def _play(pair: Pair, mode: str) -> _Run:
    """Asks and answers until the initiator knows all differences. Raises BenchError if they aren't the true ones."""
    run = _Run()
    config = _config(pair.initiator, mode)
    pictures = pair.initiator.picture(), pair.responder.picture()
    responder: Context | None = None
    asking_s, answering_s = _Stopwatch(), _Stopwatch()
    with asking_s:
        initiator = _context(config, config, pictures[0])
        work = Work(initiator)
        search = Search(initiator, work, again=False)
        question = search.opening()
        asked = encode(question)
    while True:
        with answering_s:
            if responder is None:
                responder = _context(_config(pair.responder, mode), config, pictures[1])
            answered = encode(_answer(responder, decode(asked)))
        with asking_s:
            reply = decode(answered)
            assert isinstance(reply, Standing | Surveyed | Named)
            search.take(reply)
        run.note(
            type(question).__name__,
            asked,
            answered,
            (asking_s.read(), answering_s.read()),
            apart=pair.shape == "fresh" and isinstance(question, Names),
        )
        if search.finished:
            break
        if search.asks_items:
            raise BenchError("the two mailboxes took a log that differs for one that is the same")
        with asking_s:
            question = search.question()
            asked = encode(question)
    _check(pair, work)
    return run


class _Stopwatch:
    """CPU time of this thread."""

    def __init__(self) -> None:
        self._spent_s = 0.0
        self._begun_s = 0.0

    def __enter__(self) -> None:
        self._begun_s = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self._spent_s += time.thread_time() - self._begun_s

    def read(self) -> float:
        """Seconds since it was read last."""
        spent_s, self._spent_s = self._spent_s, 0.0
        return spent_s


def _answer(context: Context, question: Message) -> Reply:
    match question:
        case News():
            return answers.news(context, question)
        case Survey():
            return answers.surveyed(context, question)
        case Names():
            return answers.named(context, question)
        case _:
            raise BenchError(f"the initiator asks {type(question).__name__}")


def _config(side: Side, mode: str) -> SessionConfig:
    return SessionConfig(
        now_s=time.time(),
        retention=Retention(),
        network=_NETWORK,
        software=f"mailboxd/{VERSION}",
        salt=os.urandom(SALT_BYTES),
        checkpoint=Checkpoint(side.since) if mode == "warm" else None,
    )


def _context(config: SessionConfig, initiator: SessionConfig, picture: IndexView) -> Context:
    peer = PeerInfo(SYNC_VERSION_MAX, config.software, 0.0, config.retention, int(config.now_s))
    alive_from_s = initiator.alive_from_s
    return Context(config, peer, alive_from_s, session_key(initiator.salt, alive_from_s), picture, SessionResult())


def _handshake_bytes(pair: Pair, mode: str) -> int:
    """The two hellos of a real session, without the first question and answer that are in them."""
    ours, theirs = initiate(_config(pair.initiator, mode)), respond(_config(pair.responder, mode))
    next(ours)
    hello = ours.send(pair.initiator.picture())
    assert isinstance(hello, Send)
    next(theirs)
    theirs.send(hello.frame)
    reply = theirs.send(pair.responder.picture())
    assert isinstance(reply, Send)
    size = 0
    for sent in (hello, reply):
        said = decode(sent.frame)
        assert isinstance(said, Hello)
        assert said.first
        size += len(encode_frame(sent.frame)) - len(said.first)
    return size


# --- what was found -------------------------------------------------------------------------------------------------


def _check(pair: Pair, work: Work) -> None:
    """Whether exactly those messages were found that are on one side only. Raises BenchError."""
    needs, offers = np.zeros_like(pair.initiator.held), np.zeros_like(pair.initiator.held)
    while not work.empty:
        if work.take_merges() or work.merges_mine or work.watermarks:
            raise BenchError("dates were found to differ that are the same")
        _mark(needs, pair, work.take_needs())
        _mark(offers, pair, work.take_offers())
    lacking = pair.responder.held & ~pair.initiator.held, pair.initiator.held & ~pair.responder.held
    for found, true, what in ((needs, lacking[0], "lacks"), (offers, lacking[1], "has alone")):
        if not np.array_equal(found, true):
            raise BenchError(
                f"of {int(true.sum()):,} messages that the initiator {what}, {int((found & true).sum()):,} were found, "
                f"and {int((found & ~true).sum()):,} others"
            )


def _mark(found: npt.NDArray[np.bool_], pair: Pair, portion: Portion) -> None:
    for log, spans in portion.logs:
        row = found[pair.numbers[log.name]]
        for first, last in spans:
            if last >= LOG_MESSAGES or row[first : last + 1].any():
                raise BenchError(f"messages {first} to {last} of a log were found that has {LOG_MESSAGES}, or twice")
            row[first : last + 1] = True

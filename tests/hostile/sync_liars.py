"""Hand-written sides of sync sessions, for lies that no honest code can tell."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np

from protocols.errors import RemoteProtocolError
from protocols.limits.sync import SALT_BYTES
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.sync.codec import decode, encode
from protocols.sync.effects import Receive, Runs, Send
from protocols.sync.listing import Entries, Listing
from protocols.sync.messages import (
    Done,
    Hello,
    Message,
    Parcel,
    Refuse,
)
from protocols.sync.session import Checkpoint, SessionConfig, SessionResult, initiate, respond
from tests.protocols.sync.parcel_logs import parcel_log
from tests.protocols.sync.world import NOW_S, Box, Outcome, Side, name_of, run_pair

Steps = Generator[Any, Any, Any]
BLOB = b"a lie"
LOG = LogName("topic", "log")
HANDLE = handle_of(LOG)
STAMP_S = int(NOW_S) // 3600 * 3600
ITEM = Item(0, digest_of(BLOB), STAMP_S, len(BLOB))


def mailbox(logs: int = 200) -> Box:
    box = Box()
    for log in range(logs):
        for seq in range(3):
            box.put(name_of(log), seq, b"%d/%d" % (log, seq))
    return box


def entries(*spans: Sequence[tuple[int, int]]) -> Entries:
    return Entries(
        Runs(
            np.array([len(one) for one in spans], np.int64),
            np.array([first for one in spans for first, _ in one], np.uint64),
            np.array([last for one in spans for _, last in one], np.uint64),
        ),
        np.zeros(len(spans), np.bool_),
    )


def listing(handle: bytes, *spans: tuple[int, int]) -> Listing:
    """One log."""
    return Listing(64, np.array([int.from_bytes(handle[:8], "big")], np.uint64), entries(spans))


def hello(box: Box, first: Message | None = None, *, salt: bytes = b"", **changes: Any) -> Hello:
    config: SessionConfig = box.config()
    fields: dict[str, Any] = {
        "version_min": 2,
        "version_max": 2,
        "network": config.network,
        "now_s": int(config.now_s),
        "retention_s": config.retention.retention_s,
        "alive_from_s": config.alive_from_s,
        "software": "liar/1",
        "salt": salt,
        "first": encode(first) if first is not None else b"",
    }
    return Hello(**fields | changes)


def say(*messages: Message) -> Steps:
    for message in messages:
        yield Send(encode(message))


def hear() -> Steps:
    frame = yield Receive()
    return None if frame is None else decode(frame)


def liar_as_responder(tells: Iterator[Message], box: Box, heard: list[Message]) -> Steps:
    """Answers the hello with the first of `tells`, and whatever comes with the next."""
    heard.append((yield from hear()))
    yield from say(hello(box, next(tells)))
    while True:
        message = yield from hear()
        heard.append(message)
        if message is None or isinstance(message, (Refuse, Done)):
            return SessionResult()
        answer = next(tells, None)
        if answer is None:
            return SessionResult()
        yield from say(answer)


def attack_initiator(
    tells: Iterator[Message], *, box: Box | None = None, checkpoint: Checkpoint | None = None
) -> tuple[Outcome, list[Message], Box]:
    box = box or mailbox()
    heard: list[Message] = []
    outcome = run_pair(
        Side(box, initiate(box.config(checkpoint=checkpoint))),
        Side(Box(), liar_as_responder(tells, box, heard)),
        frames_max=40_000,
        polite=False,
    )
    return outcome, heard, box


def liar_as_initiator(script: Callable[[Box], Steps], box: Box, heard: list[Message]) -> Steps:
    yield from say(hello(box, salt=bytes(SALT_BYTES)))
    heard.append((yield from hear()))
    yield from script(box)
    while (message := (yield from hear())) is not None:
        heard.append(message)
    return SessionResult()


def attack_responder(script: Callable[[Box], Steps], *, box: Box | None = None) -> tuple[Outcome, list[Message], Box]:
    box = box or mailbox()
    heard: list[Message] = []
    outcome = run_pair(
        Side(box, liar_as_initiator(script, box, heard)),
        Side(box, respond(box.config())),
        frames_max=40_000,
        polite=False,
    )
    return outcome, heard, box


def code_of(error: BaseException | None) -> str:
    assert isinstance(error, RemoteProtocolError), repr(error)
    return error.code


def told_of(heard: list[Message]) -> str:
    refusals = [message.code for message in heard if isinstance(message, Refuse)]
    assert len(refusals) == 1, heard
    return refusals[0]


def part(*headers: tuple[int, int, int], data: bytes = b"", number: int = 0, **more: Any) -> Parcel:
    return Parcel([parcel_log(number, None, headers)] if headers else [], data, **more)

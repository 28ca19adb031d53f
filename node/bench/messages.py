"""The messages that are stored and transferred: any one of them can be made again from its place, on every machine.

Log number n has LOGS_PER_TOPIC neighbours in its topic. Contents look as encrypted ones do: they can't be compressed,
and no two are equal.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from blake3 import blake3

from node.store.api import Arrival
from protocols.model import LogName, Retention, digest_of

__all__ = ["LOGS_PER_TOPIC", "arrival_at", "in_batches", "log_by_log", "log_name", "scattered", "stamp_now_s"]

LOGS_PER_TOPIC: Final = 5


def log_name(log: int) -> LogName:
    """Ids of 64 hex digits, as the app has them."""
    topic = blake3(b"topic %d" % (log // LOGS_PER_TOPIC)).hexdigest()
    return LogName(topic, blake3(b"log %d" % log).hexdigest())


def stamp_now_s() -> int:
    """`first stored` of what is stored now: a mailbox that starts on it must not take it for expired."""
    return Retention().stamp(time.time())


def arrival_at(name: LogName, seq: int, blob_bytes: int, first_stored_s: int) -> Arrival:
    """The message at a place."""
    blob = blake3(f"{name.log} {seq}".encode()).digest(length=blob_bytes)
    return Arrival(name, seq, blob, digest_of(blob), first_stored_s)


def scattered(messages: int, *, logs: int, blob_bytes: int, first_log: int = 0) -> Iterator[Arrival]:
    """`messages` in order of arrival as phones send them: each belongs to a random one of `logs` logs,
    which are numbered from `first_log`."""
    chance = random.Random(1)
    names = [log_name(first_log + log) for log in range(logs)]
    following = [0] * logs
    first_stored_s = stamp_now_s()
    for _ in range(messages):
        log = chance.randrange(logs)
        yield arrival_at(names[log], following[log], blob_bytes, first_stored_s)
        following[log] += 1


def log_by_log(places: Iterable[tuple[int, int]], *, blob_bytes: int) -> Iterator[Arrival]:
    """All messages of each (log number, length), one log after the other."""
    first_stored_s = stamp_now_s()
    for log, length in places:
        name = log_name(log)
        for seq in range(length):
            yield arrival_at(name, seq, blob_bytes, first_stored_s)


def in_batches(arrivals: Iterable[Arrival], messages: int) -> Iterator[list[Arrival]]:
    """The same in lists of `messages`, the last one shorter."""
    source = iter(arrivals)
    while batch := list(islice(source, messages)):
        yield batch

"""What requests come to that share a transaction: the same as if each had one of its own."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from node.store import _ledger
from node.store._budget import Budget
from node.store._ledger import Ledger
from node.store._schema import connect_writer, prepare
from node.store.api import Arrival, Change, PutResult
from protocols.model import LogName, digest_of

TABLES = ("topics", "logs", "watermarks", "messages", "blobs")
LOGS = [LogName("t", "a"), LogName("t", "b"), LogName("u", "a")]

ARRIVAL = st.builds(
    lambda log, seq, content, first_s: Arrival(LOGS[log], seq, bytes([content]), digest_of(bytes([content])), first_s),
    st.integers(0, 2),
    st.integers(0, 6),
    st.sampled_from((0, 0, 0, *range(1, 12))),
    st.integers(0, 3),
)
REQUESTS = st.lists(st.lists(ARRIVAL, min_size=1, max_size=6), max_size=12)


@contextmanager
def ledger() -> Iterator[tuple[Ledger, sqlite3.Connection]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "store")
        prepare(path)
        with closing(connect_writer(path)) as connection:
            tested = Ledger(connection, budget=Budget(None))
            tested.salt = b"the same for all"
            with mock.patch.object(_ledger, "time", mock.Mock(time=lambda: 0)):
                yield tested, connection


@settings(deadline=None)
@given(REQUESTS, st.sampled_from((1, 2, 100)))
def test_requests_may_share_a_transaction(requests: Sequence[Sequence[Arrival]], remembered_logs: int) -> None:
    outcomes: list[tuple[list[tuple[PutResult, Change]], dict[str, list[object]]]] = []
    with mock.patch.object(_ledger, "LOG_CACHE_MAX", remembered_logs):
        for together in (False, True):
            with ledger() as (tested, connection):
                results: list[tuple[PutResult, Change]] = []
                if together:
                    with tested.transaction():
                        results += [tested.put(arrivals, None) for arrivals in requests]
                else:
                    for arrivals in requests:
                        with tested.transaction():
                            results.append(tested.put(arrivals, None))
                tables = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
                outcomes.append((results, tables))
    assert outcomes[0] == outcomes[1]

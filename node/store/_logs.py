"""Rows of logs, found and made many at a time: each statement lets go of Python's lock and has to get it back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from node.store._evicted import EvictedSpan
from node.store._schema import SEQ_OFFSET, one
from protocols.model import LogName

__all__ = ["Log", "MadeLogs", "evicted_of", "find_logs", "make_logs"]

# One row with everything: each row, too, would let go of the lock.
_FIND: Final = (
    "SELECT json_group_array(json_array(j.key, l.id, l.topic, w.seq, l.emptied IS NULL,"
    " (SELECT max(seq) FROM messages m WHERE m.log = l.id)))"
    " FROM json_each(?) j CROSS JOIN topics t ON t.topic = json_extract(j.value, '$[0]')"
    " CROSS JOIN logs l ON l.topic = t.id AND l.log = json_extract(j.value, '$[1]')"
    " LEFT JOIN watermarks w ON w.log = l.id"
)
_TOPICS: Final = (
    "SELECT (SELECT max(id) FROM topics), (SELECT max(id) FROM logs), json_group_array(json_array(j.key, t.id,"
    " EXISTS (SELECT 1 FROM logs WHERE topic = t.id AND emptied IS NULL)))"
    " FROM json_each(?) j CROSS JOIN topics t ON t.topic = j.value"
)
_ADD_TOPICS: Final = (
    "INSERT INTO topics (id, topic, born) SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), ?"
    " FROM json_each(?)"
)
_ADD_LOGS: Final = (
    "INSERT INTO logs (id, topic, log) SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'),"
    " json_extract(value, '$[2]') FROM json_each(?)"
)


@dataclass(slots=True)
class Log:
    """What the writer knows of a log. `top` is at least the highest seq held, -1 if there is none."""

    id: int
    topic_id: int
    watermark: int | None
    top: int
    is_live: bool


def _listed(values: Sequence[object]) -> str:
    return json.dumps(
        values, ensure_ascii=False
    )  # so that what is no text is refused, and not stored as something else


def find_logs(connection: sqlite3.Connection, names: Sequence[LogName]) -> dict[LogName, Log]:
    """Those of these logs that there are. Raises sqlite3.Error."""
    found: dict[LogName, Log] = {}
    rows = json.loads(one(connection, _FIND, (_listed(names),)))
    for at, log_id, topic_id, watermark, is_live, top in rows:
        found[names[at]] = Log(
            log_id,
            topic_id,
            None if watermark is None else watermark + SEQ_OFFSET,
            -1 if top is None else top + SEQ_OFFSET,
            bool(is_live),
        )
    return found


def evicted_of(connection: sqlite3.Connection, log_id: int | None) -> list[EvictedSpan]:
    """What was let go of a log to make room, ascending. Raises sqlite3.Error."""
    return [
        EvictedSpan(first + SEQ_OFFSET, last + SEQ_OFFSET, first_stored_s)
        for first, last, first_stored_s in connection.execute(
            "SELECT first, last, first_stored FROM evicted WHERE log = ? ORDER BY first", (log_id,)
        )
    ]


class MadeLogs(NamedTuple):
    """New logs, the ids of topics that are new as well, and how many of all their topics had no live log."""

    logs: dict[LogName, Log]
    topics_born: Sequence[int]
    topics_revived: int


def make_logs(connection: sqlite3.Connection, names: Sequence[LogName], now_s: int) -> MadeLogs:
    """Makes logs that there are not, each named once. Raises sqlite3.Error."""
    topics = list(dict.fromkeys(name.topic for name in names))
    last_topic_id, last_log_id, rows = connection.execute(_TOPICS, (_listed(topics),)).fetchone()
    ids: dict[str, int] = {}
    live = 0
    for at, topic_id, has_live_logs in json.loads(rows):
        ids[topics[at]] = topic_id
        live += has_live_logs
    new = [topic for topic in topics if topic not in ids]
    born = range((last_topic_id or 0) + 1, (last_topic_id or 0) + 1 + len(new))
    if new:
        connection.execute(_ADD_TOPICS, (now_s, _listed(list(zip(born, new, strict=True)))))
        ids.update(zip(new, born, strict=True))
    logs = {
        name: Log(log_id, ids[name.topic], None, -1, is_live=True)
        for log_id, name in enumerate(names, (last_log_id or 0) + 1)
    }
    connection.execute(_ADD_LOGS, (_listed([(log.id, log.topic_id, name.log) for name, log in logs.items()]),))
    return MadeLogs(logs, born, len(topics) - live)

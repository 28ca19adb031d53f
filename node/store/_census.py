"""What is stored, counted by topic: for people who look, not for any decision."""

from __future__ import annotations

import sqlite3

from node.store.api import Census, TopicShare

__all__ = ["census"]

_SHARES = (
    "SELECT topics.topic, sum(per_log.messages), sum(per_log.bytes) AS size FROM"
    " (SELECT log, count(*) AS messages, total(size) AS bytes FROM messages GROUP BY log) AS per_log"
    " JOIN logs ON logs.id = per_log.log JOIN topics ON topics.id = logs.topic"
    " GROUP BY topics.id ORDER BY size DESC, topics.topic LIMIT ?"
)


def census(connection: sqlite3.Connection, topics_max: int) -> Census:
    """See `Store.census`. Reads the keys of everything, no blobs."""
    (oldest_s,) = connection.execute("SELECT min(first_stored) FROM messages").fetchone()
    shares = connection.execute(_SHARES, (topics_max,)).fetchall()
    return Census(oldest_s, [TopicShare(topic, messages, int(size)) for topic, messages, size in shares])

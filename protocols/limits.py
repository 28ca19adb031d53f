"""Every bound of mailboxd in one place, each with its unit in its name and its reason beside it.

A bound that two programs must agree on (it stands in a spec) is marked "wire".
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- the data model (wire) -------------------------------------------------------------------------------------

SEQ_MAX: Final = 2**64 - 1
"""Highest sequence number: the Toy Mailbox API's `seq` is an unsigned 64-bit integer."""

ID_BYTES_MAX: Final = 256
"""Longest topic or log id in UTF-8 bytes: real ones have 64; four times that leaves room for other apps."""

DIGEST_BYTES: Final = 32
"""BLAKE3-256 of a blob: collision resistant, so equal digests mean equal content."""

HANDLE_BYTES: Final = 16
"""Truncated BLAKE3 of (topic, log). 128 bits: nobody finds two logs that share one by accident, and a deliberate
collision (2^64 work) only merges two of the attacker's own logs in a fingerprint."""

VARIANTS_MAX: Final = 8
"""Different blobs kept for one key. Honest logs have one; a fork or a forger makes more. Bounded so that one key
can't fill a disk."""

BLOB_BYTES_MAX: Final = 48 * MIB
"""Largest message: what fits base64-encoded into the largest HTTP body (64 MiB)."""

# --- time ------------------------------------------------------------------------------------------------------

RETENTION_DEFAULT_S: Final = 7 * 24 * 3600
"""Messages live a week: long enough for someone away, short enough that a mailbox is no archive."""

RETENTION_MIN_S: Final = 1
"""Shorter than a second can't be expressed in the granule of a second."""

RETENTION_MAX_S: Final = RETENTION_DEFAULT_S
"""Never more than a week: what the app's users were promised."""

CLOCK_SKEW_MAX_S: Final = 600
"""Peers whose wall clock differs by more than this are told so and not synced with. Ten minutes is far above what an
NTP-less laptop drifts in a month and below the hour to which `first stored` is rounded, so that an accepted peer moves
an expiry by one hour at the most."""

# --- the store -------------------------------------------------------------------------------------------------

READ_PAGE_BYTES: Final = 4 * MIB
"""Blob bytes in one page of a read: one snapshot and one hop to a reader thread for every ordinary answer, while a huge
answer is streamed page by page in bounded memory."""

MISSING_MAX: Final = 10_000
"""Sequence numbers reported as missing in one page, lowest first: the newer reference's bound for one log."""

EXPIRY_BATCH_MESSAGES: Final = 500
"""Messages removed in one transaction: 22-28 ms of write lock as measured, below the 50 ms that we allow."""

EXPIRY_CHECK_INTERVAL_S: Final = 5.0
"""How often the wall clock is looked at. Short, because clocks step; an empty check costs one index look-up."""

# --- transport -------------------------------------------------------------------------------------------------

ANNOUNCEMENT_BYTES_MAX: Final = 16 * KIB
"""Largest announcement on a channel: hints only, thousands of times smaller than what gossip is able to carry."""

ANNOUNCEMENT_QUEUE_MAX: Final = 32
"""Announcements that wait for their handler. More are dropped: hints are hints."""

STREAMS_PER_PEER_MAX: Final = 128
"""Streams that one peer may have open to us. Sync needs a few; a thousand would be an attack."""

STREAM_WINDOW_BYTES: Final = 256 * KIB
"""Bytes in flight in one direction of a stream before the sender waits: Yamux's initial window."""

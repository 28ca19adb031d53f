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

CLOCK_STEP_S: Final = 60.0
"""A wall clock that moves by so much more or less than the time that passed has stepped: NTP slews smaller errors."""

CLOCK_SETTLE_S: Final = 900.0
"""How long expiry waits after a step: a clock that was wrong has usually been set right by then, and a quarter of an
hour more in the store harms nobody (what is too old is not served meanwhile)."""

# --- the store -------------------------------------------------------------------------------------------------

READ_PAGE_BYTES: Final = 4 * MIB
"""Blob bytes in one page of a read: one snapshot and one hop to a reader thread for every ordinary answer, while a huge
answer is streamed page by page in bounded memory."""

MISSING_MAX: Final = 10_000
"""Sequence numbers reported as missing in one page, lowest first: the newer reference's bound for one log."""

EXPIRY_BATCH_MESSAGES: Final = 500
"""Messages removed in one transaction: 22-28 ms of write lock as measured, below the 50 ms that we allow."""

READ_MESSAGE_OVERHEAD_BYTES: Final = 64
"""Counted for each message of a page beside its blob, so that a million empty messages are not one page."""

MESSAGE_OVERHEAD_BYTES: Final = 256
"""Counted against the storage limit for each message beside its blob: its rows in the key table, the blob table and the
expiry index, with the slack of half-full pages. Without it, empty messages would fill a disk for nothing."""

LOG_OVERHEAD_BYTES: Final = 1 * KIB
"""Counted against the storage limit for each log that holds messages: names of up to 256 bytes each in tables and
indexes."""

EXPIRY_CHECK_INTERVAL_S: Final = 1.0
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

# --- keeping in step: the node's side of sync --------------------------------------------------------------------

INDEX_SLICE_BLOCKS: Final = 256
"""Blocks read or logs visited at a stretch by the index before others get a turn: about a millisecond's work."""

SYNC_FRAME_TIMEOUT_S: Final = 30.0
"""Longest wait for a peer's next whole frame, or for it to take one. A Raspberry Pi that commits a batch to an SD card
needs seconds; a minute of silence would hold a session's memory for nothing."""

SYNC_RECEIVE_BYTES: Final = 65_536
"""Bytes read from a stream at a time: smaller reads throttle the transport, as measured."""

SYNC_COMMITS_UNDER_WAY_MAX: Final = 2
"""Batches of one session that are being committed while the next is received: keeps disk and network both busy at twice
the memory of one batch."""

SYNC_SESSION_MAX_S: Final = 1800.0
"""Longest session. What is committed stays, and the next session goes on; so this only frees what a peer clings to."""

SYNC_SESSIONS_OUT_MAX: Final = 4
"""Sessions that we drive at once: each may hold a few MiB, and more would only share the same disk and CPU."""

SYNC_SESSIONS_IN_MAX: Final = 16
"""Sessions that others drive with us at once, for the same reason; whoever is turned away comes back."""

PEER_SESSIONS_MAX: Final = 4
"""Sessions with one peer at once, in both directions: a full one and a hint's each way."""

PEERS_MAX: Final = 256
"""Mailboxes in the peer table: far more than a LAN has; each costs a task and a few kB."""

PEER_DIAL_GRACE_S: Final = 2.0
"""How long the mailbox with the greater id leaves dialling and syncing to the other, so that they don't do it twice."""

PEER_RETRY_FIRST_S: Final = 0.5
"""First pause before an unreachable peer is tried again; doubles up to PEER_RETRY_MAX_S or the sync interval."""

PEER_RETRY_MAX_S: Final = 30.0
"""Longest such pause: a healed network is noticed within half a minute even without mDNS."""

PEER_SHUN_FIRST_S: Final = 60.0
"""How long a peer that broke the protocol is left alone; doubles with each time in a row up to PEER_SHUN_MAX_S."""

PEER_SHUN_MAX_S: Final = 3600.0
"""Longest such pause: it may have been updated since."""

PEER_FORGET_S: Final = 3600.0
"""A peer without an address that has been away for so long is dropped from the table."""

HINT_COALESCE_S: Final = 0.1
"""What is stored within so long goes out as one hint: ten hints a second at the most, which gossip carries without loss,
and still far below the second in which a neighbour should have a message."""

HINT_LOGS_PENDING_MAX: Final = 4096
"""Logs with news that are remembered by name; above that a hint says "much news" and a whole sync follows."""

SUPERVISE_PAUSE_FIRST_S: Final = 1.0
"""Pause before a failed part of the node is started again; doubles up to SUPERVISE_PAUSE_MAX_S."""

SUPERVISE_PAUSE_MAX_S: Final = 60.0
"""Longest such pause; a part that ran for longer than this starts anew with the first."""

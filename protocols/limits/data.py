"""What a message is, how long it lives, and how its signature is read."""

from __future__ import annotations

from typing import Final

from protocols.limits.units import KIB, MIB

# --- the data model (wire) -------------------------------------------------------------------------------------

SEQ_MAX: Final = 2**64 - 1
"""Highest sequence number: the Toy Mailbox API's `seq` is an unsigned 64-bit integer."""

ID_BYTES_MAX: Final = 256
"""Longest topic or log id in UTF-8 bytes: real ones have 64; four times that leaves room for other apps."""

MAILBOX_TEXTS_KEPT: Final = 2048
"""Ids of mailboxes whose 43 characters are remembered (some 400 kB): eight times PEERS_MAX, as every line of
a log and every announcement has one in it."""

DIGEST_BYTES: Final = 32
"""BLAKE3-256 of a blob: collision resistant, so equal digests mean equal content."""

HANDLE_BYTES: Final = 16
"""Truncated BLAKE3 of (topic, log). 128 bits: nobody finds two logs that share one by accident, and a deliberate
collision (2^64 work) only merges two of the attacker's own logs in a fingerprint."""

TOPIC_HASH_BYTES: Final = 16
"""Truncated BLAKE3 of a topic, by which mailboxes say which topics they keep. As with handles, no two are equal by
chance, and two made equal on purpose only make a mailbox take a topic more."""

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

CLOCK_PLAUSIBLE_FROM_S: Final = 1_790_000_000
"""Unix time before which no clock can be right: this program did not exist (September 2026). A board without a clock
battery that has not reached a time server yet is told so at the start."""

CLOCK_STEP_S: Final = 60.0
"""A wall clock that moves by so much more or less than the time that passed has stepped: NTP slews smaller errors."""

CLOCK_SETTLE_S: Final = 900.0
"""How long expiry waits after a step: a clock that was wrong has usually been set right by then, and a quarter of an
hour more in the store harms nobody (what is too old is not served meanwhile)."""

# --- signed operations ---------------------------------------------------------------------------------------

OPERATION_HEADER_BYTES_MAX: Final = 16 * KIB
"""Largest header of an operation that is read: the app's have 250 bytes, and one that names 400 others still fits."""

OPERATION_FIELDS_MAX: Final = 1024
"""Items in a header, those of its extensions included, so that reading one takes a millisecond at the most."""

OPERATION_DEPTH_MAX: Final = 16
"""Nesting of the same; the app's is 3."""

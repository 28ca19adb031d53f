"""Passwords, trust and pairing."""

from __future__ import annotations

from typing import Final

from protocols.limits.units import KIB, MIB

PASSWORD_CHARS_MIN: Final = 8
"""Shortest password. Who listens learns nothing to try passwords on, so what counts are the guesses that the limits
below let through: some hundred a day, against 10^11 for eight random letters and digits."""

PASSWORD_BYTES_MAX: Final = KIB
"""Longest password in UTF-8 bytes."""

PASSWORD_STRETCH_PASSES: Final = 3
"""Argon2id's passes (wire). With the memory below 0.1 s on a laptop and 0.5 s on a Raspberry Pi, once when it is set:
what a thief of the disk pays for each guess."""

PASSWORD_STRETCH_BYTES: Final = 64 * MIB
"""Argon2id's memory (wire): what a phone and a small board can spare for a moment (RFC 9106's second choice)."""

SECRET_BYTES: Final = 32
"""A stretched password, and every key made from it."""

PAKE_SHARE_BYTES: Final = 32
"""A point of Ed25519 (wire)."""

PROOF_BYTES: Final = 32
"""HMAC-SHA256 (wire)."""

ADMISSION_NONCE_BYTES: Final = 32
"""Random bytes in a hello (wire): no two exchanges are alike, so nothing can be replayed."""

GENERATION_BYTES: Final = 16
"""A random name for a password that was set (wire), so that one that failed is not tried again."""

TICKET_NAME_BYTES: Final = 8
"""Name of the key that is left from an exchange (wire); two that are equal by accident cost one exchange more."""

ADMISSION_FRAME_BYTES_MAX: Final = 256
"""Largest frame of the exchange (wire); the longest in use has 96 bytes."""

ADMISSION_TIMEOUT_S: Final = 10.0
"""For a whole exchange: five messages over a slow radio link, and a queue for the CPU."""

ADMISSION_PAUSE_MAX_S: Final = 3600
"""Longest pause between two wrong passwords of one mailbox or phone (wire)."""

ADMISSION_PAUSE_FIRST_S: Final = 2.0
"""Pause after the second wrong password; doubled after each further one."""

GUESSES_FREE: Final = 2
"""Wrong passwords without any pause: everybody mistypes."""

GUESSES_FORGET_S: Final = 24 * 3600.0
"""After so long without a wrong password the pauses begin anew."""

GUESSES_TOTAL_BURST: Final = 20
"""Wrong passwords of all strangers together, at once. Mailboxes that have proven theirs since the start, that the user
named with --peer or trusts do not count: a flood of guesses does not shut them out."""

GUESSES_TOTAL_INTERVAL_S: Final = 120.0
"""And one more every two minutes: 720 a day, whatever number of identities and addresses they come from. A list of the
million most common passwords takes four years."""

EXCHANGES_BURST: Final = 8
EXCHANGES_INTERVAL_S: Final = 30.0
"""Whole exchanges of one mailbox or phone, also with the right password: so many at once, and seconds for each further
one. Each costs 8 ms of processor time, and a ticket or a token makes the next one needless."""

EXCHANGES_TOTAL_BURST: Final = 256
EXCHANGES_TOTAL_INTERVAL_S: Final = 2.0
"""And of all together, but for mailboxes that the user named or trusts: a whole network that comes up at once, and then
four thousandths of a processor for somebody who has the password and any number of identities."""

GUESSERS_REMEMBERED_MAX: Final = 4_096
"""Mailboxes and addresses whose wrong passwords are remembered; the one unseen for longest is forgotten, which the
bound on all together covers."""

PAKES_AT_ONCE_MAX: Final = 2
"""Exchanges that compute at the same time: each is 8 ms of CPU in a thread, and syncs and phones come first."""

ADMISSIONS_AT_ONCE_MAX: Final = 32
"""Exchanges under way that others have opened; further ones are turned away. Each holds a stream and some kilobytes."""

TICKETS_MAX: Final = 1024
"""Mailboxes whose key of an earlier exchange is kept (100 bytes each), four times as many as may be known at once."""

DEVICES_MAX: Final = 1_000
"""Paired phones: a large house. Each is looked up by a hash, and listed with a line."""

DEVICE_NAME_CHARS_MAX: Final = 64
"""Longest name that a phone gives itself: it stands in a table."""

DEVICE_TOKEN_BYTES: Final = 32
"""Random bytes in a phone's token: nobody guesses 256 bits, so wrong tokens need no limit of their own."""

DEVICE_TOKEN_CHARS_MAX: Final = 128
"""Longer ones are not looked up; ours have 43 characters."""

DEVICE_ID_BYTES: Final = 5
"""Random bytes in what a phone is called in commands: 8 letters and digits, of which two are hardly ever equal."""

CODE_BYTES: Final = 16
"""Random bytes in a one-time code (wire): too many to guess, and few enough for a QR code that any camera reads."""

CODE_NAME_BYTES: Final = 8
"""Name of a one-time code (wire)."""

CODE_S: Final = 300
"""How long a one-time code is good: time to fetch the phone, and not to leave the room."""

CODE_S_MAX: Final = 3600
"""The longest that `mailboxd pair --minutes` allows: who sees the screen in that time can use it."""

CODES_MAX: Final = 16
"""One-time codes that are open at once; the oldest is forgotten."""

INVITATION_URLS_MAX: Final = 2
"""Addresses in a QR code: a machine's first two networks; more make it hard to read."""

PAIRING_SESSION_BYTES: Final = 16
"""Random name of an exchange over the password (wire)."""

PAIRING_SESSION_S: Final = 60.0
"""From the mailbox's share to the phone's proof: one round trip, and a slow phone's arithmetic."""

PAIRING_SESSIONS_MAX: Final = 64
"""Such exchanges at once, a kilobyte each. Only GUESSES_TOTAL_BURST of them can be wrong ones."""

PAIRING_BOX_BYTES_MAX: Final = 1 * KIB
"""Largest box: a name of 64 characters, or a token."""

PAIRING_BODY_BYTES_MAX: Final = 4 * KIB
"""Largest request to pair: a box in base64, and names."""

ADMISSION_FILE_BYTES_MAX: Final = MIB
"""Largest file about who is let in: all that TRUST_MAX and DEVICES_MAX allow, twice over."""

PINS_MAX: Final = 1_024
"""Places (URLs, addresses with ports) of which it is remembered who answered there; the one confirmed longest ago is
forgotten. Only mailboxes that were synced with, and that the user named, get there."""

TRUST_MAX: Final = 4_096
"""Mailboxes that can be trusted or distrusted: a user names them one by one."""

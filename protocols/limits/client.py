"""The client kit."""

from __future__ import annotations

from typing import Final

from protocols.limits.data import RETENTION_DEFAULT_S
from protocols.limits.replication import TOY_PEER_STORE_BYTES
from protocols.limits.units import KIB, MIB

CLIENT_POLL_FLOOR_S: Final = 1.0
"""Polls of one mailbox are at least so far apart, however often they are hurried: the app's own floor."""

CLIENT_GATHER_S: Final = 0.1
"""How long own messages gather before they are brought to mailboxes: what comes in a burst goes in one request."""

CLIENT_CONNECT_TIMEOUT_S: Final = 5.0
"""For a connection with TLS: the app's patience."""

CLIENT_STALL_S: Final = 10.0
"""Longest wait for the next bytes of an answer, and for a request's bytes to leave: as the app waits."""

CLIENT_RATE_MIN: Final = 32 * KIB
"""Bytes per second that a request or an answer is given beyond that, as the app reckons for uploads."""

CLIENT_HEAD_BYTES_MAX: Final = 64 * KIB
"""Head of an answer: far more than any mailbox or proxy sends."""

CLIENT_ANSWER_BYTES_MAX: Final = 256 * MIB
"""Largest answer that is taken: the API has no pages, and a week of a busy topic with pictures must fit."""

CLIENT_DECODE_BYTES: Final = 64 * KIB
"""JSON from this size on is read and written in a worker thread: below, a thread costs more than it saves."""

CLIENT_PROOFS_MAX: Final = 3
"""Tries of one request at a flooded mailbox that asks for work. With more, it has others to serve first."""

CLIENT_PROOF_BITS_MAX: Final = 20
"""Work that is done for it: a second of Python. For more, the client waits until the flood is over."""

CLIENT_IDLE_S: Final = 50.0
"""An idle connection is not used again after so long: mailboxes close theirs after 60 s."""

CLIENT_RETRY_AFTER_MAX_S: Final = 600.0
"""Longest that a mailbox can send a client away for: a wrong or hostile `Retry-After` must not silence it for good."""

CLIENT_FULL_PAUSE_S: Final = 60.0
"""How long nothing is brought to a mailbox that is full. Room comes by expiry, on the hour."""

CLIENT_UNAUTHORISED_PAUSE_S: Final = 60.0
"""How long a mailbox that wants another password is left alone, so that its log isn't filled."""

CLIENT_REFUSALS_MAX: Final = 8
"""Messages in one turn that a mailbox may refuse one by one. With more, it is the mailbox that is out of order."""

CLIENT_REFUSED_MAX: Final = 10_000
"""Messages remembered that one mailbox does not take (for their size, mostly)."""

CLIENT_REGIVE_S: Final = 60.0
"""A message that a mailbox acknowledged and calls missing again is given again after so long: it may have lost it, or
it may want to keep us busy."""

CLIENT_GIVE_MESSAGES: Final = 500
"""Messages in one store: some hundred kB, and one commit of the mailbox."""

CLIENT_GIVE_BYTES: Final = TOY_PEER_STORE_BYTES
"""Blobs in one store, unless it is a single message: what the oldest generation takes."""

CLIENT_MISSING_MAX: Final = 100_000
"""Missing seqs of one answer that are looked at, a tenth of a second's work; for the rest, ask again. A hostile answer
has room for a hundred million."""

CLIENT_ASK_MEMBERS_MAX: Final = 20_000
"""Topics and logs in one get: below the 2 MiB that the oldest generation takes."""

CLIENT_LOGS_PER_TOPIC_MAX: Final = 10_000
"""Logs that are followed in a topic: whoever knows its id can make logs, and each costs 500 bytes and a line in every
poll."""

CLIENT_RUNS_MAX: Final = 4_096
"""Runs of sequence numbers in one log. Honest logs have one or two; messages that would make more are not taken."""

CLIENT_GAP_PATIENCE_S: Final = 60.0
"""How long delivery waits at a gap in a log. A message that its mailbox has is there within seconds; what comes later
is delivered late."""

CLIENT_MAILBOXES_MAX: Final = 64
"""Mailboxes that a client talks to at a time: a room full of them. Named ones come first."""

CLIENT_KEYRING_BYTES_MAX: Final = CLIENT_MAILBOXES_MAX * KIB
"""Largest file with the tokens of a client: an address, an id and a token have less than a KiB."""

CLIENT_MAILBOXES_REMEMBERED_MAX: Final = 1_024
"""Mailboxes of which is kept what they were sent; the one unseen for longest is forgotten, and is asked anew."""

CLIENT_CARRY_S: Final = RETENTION_DEFAULT_S
"""How long a client keeps messages to give them to mailboxes that lack them. Mailboxes keep them no longer either."""

CLIENT_STORE_BYTES_MAX: Final = 1024 * MIB
"""Messages that a client keeps in all. Beyond it the oldest that its application has taken are forgotten sooner."""

CLIENT_FORGET_INTERVAL_S: Final = 600.0
"""How often a client looks for messages to forget."""

CLIENT_DELIVERY_PAGE: Final = 256
"""Messages that are read from disk at a time for the application."""

CLIENT_COMMIT_WORKS_MAX: Final = 512
"""Pieces of work that share one commit of the client's file: more gain nothing."""

CHAT_SECRET_CHARS_MIN: Final = 6
"""Shortest shared word of the example chat. It takes a sentence to withstand somebody who tries words for days."""

CHAT_LONELY_S: Final = 5.0
"""After so long without a mailbox the chat says how to name one: mDNS takes one or two seconds, or there is none."""

CHAT_TEXT_BYTES_MAX: Final = 64 * KIB
"""Longest line of the example chat: a page of text is a twentieth of it."""

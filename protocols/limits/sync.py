"""The sync protocol and what is carried beside it: hints, sneakernet and convergence reports."""

from __future__ import annotations

from typing import Final

from protocols.limits.data import BLOB_BYTES_MAX, TOPIC_HASH_BYTES
from protocols.limits.transport import ANNOUNCEMENT_BYTES_MAX
from protocols.limits.units import KIB, MIB

# --- sync (wire) -----------------------------------------------------------------------------------------------

SYNC_VERSION_MIN: Final = 2
SYNC_VERSION_MAX: Final = 2
"""Versions of the sync protocol that we speak; two mailboxes use the highest that both do."""

FRAME_BYTES_MAX: Final = 256 * KIB
"""Longest frame on a sync stream (only message data needs it): large enough that framing costs nothing, small enough
that a claim of it costs nothing. Checked on the length prefix, before anything is allocated."""

CONTROL_FRAME_BYTES_MAX: Final = 64 * KIB
"""Longest frame of every other kind, checked before it is decoded."""

CONTROL_BODY_BYTES: Final = CONTROL_FRAME_BYTES_MAX - 4 * KIB
"""What fills a control frame; the rest is for the array around it and for a hello."""

INTEREST_ID_BYTES: Final = 16
"""By which a set of topics is known once its topics have been told: 128 bits, as with handles."""

INTEREST_TOPICS_MAX: Final = CONTROL_BODY_BYTES // TOPIC_HASH_BYTES
"""Topics that a mailbox may limit itself to (3,840): what fits into a frame. Told once, later only by their id."""

BLOCK_SEQS: Final = 64
"""Sequence numbers in a block of a log. A block's items (45 bytes each) fit into a frame even with every variant."""

LOG_RUNS_MAX: Final = 64
"""Runs of sequence numbers by which a log is described; one with more gaps is compared by its blocks."""

SURVEY_FIRST_PARTS: Final = 16
"""Parts into which all logs are cut at first: mostly nothing differs, so that it should be small (about 180 bytes)."""

SURVEY_LISTED_LOGS: Final = 64
"""A differing part with so many logs or fewer is listed (about 4 bytes a log) instead of cut on."""

SURVEY_PARTS_MAX: Final = 200
"""Most parts into which one differing region is cut: some kilobytes."""

SURVEY_PART_LOGS: Final = 32
"""Logs in a part when a differing one is cut: with 10 bytes of fingerprint and bound for each part, and 4 for each log
of one that differs in the end, this costs least over the sizes that were measured."""

SURVEY_REGIONS_ASKED_MAX: Final = 500
"""Regions in a question: with what lies between them they are at most RANGES_MAX."""

NEWS_LOGS_MAX: Final = 4096
"""Logs in news; of more, or of more than a quarter of all, a survey is not longer."""

ABOUT_LOGS_MAX: Final = 2048
"""Logs of a hint in one question: with handle and hash they take 26 bytes at least, and fit into a frame."""

NAMES_ASKED_MAX: Final = 450
"""Names that one question asks for: with the 128 bytes that the app's have, the answer fills a frame."""

NAMES_PER_FRAGMENT_MAX: Final = 16
"""Names told for one fragment: whoever asks for something else than one log is not looking for it."""

FRAGMENT_SPARE_BITS: Final = 4
"""Bits by which a log is named beyond those that tell it from the sender's other logs: the receiver may know more. Of a
hundred logs that are new to the receiver one or so is taken for another in spite of them, which costs a round trip."""

FRAGMENT_BITS_MIN: Final = 20
"""Least bits by which a log is named, for senders that have few logs."""

LISTED_LOGS_MAX: Final = 20_000
"""Logs in one listing: three bytes each, which is the least they take as a rule, fill a control frame."""

FINGERPRINT_BYTES: Final = 8
"""Keyed hashes of ranges and rows on the wire. The key is fresh for every session, so that nobody can search for a
collision beforehand: one session in 2^64 is fooled by chance, and the next one is not."""

DIGEST_STATE_BYTES: Final = 16
"""Unkeyed digests of blocks and logs, which live longer than a session."""

SALT_BYTES: Final = 8
"""Randomness of a session's key: whoever publishes messages would have to guess 64 bits before the session begins, and
would have fooled only that one."""

RANGES_MAX: Final = 1024
"""Ranges or regions in one frame: what fits beside other sections; bounds the hashing that a frame can ask for."""

HASHES_MAX: Final = 4096
"""Row hashes in one frame (32 KiB): half a control frame."""

SYNC_ENTRIES_MAX: Final = 2048
"""Logs in one frame: an entry takes 20 bytes or more."""

RANGE_LEAF_ROWS: Final = 64
"""A differing range with this many rows or fewer is listed (8 bytes a row) instead of split."""

RANGE_FIRST_PARTS: Final = 16
"""Ranges in an opening: most sessions find no difference, so that it should be small (about 200 bytes)."""

RANGE_PARTS_MAX: Final = 64
"""Most parts that one range of blocks is split into."""

TRANSFER_LOGS_MAX: Final = 512
"""Logs in one transfer: with names of 128 bytes, as the app has them, that many fill a control frame."""

TRANSFER_SPANS_MAX: Final = 4096
"""Spans of seqs in one transfer: more would not fit beside their logs."""

TRANSFER_SEQS_MAX: Final = 16_384
"""Sequence numbers that one fetch asks for, and one offer has: 16 MB of messages of the usual kilobyte."""

TRANSFER_BYTES_MAX: Final = 16 * MIB
"""After so many bytes of messages a sender stops and the other side asks on: some seconds of a slow Wi-Fi, so that a
session that breaks, or gives way to others, is never far from a place to go on from."""

TRANSFER_MESSAGES_MAX: Final = 65_536
"""The same for tiny messages: bounds what is remembered of one stream."""

BATCH_MESSAGES_MAX: Final = 1024
"""Messages in one commit of a session, besides BATCH_BYTES_MAX."""

SESSION_WORK_LOGS: Final = 4096
"""Differing logs that a session collects before it transfers what they lack (some MiB of memory), then searches on."""

PARCEL_MESSAGES_MAX: Final = 8192
"""Messages whose headers stand in one parcel: bounds the objects that a quarter of a megabyte can be turned into."""

BATCH_BYTES_MAX: Final = 2 * MIB
"""Message bytes in one fetch or offer, unless it is a single message: enough for a round trip of a tenth of a second at
160 Mbit/s, little enough for a Raspberry Pi that has several sessions at once."""

SESSION_ITEMS_MAX: Final = 100_000
"""Items that one session describes before it stops in good order (a following one goes on where it was), so that no
peer holds a session for ever. The responder allows twice as many before it calls it an attack."""

SESSION_ROUNDS_MAX: Final = 4
"""Comparisons of everything in one session: the second one mostly confirms what the first one led to; more are needed
where messages come in meanwhile. What is left then is the next session's."""

INSIDE_LOGS_MAX: Final = 32
"""Logs that one session looks into although their runs differ, as nothing can be done about that: another session looks
into others. Usually each takes a few hundred bytes, or where one mailbox has let go of a part a few thousand."""

INSIDE_ROWS_MAX: Final = 512
"""Other logs beside them whose rows are compared then (24 bytes each), in a part of the space that changes likewise."""

SESSION_TURNS_MAX: Final = 8192
"""Requests in one session: an honest one ends earlier by SESSION_ITEMS_MAX."""

FRUITLESS_TURNS_MAX: Final = 256
"""Reconciliation replies in a row that describe nothing. An honest search goes 16 ways or more at each step, and the
finest splits of one request fill about 24 frames."""

SESSION_ROWS_MAX: Final = 4_000_000
"""Rows (logs and blocks) that one session hashes: a few seconds of a Raspberry Pi, spread over the session. An honest
session hashes each differing row at most about ten times."""

SESSION_SLICE_ROWS: Final = 16_384
"""Rows that a session hashes before others get a turn: some milliseconds' work. One that is hashed by itself counts
eight."""

PEER_TEXT_BYTES_MAX: Final = 256
"""Texts from a peer for people (reason of a refusal, software name): they go into logs and `status`."""

REFUSAL_PAUSE_MAX_S: Final = 3600
"""Longest pause that a refusal asks for: whoever rests that long will have met its neighbour anew by then."""

# --- hints (wire) ----------------------------------------------------------------------------------------------

HINT_BYTES_MAX: Final = ANNOUNCEMENT_BYTES_MAX
"""Longest hint: what the channel takes."""

HINT_LOGS_MAX: Final = 512
"""Logs in one hint: 28 bytes each fit into HINT_BYTES_MAX, beside the audience."""

HINT_AUDIENCE_MAX: Final = 384
"""Mailboxes named in a hint as those who are told by it (1.5 kB): more than a mailbox knows."""

HINT_MESSAGES_MAX: Final = 32
HINT_CONTENT_BYTES_MAX: Final = 8 * KIB
"""Messages that come with a hint, and their bytes with their names: what people write in a tenth of a second. A session
costs more than ten times what these do. Half of HINT_BYTES_MAX is left for logs. More goes by sessions, which ask for
what is missing and no more, and which wait for whoever is slow."""

HINTS_WAITING_MAX: Final = 64
"""Hints whose messages wait for the store. Those of others that come meanwhile are asked for in sessions."""

HINTS_OF_ONE_WAITING_MAX: Final = 8
"""Of them so many of one mailbox, as what it says is stored one after the other: an honest one has another every tenth
of a second, and whoever has sixty at once must not have all others wait for as many commits."""

# --- sneakernet (wire) -------------------------------------------------------------------------------------------

SEALED_HEAD_BYTES_MAX: Final = 512 * KIB
"""The head of one record of a sealed file: decoded it takes some ten times as much memory at the worst."""

SEALED_RECORD_BYTES_MIN: Final = 16 * KIB
"""What stands between two records is larger: to check a signature takes as long as to hash so much."""

BUNDLE_RECORD_BYTES: Final = MIB
"""A record of a bundle is closed when it has so many bytes of blobs: what a torn copy loses at the most, but for the
message in which it was torn."""

SEALED_DATA_BYTES_MAX: Final = BLOB_BYTES_MAX + BUNDLE_RECORD_BYTES
"""The data of one record: whoever reads holds it in memory. A record that was not closed has room for any message."""

WANT_MESSAGES_MAX: Final = 20_000_000
"""Messages in the list of what a mailbox has: 400 MB at whoever exports, where a hostile list could ask for more."""

# --- convergence reports (wire) --------------------------------------------------------------------------------------

REPORT_NONCE_BYTES: Final = 16
"""Of each side: nobody can have prepared the other's half of a statement."""

REPORT_TOPICS_MAX: Final = 65_536
"""Topics in a statement; 34 bytes each. Who has more is told that a report is too much for it."""

REPORT_STATEMENT_BYTES_MAX: Final = 4 * MIB
"""A statement with that many topics has 2.6 MiB."""

REPORT_FILE_BYTES_MAX: Final = 12 * MIB
"""Two of those in base64."""

REPORT_TRIES_MAX: Final = 5
"""Both state again if messages came in while they did; after so many times there is too much going on."""

REPORT_TIMEOUT_S: Final = 60.0
"""For a whole exchange: 100,000 logs on a Raspberry Pi take some seconds."""

REPORT_WORD_S: Final = 20.0
"""For the asker's next frame: it looks at its own logs in between. Nobody is waited for any longer."""

REPORT_ANSWERS_MAX: Final = 4
"""Askers that are answered at once, so that a slow one keeps nobody else from asking. Statements are made one after the
other."""

REPORT_SILENCE_MIN_S: Final = 2.0
"""When others want to ask, whoever has said nothing for so long, and longest, gives way."""

REPORT_REST_FACTOR: Final = 10.0
"""After an exchange with another mailbox the next one has to wait so many times as long as it took: neighbours that ask
all the time cost a tenth of a processor at the most."""

REPORT_SLICE_LOGS: Final = 1024
"""Logs gone through in one go: about three milliseconds."""

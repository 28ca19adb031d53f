"""The store: batches, files, the index, quota, and trouble with the disk."""

from __future__ import annotations

from typing import Final

from protocols.limits.units import KIB, MIB

READ_PAGE_BYTES: Final = 4 * MIB
"""Blob bytes in one page of a read: one snapshot and one hop to a reader thread for every ordinary answer, while a huge
answer is streamed page by page in bounded memory."""

MESSAGES_PAGE_MAX: Final = 4096
"""Messages in one page of a transfer, whatever their size: a few milliseconds and a megabyte of objects beside the
blobs."""

MISSING_MAX: Final = 10_000
"""Sequence numbers reported as missing in one page, lowest first: the newer reference's bound for one log."""

JUDGE_SLICE_MESSAGES: Final = 128
"""Blobs that are checked for their signature at a stretch before others get the reader: some 20 ms. It happens only
where several stand under one key."""

UNSIGNED_PAUSE_S: Final = 600.0
UNSIGNED_REMEMBERED_MAX: Final = 65_536
"""With `--require-signed`: for how long a position is not asked for again at which another mailbox had nothing that is
signed, and of how many that is remembered. Long enough that what is not wanted costs next to nothing, and short enough
that the genuine message is not missed for long if it comes to the same position later."""

EXPIRY_BATCH_MESSAGES: Final = 500
"""Most messages removed in one transaction."""

EXPIRY_LOCK_S: Final = 0.015
"""An expiry transaction takes no more messages once it has lasted so long, whatever their number: a cold cache or an SD
card makes each of them dear, and stores must not wait for more than 50 ms, the commit included."""

EXPIRY_SLICE_MESSAGES: Final = 16
"""Messages removed between two looks at the clock."""

EMPTY_LOGS_MAX: Final = 250_000
"""Logs of which only the watermark is left, about 200 bytes each. Beyond that, those empty for longest are forgotten: a
store that remembered every log for ever could be filled with names."""

BLOB_CHUNK_BYTES: Final = 256 * KIB
"""Blobs are stored in pieces of this size, so that removing a blob of 48 MiB is many short transactions."""

RECLAIM_BATCH_CHUNKS: Final = 4
"""Pieces of large removed blobs that are freed in one transaction."""

VACUUM_STEP_PAGES: Final = 256
"""Free pages (4 KiB) given back to the file system in one step: 1.5 ms as measured."""

VACUUM_FREE_PAGES_MIN: Final = 4096
"""Free pages (16 MiB) that are kept for reuse before the file is made smaller; and never less than a quarter of it,
because what expired is about to be replaced."""

STORE_QUEUE_BYTES: Final = 64 * MIB
"""Blob bytes (and MESSAGE_OVERHEAD_BYTES each) that wait for the disk; who brings more waits before it is queued. Room
for one largest request, so that a slow disk slows clients down instead of filling memory."""

COMMIT_BATCH_BYTES: Final = 8 * MIB
"""Bytes, counted as above, that share one commit: bounds how long a small store waits behind others. A larger request
is committed alone."""

COMMIT_BATCH_MESSAGES: Final = 4096
"""Messages that share one commit, for the same reason; beyond a few hundred, more of them gain nothing."""

CHECKPOINT_PAGES: Final = 4000
"""Estimated pages (4 KiB) in the write-ahead log after which they are copied into the database: 1.3-1.5 times as fast
as SQLite's 1000 in scattered stores, for 16 MiB of disk."""

WAL_BYTES_MAX: Final = 64 * MIB
"""Length of the write-ahead log above which the writer waits for readers to let go of it."""

WAL_READERS_WAIT_S: Final = 1.0
"""Longest such wait. Reads take milliseconds; only a running `verify` holds out longer, and then we go on."""

WRITER_CACHE_BYTES: Final = 64 * MIB
"""Page cache of the writer: the keys of a million messages."""

READER_CACHE_BYTES: Final = 4 * MIB
"""Page cache of each reader; the operating system caches the rest."""

READERS_MAX: Final = 4
"""Reads at the same time, each with a thread and a connection: enough for a slow disk's queue and for a Pi's cores."""

SHORT_READ_BYTES: Final = 64 * KIB
"""Pages up to this size count as short reads: a phone's news, and the beginning of a long answer."""

SHORT_READ_S: Final = 0.002
"""A short read that takes longer than this does not keep the others waiting: another thread helps."""

LOG_CACHE_MAX: Final = 65_536
"""Logs whose state the writer remembers (about 500 bytes each), so that most stores need no look-up at all."""

INSERT_ROWS: Final = 64
"""Rows that one statement inserts: half as fast again as one by one, and far more while other threads are busy. With
the three tables there are so many statements for every number of rows, and all stay prepared."""

INSERT_ROWS_MAX: Final = 8 * INSERT_ROWS
"""The same where there are so many. For the store alone more gain nothing, but with each statement Python's lock is let
go of, and while another thread computes it takes up to THREAD_SWITCH_S to get it back."""

STATEMENTS_PREPARED: Final = 4 * INSERT_ROWS
"""Statements that the writer keeps prepared: those, and all others."""

BLOBS_TOGETHER_BYTES: Final = 8 * KIB
"""Size of a blob above which each is inserted by itself: SQLite copies what a statement is given, 4 MiB at most."""

THREAD_SWITCH_S: Final = 0.0002
"""Longest that a thread computes while another one waits for Python's lock (its own default is 25 times as long): the
store's threads give the lock up for every statement, and would wait so long to get it back each time. Where a session
brings a hundred thousand messages, the writer waits for a thousand statements, and everybody else for the writer."""

SCAN_PAGE_MESSAGES: Final = 4096
"""Messages in one step of a scan: about 5 ms in a reader thread."""

VERIFY_PAGE_BYTES: Final = 4 * MIB
"""Blob bytes checked in one short read transaction, so that a check does not hold the write-ahead log."""

REPAIR_PAGE_ROWS: Final = 500
"""Rows that a repair reads at a time: what lies behind damage in the middle of them is reached from the other end."""

VERIFY_PROBLEMS_MAX: Final = 100
"""Problems listed by a check; a damaged disk has millions and says nothing new with them."""

DISK_RESERVE_BYTES: Final = 64 * MIB
"""Free space that is left on the disk, or a twentieth of a small one: expiry must be able to write in order to free
anything, and a full disk breaks the rest of the machine."""

DISK_LOOK_S: Final = 0.1
"""How long the writer trusts in the room that it saw on the disk, of which it then takes half at most: others fill a
disk at no more than some hundred MB/s, and where they are quicker SQLite reports it."""

FILE_LOOK_S: Final = 5.0
"""How often the store looks whether its file is still there while nothing is stored; with every commit, too."""

PROBE_FIRST_S: Final = 1.0
"""First pause before a disk that failed is tried again ..."""

PROBE_MAX_S: Final = 60.0
"""... which doubles up to this."""

STORE_BUSY_TIMEOUT_S: Final = 5.0
"""How long the writer waits if another program has locked the store."""

STORE_PAGE_BYTES: Final = 4 * KIB
"""Pages of the database."""

READ_MESSAGE_OVERHEAD_BYTES: Final = 64
"""Counted for each message of a page beside its blob, so that a million empty messages are not one page."""

MESSAGE_OVERHEAD_BYTES: Final = 384
"""Counted against the storage limit for each message beside its blob: its rows in the key table, the blob table and the
expiry index, with the slack of half-full pages. 140 bytes measured beside blobs of 300 bytes, 370 beside 200-2000.
Without it, empty messages would fill a disk for nothing."""

LOG_OVERHEAD_BYTES: Final = 1 * KIB
"""Counted against the storage limit for each log that holds messages: names of up to 256 bytes each in tables and
indexes."""

STORAGE_LIMIT_ON_DISK_MIN: Final = 4 * MIB
"""From this storage limit on the files on the disk keep within it, too; below it only what is counted does, as the
write-ahead log needs some room to be of use. A request of more than a tenth of the limit may exceed it for the moment
in which it stands both in the log and in the database."""

STORAGE_WAL_PART: Final = 4
"""A storage limit leaves this part of it, or STORAGE_WAL_BYTES_MAX, to the write-ahead log."""

STORAGE_WAL_BYTES_MAX: Final = 80 * MIB
"""What the write-ahead log needs at the most: what it holds until it is copied, and one largest request."""

SOURCE_SALT_BYTES: Final = 16
"""Of a store, so that nobody can choose an address that shares a number with somebody else's."""

SOURCE_CLIENTS: Final = 256
"""Numbers for clients, by a hash of their address: whoever floods shares one with every 256th other, which costs these
only where they also share a topic with the flood."""

SOURCE_MAILBOXES: Final = 64
"""The same for other mailboxes, of which there are fewer."""

SOURCE_MAILBOX_WEIGHT: Final = 2
"""How many clients' shares a mailbox may have before it gives way to one client: it speaks for many people, but also
for whoever floods it; with eight, a flood through a neighbour pushed out talkers in a simulated house."""

TOPIC_NEW_S: Final = 86_400.0
"""For so long the new topics of a source have one share together: making thousands of topics gains nothing."""

EVICT_NEW_PART: Final = 4
"""A topic with more than this part of a source's new topics gives way alone: else a liar, who spreads a flood over
several topics by changing a letter of its name, pushes out talkers (seen in a simulated day)."""

EVICT_SMALL_PART: Final = 2
"""Where no topic is so large, one with less than this part of the largest stays, if most is in larger ones: what is cut
into many alike goes by its age."""

EVICT_ASKED_TOPICS: Final = 16
"""Topics of a request that are looked at when room is made for it, those that grow most."""

EVICT_YOUNG_S: Final = 300.0
"""What was acknowledged less than this ago gives way only to somebody who has less: a phone may be relying on it."""

EVICT_PART: Final = 10
"""Moments that are told apart within EVICT_YOUNG_S."""

EVICT_SCAN_MESSAGES: Final = 256
"""Messages that are looked at at a time, the oldest first, for those that give way: less than a millisecond."""

EVICT_AHEAD_PART: Final = 256
"""Beside what is needed this part of the storage limit is freed, so that not every store has to wait for it."""

EVICT_ROUNDS_MAX: Final = 400
"""Short transactions in which room is made for one request; a few thousand messages are looked at in each."""

EVICTED_SPANS_MAX: Final = 4
"""Spans of evicted messages that are remembered of a log: what goes is its beginning, or most of it."""

EVICTED_GAP_MAX: Final = 16
"""Messages between two such spans that may be counted with them, so that a log with a few holes needs no more spans."""

STORAGE_NAMES_PART: Final = 16
"""Logs that hold nothing any more take no more than this part of the storage limit."""

EMPTY_LOG_BYTES: Final = 400
"""What such a log takes, with names of the app's length."""

EXPIRY_CHECK_INTERVAL_S: Final = 300.0
"""How often expiry looks for what is too old (every second where the granule is a second). What is too old is
not served even before; an empty check costs one index look-up."""

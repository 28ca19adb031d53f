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

# --- the store -------------------------------------------------------------------------------------------------

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

THREAD_SWITCH_S: Final = 0.001
"""Longest that a thread computes while another one waits for Python's lock (its own default is five times as long): the
store's threads give the lock up for every statement, and would wait so long to get it back each time."""

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

# --- transport -------------------------------------------------------------------------------------------------

ANNOUNCEMENT_BYTES_MAX: Final = 16 * KIB
"""Largest announcement on a channel: hints only, thousands of times smaller than what gossip is able to carry."""

ANNOUNCEMENT_QUEUE_MAX: Final = 32
"""Announcements that wait for their handler. More are dropped: hints are hints."""

STREAMS_PER_PEER_MAX: Final = 128
"""Streams that one peer may have open to us. Sync needs a few; a thousand would be an attack."""

STREAM_WINDOW_BYTES: Final = 256 * KIB
"""Bytes in flight in one direction of a stream before the sender waits: Yamux's initial window."""

STREAM_WINDOW_BYTES_MAX: Final = 1 * MIB
"""What a stream's receive window grows to while its reader keeps up: 20 MiB/s over a path of 50 ms."""

UNREAD_BYTES_PER_CONNECTION_MAX: Final = 8 * MIB
"""Bytes that one connection may make us hold unread. Honest peers have a few streams, read as they come."""

UNREAD_BYTES_TOTAL_MAX: Final = 64 * MIB
"""The same over all connections, so that many attackers together can't exhaust a small computer either."""

SEND_QUEUE_BYTES: Final = 256 * KIB
"""Frames of all streams that wait for one connection's socket: enough to keep it busy between two switches of task."""

CONTROL_QUEUE_FRAMES_MAX: Final = 1024
"""Answers (pongs, resets, window updates) that wait for one connection's socket. Who makes us owe more and does not
read them is cut off."""

REFUSED_STREAMS_MAX: Final = 2048
"""Streams beyond `STREAMS_PER_PEER_MAX` that a connection may ask for, all told, before it is cut off."""

PING_INTERVAL_S: Final = 1.5
"""A connection from which nothing was heard for this long is pinged."""

PING_UNANSWERED_MAX: Final = 2
"""Pings without any sign of life before a connection counts as dead: a frozen peer is noticed within 6 s, a Wi-Fi
hiccup of 4 s is forgiven."""

SEND_STALL_S: Final = 60.0
"""A peer that lets no byte through the socket for this long is cut off."""

HANDSHAKE_S: Final = 5.0
"""From the accepted socket to the running connection. Measured 10 ms on a laptop; a Pi with Wi-Fi needs 0.3 s."""

HANDSHAKES_MAX: Final = 64
"""Handshakes under way. The oldest is dropped for a new one, so that silent sockets can't lock honest peers out."""

HANDSHAKES_PER_IP_MAX: Final = 16
"""The same for one address."""

INBOUND_CONNECTIONS_MAX: Final = 256
"""Accepted connections. An idle one is closed for a new one; a mailbox on a large LAN meets some dozens of others."""

INBOUND_CONNECTIONS_PER_IP_MAX: Final = 32
"""The same for one address: room for a few mailboxes on one machine and their reconnects."""

INBOUND_IDLE_S: Final = 30.0
"""An accepted connection without a stream of ours for this long may be closed in favour of a new one."""

CONNECTIONS_PER_PEER_MAX: Final = 4
"""Connections with one mailbox. Two come about when both sides dial at once; with more, the oldest is closed."""

DIAL_S: Final = 4.0
"""For the TCP connection to one address of a peer."""

DIAL_STAGGER_S: Final = 0.25
"""Head start of each address over the next one, as in RFC 8305."""

DIALS_MAX: Final = 8
"""Addresses of one peer that are tried in one go: a host with many interfaces, not a list that an attacker made."""

OPEN_STREAM_S: Final = 10.0
"""For opening a stream and agreeing on its protocol."""

CLOSE_S: Final = 3.0
"""For closing something in good order before it is dropped."""

GOSSIP_RPC_BYTES_MAX: Final = 64 * KIB
"""Largest gossip frame that is read: an announcement and its envelope, four times over."""

GOSSIP_MESSAGES_PER_S: Final = 50.0
"""Gossip messages accepted from one neighbour, sustained. Mailboxes send a few per second each and forward others'."""

GOSSIP_MESSAGES_BURST: Final = 200
"""The same for a moment."""

GOSSIP_PUBLISHER_MESSAGES_PER_S: Final = 12.0
"""Messages of one publisher that are taken and passed on, sustained, whoever forwards them: a mailbox with news all the
time sends ten. What is over it is dropped here, so that one mailbox can't use up what its neighbours take of us."""

GOSSIP_PUBLISHER_MESSAGES_BURST: Final = 60
"""The same for a moment."""

GOSSIP_PUBLISHERS_MAX: Final = 1024
"""Publishers whose rate is remembered; the one unheard for longest is forgotten."""

RESTART_BACKOFF_S: Final = 0.5
"""First pause before the network part is restarted after a failure; it doubles each time, with jitter."""

RESTART_BACKOFF_MAX_S: Final = 60.0
"""Longest such pause."""

# --- keeping in step: the node's side of sync --------------------------------------------------------------------

INDEX_SLICE_BLOCKS: Final = 256
"""Blocks read or logs visited at a stretch by the index before others get a turn: a few milliseconds' work."""

INDEX_SLICE_MESSAGES: Final = 8192
"""Messages hashed by the index at a stretch before others get a turn: a few milliseconds' work."""

INDEX_LEAF_LOGS_MAX: Final = 1024
"""Logs in a leaf of the index. A changed log costs a copy of its leaf (100-700 KiB, some 50 microseconds), and every
picture a list of all leaves (some hundred for 100,000 logs)."""

INDEX_SHORT_BLOCKS_MAX: Final = 16
"""Blocks up to which those of a log stand in its leaf (they are counted in a byte). A longer log has a place of its
own, so that no change of a neighbour copies it."""

INDEX_CHUNK_BLOCKS_MAX: Final = 4096
"""Blocks in a chunk of a long log (160 KiB): what a change copies."""

INDEX_PORTION_BLOCKS: Final = 4096
"""Changed blocks of one log that are read before the log is put together anew, or a quarter of all its blocks if that
is more: bounds memory, and what a failure makes us read again."""

INDEX_INLINE_BYTES: Final = MIB
"""Packed blocks of one log up to this size are changed in the main thread (a millisecond); only logs whose messages
are spread over more than 26,000 blocks are larger, and those are put together in a thread."""

INDEX_CHANGE_BYTES: Final = KIB
"""What changing one block of a log counts there: it takes about as long as copying so much."""

INDEX_SERIAL_BITS: Final = 48
"""Of the random number with which the serials of an index begin: one from before a restart falls among the few of this
run once in 2^48 / (changes since), and even then costs one longer comparison and nothing else."""

INDEX_VIEWS_MAX: Final = 4
"""Pictures of the index that are kept, by boundary: our own, and those of peers with other retentions or a clock
that is past the hour already. Without a bound a peer could have us keep one for each retention that it invents."""

INDEX_FOREIGN_VIEWS_BURST: Final = 8
INDEX_FOREIGN_VIEW_S: Final = 120.0
"""How many boundaries other than our own may be new at once, and after how many seconds there is room for another. One
that goes through every log costs about a second (a Raspberry Pi: five) of reading and hashing, in slices; a peer with
another retention needs a new one each hour."""

INDEX_MARKS_MAX: Final = 20_000
"""Changed blocks that are noted (some megabytes at most) before the index reads them even if nobody asks for a picture;
and for a picture without what is too old, before it is made anew if somebody asks for it again."""

INDEX_KEPT_S: Final = 900.0
"""Pictures for other boundaries, or of some topics, that nobody has asked for in so long are dropped: as the store
moves on, each comes to hold as much as the index itself."""

INDEX_INTERESTS_MAX: Final = 8
"""Pictures of some topics only that are kept: one for each peer with an interest that syncs at the same time."""

INDEX_INTERESTS_LOGS_MAX: Final = 2
"""How many times the logs of the index those pictures may copy together: a stranger can ask for any half of all topics,
and its picture takes as much memory as half of the index."""

AUDIT_PASS_S: Final = 7200.0
"""Within this time a silent difference between the index and the store is found: all is compared twice in it. Once is,
for a million messages, reading 70 MB of keys and a second of hashing; on a Raspberry Pi five seconds of an hour, and 20
kB/s of reads where they are not cached."""

AUDIT_PAUSE_MAX_S: Final = 600.0
"""Longest pause between two steps of that: a small store is gone through more often than it would have to be."""

AUDIT_LOOKS: Final = 3
AUDIT_DOUBT_S: Final = 2.0
"""How often a block that seems to differ is looked at, and how long to wait in between: a commit is announced within
milliseconds after it can be read, on a loaded Raspberry Pi within a second."""

SYNC_FRAME_TIMEOUT_S: Final = 30.0
"""Longest wait for a peer's next whole frame, or for it to take one. A Raspberry Pi that commits a batch to an SD card
needs seconds; a minute of silence would hold a session's memory for nothing."""

SYNC_RECEIVE_BYTES: Final = 65_536
"""Bytes read from a stream at a time: smaller reads throttle the transport, as measured."""

SYNC_COMMITS_UNDER_WAY_MAX: Final = 8
"""Batches of one session that are being committed while the next is received: keeps disk and network both busy (the
store commits them together), also while the store copies its write-ahead log, at 16 MiB of memory."""

CLAIMS_MAX: Final = 262_144
"""Spans that are remembered as being fetched by some session (some 40 MB if ever reached); beyond that something may be
fetched twice."""

CLAIMS_PER_LOG_MAX: Final = 1024
"""Of these, in one log for one session, so that comparing with them takes milliseconds. An honest fetch has one or a
few spans of a log."""

CLAIMS_OVER_MAX: Final = 16
"""Sessions that are over and of which it is remembered what they fetched, for those that began before."""

CLAIM_PATIENCE_S: Final = 10.0
"""How long a session may be denied what another one is fetching. Then it fetches it, too: a few megabytes twice are
better than a peer that claims everything and delivers nothing."""

REFUSED_PAUSE_S: Final = 900.0
"""For how long nobody is asked for what the store had no room for, although it is not full (a large message in the last
few megabytes): to carry 48 MiB in vain at every sync would cost more than to have it a quarter of an hour late."""

REFUSED_LOGS_MAX: Final = 4096
"""Logs of which such messages are remembered; the longest known are forgotten."""

CLAIMS_WAITED_MAX: Final = 16_384
"""Logs of which it is remembered since when somebody waits; beyond that nobody has to wait."""

SYNC_ROOM_BYTES: Final = 4 * MIB
"""With less room than this, below the storage limit or on the disk, a mailbox takes nothing from others: what two
commits hold."""

SYNC_SESSION_MAX_S: Final = 1800.0
"""Longest session. What is committed stays, and the next session goes on; so this only frees what a peer clings to."""

SYNC_PROGRESS_S: Final = 10.0
"""Between two lines in the log about a sync that takes long."""

SYNC_LOGGED_MESSAGES_MIN: Final = 100
"""Messages in a sync that is worth a line in the log, although the two were in sync before."""

SYNC_SESSIONS_OUT_MAX: Final = 4
"""Sessions that we drive at once: each may hold a few MiB, and more would only share the same disk and CPU."""

SYNC_SESSIONS_IN_MAX: Final = 16
"""Sessions that others drive with us at once, for the same reason; whoever is turned away comes back."""

SYNC_STRANGERS_OUT_MAX: Final = 2
SYNC_STRANGERS_IN_MAX: Final = 8
"""Of these, with peers of whom we don't know yet that they keep in step: half, so that strangers who take their time
leave room for friends."""

SEAT_TIME_MIN_S: Final = 5.0
SEAT_RATE_MIN: Final = 4 * KIB
"""A session that had so many seconds, and moved fewer bytes per second than that since it began, gives way to somebody
who waits. It would be resumed later; without anyone waiting it goes on as slowly as it likes."""

SYNC_DIALS_MAX: Final = 16
"""Peers that are dialled at the same time: a dial waits, it costs nothing."""

PEER_SESSIONS_MAX: Final = 4
"""Sessions with one peer at once, in both directions: a full one and a hint's each way."""

TOY_PEER_TIMEOUT_S: Final = 10.0
"""Longest wait for a plain mailbox's next bytes, as the app waits; a whole request may take six times that."""

TOY_PEER_TOPICS_MAX: Final = 64
"""Topics in one question to a plain mailbox: its API has no pages, so this bounds its answer in the normal case."""

TOY_PEER_NAMES_SLICE: Final = 2048
"""Names of logs taken from the index at a stretch before others get a turn: a few milliseconds' work."""

TOY_PEER_ANSWER_BYTES_MAX: Final = 256 * MIB
"""Largest answer that is taken from a plain mailbox: 64 topics that are all new, with room to spare."""

TOY_PEER_STORE_BYTES: Final = 1 * MIB
"""Blobs in one store to a plain mailbox: with base64 below the 2 MiB that its oldest generation takes."""

TOY_PEER_NEWS_S: Final = 1.0
"""How long news gather before plain mailboxes are given them: each pass is a request for all topics."""

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

PEER_IDLE_DOUBLINGS_MAX: Final = 5
"""How often the pause between syncs is doubled while they find differences and can move nothing, because one side has
no room: up to a quarter of an hour."""

PEER_FORGET_S: Final = 3600.0
"""A peer without an address that has been away for so long is dropped from the table."""

HINT_COALESCE_S: Final = 0.1
"""What is stored within so long goes out as one hint: ten hints a second at the most, which gossip carries without
loss, and still far below the second in which a neighbour should have a message."""

HINT_LOGS_PENDING_MAX: Final = 2048
"""Logs with news that are remembered by name, and that one question is about (ABOUT_LOGS_MAX); above that a hint says
"much news" and a whole sync follows."""

HINT_HEARD_MAX: Final = 4096
"""Logs of which it is remembered who announced their last state, so that it need not be announced again."""

HINT_ECHOES: Final = 3
"""How many of those who need not announce a state do so nevertheless, on average: gossip loses a few in a hundred."""

HINT_SPREAD_S: Final = 0.004
"""For each mailbox that is told of news, those who ask for them spread over so much longer at least: a session in a LAN
takes as long, and a hundred that come at once would find all seats taken."""

HINTS_VAIN_MAX: Final = 16
HINT_PAUSE_MAX_S: Final = 5.0
"""After so many sessions in a row that followed a mailbox's hints and brought nothing, its next ones wait longer and
longer, up to so many seconds: a liar would have us ask ten times a second. Honest hints are in vain where somebody else
was quicker."""

SYNC_FEW_PEERS: Final = 4
"""With so many peers or fewer a mailbox compares with each in every sync interval, as its user asked. With more it does
so with those that the user named, and with one of the others in each interval, in turn: if every pair did so, a hundred
mailboxes would run ten thousand sessions a minute that find nothing; this way, too, news spread to all in a few
intervals if every hint is lost."""

SYNC_CALM_DOUBLINGS_MAX: Final = 3
"""How often the pause between comparisons of a pair is doubled in a crowd while they find that hints have brought
everything. One that finds something is followed by the next after a single interval again."""

LOG_LINES_BURST: Final = 100
LOG_LINE_S: Final = 10.0
"""Lines from one place of the code that are logged at once, and seconds for each further one: with some dozen places
that strangers can reach, some ten MB a day at the worst."""

GC_YOUNG_OBJECTS: Final = 20_000
"""New objects after which Python's garbage collector looks at the young ones: a store of a thousand messages makes
about that many, and none of them is part of a cycle."""

SUPERVISE_PAUSE_FIRST_S: Final = 1.0
"""Pause before a failed part of the node is started again; doubles up to SUPERVISE_PAUSE_MAX_S."""

SUPERVISE_PAUSE_MAX_S: Final = 60.0
"""Longest such pause; a part that ran for longer than this starts anew with the first."""

# --- discovery -------------------------------------------------------------------------------------------------

MDNS_TXT_BYTES_MAX: Final = 400
"""Largest TXT record that is read: ours has about 30 bytes, and DNS-SD asks for less than 400 on multicast. (wire)"""

NETWORK_TAG_CHARS_MAX: Final = 32
"""Longest network tag: a word for people, and a TXT string has to hold it. (wire)"""

PROTOCOL_VERSION_MAX: Final = 65_535
"""Highest protocol version in a TXT record: a bound for a number from a stranger. (wire)"""

NEIGHBOUR_ADDRESSES_MAX: Final = 6
"""Addresses that are tried per mailbox: cable, WLAN and a bridge in both IP versions; more is a list to scan for a
stranger."""

MDNS_ANNOUNCED_ADDRESSES_MAX: Final = 8
"""Addresses in our own announcement, so that it stays one Ethernet packet with both instance names."""

MDNS_INTERFACES_MAX: Final = 16
"""Interfaces on which we speak: a machine full of containers has hundreds, of which a LAN is behind a few."""

MDNS_PACKET_BYTES_MAX: Final = 9_000
"""Largest mDNS packet (RFC 6762, section 17)."""

MDNS_NAMES_PER_PACKET_MAX: Final = 16
"""Mailboxes read from one packet. A responder speaks for those on its machine only."""

MDNS_PACKETS_PER_SECOND: Final = 200
MDNS_PACKETS_BURST: Final = 600
"""Packets about our service that are parsed, over all sources. Fifty mailboxes that all answer need fifty. What is
over it waits in the kernel's buffer and is dropped there, which costs nothing."""

MDNS_ANY_PACKETS_PER_SECOND: Final = 2_000
MDNS_ANY_PACKETS_BURST: Final = 4_000
"""Packets of any service that are looked at: ten times a busy link's; the rest is dropped in the kernel, too."""

MDNS_RESOLVES_PER_SECOND: Final = 5
MDNS_RESOLVES_BURST: Final = 10
"""Questions about mailboxes that were only named: bounds what inventors of names can make us send."""

MDNS_SOURCE_PACKETS_PER_SECOND: Final = 20
MDNS_SOURCE_PACKETS_BURST: Final = 60
"""The same per source address, so that one loud machine can't use up what is for all. A responder may say a thing
once a second; a machine with many mailboxes or a reflector needs a few times that."""

MDNS_SOURCES_MAX: Final = 512
"""Source addresses whose rate is remembered: more than a /24 has hosts."""

NEIGHBOURS_LIVE_MAX: Final = 512
"""Mailboxes that answer and are reported: far more than one link carries, and each costs a probe every 15 s."""

NEIGHBOURS_LIVE_PER_HOST_MAX: Final = 32
"""Of these behind one address: many for a test machine, few enough that one port can't be announced under ten
thousand names."""

NEIGHBOURS_WAITING_MAX: Final = 512
"""Mailboxes that were announced but did not answer (yet). The oldest of the source with most of them makes room, so
that whoever invents names pushes out own inventions."""

PROBE_TIMEOUT_S: Final = 2.0
"""How long a TCP connection to an announced address may take: what the phones' app grants."""

PROBE_INTERVAL_S: Final = 15.0
"""How often a live neighbour is tried: four times within the time after which it counts as lost."""

PROBE_RETRY_S: Final = 3.0
"""Soonest next try of a mailbox that did not answer: the pace of the app's newer generation. Doubles up to a minute."""

PROBE_RETRY_MAX_S: Final = 60.0
"""Longest pause between two tries of a mailbox that is announced but does not answer."""

PROBES_LIVE_MAX: Final = 16
"""Live neighbours tried at the same time: 512 of them, all gone silent, are through within 64 s."""

PROBES_WAITING_MAX: Final = 16
"""Announced mailboxes tried at the same time, apart from the live ones so that neither starves the other."""

PROBES_WAITING_PER_SECOND: Final = 20
"""Tries of announced mailboxes per second: bounds what inventors of names can make us do to others on the LAN."""

NEIGHBOUR_LOST_AFTER_S: Final = 60.0
"""A mailbox that was not heard of for this long is dropped: the design's figure."""

NEIGHBOUR_FORGET_AFTER_S: Final = 600.0
"""A mailbox that does not answer is tried on for this long after its last announcement."""

GOODBYE_RECHECK_S: Final = 15.0
"""After a goodbye the mailbox is not tried for this long: it needs time to stop. A forged goodbye thus costs a short
absence, and not more than one per NEIGHBOUR_LOST_AFTER_S is believed."""

MDNS_QUERY_INTERVAL_S: Final = 15.0
"""How often we ask who is there. Grows with the number of live neighbours beyond MDNS_KNOWN_ANSWERS_MAX."""

MDNS_KNOWN_ANSWERS_MAX: Final = 20
"""Live neighbours that a query lists so that they need not answer: as many as fit into one packet."""

MDNS_REPEAT_S: Final = 1.0
"""Soonest repetition of a multicast (RFC 6762, section 6), so that nobody makes us flood the link."""

MDNS_QUERY_INTERVAL_MAX_S: Final = 120.0
"""Longest that interval grows: a mailbox whose announcements were all lost is found within two minutes."""

INTERFACE_POLL_S: Final = 1.0
"""How often the addresses of this machine are looked at: costs about a millisecond."""

INTERFACE_SETTLE_S: Final = 0.5
"""How long they must stay the same before we start again with them: interfaces come up in steps."""

GOODBYE_TIME_S: Final = 1.0
"""Longest that saying goodbye may hold up a shutdown."""

DISCOVERY_RESTART_MAX_S: Final = 30.0
"""Longest pause before the sockets are opened again after an error."""

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

# --- hints (wire) ----------------------------------------------------------------------------------------------

HINT_BYTES_MAX: Final = ANNOUNCEMENT_BYTES_MAX
"""Longest hint: what the channel takes."""

HINT_LOGS_MAX: Final = 512
"""Logs in one hint: 28 bytes each fit into HINT_BYTES_MAX, beside the audience."""

HINT_AUDIENCE_MAX: Final = 384
"""Mailboxes named in a hint as those who are told by it (1.5 kB): more than a mailbox knows."""

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

REPORT_REST_FACTOR: Final = 10.0
"""After an exchange with another mailbox the next one has to wait so many times as long as it took: neighbours that ask
all the time cost a tenth of a processor at the most."""

REPORT_SLICE_LOGS: Final = 1024
"""Logs gone through in one go: about three milliseconds."""

# --- HTTP ------------------------------------------------------------------------------------------------------

HTTP_BODY_BYTES_MAX: Final = 64 * MIB
"""Largest request body: the Toy Mailbox API's limit since its second generation. Exactly this many pass."""

HTTP_HEAD_BYTES_MAX: Final = 16 * KIB
"""Request line and headers together; browsers send 1-2 KiB."""

HTTP_HEADERS_MAX: Final = 100
"""Headers of one request; browsers send about 20."""

HTTP_KNOWN_HEADS_MAX: Final = 512
"""Heads whose meaning is remembered: a client's are all alike, and reading one is a tenth of a short request's cost."""

HTTP_KNOWN_HEAD_BYTES_MAX: Final = KIB
"""Size of a head above which it isn't remembered: with the above, 2 MB at most."""

HTTP_CHUNK_LINE_BYTES_MAX: Final = 4 * KIB
"""One line between the chunks of a body: a size of up to 15 digits, and extensions that nobody uses."""

HTTP_HEAD_TIMEOUT_S: Final = 10.0
"""From a request's first byte (or from accepting the connection) to the end of its head."""

HTTP_BODY_RATE_MIN: Final = 500
"""Bytes per second that a body must arrive at: an EDGE connection does ten times that, a slow-loris attack doesn't."""

HTTP_BODY_WINDOW_S: Final = 10.0
"""The minimum rate is averaged over this long, which is also the grace at the start. The app gives up after 10 s."""

HTTP_BODY_TIMEOUT_S: Final = 600.0
"""A whole body: 64 MiB at 1 Mbit/s."""

HTTP_IDLE_TIMEOUT_S: Final = 60.0
"""An open connection without a request; the app polls every 2.5 s."""

HTTP_SEND_STALL_S: Final = 30.0
"""A client must take the next piece of an answer in this time."""

HTTP_SEND_PIECE_BYTES: Final = 128 * KIB
"""What the kernel may hold unsent for one connection before we wait: the piece of the line above."""

HTTP_LINGER_S: Final = 10.0
"""After a refusal the rest of the request is read and thrown away for so long, because closing at once would destroy
the refusal on its way."""

HTTP_LINGER_BYTES_MAX: Final = 256 * MIB
"""And so much of it."""

HTTP_CONNECTIONS_MAX: Final = 1_000
"""Connections at once: a festival on one mailbox, in 20 MB of memory."""

HTTP_CONNECTIONS_PER_CLIENT_MAX: Final = 32
"""Of one IP address; browsers open 6. Loopback is exempt: a reverse proxy has everyone's."""

HTTP_BODIES_BYTES_MAX: Final = 128 * MIB
"""Request bodies in memory, over all connections: two of the largest. One IP address may hold half of it."""

HTTP_BODIES_BYTES_HIGHEST: Final = 64 * 1024 * MIB
"""Most that can be set for it: more memory than any mailbox has."""

HTTP_CONNECTIONS_HIGHEST: Final = 100_000
HTTP_REQUESTS_PER_CLIENT_HIGHEST: Final = 1_000_000
SYNC_SESSIONS_HIGHEST: Final = 256
"""Most that can be set for connections, requests per second and sync sessions: beyond what one process is able to."""

HTTP_CONNECTIONS_LOWEST: Final = 16
"""Fewest connections that can be set: a browser takes six."""

HTTP_BODY_FREE_BYTES: Final = 64 * KIB
"""Bodies up to this size don't count there, so that somebody's huge upload never turns away a chat message. The number
of connections bounds them (64 MB)."""

HTTP_ANSWERS_BYTES_MAX: Final = 128 * MIB
"""Answers to gets in memory, over all connections; answers above `HTTP_BODY_FREE_BYTES` wait for room."""

HTTP_ANSWER_WAIT_S: Final = 8.0
"""How long an answer waits for room before the client is told to come back: less than the 10 s after which the app
gives up anyway."""

HTTP_PAGE_BYTES: Final = MIB
"""Blob bytes in one page of a streamed answer: small against what a connection holds anyway, large against what
reading a page costs."""

HTTP_STREAM_BYTES: Final = 4 * HTTP_PAGE_BYTES
"""What a streamed answer is reckoned to hold: a page, its JSON (4/3), and a copy of that on its way out."""

HTTP_READS_MAX: Final = 8
"""Pages read from the store for HTTP at once (8 MiB of blobs, or a large message each); others wait their turn."""

HTTP_REQUESTS_PER_CLIENT_RATE: Final = 200.0
"""Requests per second of one IP address, loopback exempt. A phone makes up to 0.8 (a get and a store every 2.5 s), so
250 phones may share the address of one router."""

HTTP_REQUESTS_PER_CLIENT_BURST: Final = 1_000
"""Requests at once beyond that rate: everyone behind a router coming back after an outage."""

HTTP_CLIENTS_REMEMBERED_MAX: Final = 4_096
"""IP addresses whose rate is kept track of; the one unseen for longest is forgotten."""

HTTP_STORES_WAITING_MAX: Final = 512
"""Stores under way at once; further ones get a 429. A commit takes some hundred in one go, so this is under a
second."""

HTTP_GRACE_S: Final = 5.0
"""At shutdown requests under way may take so long to finish."""

ADMIN_TOKEN_BYTES: Final = 32
"""Random bytes in the administration's token: nobody guesses 256 bits."""

ADMIN_BODY_BYTES_MAX: Final = 64 * KIB
"""A request to the administration names a mailbox at the most."""

CLIENT_TIMEOUT_S: Final = 30.0
"""The command line waits so long for the next byte of an answer: longer than a large read from a busy disk."""

SYNC_REQUEST_TIMEOUT_S: Final = 3600.0
"""And for a sync that the user asked for: a first sync of a full mailbox over a slow radio link."""

VERIFY_REQUEST_TIMEOUT_S: Final = 600.0
"""And for a comparison of the index with the store: ten million messages on a Raspberry Pi take two minutes."""

DIGEST_OFFLOAD_BYTES: Final = MIB
"""A client's messages are hashed in a worker thread from this size on: a gigabyte per second, so 1 ms."""

DIGEST_OFFLOAD_MESSAGES: Final = 1_000
"""And from this many messages on: about a microsecond each."""

HTTP_OFFLOAD_BYTES: Final = 64 * KIB
"""JSON from this size on is read and written in a worker thread: below, a thread costs more than it saves."""

STORE_MEMBERS_MAX: Final = 300_000
"""Topics, logs and messages together in one store. A full body of the app's smallest messages (200 bytes) has 241,000;
what is beyond would cost more memory in objects than the body itself."""

GET_MEMBERS_MAX: Final = 100_000
"""Topics and logs together in one get: a user of a thousand topics with a hundred authors each."""

MISSING_ANSWER_MAX: Final = 1_000_000
"""Missing seqs in one whole answer (up to 20 MB of digits). Beyond it each log's list is cut to its lowest seq, so that
the client still learns that something is missing, and asks again."""

JSON_DEPTH_MAX: Final = 128
"""Nesting of a request body: the reference's limit. Ours needs 4."""

FILES_BESIDE_HTTP: Final = 512
"""Open files beside the connections of phones: the store's, other mailboxes' connections, and some to spare."""

JSON_SLICE_BYTES: Final = MIB
"""Larger bodies are decoded in pieces of about this size: 1-2 ms in which no other Python code can run."""

EXACT_CHECK_BYTES_MAX: Final = MIB
"""Up to this size a body that breaks a rule gets a slow look that tells which one; no honest client needs it."""

# --- admission: passwords, trust, pairing ------------------------------------------------------------------------

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
# --- the dashboard ---------------------------------------------------------------------------------------------

EVENTS_OF_A_KIND_MAX: Final = 50
"""Events of one kind that are remembered: what a person may want to look back at, and less than 1 MB in all."""

EVENT_CHARS_MAX: Final = 300
"""Characters of an event: a sentence with an address in it."""

EVENTS_SHOWN_MAX: Final = 100
"""Events that the page is sent: ten kilobytes at most times, and more than anyone reads."""

EVENT_MERGE_S: Final = 60.0
"""What happens again within this time (a sync with the same neighbour, the same trouble) is told as one event."""

EVENT_SUM_S: Final = 600.0
"""Syncs that follow each other are summed up for so long, then a new event begins: else an evening would be one."""

EVENT_NEIGHBOURS_MAX: Final = 256
"""Neighbours whose syncs are summed up for an event: as many as are known at once."""

HISTORY_HOUR_STEP_S: Final = 10.0
"""A sample of the last hour: as fine as a screen can show, and the counters cost nothing to read."""

HISTORY_WEEK_STEP_S: Final = 900.0
"""A sample of the last week: 672 of them, about as many as a screen has columns."""

HISTORY_SAMPLES_MAX: Final = 700
"""Samples in one ring whatever the clock does: a week's and some to spare; 200 KB at most."""

# --- shedding: what gives way when the mailbox is flooded ---------------------------------------------------------

HTTP_STRANGERS_STORES_MAX: Final = HTTP_STORES_WAITING_MAX * 3 // 4
HTTP_STRANGERS_READS_MAX: Final = HTTP_READS_MAX // 4
HTTP_STRANGERS_ANSWERS_BYTES_MAX: Final = HTTP_ANSWERS_BYTES_MAX * 3 // 4
"""What strangers may take of these, all together: the rest is for those who are known."""

CHALLENGE_KEY_BYTES: Final = 32
"""Random bytes that sign challenges: nobody guesses 256 bits."""

CHALLENGE_BUCKET_S: Final = 30.0
"""A challenge is good until the end of the next bucket, half a minute to a minute: a slow phone needs some seconds."""

CHALLENGE_BITS_FIRST: Final = 14
"""What is asked for first: 16,000 hashes, some 20 ms of a script and less than one of a phone's own code. (wire)"""

CHALLENGE_BITS_MAX: Final = 24
"""Most that is asked for: 16 million hashes, a second or two of a phone's own code. A client does no more for anybody.
(wire)"""

CHALLENGE_SLACK_BITS: Final = 2
"""A proof of so many bits less than by now are asked for still counts: the difficulty rose while it was searched."""

CHALLENGE_PROOFS_MAX: Final = 32_768
"""Proofs that are remembered so that each counts once: 300 a second in two buckets, 3 MB. Whoever fills that, from
sixty addresses, has spent minutes of computing at the lowest number of bits; others then wait for the next bucket."""

CHALLENGE_PROOFS_PER_CLIENT_MAX: Final = 512
"""Proofs of one client in a half minute: more than KNOWN_RATE, and too few to use up what is there for all."""

CHALLENGE_PROVEN_RATE: Final = 100.0
"""Requests with proofs per second that are welcome; with more of them the bits rise by one each second."""

PULSE_S: Final = 0.05
"""How often the server looks at how late it is."""

PULSE_LATE_S: Final = 0.015
"""Being late by more than that is strain: every request waits so long several times, and a quiet mailbox answers within
some milliseconds."""

PULSE_SMOOTHING: Final = 0.25
"""Weight of the newest look in the average: one long computation is no flood, half a second of them is."""

STRAIN_STRANGERS_RATE: Final = 50.0
"""Requests of strangers per second below which strain is not their doing, and slowing them down would not help."""

PACE_FIRST_S: Final = 0.01
PACE_MAX_S: Final = 2.0
"""How long a stranger's connection waits between two requests while there is strain: it grows by half with every look
up to the second figure. Then a thousand connections make 500 requests a second, a tenth of what a small computer
can."""

PACE_CHALLENGE_S: Final = 0.1
"""From this pace on a stranger's stores need a proof of work."""

CALM_S: Final = 5.0
"""Without strain for so long, the bits fall by one; below the first figure none are asked for."""

KNOWN_SLOT_S: Final = 10.0
KNOWN_SLOTS_MIN: Final = 6
"""A client that was served well in so many slots of that length is known: a minute of an ordinary phone's polling."""

KNOWN_FORGET_S: Final = 24 * 3600.0
"""A known client that was not seen for a day is a stranger again: addresses are given to others."""

KNOWN_RATE: Final = 10.0
KNOWN_BURST: Final = 100
"""Requests per second, and at once, up to which a client is served as what it is while there is strain; what is beyond
is served as a stranger's. A phone makes one a second."""

PENALTY_MAX: Final = 20.0
PENALTY_HALF_LIFE_S: Final = 60.0
"""Requests that broke HTTP or did not arrive in time, halved every minute, that make a client a stranger until they
have decayed below that."""

SHED_RETRY_AFTER_S: Final = 5
"""When a stranger that was sent away may come back: the app tries again after 5 s anyway."""

STRANGERS_CONNECTIONS_SHARE: Final = 0.875
"""Share of all connections that strangers may have: the rest is for addresses that are known, so that a phone that was
here before gets in whatever strangers do."""

KNOWN_IDLE_S: Final = 10.0
"""A known client's connection that was idle for so long may be closed for a new one. Phones that are on ask every few
seconds."""

FRESH_S: Final = 1.0
"""A connection that has sent no whole head for so long may be closed in favour of a new one where all are taken."""

NETWORK_CLIENTS: Final = 4
"""An IPv6 /64 may have as many connections as so many clients: whoever has one address in it has all of them, but a
LAN's phones share one, too."""
DASHBOARD_CODE_S: Final = 120.0
"""A login link is good for so long: time to paste it into a browser, and no more."""

DASHBOARD_CODES_MAX: Final = 8
"""Login links that are good at once; the oldest goes."""

DASHBOARD_SECRET_BYTES: Final = 32
"""Random bytes in a code, in a session's cookie and in its key: nobody guesses 256 bits."""

DASHBOARD_SESSION_S: Final = 7 * 86400.0
"""A session that nobody uses ends after so long; a page that is open uses it."""

DASHBOARD_SESSIONS_MAX: Final = 16
"""Sessions at once, more than one person has browsers; the one unused for longest goes."""

LIVE_LISTENERS_MAX: Final = 16
"""Pages that are told of changes at once: each costs a connection and a few dozen kilobytes a second at most."""

LIVE_HEARTBEAT_S: Final = 15.0
"""A page hears something at least this often: so both sides learn of a connection that is dead."""

LIVE_TICK_S: Final = 1.0
"""How often it is looked whether something changed, while a page is open: eyes need no more."""

LIVE_NEIGHBOURS_MAX: Final = 64
"""Neighbours that the page is sent, those in trouble first: 20 KB, and more than fit on a screen."""

LIVE_TOPICS_MAX: Final = 8
"""Topics that the page is sent; the others are summed up."""

CENSUS_PAUSE_S: Final = 60.0
"""Counting by topic reads every key: while a page is open it is done this often at most."""

CENSUS_SHARE: Final = 0.02
"""And it takes no more than this part of the time, however large the store is."""

PAUSED_RETRY_S: Final = 60
"""What phones are told about when to come back while the mailbox mode is off."""

SETTING_CHARS_MAX: Final = 500
"""A setting's text as it comes from the page: an address is a third of that."""

# --- the command line ------------------------------------------------------------------------------------------

SYNC_INTERVAL_MIN_S: Final = 0.1
"""Shortest `--sync-interval`: ten sessions a second with every peer is a busy loop already."""

SYNC_INTERVAL_MAX_S: Final = 24 * 3600.0
"""Longest `--sync-interval`: with less than one a day, a week's messages might expire before they are passed on."""

STORAGE_LIMIT_MIN_BYTES: Final = 64 * MIB
"""Least `--storage-limit`: below it the largest message would not fit."""

CONFIG_FILE_BYTES_MAX: Final = 2 * MIB
"""Largest `config.toml`: INTEREST_TOPICS_MAX topics of the longest kind, and FIXED_PEERS_MAX addresses."""

FIXED_PEERS_MAX: Final = 128
"""Mailboxes named with `--peer`: half of PEERS_MAX, so that those who come by themselves find room, too."""

NAME_CHARS_MAX: Final = 64
"""Longest `--name`: it stands in tables and logs."""

# --- the client kit -------------------------------------------------------------------------------------------

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

CHAT_TEXT_BYTES_MAX: Final = 64 * KIB
"""Longest line of the example chat: a page of text is a twentieth of it."""

# --- the doctor -----------------------------------------------------------------------------------------------

DOCTOR_LISTEN_S: Final = 3.0
"""How long the doctor listens to multicast DNS: a mailbox answers within 1.2 s of a question; three are asked."""

DOCTOR_ANSWER_S: Final = 5.0
"""So long the doctor waits for the mailbox on this machine: it answers within milliseconds, or something is wrong."""

PROBE_ANSWER_BYTES_MAX: Final = 64 * KIB
"""Longest answer of `/health` that is read; ours has less than a hundred bytes."""

DOCTOR_NEIGHBOURS_MAX: Final = 32
"""So many neighbours the doctor tries to reach; what ails the network shows with fewer."""

DOCTOR_FSYNC_ROUNDS: Final = 16
"""Writes that the doctor times to judge the disk: the median of so many is steady within a few per cent."""

DOCTOR_FSYNC_SLOW_S: Final = 0.1
"""A disk whose fsync takes longer answers a phone late enough to be felt; SD cards take 5 to 50 ms."""

DOCTOR_DISK_LOW_BYTES: Final = 512 * MIB
"""With less than this free, a day of a busy mailbox may fill the disk."""

DOCTOR_CLOCK_OFF_S: Final = 60.0
"""Clocks that differ by more are not kept by anything, and will differ by CLOCK_SKEW_MAX_S one day."""

REACH_PORTS_MAX: Final = 4
"""Ports that a mailbox may ask a neighbour to try: HTTP, HTTPS, mailboxes, and one to spare."""

REACH_HOSTS_MAX: Final = 4
"""Addresses of the asking mailbox that are tried: IPv4 and IPv6, cable and WLAN."""

REACH_TIMEOUT_S: Final = 3.0
"""A port that has not answered by then is silent: a SYN is sent again after one second, and after three."""

REACH_INTERVAL_S: Final = 10.0
"""A neighbour is tried for each mailbox once in so long: being asked must not make it a port scanner."""

REACH_FRAME_BYTES_MAX: Final = 2048
"""Question or answer: sixteen lines of a port, an address and a digit need half of it."""

REACH_NEIGHBOURS_MAX: Final = 3
"""So many neighbours are asked at once: one may be wrong, three are not."""

SERVICE_WATCHDOG_S: Final = 60.0
"""A mailbox that does not tell systemd for so long that it is well is started again: longer than the longest commit on
an SD card that is being worn out."""

SERVICE_RESTART_S: Final = 5.0
"""The service manager waits so long before it starts a mailbox again that has ended."""

SERVICE_START_S: Final = 600.0
"""A start may take so long: millions of messages are read on a slow disk."""

TRAY_LOOK_S: Final = 5.0
"""The tray icon asks the mailbox so often how it is."""

UPDATE_ANSWER_BYTES_MAX: Final = 8 * MIB
"""What says which release is the newest: PyPI lists all of them in it."""

UPDATE_TIMEOUT_S: Final = 10.0
"""And each wait for it."""

# --- scenarios ----------------------------------------------------------------------------------------------

SCENARIO_FILE_BYTES_MAX: Final = 256 * KIB
"""Longest scenario file: some thousand faults, written one by one."""

SCENARIO_DURATION_MAX_S: Final = 60 * 86_400.0
"""Longest simulated time: two months are eight lives of a message."""

SCENARIO_MAILBOXES_MAX: Final = 10_000
"""Most mailboxes in a scenario: ten times what one core plays in bearable time."""

SCENARIO_PHONES_MAX: Final = 100_000
"""Most phones in a scenario: ten for each of the most mailboxes."""

SWARM_PLAY_MAX_S: Final = 300.0
"""Longest wall time of one run in a swarm: drawn scenarios take seconds, so one that takes minutes hangs."""

MINIMISE_MAX_S: Final = 600.0
"""Wall time after which a failing scenario is handed over as small as it is by then."""

MINIMISE_PLAYS_MAX: Final = 2_000
"""Most runs for it, likewise."""

# --- the report of a simulation -----------------------------------------------------------------------------------

REPORT_SERIES_POINTS_MAX: Final = 480
"""Points of one curve: more than one every two pixels can't be seen."""

REPORT_LINES_MAX: Final = 140
"""Messages whose way is drawn one by one; more would only blacken the chart."""

REPORT_LINE_POINTS_MAX: Final = 24
"""Steps of such a line: a thousand mailboxes make a thousand steps within a few pixels."""

REPORT_MARKS_MAX: Final = 80
"""Marks in one lane of faults. Beyond it what is close together becomes one mark that says how many it stands for."""

REPORT_HAPPENINGS_MAX: Final = 5_000
"""Rows in the list of all that happened: about a megabyte. A week of churn in 200 mailboxes has more."""

REPORT_ROWS_UNFOLDED: Final = 20
"""Mailboxes in the table before the reader asks for the rest: a screen full."""

REPORT_MOMENTS_MAX: Final = 24
"""Pictures of the network: more can't be stepped through with pleasure."""

REPORT_MOMENT_MAILBOXES_MAX: Final = 12_000
"""Mailboxes in all those pictures together: their names and states are about a megabyte of JSON. With a thousand
mailboxes, twelve moments."""

REPORT_LINKS_MAX: Final = 800
"""Links drawn one by one in one picture of the network; beyond it only those between LANs are, as bundles."""

REPORT_DATA_HELD_MAX: Final = 40_000
"""Times at which mailboxes came to hold messages in the page's JSON, half a megabyte: beyond it an even sample of the
messages is kept."""

REPORT_DATA_LINKS_MAX: Final = 20_000
"""Links of all moments together in the page's JSON, for the same reason."""

REPORT_DATA_SAMPLES_MAX: Final = 4_000
"""Samples of each series in the page's JSON: a quarter of a megabyte. Three days at one a minute are as many."""

REPORT_MAILBOXES_MAX: Final = 2_000
"""Rows in the table of mailboxes: about a megabyte. Of more, those that sent most are shown."""

# --- scenarios on real processes ----------------------------------------------------------------------------------

WIRE_QUEUE_MAX_S: Final = 2.0
"""What would wait longer before a narrow link is dropped, as by any router."""

WIRE_CLOGGED_FRAMES_MAX: Final = 512
"""Frames held back in one direction of a clogged link: TCP sends no more before an answer comes."""

WIRE_FLOWS_MAX: Final = 4_096
"""TCP connections that are followed, so that they can be broken; those of twenty machines at their busiest."""

REAL_MAILBOXES_MAX: Final = 30
"""Processes of some 100 MB each that must share a few cores; with more, what is measured is the scheduler."""

REAL_PHONES_MAX: Final = 200
"""Phones are tasks of one process; each costs a namespace and a request every few seconds."""

REAL_DURATION_MAX_S: Final = 3600.0
"""Nobody waits longer for a play that can be played faster."""

REAL_BANDWIDTH_MIN_BYTES_PER_S: Final = 2_000.0
"""Below it a single packet takes longer than TCP waits for its answer."""

REAL_SETTLE_MIN_S: Final = 30.0
"""However fast a play is, mailboxes get this long to come together: they try neighbours that were gone again at
intervals of their own."""

REAL_START_TIMEOUT_S: Final = 60.0
"""A mailbox must be ready by then. It takes two seconds; thirty that start at once on two cores take half a minute."""

REAL_DISK_BYTES: Final = 64 * MIB
"""The file system of a mailbox whose disk fills up: room for all that phones write, and quickly filled."""

REAL_SAMPLES_MAX: Final = 600
"""Samples in a play, each of which asks every mailbox."""

REAL_SAMPLE_INTERVAL_MIN_S: Final = 0.25
"""And not more often than this: with twenty mailboxes, each is asked a hundred questions a second then."""

REAL_ANSWER_TIMEOUT_S: Final = 3.0
"""A mailbox that takes longer to answer a sample is left out of it."""

PHONE_LOOK_S: Final = 5.0
"""How often a phone asks its LAN for mailboxes."""

PHONE_FORGET_S: Final = 120.0
"""A phone forgets a mailbox that it has not heard of for so long: the life of an address in mDNS."""

PHONE_CONNECT_TIMEOUT_S: Final = 5.0
"""The app's patience with a connection."""

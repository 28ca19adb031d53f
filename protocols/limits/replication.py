"""Keeping in step: when a mailbox asks whom, and how much of itself it gives to others."""

from __future__ import annotations

from typing import Final

from protocols.limits.units import KIB, MIB

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

AUDIT_PAUSE_S: Final = 600.0
"""Pause between two passes. A pass itself is spread over two fifths of AUDIT_PASS_S, so that both together are less
than half of it."""

AUDIT_LOOKS: Final = 3
AUDIT_DOUBT_S: Final = 2.0
"""How often a block that seems to differ is looked at, and how long to wait in between: a commit is announced within
milliseconds after it can be read, on a loaded Raspberry Pi within a second."""

SYNC_FRAME_TIMEOUT_S: Final = 30.0
"""Longest wait for a peer's next whole frame, or for it to take one. A Raspberry Pi that commits a batch to an SD card
needs seconds; a minute of silence would hold a session's memory for nothing."""

SYNC_RECEIVE_BYTES: Final = 256 * KIB
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
"""Sessions and hints that are over and of which it is remembered what they brought, for sessions that began before.
What brought least is forgotten first."""

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

TOY_PEER_REFUSED_MAX: Final = 4096
"""Messages that are remembered as too large for a plain mailbox; when there are more, all are tried once again."""

TOY_PEER_NEWS_S: Final = 1.0
"""How long news gather before plain mailboxes are given them: each pass is a request for all topics."""

PEER_SHARE: Final = 0.1
PEER_BUDGET_S: Final = 60.0
"""What the useless part of a mailbox's sessions may cost: a tenth of a processor in the long run, and a minute of it at
once. An honest one needs a thousandth of that; more needs one that compares everything many times a second for
nothing."""

PEER_RESUME_S: Final = 1.0
"""Of that a mailbox that has used it up must have again before it goes on: after ten seconds, not after each one."""

STRANGERS_SHARE: Final = 0.5
"""All mailboxes together that the user has neither named nor trusts, so that somebody with many identities leaves half
of a processor to phones and to friends."""

NEED_S: Final = 0.1
NEED_SEEN_S: Final = 10.0
"""Those with less left than this are in need, and share STRANGERS_SHARE; counted anew after so many seconds."""

NEWCOMERS_BUDGET_S: Final = 200.0
NEWCOMERS_SHARE: Final = 0.1
NEWCOMER_BUDGET_MIN_S: Final = 0.05
"""Somebody new begins with a tenth of the first, which fills at the rate of the second, but with the third at least:
some dozen sessions. So new identities all the time give no new minutes."""

ACCOUNTS_MAX: Final = 1024
"""Mailboxes of whom that is remembered, four times PEERS_MAX; those who came longest ago are forgotten."""

COST_SESSION_S: Final = 0.001
COST_ROUND_TRIP_S: Final = 0.0002
COST_ITEM_S: Final = 5e-6
COST_BYTE_S: Final = 2e-7
"""What a session costs outside of its own turns, estimated: opening the stream, a frame each way, reading an item from
the store, and a byte through Noise, Yamux and sockets on a Raspberry Pi. A tenth of a processor is half a megabyte of
useless bytes per second."""

WORTH_MESSAGE_S: Final = 2e-4
"""What a useful message is worth beside its bytes: five to ten times what it costs on a computer, and a Raspberry Pi
has a fifth of its speed."""

PEER_COPIES: Final = 2.0
PEER_COPY_S: Final = 6 * 3600.0
"""Messages are useful to a mailbox that can't have had them from us: so many copies of all that is held, all that is
stored from then on, and another copy in so many seconds (its disk may have been lost). What it has beyond that is
useless."""

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
"""What is stored within so long, give or take half, goes out as one hint: ten a second at the most on average, which
gossip carries without loss, and still far below the second in which a neighbour should have a message."""

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

HEAP_PIECE_BYTES: Final = 4 * MIB
"""Pieces of memory up to this size are taken from what was freed before: pages and parcels of a transfer are. Without
it a twentieth of a transfer's CPU goes into clearing pages that were given back a moment ago."""

HEAP_KEPT_BYTES: Final = 16 * MIB
"""So much freed memory is kept for that; what is beyond it, and all larger pieces, go back to the system."""

GC_YOUNG_OBJECTS: Final = 5_000
GC_MIDDLE_LOOKS: Final = 80
"""New objects after which Python's garbage collector looks at the young ones, and after how many of these looks at
those that are left: few enough that nobody notices a look (a microsecond for each object, three where caches are cold),
and together many enough: a store of a thousand messages makes 20,000, and none of them is part of a cycle."""

SUPERVISE_PAUSE_FIRST_S: Final = 1.0
"""Pause before a failed part of the node is started again; doubles up to SUPERVISE_PAUSE_MAX_S."""

SUPERVISE_PAUSE_MAX_S: Final = 60.0
"""Longest such pause; a part that ran for longer than this starts anew with the first."""

"""The messages of `vectors.json`, and frames that must be refused."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from protocols.limits.data import SEQ_MAX
from protocols.model import Item, LogName, digest_of, handle_of
from protocols.sync.codec import encode
from protocols.sync.columns import Numbers
from protocols.sync.effects import Runs
from protocols.sync.interest import Interest
from protocols.sync.listing import Entries, Listing
from protocols.sync.messages import (
    About,
    Ask,
    AskedLog,
    Done,
    FetchedLog,
    Hello,
    MergedLog,
    Message,
    Named,
    Names,
    News,
    OfferedLog,
    Parcel,
    Refuse,
    Standing,
    Survey,
    Surveyed,
    Tell,
    ToldLog,
    Topics,
    Transfer,
    Want,
)
from protocols.sync.reconcile import DIFF, DIFFERS, FP, LIST, NONE, Range
from protocols.sync.regions import END, SHOW, Region
from protocols.sync.regions import LIST as LISTED
from tests.protocols.sync.parcel_logs import parcel_log

__all__ = ["ENTRIES", "MESSAGES", "RANGES", "REFUSED", "REGIONS", "entries_of_runs", "numbers"]

ALICE, BOB = LogName("tea", "alice"), LogName("café", "bob")
HANDLES: Final = sorted(map(handle_of, (ALICE, BOB)))
DATE_S: Final = 1_799_996_400


def numbers(*values: int) -> Numbers:
    return np.array(values, np.uint64)


def entries_of_runs(*logs: list[tuple[int, int]] | bytes) -> Entries:
    """What some logs hold: runs, or a row hash for a log of too many."""
    runs = [[] if isinstance(one, bytes) else one for one in logs]
    return Entries(
        Runs(
            np.array([len(one) for one in runs], np.int64),
            numbers(*(first for one in runs for first, _ in one)),
            numbers(*(last for one in runs for _, last in one)),
        ),
        np.array([isinstance(one, bytes) for one in logs], np.bool_),
        b"".join(one for one in logs if isinstance(one, bytes)),
    )


def _key(number: int) -> bytes:
    return number.to_bytes(8, "big")


ENTRIES: Final[list[tuple[str, Entries]]] = [
    ("One log, from seq 0: kind 0, and kinds stays empty.", entries_of_runs([(0, 99)])),
    ("A run that begins later: kind 1.", entries_of_runs([(7, 9)])),
    (
        "Three runs: kind 2. The gap to a following run is its distance minus 2.",
        entries_of_runs([(0, 0), (2, 5), (300, 300)]),
    ),
    ("A log of which nothing is held: kind 2 with 0 runs.", entries_of_runs([])),
    ("Too many runs: kind 3, with the hash of the row.", entries_of_runs(bytes.fromhex("0011223344556677"))),
    (
        "All kinds, and the highest sequence number.",
        entries_of_runs(
            [(0, 4)], [(SEQ_MAX - 1, SEQ_MAX)], [(1, 1), (SEQ_MAX, SEQ_MAX)], bytes(range(8)), [], [(0, SEQ_MAX)]
        ),
    ),
]

REGIONS: Final[list[tuple[str, list[Region]]]] = [
    ("Nothing is said.", []),
    ("One fingerprint of all.", [Region(0, END, FP, b"fingerpr")]),
    (
        "Fingerprints only: no modes. The bounds have two bytes.",
        [
            Region(0, 0x4000 << 48, FP, b"first..."),
            Region(0x4000 << 48, 0x8001 << 48, FP, b"second.."),
            Region(0x8001 << 48, END, FP, b"third..."),
        ],
    ),
    ("A gap is SKIP.", [Region(0x10 << 56, 0x20 << 56, FP, b"only one"), Region(0x30 << 56, 0x30000001 << 32, SHOW)]),
    ("All places are to be shown.", [Region(0, END, SHOW)]),
]

RANGES: Final[list[tuple[str, list[Range]]]] = [
    ("Nothing is said.", []),
    ("Everything listed.", [Range(_key(0), None, LIST, hashes=(b"block 00", b"block 07"))]),
    ("Nothing listed: I have no block there.", [Range(_key(0), None, LIST)]),
    (
        "A fingerprint, then a list.",
        [Range(_key(0), _key(16), FP, b"fingerpr"), Range(_key(16), None, LIST, hashes=(b"block 16",))],
    ),
    (
        "All answers, with a gap between.",
        [
            Range(_key(1), _key(2), DIFFERS),
            Range(_key(2), _key(256), NONE),
            Range(_key(300), _key(301), DIFF, hashes=(b"row hash",)),
        ],
    ),
]

_SURVEY: Final = Survey([Region(0, END, FP, b"fingerpr")])
_SURVEYED: Final = Surveyed([Region(0, END, LISTED)], [1], Listing(20, numbers(685290), entries_of_runs([(0, 1)])), END)
_ITEMS: Final = [
    Item(3, digest_of(b"three"), DATE_S, 5),
    Item(64, bytes(32), DATE_S - 3600, 0),
    Item(64, digest_of(b"a variant"), 0, 9),
    Item(SEQ_MAX, digest_of(b"last"), 2**53, 48 * 1024 * 1024),
]
_INTEREST: Final = Interest.of(["tea", "café"])
_SPANS: Final = [(0, 0), (5, 9), (10, 10), (SEQ_MAX, SEQ_MAX)]

MESSAGES: Final[list[tuple[str, Message]]] = [
    (
        "A hello with a survey as its first question.",
        Hello(2, 2, "main", 1_800_000_000, 604_800, 1_799_398_800, "mailboxd/1.0", b"8 random", encode(_SURVEY)),
    ),
    (
        "The answer, from a mailbox without room: no salt, the agreed boundary, and the answer to the question.",
        Hello(
            2, 2, "main", 1_800_000_007, 604_800, 1_799_398_800, "mailboxd/1.0", b"", encode(_SURVEYED), is_full=True
        ),
    ),
    ("A hello of other versions, without a question.", Hello(1, 7, "", 0, 1, 2**53, "ünï", b"8 random")),
    (
        "Not everything is kept: who is asked is believed to keep everything.",
        Hello(2, 2, "main", 1_800_000_000, 604_800, 1_799_398_800, "m", b"8 random", keeps=_INTEREST.id),
    ),
    (
        "The answer of a mailbox that keeps everything, and asks for the topics.",
        Hello(2, 2, "main", 1_800_000_007, 604_800, 1_799_398_800, "m", asks_topics=True),
    ),
    ("Topics: tea and café.", Topics(_INTEREST)),
    ("No topic at all.", Topics(Interest.of([]))),
    ("A refusal.", Refuse("clock", "the two clocks differ by 601 s (allowed: 600 s); set them right")),
    ("A refusal for some time.", Refuse("busy", "the share of this mailbox's time is used up", 12)),
    ("No news.", News()),
    (
        "News of two logs, of a later round.",
        News(Listing(20, numbers(1, 685290), entries_of_runs([(0, 4)], [(2, 3)])), again=True),
    ),
    ("About two logs, of which the asker has one.", About(HANDLES, entries_of_runs([], [(0, 2)]))),
    (
        "The first and the tenth listed log differ, one log of my own has news.",
        Standing(
            [0, 9], entries_of_runs([(0, 3)], []), Listing(64, numbers(2**63), entries_of_runs([(0, 0)])), b"all rest"
        ),
    ),
    ("Nothing differs.", Standing(rest=b"all rest")),
    ("No answer: make a survey.", Standing()),
    (
        "A survey of two parts.",
        Survey([Region(0, 0x80 << 56, FP, b"first..."), Region(0x80 << 56, END, FP, b"second..")]),
    ),
    ("All logs are to be listed, in a later round.", Survey([Region(0, END, SHOW)], again=True)),
    (
        "One region is listed, one cut in two, and nothing is said from c0… on.",
        Surveyed(
            [
                Region(0, 0x40 << 56, LISTED),
                Region(0x80 << 56, 0xA0 << 56, FP, b"first..."),
                Region(0xA0 << 56, 0xC0 << 56, FP, b"second.."),
            ],
            [2],
            Listing(24, numbers(5, 0x3FFFFF), entries_of_runs([(0, 0)], b"many run")),
            0xC0 << 56,
        ),
    ),
    ("Nothing differs.", Surveyed()),
    ("Which logs begin so?", Names(33, numbers(1, 2**33 - 1))),
    (
        "Three fragments are answered, the second one by nobody.",
        Named(3, [(0, ALICE), (0, BOB), (2, LogName("tea", "bob"))]),
    ),
    ("The hashes of the rows in a region.", Ask((0x40 << 56, END))),
    ("In which blocks do these logs differ?", Ask(None, [AskedLog(HANDLES[0], RANGES[3][1]), AskedLog(HANDLES[1])])),
    ("Go on telling.", Ask()),
    ("Rows of a region, as far as they fit.", Tell([(HANDLES[0], b"row hash"), (HANDLES[1], b"another ")], 0xB0 << 56)),
    (
        "Answers to block ranges, and items; one log is told to its end, more is to come of the other.",
        Tell([], END, [ToldLog(HANDLES[0], RANGES[4][1]), ToldLog(HANDLES[1], [], _ITEMS, False)], more=True),
    ),
    (
        "Send this, take that, and this has an earlier date.",
        Transfer(
            [FetchedLog(HANDLES[0], _SPANS)],
            [OfferedLog(ALICE, [(3, 3)], True), OfferedLog(BOB, [(0, SEQ_MAX)], False)],
            [MergedLog(HANDLES[1], _ITEMS)],
        ),
    ),
    ("Nothing but an earlier date.", Transfer(merges=[MergedLog(HANDLES[0], _ITEMS[:1])])),
    ("The second offer is wanted; of the first one a message had died here.", Want([(1, [(0, 9)])], [(0, _ITEMS[:1])])),
    ("Nothing is wanted.", Want()),
    (
        "Messages of two logs: dates go on from log to log, the second message of the first log is a variant.",
        Parcel(
            [
                parcel_log(0, None, [(3, DATE_S, 2), (3, DATE_S - 3600, 0), (70, DATE_S + 3600, 1)]),
                parcel_log(2, 41, [(SEQ_MAX, DATE_S + 3600, 300)]),
            ],
            b"abc",
        ),
    ),
    ("The highest watermark that can be said.", Parcel([parcel_log(0, SEQ_MAX - 1, [(0, 0, 0)])], b"", True)),
    ("Data that goes on, and a stop.", Parcel([], b"and so on", True, (2, SEQ_MAX))),
    ("Finished, all moved, equal; an acknowledgement is asked for.", Done(True, True, True)),
    ("Finished with something left.", Done(False, False, False)),
]

_HANDLE: Final = HANDLES[0]
_DIGEST: Final = bytes(32)

REFUSED: Final[list[tuple[str, Any]]] = [
    ("not an array", b"\x01"),
    ("an empty array", []),
    ("an unknown type", [99]),
    ("a map", b"\x92\x02\x80"),
    ("nil", b"\x94\x0f\xc0\x00\x00"),
    ("a boolean", b"\x94\x0f\xc3\x00\x00"),
    ("a float", b"\x94\x0f\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x00\x00"),
    ("a negative integer", b"\x94\x0f\xff\x00\x00"),
    ("an ext type", b"\x94\x0f\xd4\x01\x00\x00\x00"),
    ("a string that is not UTF-8", b"\x93\x02\xa1\xff\xa0"),
    ("something behind the array", b"\x94\x0f\x01\x00\x00\x00"),
    ("an array cut off", b"\x94\x0f\x01\x00"),
    ("an element too few", [15, 1, 0]),
    ("an element too many", [15, 1, 0, 1, 0]),
    ("a flag that is 2", [15, 2, 0, 0]),
    ("a string instead of a bin", [14, "", b"", b"", b"", b"", 1, []]),
    ("a hello with a highest version below its lowest", [1, 3, 2, "main", 0, 1, 0, "x", b"", b"", 0]),
    ("news with a listing of no logs", [3, 0, [20, 0, b"", b"", b"", b"", b""]]),
    ("a listing with fragments of 19 bits", [3, 0, [19, 1, b"\0\0\x08\x80", b"", b"\0", b"", b""]]),
    ("a listing with the same fragment twice", [3, 0, [20, 2, b"\0" * 5 + b"\xc0", b"", b"\0\0", b"", b""]]),
    ("handles that are not ascending", [4, 0, bytes(32), b"", b"\0\0", b"", b""]),
    ("half a handle", [4, 0, bytes(8), b"", b"\0", b"", b""]),
    ("a rest of seven bytes", [5, b"", [], [], bytes(7)]),
    ("entries of more logs than differ", [5, b"\x01", [b"", b"\0\0", b"", b""], [], bytes(8)]),
    ("a survey of nothing", [6, 0, []]),
    ("a survey with LIST", [6, 0, [0, b"", b"\x03", b""]]),
    ("regions whose bounds are not ascending", [6, 0, [1, b"\x80\x80", b"\x01\x02\x02", bytes(8)]]),
    ("a bound of zero", [6, 0, [1, b"\0", b"\x02\x02", b""]]),
    (
        "counts that are not those of the lists",
        [7, [0, b"", b"\x03", b""], b"\x02", [20, 1, b"\0\0\x08\x80", b"", b"\0", b"", b""], b""],
    ),
    ("names of no fragments", [8, 20, 0, b""]),
    ("a fragment that was not answered", [9, 1, ["tea"], [1], [0], ["alice"]]),
    ("a topic that is not there", [9, 1, ["tea"], [0], [1], ["alice"]]),
    ("a name with a colon", [9, 1, ["te:a"], [0], [0], ["alice"]]),
    ("an empty log", [9, 1, ["tea"], [0], [0], [""]]),
    ("an empty region", [10, [b"\x80", b"\x80"], []]),
    ("a log asked about twice", [10, [], [[_HANDLE, []], [_HANDLE, []]]]),
    ("half a row", [11, bytes(23), b"", [], 0]),
    ("an item twice", [11, b"", b"", [[_HANDLE, [], [5, 0], 2 * _DIGEST, [0, 0], [1, 1], 1]], 0]),
    (
        "a sequence number beyond 2^64-1",
        [11, b"", b"", [[_HANDLE, [], [SEQ_MAX, 1], 2 * _DIGEST, [0, 0], [1, 1], 1]], 0],
    ),
    ("a date beyond 2^53", [11, b"", b"", [[_HANDLE, [], [5], _DIGEST, [2**53 + 1], [1], 1]], 0]),
    ("a size above BLOB_BYTES_MAX", [11, b"", b"", [[_HANDLE, [], [5], _DIGEST, [0], [48 * 1024 * 1024 + 1], 1]], 0]),
    ("spans without an end", [12, [[_HANDLE, [5]]], [], []]),
    ("no spans", [12, [[_HANDLE, []]], [], []]),
    ("spans that overlap", [12, [[_HANDLE, [5, 3, 0, 1]]], [], []]),
    ("spans beyond 2^64-1", [12, [[_HANDLE, [5, SEQ_MAX]]], [], []]),
    ("a log offered twice", [12, [], [["tea", "alice", 1, [0, 0]], ["tea", "alice", 1, [2, 0]]], []]),
    ("wishes out of order", [13, [[1, [0, 0]], [0, [0, 0]]], []]),
    ("a number above 2^64-1 in a column", [14, b"\0\0\x01", b"\xff" * 9 + b"\x02", b"\0", b"\0", b"", 1, []]),
    ("a column that ends within a number", [14, b"\0\0\x01", b"\x80", b"\0", b"\0", b"", 1, []]),
    ("a number in a longer form than needed", [14, b"\0\0\x01", b"\x80\0", b"\0", b"\0", b"", 1, []]),
    ("columns of different lengths", [14, b"\0\0\x01", b"\0\0", b"\0", b"\0", b"", 1, []]),
    ("a date before 1970", [14, b"\0\0\x01", b"\0", b"\x01", b"\0", b"", 1, []]),
    ("an id of an interest of 15 bytes", [1, 2, 2, "main", 0, 1, 0, "x", b"", b"", 0, [bytes(15), b"", 0]]),
    ("a log of 65 runs", [3, 0, [20, 1, b"\0\0\x08\x80", b"\x80", b"A", bytes(130), b""]]),
    ("a run beyond 2^64-1", [3, 0, [20, 1, b"\0\0\x08\x80", b"\x40", b"\xff" * 9 + b"\1", b"\1", b""]]),
    ("a gap beyond 2^64-1", [3, 0, [20, 1, b"\0\0\x08\x80", b"\x80", b"\2", b"\0\0" + b"\xff" * 9 + b"\1\0", b""]]),
    ("a hash that is listed twice", [10, [], [[_HANDLE, [0, b"", b"\2", b"", [2], bytes(16)]]]]),
    ("a boolean among numbers", b"\x94\x0c\x91\x92\xc4\x10" + bytes(16) + b"\x92\xc3\x00\x90\x90"),
    ("a float among numbers", b"\x94\x0c\x91\x92\xc4\x10" + bytes(16) + b"\x92\xcb" + bytes(8) + b"\x00\x90\x90"),
    ("half a topic", [16, bytes(8)]),
    ("a topic twice", [16, bytes(32)]),
    ("a log twice in a parcel", [14, b"\0\0\x01\0\0\x01", b"\0\x01", b"\0\0", b"\0\0", b"", 1, []]),
    ("half a position", [14, b"", b"", b"", b"", b"", 1, [4]]),
]

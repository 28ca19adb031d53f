"""The messages of a sync session. How they stand in frames is `codec.py`'s business, and in `sync.md` as tables.

Whoever fills a message measures what goes in, so that no frame gets longer than its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from protocols.limits.data import DIGEST_BYTES
from protocols.model import Item, LogName
from protocols.sync.columns import Numbers
from protocols.sync.interest import EVERYTHING_ID, Interest
from protocols.sync.listing import NO_ENTRIES, NO_LISTING, Entries, Listing
from protocols.sync.reconcile import Range
from protocols.sync.regions import END, Region

__all__ = [
    "About",
    "Ask",
    "AskedLog",
    "Done",
    "FetchedLog",
    "Hello",
    "MergedLog",
    "Message",
    "Named",
    "Names",
    "News",
    "OfferedLog",
    "Parcel",
    "ParcelLog",
    "Refuse",
    "Seqs",
    "Standing",
    "Survey",
    "Surveyed",
    "Tell",
    "ToldLog",
    "Topics",
    "Transfer",
    "Want",
    "item_bytes",
]

Seqs: TypeAlias = tuple[int, int]
"""First and last of a span of sequence numbers, both inclusive."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who is there, both ways. The layout is the same in all versions; later ones may add elements at the end.

    `alive_from_s` is the smallest first stored that the sender takes part with (the answer holds what was agreed).
    `salt` is empty in the answer. `first` is the first question (in the answer the reply to it) in the sender's highest
    version as a frame, or empty. `is_full`: the sender has no room, so that offering it anything is no use. `keeps` is
    the id of the topics that the sender keeps in step (empty: all). `believes`, in a question, is the id of those that
    it takes the other to keep, and with which `first` counts. `asks_topics`, in an answer: I don't know the topics of
    your `keeps`, tell me.
    """

    version_min: int
    version_max: int
    network: str
    now_s: int
    retention_s: int
    alive_from_s: int
    software: str
    salt: bytes = b""
    first: bytes = b""
    is_full: bool = False
    keeps: bytes = EVERYTHING_ID
    believes: bytes = EVERYTHING_ID
    asks_topics: bool = False


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics behind the `keeps` of the sender's hello."""

    interest: Interest


@dataclass(frozen=True, slots=True)
class Refuse:
    """The sender won't go on. `code` is a short stable word, `text` is for people. With a `pause_s` it won't in so many
    seconds either."""

    code: str
    text: str
    pause_s: int = 0


# --- which logs differ ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class News:
    """Initiator: these logs of mine have changed since we last held the same; what about yours? `again`: as they are
    now, not as they were when the session began."""

    listing: Listing = NO_LISTING
    again: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class About:
    """Initiator: what about these logs (whole handles, ascending)? Entry i says what I hold of log i. `again` as in
    News."""

    handles: Sequence[bytes]
    entries: Entries
    again: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """Reply to News and About. `differing` are the indices (ascending) of listed logs of which I hold something else,
    namely `entries`; `listing` are my own news that were not listed (News only); `rest` is my fingerprint over all
    other logs (News), or over those asked about that are not `differing` (About). An empty `rest`: I can't answer
    that, make a survey."""

    differing: Sequence[int] = ()
    entries: Entries = NO_ENTRIES
    listing: Listing = NO_LISTING
    rest: bytes = b""


@dataclass(frozen=True, slots=True)
class Survey:
    """Initiator: regions (ascending, disjoint) with my fingerprint of them, or to be listed. `again` as in News."""

    regions: Sequence[Region]
    again: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Surveyed:
    """Reply: regions that differ, with fingerprints of their parts, or listed: region i of the listed ones has the next
    `counts[i]` logs of `listing`. Nothing is said about what is not below `until`."""

    regions: Sequence[Region] = ()
    counts: Sequence[int] = ()
    listing: Listing = NO_LISTING
    until: int = END


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """Initiator: which logs of yours begin with these fragments (ascending, `width` bits)?"""

    width: int
    fragments: Numbers


@dataclass(frozen=True, slots=True)
class Named:
    """Reply about the first `answered` fragments: (index of the fragment, name), ascending by index."""

    answered: int
    names: Sequence[tuple[int, LogName]] = ()


# --- in what they differ ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AskedLog:
    """What the initiator says about the blocks of one log. No ranges: tell everything."""

    handle: bytes
    ranges: Sequence[Range] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """Initiator: how do your rows in `region` hash, what is in these logs? All empty: go on telling."""

    region: tuple[int, int] | None = None
    logs: Sequence[AskedLog] = ()


@dataclass(frozen=True, slots=True)
class ToldLog:
    """What the responder says about one log: answers to block ranges and the items of differing blocks, whole blocks
    only. `last` ends what there is to say to this question."""

    handle: bytes
    ranges: Sequence[Range] = ()
    items: Sequence[Item] = ()
    last: bool = True


@dataclass(frozen=True, slots=True)
class Tell:
    """Reply to Ask: (handle, keyed row hash) of the rows in the region that are below `until`, and logs. `more`: there
    is more to say about logs, ask on."""

    rows: Sequence[tuple[bytes, bytes]] = ()
    until: int = END
    logs: Sequence[ToldLog] = ()
    more: bool = False


# --- moving messages --------------------------------------------------------------------------------------------------


class FetchedLog(NamedTuple):
    """What the initiator wants of a log."""

    handle: bytes
    spans: Sequence[Seqs]


class OfferedLog(NamedTuple):
    """What the initiator has of a log that the responder lacks. `is_last`: and that is all that it lacks."""

    name: LogName
    spans: Sequence[Seqs]
    is_last: bool


class MergedLog(NamedTuple):
    """Earlier dates for messages that the responder holds."""

    handle: bytes
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Transfer:
    """Initiator: send me this, take that, and these dates."""

    fetch: Sequence[FetchedLog] = ()
    offers: Sequence[OfferedLog] = ()
    merges: Sequence[MergedLog] = ()


@dataclass(frozen=True, slots=True)
class Want:
    """Responder: (index of an offer, its spans that are wanted), ascending; and (index of an offer, items) that the
    responder has let die already, or is about to: with an earlier date than takes part in this session."""

    offers: Sequence[tuple[int, Sequence[Seqs]]] = ()
    earlier: Sequence[tuple[int, Sequence[Item]]] = ()


class ParcelLog(NamedTuple):
    """Messages of one log in a parcel: its number in the request, the sender's watermark, and the messages' headers,
    column by column (sizes in bytes)."""

    number: int
    watermark: int | None
    seqs: list[int]
    first_stored_s: list[int]
    sizes: list[int]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A piece of what was asked for. `data` goes on with the blobs, one after the other, of all headers so far: bytes
    where it was received, maybe a view of some where it is sent.

    `is_last`: nothing follows; then `stopped_at` says from which (number, seq) on nothing was sent, None if all was.
    """

    logs: Sequence[ParcelLog] = ()
    data: bytes | memoryview = b""
    is_last: bool = False
    stopped_at: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The initiator has finished. `is_complete`: all differences that were found have been moved; `is_equal`: and the
    last comparison found none. It wants an acknowledgement if `ack`; the responder's answer, the acknowledgement, says
    that everything it was given is durable."""

    is_complete: bool = True
    is_equal: bool = False
    ack: bool = False


Message: TypeAlias = (
    Hello
    | Refuse
    | Topics
    | News
    | About
    | Standing
    | Survey
    | Surveyed
    | Names
    | Named
    | Ask
    | Tell
    | Transfer
    | Want
    | Parcel
    | Done
)

_ITEM_BYTES: Final = DIGEST_BYTES + 9 + 5


def item_bytes(item: Item) -> int:
    """An upper bound of what an item takes in a message."""
    return _ITEM_BYTES + (5 if item.first_stored_s < 2**32 else 9)

"""The messages of a sync session. How they stand in frames is `codec.py`'s business, and in `sync.md` as tables.

Whoever fills a message measures what goes in (`item_bytes`, `KEY_BYTES`, `ranges.range_bytes`), so that no frame gets
longer than its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from protocols.limits import DIGEST_BYTES
from protocols.model import Item, LogName
from protocols.sync.reconcile import Range

__all__ = [
    "KEY_BYTES",
    "Ask",
    "AskedLog",
    "Blobs",
    "Done",
    "Hello",
    "Message",
    "Refuse",
    "Tell",
    "ToldLog",
    "Transfer",
    "TransferLog",
    "Want",
    "item_bytes",
]


@dataclass(frozen=True, slots=True)
class Hello:
    """Who is there, both ways. The layout is the same in all versions; later ones may add elements at the end.

    `alive_from_s` is the smallest first stored that the sender takes part with (the answer holds what was agreed).
    `salt` is empty in the answer. `first` is an Ask (in the answer a Tell) of the sender's highest version as a frame,
    or empty.
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


@dataclass(frozen=True, slots=True)
class Refuse:
    """The sender won't go on. `code` is a short stable word, `text` is for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class AskedLog:
    """What the initiator says about the blocks of one log. No ranges: it does not know the log, tell everything."""

    handle: bytes
    ranges: Sequence[Range] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """Initiator to responder: what do you have? `ranges` are about logs, `logs` about blocks, `rows` are hashes that
    the responder listed and that mean nothing to the initiator. All empty: go on telling."""

    ranges: Sequence[Range] = ()
    logs: Sequence[AskedLog] = ()
    rows: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class ToldLog:
    """What the responder says about one log: answers to block ranges and the items of differing blocks, whole blocks
    only. `last` ends what there is to say to this question. `name` where the initiator may not know it."""

    handle: bytes
    name: LogName | None = None
    ranges: Sequence[Range] = ()
    items: Sequence[Item] = ()
    last: bool = True
    watermark: int | None = None


@dataclass(frozen=True, slots=True)
class Tell:
    """Responder to initiator. `more`: there is more to say, ask on."""

    ranges: Sequence[Range] = ()
    logs: Sequence[ToldLog] = ()
    more: bool = False


class TransferLog(NamedTuple):
    """Items of one log in a transfer. In a fetch only seq and digest of an item mean anything."""

    handle: bytes
    items: Sequence[Item]
    name: LogName | None = None
    watermark: int | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """Initiator to responder: `offers` you lack, `merges` you have with a later first stored, and `fetch` for me."""

    offers: Sequence[TransferLog] = ()
    merges: Sequence[TransferLog] = ()
    fetch: Sequence[TransferLog] = ()


@dataclass(frozen=True, slots=True)
class Want:
    """Responder to initiator: bit i (lowest first) of `bitmap` is set if the i-th offered item is wanted. `earlier` has
    (index, first stored) of offered items that the responder holds from an earlier time, ascending."""

    bitmap: bytes = b""
    earlier: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class Blobs:
    """A piece of the wanted blobs, one after the other in the order of the request; `gone` are the indices of those
    that are no longer there, said before their turn comes."""

    data: bytes = b""
    gone: Sequence[int] = ()
    last: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    """The initiator has finished (`complete`: nothing is left) and wants an acknowledgement if `ack`. The responder's
    answer, the acknowledgement, says that everything it was given is durable."""

    complete: bool = True
    ack: bool = False


Message: TypeAlias = Hello | Refuse | Ask | Tell | Transfer | Want | Blobs | Done


# --- sizes, for whoever fills a message -----------------------------------------------------------------------------


KEY_BYTES: Final = DIGEST_BYTES + 9
"""An upper bound of what (seq, digest) take in a message."""


def item_bytes(item: Item) -> int:
    """An upper bound of what an item takes in a message."""
    return DIGEST_BYTES + 9 + 5 + 5 if item.first_stored_s < 2**32 else DIGEST_BYTES + 9 + 9 + 5

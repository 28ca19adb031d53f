"""Lists of logs on the wire: which logs (by the first bits of their handles) and what each holds (by runs of seqs).

A listing names a log by the first `width` bits of its handle, as many as it takes to tell it from all other logs *of
the sender*. The receiver may know other logs, so a fragment that fits is a guess; whoever acts on it is put right by
the fingerprints that follow (reconcile.md).

What a log holds stands in an entry: a kind (2 bits, `_KINDS`), one number (`heads`), for some kinds more numbers
(`extras`), and for a log with more than LOG_RUNS_MAX runs a keyed hash of its row instead of runs (`hashes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.sync import FINGERPRINT_BYTES, FRAGMENT_BITS_MIN, LISTED_LOGS_MAX, LOG_RUNS_MAX
from protocols.sync.columns import (
    FEW,
    Numbers,
    ascending_bytes_max,
    bits_of,
    join_bits,
    pack_ascending,
    pack_few_varints,
    pack_varints,
    unpack_ascending,
    unpack_varints,
    varint_bytes,
    varint_size,
)
from protocols.sync.effects import Runs
from protocols.sync.wire import as_array, as_bytes, as_int

__all__ = [
    "HASHED_ENTRY_BYTES",
    "NO_ENTRIES",
    "NO_LISTING",
    "Entries",
    "Listing",
    "entries_of",
    "entry_bytes",
    "fits",
    "pack_entries",
    "pack_listing",
    "run_lists",
    "same_runs",
    "select",
    "unpack_entries",
    "unpack_listing",
]

FROM_ZERO: Final = 0  # one run from seq 0; head: its last seq
ONE_RUN: Final = 1  # one run; head: its first seq; extras: how many follow it
SOME_RUNS: Final = 2  # head: how many runs (0: nothing is held); extras: for each the gap before it, how many follow
MANY_RUNS: Final = 3  # head: 0; a hash instead

HASHED_ENTRY_BYTES: Final = 2 + FINGERPRINT_BYTES
"""What an entry with a hash takes, rounded up."""

_HEAD_BYTES_MAX: Final = 1 + 10 + FINGERPRINT_BYTES
_RUN_BYTES_MAX: Final = 2 * 10
"""What an entry takes at the most beside its runs, and for each of these."""

FRAGMENT_BITS_MAX: Final = 64

_KIND_BITS: Final = 2
_ENTRIES_ELEMENTS: Final = 4
_LISTING_ELEMENTS: Final = 3 + _ENTRIES_ELEMENTS


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """What some logs hold. `many[i]` says that log i has too many runs to be told: then `runs` has none for it, and
    `hashes` its keyed row hash (FINGERPRINT_BYTES each, for such logs only)."""

    runs: Runs
    many: npt.NDArray[np.bool_]
    hashes: bytes = b""

    def __len__(self) -> int:
        return len(self.many)


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """Some logs, ascending. `fragments` are the first `width` bits of their handles, as numbers."""

    width: int
    fragments: Numbers
    entries: Entries

    def __len__(self) -> int:
        return len(self.fragments)


def _no_numbers() -> Numbers:
    return np.zeros(0, np.uint64)


NO_ENTRIES: Final = Entries(Runs(np.zeros(0, np.int64), _no_numbers(), _no_numbers()), np.zeros(0, np.bool_))
NO_LISTING: Final = Listing(0, _no_numbers(), NO_ENTRIES)


def entries_of(runs: Runs, hashes: bytes) -> Entries:
    """Entries of logs of a LogTable: there a count of 0 means too many runs."""
    return Entries(runs, runs.counts == 0, hashes)


def run_lists(runs: Runs, indices: Sequence[int]) -> list[list[tuple[int, int]]]:
    """The (first, last) of the runs of some of the logs, by their indices."""
    counts, firsts, lasts = runs.counts.tolist(), runs.firsts.tolist(), runs.lasts.tolist()
    ends = list(accumulate(counts))
    return [
        list(zip(firsts[ends[i] - counts[i] : ends[i]], lasts[ends[i] - counts[i] : ends[i]], strict=True))
        for i in indices
    ]


def same_runs(one: Runs, other: Runs) -> npt.NDArray[np.bool_]:
    """For each of two equally long lists of logs whether the runs are the same."""
    if one.firsts.size <= FEW and len(one.counts) <= FEW and other.firsts.size <= FEW:
        each = range(len(one.counts))
        pairs = zip(run_lists(one, each), run_lists(other, each), strict=True)
        return np.array([ours == theirs for ours, theirs in pairs], np.bool_)
    same: npt.NDArray[np.bool_] = one.counts == other.counts
    if not same.size or not same.any():
        return same
    of_one, of_other = np.repeat(same, one.counts), np.repeat(same, other.counts)
    equal = (one.firsts[of_one] == other.firsts[of_other]) & (one.lasts[of_one] == other.lasts[of_other])
    counts = np.where(same, one.counts, 0)
    ends = np.cumsum(counts)
    wrong = np.concatenate(([0], np.cumsum(~equal)))
    same &= wrong[ends] == wrong[ends - counts]
    return same


# --- entries ---------------------------------------------------------------------------------------------------------


def _is_few(entries: Entries) -> bool:
    return len(entries) <= FEW and entries.runs.firsts.size <= FEW


def _few(entries: Entries) -> list[tuple[int, int, list[int]]]:
    """Kind, head and extras of each of a few logs: the same as `_kinds` and `_numbers` say of any number."""
    found: list[tuple[int, int, list[int]]] = []
    for many, runs in zip(entries.many.tolist(), run_lists(entries.runs, range(len(entries))), strict=True):
        if many:
            found.append((MANY_RUNS, 0, []))
        elif len(runs) == 1:
            first, last = runs[0]
            found.append((FROM_ZERO, last, []) if first == 0 else (ONE_RUN, first, [last - first]))
        else:
            extras: list[int] = []
            before = -2
            for first, last in runs:
                extras += (first - before - 2, last - first)
                before = last
            found.append((SOME_RUNS, len(runs), extras))
    return found


def _first_of_each(runs: Runs) -> npt.NDArray[np.int64]:
    """The place of each log's first run (of the following log's, for one without)."""
    return np.cumsum(runs.counts) - runs.counts


def _kinds(entries: Entries, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    runs = entries.runs
    kinds = np.full(len(entries), SOME_RUNS, np.uint8)
    single = runs.counts == 1
    kinds[single] = np.where(runs.firsts[starts[single]] == 0, FROM_ZERO, ONE_RUN)
    kinds[entries.many] = MANY_RUNS
    return kinds


def _numbers(
    entries: Entries, kinds: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]
) -> tuple[Numbers, Numbers, npt.NDArray[np.int64]]:
    """Heads, extras, and how many extras each log has."""
    runs = entries.runs
    heads = runs.counts.astype(np.uint64)
    from_zero, one_run = kinds == FROM_ZERO, kinds == ONE_RUN
    heads[from_zero] = runs.lasts[starts[from_zero]]
    heads[one_run] = runs.firsts[starts[one_run]]
    heads[kinds == MANY_RUNS] = 0
    extra_counts = np.where(one_run, 1, np.where(kinds == SOME_RUNS, 2 * runs.counts, 0)).astype(np.int64)
    # For every run its gap and its length; those that belong to no extra are left out.
    gaps = runs.firsts.copy()
    follows = np.ones(runs.firsts.size, np.bool_)
    follows[starts[runs.counts > 0]] = False
    at = np.flatnonzero(follows)
    gaps[at] = runs.firsts[at] - runs.lasts[at - 1] - np.uint64(2)
    pairs = np.stack((gaps, runs.lasts - runs.firsts), axis=1)
    kind_of_run = np.repeat(kinds, runs.counts)
    wanted = np.stack((kind_of_run == SOME_RUNS, (kind_of_run == SOME_RUNS) | (kind_of_run == ONE_RUN)), axis=1)
    return heads, pairs[wanted], extra_counts


def entry_bytes(entries: Entries) -> npt.NDArray[np.int64]:
    """What each entry takes in a message, rounded up to whole bytes."""
    if not len(entries):
        return np.zeros(0, np.int64)
    if _is_few(entries):
        sizes_of_few = [
            1 + varint_size(head) + sum(map(varint_size, extras)) + (FINGERPRINT_BYTES if kind == MANY_RUNS else 0)
            for kind, head, extras in _few(entries)
        ]
        return np.array(sizes_of_few, np.int64)
    starts = _first_of_each(entries.runs)
    kinds = _kinds(entries, starts)
    heads, extras, extra_counts = _numbers(entries, kinds, starts)
    sizes = np.concatenate(([0], np.cumsum(varint_bytes(extras))))
    ends = np.cumsum(extra_counts)
    entry_sizes: npt.NDArray[np.int64] = 1 + varint_bytes(heads) + sizes[ends] - sizes[ends - extra_counts]
    return entry_sizes + FINGERPRINT_BYTES * entries.many


def fits(entries: Entries, room_bytes: int) -> bool:
    """Whether they surely take no more than that, however large their numbers are."""
    return len(entries) * _HEAD_BYTES_MAX + entries.runs.firsts.size * _RUN_BYTES_MAX <= room_bytes


def pack_entries(entries: Entries) -> list[Any]:
    """[kinds, heads, extras, hashes]; kinds are empty if all are FROM_ZERO."""
    if not len(entries):
        return [b"", b"", b"", b""]
    if _is_few(entries):
        few = _few(entries)
        kinds_of_few = [kind for kind, _, _ in few]
        return [
            bits_of(np.array(kinds_of_few, np.uint64), _KIND_BITS) if any(kinds_of_few) else b"",
            pack_few_varints([head for _, head, _ in few]),
            pack_few_varints([extra for _, _, each in few for extra in each]),
            entries.hashes,
        ]
    starts = _first_of_each(entries.runs)
    kinds = _kinds(entries, starts)
    heads, extras, _ = _numbers(entries, kinds, starts)
    return [
        bits_of(kinds.astype(np.uint64), _KIND_BITS) if kinds.any() else b"",
        pack_varints(heads),
        pack_varints(extras),
        entries.hashes,
    ]


def unpack_entries(fields: Sequence[Any], count: int) -> Entries:
    """The inverse for `count` logs. Raises RemoteProtocolError."""
    kind_bits = as_bytes(fields[0], "kinds")
    heads = unpack_varints(as_bytes(fields[1], "heads"), "heads")
    extras = unpack_varints(as_bytes(fields[2], "extras"), "extras")
    if heads.size != count or len(kind_bits) not in (0, -(-count * _KIND_BITS // 8)):
        raise RemoteProtocolError("malformed", f"entries of something else than {count} logs")
    kinds = join_bits(kind_bits, count, _KIND_BITS) if kind_bits else np.zeros(count, np.uint64)
    many = kinds == MANY_RUNS
    is_few = count <= FEW and extras.size <= FEW
    # What is most usual, a few logs of one run each from 0, needs no more looks than this.
    is_plain = is_few and not kind_bits
    hashes = as_bytes(fields[3], "row hashes", length=0 if is_plain else FINGERPRINT_BYTES * int(many.sum()))
    some = kinds == SOME_RUNS
    if not is_plain and heads[some].max(initial=0) > LOG_RUNS_MAX:
        raise RemoteProtocolError("limit", f"a log described by more than {LOG_RUNS_MAX} runs")
    if not is_plain and heads[many].any():
        raise RemoteProtocolError("malformed", "a number that means nothing")
    if is_few:
        return Entries(_assemble_few(kinds.tolist(), heads.tolist(), extras.tolist()), many, hashes)
    counts = np.where(some, heads, np.where(many, 0, 1)).astype(np.int64)
    runs = _assemble(counts, kinds, heads, extras)
    return Entries(runs, many, hashes)


def _assemble_few(kinds: Sequence[int], heads: Sequence[int], extras: Sequence[int]) -> Runs:
    """As `_assemble`."""
    counts: list[int] = []
    firsts: list[int] = []
    lasts: list[int] = []
    at = 0
    for kind, head in zip(kinds, heads, strict=True):
        pairs: Sequence[int] = ()
        if kind == FROM_ZERO:
            pairs = (0, head)
        elif kind == ONE_RUN:
            pairs = (head, *extras[at : at + 1])
            at += 1
        elif kind == SOME_RUNS:
            pairs = extras[at : at + 2 * head]
            at += 2 * head
        if at > len(extras):
            break
        counts.append(len(pairs) // 2)
        last = -2
        for gap, length in zip(pairs[0::2], pairs[1::2], strict=True):
            firsts.append(last + 2 + gap)
            last = firsts[-1] + length
            lasts.append(last)
        if last > SEQ_MAX:
            raise RemoteProtocolError("limit", "a sequence number beyond 2^64-1")
    if at != len(extras):
        raise RemoteProtocolError("malformed", "runs do not belong to their logs")
    return Runs(np.array(counts, np.int64), np.array(firsts, np.uint64), np.array(lasts, np.uint64))


def _assemble(counts: npt.NDArray[np.int64], kinds: Numbers, heads: Numbers, extras: Numbers) -> Runs:
    extra_counts = np.where(kinds == ONE_RUN, 1, np.where(kinds == SOME_RUNS, 2 * counts, 0))
    if extras.size != int(extra_counts.sum()):
        raise RemoteProtocolError("malformed", "runs do not belong to their logs")
    total = int(counts.sum())
    kind_of_run = np.repeat(kinds, counts)
    head_of_run = np.repeat(heads, counts)
    gaps, lengths = np.zeros(total, np.uint64), np.zeros(total, np.uint64)
    from_zero, one_run, some = (kind_of_run == kind for kind in (FROM_ZERO, ONE_RUN, SOME_RUNS))
    lengths[from_zero] = head_of_run[from_zero]
    gaps[one_run] = head_of_run[one_run]
    kind_of_extra = np.repeat(kinds, extra_counts)
    lengths[one_run] = extras[kind_of_extra == ONE_RUN]
    pairs = extras[kind_of_extra == SOME_RUNS]
    gaps[some], lengths[some] = pairs[0::2], pairs[1::2]
    # Sums run through all logs (modulo 2^64) and start anew with each.
    is_first = np.zeros(total, np.bool_)
    starts = np.cumsum(counts) - counts
    is_first[starts[counts > 0]] = True
    steps = gaps + lengths + np.where(is_first, np.uint64(0), np.uint64(2))
    sums = np.cumsum(steps, dtype=np.uint64)
    base = np.repeat((sums - steps)[starts[counts > 0]], counts[counts > 0])
    lasts = sums - base
    firsts = lasts - lengths
    wrong = lasts < firsts
    wrong[is_first] |= firsts[is_first] != gaps[is_first]
    follows = np.flatnonzero(~is_first)
    before, here = lasts[follows - 1], firsts[follows]
    if wrong.any() or ((here <= before) | (here - before < 2)).any():
        raise RemoteProtocolError("limit", "a sequence number beyond 2^64-1")
    return Runs(counts, firsts, lasts)


def select(entries: Entries, chosen: npt.NDArray[np.bool_]) -> Entries:
    """The entries of some of the logs."""
    if not len(entries) or chosen.all():
        return entries
    of_run = np.repeat(chosen, entries.runs.counts)
    runs = Runs(entries.runs.counts[chosen], entries.runs.firsts[of_run], entries.runs.lasts[of_run])
    hashes = np.frombuffer(entries.hashes, np.uint8).reshape(-1, FINGERPRINT_BYTES)[chosen[entries.many]]
    return Entries(runs, entries.many[chosen], hashes.tobytes())


# --- listings --------------------------------------------------------------------------------------------------------


def listing_bytes(width: int, count: int) -> int:
    """What the fragments of a listing take at the most."""
    return ascending_bytes_max(count, width)


def pack_listing(listing: Listing) -> list[Any]:
    """[] for no logs, else [width, count, fragments, kinds, heads, extras, hashes]."""
    if not len(listing):
        return []
    fragments = pack_ascending(listing.fragments, listing.width)
    return [listing.width, len(listing), fragments, *pack_entries(listing.entries)]


def unpack_listing(value: Any) -> Listing:
    """The inverse. Raises RemoteProtocolError."""
    if not as_array(value, "listing"):
        return NO_LISTING
    width, count, fragments, *entries = as_array(value, "listing", length=_LISTING_ELEMENTS)
    width = as_int(width, "width of fragments", maximum=FRAGMENT_BITS_MAX)
    count = as_int(count, "number of logs", maximum=LISTED_LOGS_MAX)
    packed = as_bytes(fragments, "fragments")
    if width < FRAGMENT_BITS_MIN or not count:
        raise RemoteProtocolError("malformed", "a listing of nothing, or one that names nothing")
    numbers = unpack_ascending(packed, count, width, "fragments")
    if width < FRAGMENT_BITS_MAX and (numbers[1:] == numbers[:-1]).any():
        raise RemoteProtocolError("order", "two logs that their fragments don't tell apart")
    return Listing(width, numbers, unpack_entries(entries, count))

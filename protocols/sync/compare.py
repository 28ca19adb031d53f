"""What follows from two lists of items of the same blocks: who lacks what, and whose first stored is too late."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.limits.data import VARIANTS_MAX
from protocols.model import Item, LogName
from protocols.operations import may_be_genuine
from protocols.sync.common import Context
from protocols.sync.messages import Seqs
from protocols.sync.spans import spans_of

__all__ = ["Comparison", "compare_items"]


@dataclass(slots=True)
class Comparison:
    """`need` are spans of seqs in which we lack something, `have` those in which the peer does; the merges carry the
    earlier first stored."""

    need: list[Seqs] = field(default_factory=list)
    have: list[Seqs] = field(default_factory=list)
    merge_mine: list[Item] = field(default_factory=list)
    merge_theirs: list[Item] = field(default_factory=list)


def compare_items(context: Context, name: LogName, theirs: Sequence[Item], mine: Sequence[Item]) -> Comparison:
    """Compares what both sides hold of some blocks of a log. `mine` is unfiltered: what expired here but waits for its
    removal counts as held, and its date counts too.

    A first stored in our future is brought down to our present on both sides, so that one session makes them equal even
    if the hour changes between two clocks.
    """
    result = Comparison()
    need: list[Item] = []
    our_present_s = context.config.retention.stamp(context.config.now_s)
    held = {(item.seq, item.digest): item for item in mine}
    said = set()
    for item in theirs:
        said.add((item.seq, item.digest))
        own = held.get((item.seq, item.digest))
        if own is None:
            kept_s = context.clamp(item.first_stored_s)
            if not context.expired(kept_s):
                need.append(item)
            earliest_s = min(item.first_stored_s, our_present_s)
        else:
            kept_s = min(own.first_stored_s, context.clamp(item.first_stored_s))
            if kept_s < own.first_stored_s:
                result.merge_mine.append(own._replace(first_stored_s=kept_s))
            elif own.first_stored_s < context.alive_from_s and own.first_stored_s == context.clamp(item.first_stored_s):
                continue  # the same date in our coarser granule: no reason to let it die there
            earliest_s = min(own.first_stored_s, item.first_stored_s, our_present_s)
        if earliest_s < item.first_stored_s:
            result.merge_theirs.append(item._replace(first_stored_s=earliest_s))
    have = [
        item for item in mine if item.first_stored_s >= context.alive_from_s and (item.seq, item.digest) not in said
    ]
    is_contested = len({item.seq for item in theirs}) < len(theirs) or len({item.seq for item in mine}) < len(mine)
    if is_contested and not may_be_genuine(name):  # whether one is genuine is not known before it is there
        surplus = _surplus(context, theirs, mine)
        need = [item for item in need if (item.seq, item.digest) not in surplus]
        have = [item for item in have if (item.seq, item.digest) not in surplus]
    result.need.extend(spans_of(item.seq for item in need))
    result.have.extend(spans_of(item.seq for item in have))
    return result


def _surplus(context: Context, theirs: Sequence[Item], mine: Sequence[Item]) -> set[tuple[int, bytes]]:
    """Variants that their receiver would not keep: only the first VARIANTS_MAX of both together are kept."""
    variants: dict[int, dict[bytes, int]] = defaultdict(dict)
    for item in (*theirs, *mine):
        if item.first_stored_s >= context.alive_from_s:
            known = variants[item.seq]
            known[item.digest] = min(item.first_stored_s, known.get(item.digest, item.first_stored_s))
    return {
        (seq, digest)
        for seq, known in variants.items()
        if len(known) > VARIANTS_MAX
        for digest in sorted(known, key=lambda digest: (known[digest], digest))[VARIANTS_MAX:]
    }

"""What follows from two lists of items of the same blocks: who lacks what, and whose first stored is too late."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from protocols.limits import VARIANTS_MAX
from protocols.model import Item
from protocols.sync.common import Context

__all__ = ["Comparison", "compare_items"]


@dataclass(slots=True)
class Comparison:
    """`need` we lack (first stored as we keep it), `have` the peer lacks; the merges carry the earlier first stored."""

    need: list[Item] = field(default_factory=list)
    have: list[Item] = field(default_factory=list)
    merge_mine: list[Item] = field(default_factory=list)
    merge_theirs: list[Item] = field(default_factory=list)


def compare_items(context: Context, theirs: Sequence[Item], mine: Sequence[Item]) -> Comparison:
    """Compares what both sides hold of some blocks. `mine` is unfiltered: what expired here but still waits for its
    removal counts as held, and its date counts too.

    A first stored in our future is brought down to our present on both sides, so that one session makes them equal even
    if the hour changes between two clocks.
    """
    result = Comparison()
    our_present_s = context.config.retention.stamp(context.config.now_s)
    held = {(item.seq, item.digest): item for item in mine}
    said = set()
    for item in theirs:
        said.add((item.seq, item.digest))
        own = held.get((item.seq, item.digest))
        if own is None:
            kept_s = context.clamp(item.first_stored_s)
            if not context.expired(kept_s):
                result.need.append(item._replace(first_stored_s=kept_s))
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
    for item in mine:
        if item.first_stored_s >= context.alive_from_s and (item.seq, item.digest) not in said:
            result.have.append(item)
    if len({item.seq for item in theirs}) < len(theirs) or len({item.seq for item in mine}) < len(mine):
        _drop_surplus(context, result, theirs, mine)
    return result


def _drop_surplus(context: Context, result: Comparison, theirs: Sequence[Item], mine: Sequence[Item]) -> None:
    """Leaves out variants that their receiver would not keep: the first VARIANTS_MAX of both together are kept."""
    variants: dict[int, dict[bytes, int]] = defaultdict(dict)
    for item in (*theirs, *mine):
        if item.first_stored_s >= context.alive_from_s:
            known = variants[item.seq]
            known[item.digest] = min(item.first_stored_s, known.get(item.digest, item.first_stored_s))
    surplus = {
        (seq, digest)
        for seq, known in variants.items()
        if len(known) > VARIANTS_MAX
        for digest in sorted(known, key=lambda digest: (known[digest], digest))[VARIANTS_MAX:]
    }
    if surplus:
        result.need = [item for item in result.need if (item.seq, item.digest) not in surplus]
        result.have = [item for item in result.have if (item.seq, item.digest) not in surplus]

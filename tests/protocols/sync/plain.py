"""What the code's messages say, as the JSON of `vectors.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from protocols.model import Item, LogName
from protocols.sync.codec import decode
from protocols.sync.listing import Entries, Listing, run_lists
from protocols.sync.messages import (
    About,
    Ask,
    Done,
    Hello,
    Message,
    Named,
    Names,
    News,
    Parcel,
    Refuse,
    Standing,
    Survey,
    Surveyed,
    Tell,
    Topics,
    Transfer,
    Want,
)
from protocols.sync.reconcile import DIFF, LIST, Range
from protocols.sync.regions import END, Region
from tests.protocols.sync.messages_by_the_spec import (
    Json,
    held_json,
    items_json,
    listing_json,
    number,
    spans_json,
    tiling_json,
)

__all__ = ["plain", "plain_entries", "plain_items", "plain_listing", "plain_ranges", "plain_regions"]


def plain_entries(entries: Entries) -> list[Json]:
    hashes = [entries.hashes[at : at + 8] for at in range(0, len(entries.hashes), 8)]
    runs = run_lists(entries.runs, range(len(entries)))
    held = [hashes.pop(0) if is_many else one for one, is_many in zip(runs, entries.many.tolist(), strict=True)]
    assert not hashes
    return [held_json(one) for one in held]


def plain_listing(listing: Listing) -> Json:
    found = listing_json(listing.width, listing.fragments.tolist(), [[]] * len(listing))
    if found is not None:
        logs = zip(found["logs"], plain_entries(listing.entries), strict=True)
        found["logs"] = [{"fragment": one["fragment"], **held} for one, held in logs]
    return found


def plain_regions(regions: Sequence[Region]) -> list[Json]:
    said = [
        {"lower": lower, "upper": upper, "mode": mode} | ({"fingerprint": fingerprint} if fingerprint else {})
        for lower, upper, mode, fingerprint in regions
    ]
    shown: list[Json] = tiling_json(said, "regions")
    return shown


def plain_ranges(ranges: Sequence[Range]) -> list[Json]:
    said: list[dict[str, Any]] = []
    for one in ranges:
        upper = END if one.upper is None else int.from_bytes(one.upper, "big")
        said.append({"lower": int.from_bytes(one.lower, "big"), "upper": upper, "mode": one.mode})
        if one.fingerprint:
            said[-1]["fingerprint"] = one.fingerprint
        if one.mode in (LIST, DIFF):
            said[-1]["hashes"] = list(one.hashes)
    shown: list[Json] = tiling_json(said, "ranges")
    return shown


def plain_items(items: Sequence[Item]) -> list[Json]:
    shown: list[Json] = items_json(items)
    return shown


def _name(name: LogName) -> Json:
    return {"topic": name.topic, "log": name.log}


def plain(message: Message) -> Json:
    """The message with the names of `sync.md`."""
    return {"message": type(message).__name__, **_fields(message)}


def _fields(message: Message) -> Json:
    match message:
        case Hello():
            return {
                "lowest_version": message.version_min,
                "highest_version": message.version_max,
                "network": message.network,
                "clock_s": number(message.now_s),
                "retention_s": number(message.retention_s),
                "alive_from_s": number(message.alive_from_s),
                "software": message.software,
                "salt": message.salt.hex(),
                "first": plain(decode(message.first)) if message.first else None,
                "full": message.is_full,
                "interest": _interest(message),
            }
        case Topics(interest):
            return {"hashes": [one.hex() for one in sorted(interest.hashes)]}
        case Refuse(code, text, pause_s):
            return {"code": code, "text": text, "pause_s": pause_s}
        case Done(is_complete, is_equal, ack):
            return {"complete": is_complete, "equal": is_equal, "acknowledge": ack}
        case Ask(region, logs):
            asked = [{"handle": log.handle.hex(), "ranges": plain_ranges(log.ranges)} for log in logs]
            return {"region": [number(place) for place in region] if region else None, "logs": asked}
        case Tell():
            return _tell(message)
        case Transfer() | Want() | Parcel():
            return _moving(message)
        case _:
            return _searching(message)


def _interest(hello: Hello) -> Json:
    if not (hello.keeps or hello.believes or hello.asks_topics):
        return None
    return {"keeps": hello.keeps.hex(), "believes": hello.believes.hex(), "asks": hello.asks_topics}


def _searching(message: News | About | Standing | Survey | Surveyed | Names | Named) -> Json:
    match message:
        case News(listing, again):
            return {"again": again, "listing": plain_listing(listing)}
        case About(handles, entries, again):
            return {"again": again, "handles": [one.hex() for one in handles], "entries": plain_entries(entries)}
        case Standing(differing, entries, listing, rest):
            return {
                "differing": list(differing),
                "entries": plain_entries(entries),
                "listing": plain_listing(listing),
                "rest": rest.hex(),
            }
        case Survey(regions, again):
            return {"again": again, "regions": plain_regions(regions)}
        case Surveyed(regions, counts, listing, until):
            return {
                "regions": plain_regions(regions),
                "counts": list(counts),
                "listing": plain_listing(listing),
                "until": number(until),
            }
        case Names(width, fragments):
            return {"asked": {"width": width, "fragments": [number(one) for one in fragments.tolist()]}}
        case Named(answered, names):
            return {"answered": answered, "names": [{"fragment": index, **_name(name)} for index, name in names]}


def _tell(tell: Tell) -> Json:
    return {
        "rows": [{"handle": handle.hex(), "row_hash": row_hash.hex()} for handle, row_hash in tell.rows],
        "until": number(tell.until),
        "logs": [
            {
                "handle": log.handle.hex(),
                "ranges": plain_ranges(log.ranges),
                "items": plain_items(log.items),
                "last": log.last,
            }
            for log in tell.logs
        ],
        "more": tell.more,
    }


def _moving(message: Transfer | Want | Parcel) -> Json:
    match message:
        case Transfer(fetch, offers, merges):
            return {
                "fetch": [{"handle": log.handle.hex(), "spans": spans_json(log.spans)} for log in fetch],
                "offers": [{**_name(log.name), "last": log.is_last, "spans": spans_json(log.spans)} for log in offers],
                "merges": [{"handle": log.handle.hex(), "items": plain_items(log.items)} for log in merges],
            }
        case Want(offers, earlier):
            return {
                "wishes": [{"offer": index, "spans": spans_json(spans)} for index, spans in offers],
                "earlier": [{"offer": index, "items": plain_items(items)} for index, items in earlier],
            }
        case Parcel(logs, data, is_last, stopped_at):
            return {
                "logs": [_parcel_log(*log) for log in logs],
                "data": data.hex(),
                "last": is_last,
                "stopped": [stopped_at[0], number(stopped_at[1])] if stopped_at else None,
            }


def _parcel_log(
    log: int, watermark: int | None, seqs: Sequence[int], first_stored_s: Sequence[int], sizes: Sequence[int]
) -> Json:
    return {
        "number": log,
        "watermark": None if watermark is None else number(watermark),
        "messages": [
            {"seq": number(seq), "first_stored_s": stored_s, "size": size}
            for seq, stored_s, size in zip(seqs, first_stored_s, sizes, strict=True)
        ],
    }

"""Reads a session's transcript as `sync.md` and `reconcile.md` would have it, over nothing but `by_the_spec.py`.

It knows what both sides hold, works out every fingerprint, listing, hash and item that a side may say, and applies what
moves. `Auditor.hear` raises ValueError if a frame says anything else than what follows from the specs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.protocols.sync import by_the_spec as spec
from tests.protocols.sync.by_the_spec import END, need
from tests.protocols.sync.messages_by_the_spec import Json, held_json, items_json, listing_json, number

HOUR_S: Final = 3600
OTHER: Final = {"initiator": "responder", "responder": "initiator"}

LogName = tuple[str, str]


@dataclass
class Side:
    """{log: {(seq, digest): (first stored, size)}}, and the logs that have changed since both held the same."""

    key: bytes
    logs: dict[LogName, dict[tuple[int, bytes], tuple[int, int]]] = field(default_factory=dict)
    changed: set[LogName] = field(default_factory=set)
    is_warm: bool = True
    keeps: list[bytes] | None = None
    """Hashes of the topics that it keeps; None: of all."""

    def put(self, name: LogName, seq: int, digest: bytes, first_stored_s: int, size: int) -> None:
        self.logs.setdefault(name, {})[seq, digest] = (first_stored_s, size)
        self.changed.add(name)

    def lower(self, name: LogName, item: Json) -> None:
        """Takes over an earlier date."""
        at = int(item["seq"]), bytes.fromhex(item["digest"])
        date_s, size = self.logs[name][at]
        if int(item["first_stored_s"]) < date_s:
            self.put(name, *at, int(item["first_stored_s"]), size)

    def items(self, name: LogName) -> list[spec.Item]:
        return [(seq, digest, *rest) for (seq, digest), rest in sorted(self.logs.get(name, {}).items())]

    def row(self, name: LogName) -> bytes:
        return spec.handle(*name) + spec.state(self.items(name))

    def names(self, lower: int = 0, upper: int = END) -> list[LogName]:
        """Logs by their handles."""
        return sorted(
            (name for name in self.logs if lower <= place_of(name) < upper), key=lambda one: spec.handle(*one)
        )

    def fingerprint(self, names: Iterable[LogName]) -> str:
        return spec.table_fingerprint(self.key, [self.row(name) for name in names]).hex()

    def listing(self, names: list[LogName]) -> Json:
        width = spec.fragment_bits(map(place_of, names), map(place_of, self.logs)) if names else 0
        held = [spec.runs(self.items(name)) for name in names]
        return listing_json(width, [place_of(name) >> 64 - width for name in names], held)

    def beginning_with(self, width: int, fragment: Any) -> list[LogName]:
        return [name for name in self.names() if place_of(name) >> 64 - width == int(fragment)]


def place_of(name: LogName) -> int:
    return int.from_bytes(spec.handle(*name)[:8], "big")


def alive_from(now_s: int, retention_s: int) -> int:
    """The smallest multiple of an hour that is alive."""
    return -(-(now_s - retention_s + 1) // HOUR_S) * HOUR_S


class Auditor:
    """One session of `vectors.json`."""

    def __init__(self, session: Json) -> None:
        self.boundary_s = alive_from(session["clock_s"], 604_800)
        self.salt = session["salt"]
        key = spec.session_key(bytes.fromhex(session["salt"]), self.boundary_s)
        self.sides = {role: Side(key) for role in OTHER}
        for role, side in self.sides.items():
            for part in ("messages", "news"):
                side.changed.clear()
                side.is_warm = session[role]["warm"]
                for one in session[role][part]:
                    blob = bytes.fromhex(one["blob"])
                    name = (one["topic"], one["log"])
                    side.put(name, one["seq"], spec.digest(blob), one["first_stored_s"], len(blob))
        for role, side in self.sides.items():
            if session[role]["topics"] is not None:
                side.keeps = sorted(map(spec.topic_hash, session[role]["topics"]))
        self.question: Json = None
        self.transfer: Json = None
        self.want: Json = None
        self.stream = b""

    def hear(self, role: str, message: Json) -> None:
        """The next message. Raises ValueError."""
        me, other = self.sides[role], self.sides[OTHER[role]]
        match message["message"]:
            case "Hello":
                need(message["alive_from_s"] == self.boundary_s, "another boundary")
                need(message["salt"] == (self.salt if role == "initiator" else ""), "another salt")
                self._hello(role, me, message)
                return
            case "Topics":
                need(message["hashes"] == [one.hex() for one in me.keeps or []], "other topics")
            case "News" | "About" | "Standing" | "Survey" | "Surveyed" | "Named":
                self._search(me, other, message)
            case "Ask":
                self._ask(me, message)
            case "Tell":
                self._tell(me, other, message)
            case "Transfer":
                self._transfer(me, other, message)
            case "Want":
                need(not message["earlier"], "nothing here has died")
                self.want = message
            case "Parcel":
                self._parcel(me, other, role, message)
            case "Done":
                need(not message["equal"] or me.logs == other.logs, "not equal")
        if role == "initiator":
            self.question = message

    def _hello(self, role: str, me: Side, message: Json) -> None:
        """All are believed to keep everything here; where that is wrong, the first question is dropped."""
        interest = message["interest"] or {"keeps": "", "believes": "", "asks": False}
        need(interest["keeps"] == ("" if me.keeps is None else spec.interest_id(me.keeps).hex()), "another interest")
        limited = [side.keeps is not None for side in self.sides.values()]
        need(interest["asks"] == (role == "responder" and limited[0]), "another question for topics")
        if role == "initiator" or not any(limited):
            self.hear(role, message["first"])
            return
        need(message["first"] is None, "an answer to what was meant otherwise")
        for side in self.sides.values():  # from here on only what both keep counts
            for keeps in (one.keeps for one in self.sides.values() if one.keeps is not None):
                side.logs = {name: held for name, held in side.logs.items() if spec.topic_hash(name[0]) in keeps}

    def _search(self, me: Side, other: Side, message: Json) -> None:
        match message["message"]:
            case "News":
                self._news(me, message)
            case "About":
                named = {spec.handle(*name).hex(): name for name in (*me.logs, *other.logs)}
                held = [held_json(spec.runs(me.items(named[one]))) for one in message["handles"]]
                need(message["entries"] == held, "other runs")
            case "Standing":
                self._standing(me, message)
            case "Survey" | "Surveyed":
                self._survey(me, message)
            case "Named":
                self._named(me, message)

    def _named(self, me: Side, message: Json) -> None:
        asked = self.question["asked"]
        names = [
            {"fragment": at, "topic": topic, "log": log}
            for at, fragment in enumerate(asked["fragments"])
            for topic, log in me.beginning_with(asked["width"], fragment)
        ]
        need(message["names"] == names and message["answered"] == len(asked["fragments"]), "other names")

    # --- which logs differ -------------------------------------------------------------------------------------

    def _news(self, me: Side, message: Json) -> None:
        need(message["listing"] == me.listing([name for name in me.names() if name in me.changed]), "other news")
        if message["again"]:
            for side in self.sides.values():
                side.is_warm = True
        me.changed.clear()

    def _standing(self, me: Side, message: Json) -> None:
        """About listed logs, or about those asked about."""
        if self.question["message"] == "News":
            listing = self.question["listing"] or {"width": 1, "logs": []}
            asked = [(me.beginning_with(listing["width"], one["fragment"]), one["runs"]) for one in listing["logs"]]
        else:
            handles, entries = self.question["handles"], self.question["entries"]
            asked = [
                ([name for name in me.logs if spec.handle(*name).hex() == one], held["runs"])
                for one, held in zip(handles, entries, strict=True)
            ]
        mine = [names[0] if names else None for names, _ in asked]
        held = [[] if name is None else held_json(spec.runs(me.items(name)))["runs"] for name in mine]
        differing = [at for at, (_, runs) in enumerate(asked) if held[at] != runs]
        need(message["differing"] == differing, "others differ")
        need(message["entries"] == [{"runs": held[at]} for at in differing], "other runs")
        others = {name for at, name in enumerate(mine) if at in differing}
        if self.question["message"] == "About":
            need(message["listing"] is None, "unasked news")
            need(message["rest"] == me.fingerprint(name for name in mine if name and name not in others), "other rest")
            return
        news = [name for name in me.names() if name in me.changed and name not in mine and me.is_warm]
        need(message["listing"] == me.listing(news), "other news")
        me.changed.clear()
        need(message["rest"] == me.fingerprint(set(me.logs) - others - set(news)), "other rest")

    def _survey(self, me: Side, message: Json) -> None:
        listed: list[LogName] = []
        counts = []
        for region in message["regions"]:
            names = me.names(int(region["from"]), int(region["to"]))
            if region["mode"] == "FP":
                need(region["fingerprint"] == me.fingerprint(names), "another fingerprint")
            elif region["mode"] == "LIST":
                counts.append(len(names))
                listed += names
        if message["message"] == "Surveyed":
            need(message["counts"] == counts and message["listing"] == me.listing(listed), "another list")

    # --- in what they differ -----------------------------------------------------------------------------------

    def _hashes(self, side: Side, handle: str) -> tuple[LogName, dict[str, int]]:
        """The blocks of a log by their hashes."""
        name = next(name for name in side.logs if spec.handle(*name).hex() == handle)
        blocks = spec.blocks(side.items(name))
        return name, {spec.block_hash(side.key, bytes.fromhex(handle), *block).hex(): block[0] for block in blocks}

    def _ask(self, me: Side, message: Json) -> None:
        for log in message["logs"]:
            _, hashes = self._hashes(me, log["handle"])
            need([one["mode"] for one in log["ranges"]] == ["LIST"], "few blocks are listed")
            need(log["ranges"][0]["hashes"] == list(hashes), "other blocks")

    def _tell(self, me: Side, other: Side, message: Json) -> None:
        if self.question["region"] is not None:
            lower, upper = map(int, self.question["region"])
            rows = [
                {"handle": spec.handle(*name).hex(), "row_hash": spec.row_hash(me.key, me.row(name)).hex()}
                for name in me.names(lower, upper)
            ]
            need(message["rows"] == rows, "other rows")
        for asked, told in zip(self.question["logs"], message["logs"], strict=True):
            name, hashes = self._hashes(me, told["handle"])
            listed = asked["ranges"][0]["hashes"]
            only_there = [one for one in listed if one not in hashes]
            found = [one["hashes"] for one in told["ranges"] if one["mode"] == "DIFF"]
            need(found == [sorted(only_there)] * bool(only_there), "another difference")
            blocks = {block for one, block in hashes.items() if one not in listed}
            items = [item for item in me.items(name) if item[0] // 64 in blocks]
            need(told["items"] == items_json(items), "other items")
            for item in told["items"]:
                if (int(item["seq"]), bytes.fromhex(item["digest"])) in other.logs[name]:
                    other.lower(name, item)

    # --- what moves --------------------------------------------------------------------------------------------

    def _transfer(self, me: Side, other: Side, message: Json) -> None:
        self.transfer, self.stream = message, b""
        for merge in message["merges"]:
            name = next(name for name in other.logs if spec.handle(*name).hex() == merge["handle"])
            for item in merge["items"]:
                kept = me.logs[name][int(item["seq"]), bytes.fromhex(item["digest"])]
                need(kept[0] == item["first_stored_s"], "a date that is not held")
                other.lower(name, item)

    def _parcel(self, me: Side, other: Side, role: str, message: Json) -> None:
        """Here all that was asked for comes in one parcel."""
        need(message["last"] and message["stopped"] is None, "more than one parcel")
        data = bytes.fromhex(message["data"])
        if role == "responder":
            by_handle = {spec.handle(*name).hex(): name for name in me.logs}
            asked = {at: (by_handle[log["handle"]], log["spans"]) for at, log in enumerate(self.transfer["fetch"])}
        else:
            offers = [(one["topic"], one["log"]) for one in self.transfer["offers"]]
            asked = {one["offer"]: (offers[one["offer"]], one["spans"]) for one in self.want["wishes"]}
        need([log["number"] for log in message["logs"]] == list(asked), "other logs")
        for log in message["logs"]:
            name, spans = asked[log["number"]]
            wanted = [item for item in me.items(name) if any(first <= item[0] <= last for first, last in spans)]
            said = [(one["seq"], one["first_stored_s"], one["size"]) for one in log["messages"]]
            need(said == [(number(seq), date_s, size) for seq, _, date_s, size in wanted], "other messages")
            for seq, digest, date_s, size in wanted:
                need(spec.digest(data[:size]) == digest, "another blob")
                data = data[size:]
                kept_s, _ = other.logs.get(name, {}).get((seq, digest), (date_s, size))
                other.put(name, seq, digest, min(kept_s, date_s), size)
            me.changed.add(name)  # as given to the other side
        need(not data, "bytes too many")

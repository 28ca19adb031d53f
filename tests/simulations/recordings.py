"""Recordings as a run would yield them, from a toy model of how messages spread: for tests of what is made of them."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from dataclasses import replace

from simulations.recording import (
    Happening,
    MailboxSample,
    MailboxTotals,
    MessageSpread,
    Moment,
    Recording,
    Verdict,
)

HOUR_S = 3600.0

INVARIANTS = (
    ("convergence", "After a heal, correct mailboxes hold the same"),
    ("durability", "What was acknowledged survives every crash"),
    ("expiry", "Nothing is served after its expiry"),
    ("bounds", "Round trips and bytes stay within the stated bounds"),
    ("idempotence", "Storing twice is storing once"),
    ("no-resurrection", "What has expired never comes back"),
    ("progress", "Honest mailboxes make progress beside hostile ones"),
    ("idle", "Equal mailboxes exchange only the idle session"),
    ("restart", "A restart equals the durable state before it"),
    ("no-exception", "Nothing raised that nobody handled"),
)


def empty_recording() -> Recording:
    """A run in which nothing was."""
    return Recording("empty", "Nothing at all", 0, "simulated", 0.0, 0.0, "")


def split_recording(
    *, mailboxes: int = 20, messages: int = 300, seed: int = 7, hostile: int = 2, hours: float = 12.0
) -> Recording:
    """Two LANs whose link is cut for a third of the time, with crashes, a pause, a full disk and a clock that steps."""
    draw = random.Random(seed)
    length_s = hours * HOUR_S
    cut_s, heal_s = length_s / 4, length_s * 7 / 12
    names = [f"{'library' if index % 2 else 'dormitory'}-{index // 2 + 1}" for index in range(mailboxes)]
    lans = {name: name.rsplit("-", 1)[0] for name in names}
    liars = set(names[:hostile])
    honest = [name for name in names if name not in liars]
    down = {name: (at_s := draw.uniform(0, 0.8) * length_s, at_s + draw.uniform(60, 3000)) for name in honest[::4]}
    spreads = _spreads(draw, honest, lans, down, messages, length_s, (cut_s, heal_s))
    sampled_s = [length_s * index / 720 for index in range(721)]
    written = sorted(one.written_s for one in spreads)
    held_share, groups, up, held = [], [], [], []
    shares = [(one, bisect_right(written, one.written_s)) for one in spreads]
    for now_s in sampled_s:
        alive = [one for one, _ in shares if one.written_s <= now_s]
        mean = sum(bisect_right(one.held_s, now_s) for one in alive) / (len(alive) * len(honest)) if alive else 1.0
        held_share.append(mean)
        is_cut = cut_s < now_s < heal_s
        groups.append(1 + is_cut + (draw.random() < 0.15) if mean < 1 or is_cut else 1)
        up.append(len(honest) - sum(1 for begin_s, over_s in down.values() if begin_s <= now_s < over_s))
        held.append(len(alive))
    traffic = [int(draw.gauss(40_000, 9_000)) + (900_000 if 0 <= at_s - heal_s < 120 else 0) for at_s in sampled_s]
    return Recording(
        scenario="two-lans",
        title="Two LANs split and healed",
        seed=seed,
        world="simulated",
        simulated_s=length_s,
        wall_s=13.4,
        trace_hash="9f2c41d07ab8e6635512fa0c",
        happenings=_happenings(down, honest, cut_s, heal_s, length_s),
        sampled_s=sampled_s,
        held_share=held_share,
        groups=groups,
        up=up,
        messages=held,
        traffic_bytes=[max(0, size) for size in traffic],
        moments=_moments(names, lans, liars, down, (cut_s, heal_s), length_s),
        spreads=spreads,
        totals=_totals(draw, names, liars, down, messages),
        verdicts=[Verdict(name, title, draw.randrange(40, 4000)) for name, title in INVARIANTS],
    )


def failed_recording() -> Recording:
    """The same with two broken invariants."""
    good = split_recording()
    broken = {
        "durability": "library-4 acknowledged tea/alice/17 at 5 h 12 min, crashed 0.2 s later, and no longer had it.",
        "idle": "dormitory-3 and library-2 hold the same since 9 h 2 min and exchanged 41,233 bytes at 9 h 40 min.",
    }
    verdicts = [replace(verdict, counterexample=broken.get(verdict.name)) for verdict in good.verdicts]
    violations = [
        Happening(5.2 * HOUR_S, "violation", ["library-4"], broken["durability"]),
        Happening(9.66 * HOUR_S, "violation", ["dormitory-3", "library-2"], broken["idle"]),
    ]
    return replace(good, verdicts=verdicts, happenings=[*good.happenings, *violations])


def real_recording() -> Recording:
    """The same scenario as processes would play it: somewhat slower, with more bytes."""
    return replace(split_recording(seed=8), world="real", seed=7, wall_s=43_200.0, trace_hash="")


def _spreads(
    draw: random.Random,
    honest: list[str],
    lans: dict[str, str],
    down: dict[str, tuple[float, float]],
    messages: int,
    length_s: float,
    cut: tuple[float, float],
) -> list[MessageSpread]:
    result = []
    for _ in range(messages):
        written_s = draw.uniform(0.001, 0.94) * length_s
        author_lan = draw.choice(sorted(set(lans.values())))
        held = []
        for name in honest:
            at_s = written_s + 0.02 + math.exp(draw.gauss(-0.5, 0.9))
            if lans[name] != author_lan:
                at_s += 0.3
                if cut[0] <= at_s < cut[1]:
                    at_s = cut[1] + draw.uniform(1, 40)
            begin_s, over_s = down.get(name, (length_s, length_s))
            if begin_s <= at_s < over_s:
                at_s = over_s + draw.uniform(2, 30)
            held.append(at_s)
        held.sort()
        result.append(MessageSpread(written_s, held[0] - 0.01, [at_s for at_s in held if at_s < length_s]))
    return result


def _happenings(
    down: dict[str, tuple[float, float]], honest: list[str], cut_s: float, heal_s: float, length_s: float
) -> list[Happening]:
    result = [
        Happening(0.0, "start", honest, f"{len(honest)} mailboxes start."),
        Happening(cut_s, "cut", ["dormitory", "library"], "The link between dormitory and library is cut."),
        Happening(heal_s, "heal", [], "The link works again."),
        Happening(length_s * 0.35, "pause", honest[1:3], f"{honest[1]} and {honest[2]} fall asleep."),
        Happening(length_s * 0.42, "end-of-pause", honest[1:3], f"{honest[1]} and {honest[2]} wake up."),
        Happening(length_s * 0.64, "disk-full", honest[3:4], f"The disk of {honest[3]} is full."),
        Happening(length_s * 0.71, "end-of-disk-full", honest[3:4], f"The disk of {honest[3]} has room again."),
        Happening(length_s * 0.2, "clock-change", honest[5:6], f"The clock of {honest[5]} steps 7 minutes ahead."),
        Happening(length_s * 0.5, "walk", ["ada"], "ada walks from dormitory to library."),
        Happening(length_s * 0.8, "walk", ["ada"], "ada walks from library to dormitory."),
        Happening(length_s * 0.77, "reset", honest[6:8], "Every stream breaks."),
    ]
    for name, (begin_s, over_s) in down.items():
        result.append(Happening(begin_s, "crash", [name], f"{name} crashes."))
        result.append(Happening(over_s, "start", [name], f"{name} starts again."))
    return result


def _moments(
    names: list[str],
    lans: dict[str, str],
    liars: set[str],
    down: dict[str, tuple[float, float]],
    cut: tuple[float, float],
    length_s: float,
) -> list[Moment]:
    when = (
        (length_s * 0.02, "Everybody is here"),
        (cut[0] + 60, "Just after the cut"),
        (cut[1] - 60, "Before the heal"),
        (cut[1] + 5, "Five seconds after the heal"),
        (length_s, "The end"),
    )
    moments = []
    for at_s, title in when:
        apart = cut[0] <= at_s < cut[1]
        mailboxes = []
        for index, name in enumerate(names):
            group = (2 if lans[name] == "library" else 1) if apart or title.startswith("Five") else 1
            if title.startswith("Five") and index % 5 == 0:
                group = 3 + index % 3
            is_up = not down.get(name, (0.0, 0.0))[0] <= at_s < down.get(name, (0.0, 0.0))[1]
            mailboxes.append(MailboxSample(name, lans[name], is_up, 100 + group, 9 if name in liars else group))
        up = [one.name for one in mailboxes if one.is_up]
        steps = (1, 2, 7)
        links = [
            (name, up[(index + step) % len(up)])
            for index, name in enumerate(up)
            for step in steps
            if not apart or lans[name] == lans[up[(index + step) % len(up)]]
        ]
        moments.append(Moment(at_s, title, mailboxes, links))
    return moments


def _totals(
    draw: random.Random, names: list[str], liars: set[str], down: dict[str, tuple[float, float]], messages: int
) -> list[MailboxTotals]:
    return [
        MailboxTotals(
            name=name,
            behaviour="lies" if name in liars else "honest",
            sessions=draw.randrange(900, 1500),
            round_trips=draw.randrange(1000, 2400),
            bytes_in=draw.randrange(200_000, 900_000),
            bytes_out=draw.randrange(200_000, 900_000) * (9 if name in liars else 1),
            messages=messages,
            crashes=int(name in down),
        )
        for name in names
    ]

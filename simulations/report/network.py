"""The network at moments that matter: mailboxes grouped by LAN, coloured by which set of messages they hold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocols.limits.simulation import REPORT_LINKS_MAX
from simulations.recording import MailboxSample, Moment
from simulations.report.layout import RING_MAX, Layout, layout
from simulations.report.words import count_of, duration, safe, sentence

__all__ = ["network"]

_WIDE: Final = (960.0, 520.0)
_NARROW: Final = (360.0, 620.0)
"""Width and greatest height of the picture on a desktop and on a phone."""

_BEND: Final = 0.16
_COLOURS: Final = 6
"""So many sets have a colour and a letter; what is rarer is grey together."""

_SINGLE_MAX: Final = 150
"""Up to so many mailboxes each is an element that tells its name; more are one path for each colour."""

_LETTER_RADIUS: Final = 7.5
_NAMED_RADIUS: Final = 13.0
"""Mailboxes drawn at least so large have their names beneath them, if these are short."""

_NODE_NAME_CHARS_MAX: Final = 13
_NAME_CHARS_MAX: Final = 22
_OTHERS: Final = _COLOURS
_DOWN: Final = -1


@dataclass(frozen=True, slots=True)
class _Seen:
    """A moment with what is made of it. `colours` by name: the rank of the set, `_OTHERS` or `_DOWN`; `ranked` are the
    sets of correct mailboxes that are up, the most frequent first."""

    moment: Moment
    colours: Mapping[str, int]
    ranked: Sequence[int]
    hostile: Collection[str]


def network(moments: Sequence[Moment], hostile: Collection[str], run: str) -> str:
    """The HTML: a stepper, and each moment with its picture in two shapes, its key, and all names."""
    if not moments:
        return '<p class="none">No moment was recorded.</p>'
    shapes = [("wide", layout(moments, *_WIDE)), ("narrow", layout(moments, *_NARROW))]
    links_ever = {pair for moment in moments for pair in _between_lans(moment)}
    panels = []
    for index, moment in enumerate(moments):
        seen = _look(moment, hostile)
        pictures = "".join(f'<div class="{css}">{_picture(seen, shape, links_ever)}</div>' for css, shape in shapes)
        panels.append(
            f'<figure class="moment" id="{run}-moment-{index}" data-moment="{index}">'
            f"<figcaption><h3><span>{duration(moment.at_s)}</span> {safe(sentence(moment.title))}</h3>"
            f"<p>{safe(_summary(seen))}</p></figcaption>{pictures}{_key(seen)}</figure>"
        )
    return f'<div class="network">{_stepper(moments, run)}{"".join(panels)}</div>'


def _stepper(moments: Sequence[Moment], run: str) -> str:
    if len(moments) == 1:
        return ""
    tabs = "".join(
        f'<a class="step" href="#{run}-moment-{index}" data-moment="{index}"><b>{index + 1}</b>'
        f"<span><time>{duration(moment.at_s)}</time> {safe(sentence(moment.title))}</span></a>"
        for index, moment in enumerate(moments)
    )
    return (
        '<div class="stepper"><button type="button" class="previous" aria-label="Earlier moment" hidden></button>'
        f'<nav class="steps" aria-label="Moments">{tabs}</nav>'
        '<button type="button" class="next" aria-label="Later moment" hidden></button></div>'
    )


def _look(moment: Moment, hostile: Collection[str]) -> _Seen:
    sets = Counter(one.group for one in moment.mailboxes if one.is_up and one.name not in hostile)
    ranked = sorted(sets, key=lambda group: (-sets[group], group))
    ranks = {group: min(rank, _OTHERS) for rank, group in enumerate(ranked)}
    colours = {one.name: ranks.get(one.group, _OTHERS) if one.is_up else _DOWN for one in moment.mailboxes}
    return _Seen(moment, colours, ranked, hostile)


def _summary(seen: _Seen) -> str:
    up = [one for one in seen.moment.mailboxes if one.is_up]
    down = len(seen.moment.mailboxes) - len(up)
    correct = sum(1 for one in up if one.name not in seen.hostile)
    if len(seen.ranked) == 1:
        said = f"All {correct:,} mailboxes that are up hold the same" if correct > 1 else "One mailbox is up"
    else:
        said = f"{len(seen.ranked):,} different sets among {count_of(correct, 'mailbox', 'mailboxes')}"
    said += f"; {down:,} down" if down else ""
    return f"{said}; {count_of(len(seen.moment.connected), 'connection')}."


# --- the picture ------------------------------------------------------------------------------------------------------


def _picture(seen: _Seen, shape: Layout, links_ever: Collection[tuple[str, str]]) -> str:
    lan_of = {one.name: one.lan for one in seen.moment.mailboxes}
    is_single = len(shape.nodes) <= _SINGLE_MAX
    is_bundled = len(seen.moment.connected) > REPORT_LINKS_MAX
    body = [
        *_lost_links(seen.moment, shape, links_ever),
        *(_bundles(seen.moment, shape) if is_bundled else ()),
        *(
            f'<circle class="lan" cx="{disc.x:.0f}" cy="{disc.y:.0f}" r="{disc.radius:.0f}"/>'
            for disc in shape.discs.values()
        ),
        *(() if is_bundled else _links(seen.moment, shape, lan_of)),
        *(_singles(seen, shape) if is_single else _crowd(seen, shape)),
        *_names(seen, shape),
    ]
    told = f"{seen.moment.title}: {_summary(seen)}"
    return (
        f'<svg viewBox="0 0 {shape.width:.0f} {shape.height:.0f}" role="img" aria-label="{safe(told)}">'
        f"{''.join(body)}</svg>"
    )


def _between_lans(moment: Moment) -> Counter[tuple[str, str]]:
    lan_of = {one.name: one.lan for one in moment.mailboxes}
    pairs = ((lan_of.get(a), lan_of.get(b)) for a, b in moment.connected)
    return Counter((min(a, b), max(a, b)) for a, b in pairs if a is not None and b is not None and a != b)


def _lost_links(moment: Moment, shape: Layout, links_ever: Collection[tuple[str, str]]) -> Iterator[str]:
    """Between LANs that were joined at another moment and aren't now."""
    for a, b in sorted(set(links_ever) - set(_between_lans(moment))):
        yield f'<path class="lost" d="{_bow(shape, a, b)}"/>'


def _bow(shape: Layout, a: str, b: str) -> str:
    """From LAN to LAN, a little bent, so that it does not hide behind others in the same row."""
    one, other = shape.discs[a], shape.discs[b]
    dx, dy = other.x - one.x, other.y - one.y
    x, y = (one.x + other.x) / 2 - _BEND * dy, (one.y + other.y) / 2 + _BEND * dx
    return f"M{one.x:.0f} {one.y:.0f}Q{x:.0f} {y:.0f} {other.x:.0f} {other.y:.0f}"


def _bundles(moment: Moment, shape: Layout) -> Iterator[str]:
    """Only those between LANs: a line for each pair, as wide as there are many."""
    for (a, b), count in sorted(_between_lans(moment).items()):
        wide = 1.2 + 1.2 * math.log10(count)
        yield f'<path class="bundle" stroke-width="{wide:.1f}" d="{_bow(shape, a, b)}"/>'


def _links(moment: Moment, shape: Layout, lan_of: Mapping[str, str]) -> Iterator[str]:
    """One by one."""
    inside: list[str] = []
    across: list[str] = []
    pairs = {(min(a, b), max(a, b)) for a, b in moment.connected if a in lan_of and b in lan_of}
    for a, b in sorted(pairs):
        (x, y), (to_x, to_y) = shape.nodes[lan_of[a], a], shape.nodes[lan_of[b], b]
        (inside if lan_of[a] == lan_of[b] else across).append(f"M{x:.0f} {y:.0f}L{to_x:.0f} {to_y:.0f}")
    yield f'<path class="link" d="{"".join(inside)}"/>' if inside else ""
    yield f'<path class="link across" d="{"".join(across)}"/>' if across else ""


def _singles(seen: _Seen, shape: Layout) -> Iterator[str]:
    radius = shape.node_radius
    for one in seen.moment.mailboxes:
        x, y = shape.nodes[one.lan, one.name]
        colour = seen.colours[one.name]
        css = _css(colour) + (" hostile" if one.name in seen.hostile else "")
        tip = f'data-tip="{safe(_told(one, seen))}"'
        if one.name in seen.hostile:
            side = 1.7 * radius
            place = f'x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:.1f}" height="{side:.1f}" rx="2"'
            yield f'<rect class="node {css}" {place} {tip}/>'
        else:
            yield f'<circle class="node {css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {tip}/>'
        if radius >= _LETTER_RADIUS and 0 <= colour < _OTHERS and one.name not in seen.hostile:
            size = round(radius * 1.05)
            place = f'x="{x:.1f}" y="{y + size * 0.36:.1f}" font-size="{size}"'
            yield f'<text class="letter" {place}>{_letter(colour)}</text>'
        has_room = radius >= _NAMED_RADIUS and shape.discs[one.lan].mailboxes <= RING_MAX
        if has_room and len(one.name) <= _NODE_NAME_CHARS_MAX:
            yield f'<text class="node-name" x="{x:.1f}" y="{y + radius + 13:.1f}">{safe(one.name)}</text>'


def _crowd(seen: _Seen, shape: Layout) -> Iterator[str]:
    """A dot is a stroke of no length with round ends: the dots of a colour are one path."""
    dots: dict[tuple[int, bool], list[str]] = {}
    for one in seen.moment.mailboxes:
        x, y = shape.nodes[one.lan, one.name]
        dots.setdefault((seen.colours[one.name], one.name in seen.hostile), []).append(f"M{x:.0f} {y:.0f}h0")
    for (colour, is_hostile), places in sorted(dots.items()):
        css = f"dots {_css(colour)}{' hostile' if is_hostile else ''}"
        yield f'<path class="{css}" stroke-width="{1.8 * shape.node_radius:.1f}" d="{"".join(places)}"/>'


def _names(seen: _Seen, shape: Layout) -> Iterator[str]:
    """Of LANs, below their discs."""
    standing: dict[str, list[MailboxSample]] = {lan: [] for lan in shape.discs}
    for one in seen.moment.mailboxes:
        standing[one.lan].append(one)
    for lan, disc in shape.discs.items():
        up = sum(1 for one in standing[lan] if one.is_up)
        sets = len({one.group for one in standing[lan] if one.is_up and one.name not in seen.hostile})
        name = lan if len(lan) <= _NAME_CHARS_MAX else lan[: _NAME_CHARS_MAX - 1] + "…"
        counted = f"{up:,} of {len(standing[lan]):,} up" if up < len(standing[lan]) else f"{up:,} up"
        y = disc.y + disc.radius
        yield f'<text class="lan-name" x="{disc.x:.0f}" y="{y + 18:.0f}">{safe(name)}</text>'
        yield (f'<text class="lan-note" x="{disc.x:.0f}" y="{y + 34:.0f}">{counted}, {count_of(sets, "set")}</text>')


def _css(colour: int) -> str:
    return "down" if colour == _DOWN else f"g{colour}"


def _letter(colour: int) -> str:
    return chr(ord("A") + colour)


def _told(one: MailboxSample, seen: _Seen) -> str:
    colour = seen.colours[one.name]
    holds = f"{count_of(one.messages, 'message')}"
    if colour == _DOWN:
        return f"{one.name}: down"
    if one.name in seen.hostile:
        return f"{one.name}: hostile"
    return f"{one.name}: {f'set {_letter(colour)}' if colour < _OTHERS else 'a set of its own'}, {holds}"


# --- the key ----------------------------------------------------------------------------------------------------------


def _key(seen: _Seen) -> str:
    """What colours mean at this moment, and who they are."""
    members: dict[int, list[MailboxSample]] = {}
    hostile: list[MailboxSample] = []
    for one in seen.moment.mailboxes:
        if one.name in seen.hostile:
            hostile.append(one)
        else:
            members.setdefault(seen.colours[one.name], []).append(one)
    rows = []
    for colour in sorted(members, key=lambda colour: (colour == _DOWN, colour)):
        among = members[colour]
        if colour == _DOWN:
            rows.append(_key_row("down", "", f"{len(among):,} down", among))
        elif colour == _OTHERS:
            sets = len(seen.ranked) - _COLOURS
            said = f"{count_of(len(among), 'mailbox', 'mailboxes')} with {count_of(sets, 'other set')}"
            rows.append(_key_row(f"g{colour}", "", said, among))
        else:
            said = f"{count_of(len(among), 'mailbox', 'mailboxes')}, {count_of(among[0].messages, 'message')}"
            rows.append(_key_row(f"g{colour}", _letter(colour), said, among))
    if hostile:
        rows.append(_key_row("hostile", "", f"{len(hostile):,} hostile", hostile))
    return f'<ul class="groups">{"".join(rows)}</ul>'


def _key_row(css: str, letter: str, said: str, among: Sequence[MailboxSample]) -> str:
    names = ", ".join(f"<bdi>{safe(one.name)}</bdi>" for one in among)
    return (
        f'<li><details><summary><i class="swatch {css}">{letter}</i>{safe(said)}</summary><p>{names}</p></details></li>'
    )

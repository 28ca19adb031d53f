"""The pictures of the network: who stands where, in which colour, and what lies between them."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import pytest

from protocols.limits.simulation import REPORT_LINKS_MAX
from simulations.recording import MailboxSample, Moment
from simulations.report.layout import layout
from simulations.report.network import network


def crowd(*counts: int, group: int = 0) -> Moment:
    samples = [
        MailboxSample(f"m-{lan}-{index}", f"lan-{lan}", True, 5, group)
        for lan, count in enumerate(counts)
        for index in range(count)
    ]
    return Moment(0.0, "now", samples, [])


def pictures(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


@pytest.mark.parametrize("counts", [(1,), (2,), (14,), (15,), (5, 5), (1, 40, 3), (60,) * 8, (1000,)])
@pytest.mark.parametrize(("width", "height_max"), [(960.0, 520.0), (360.0, 620.0)])
def test_mailboxes_stand_apart_within_the_picture(counts: tuple[int, ...], width: float, height_max: float) -> None:
    shape = layout([crowd(*counts)], width, height_max)
    assert len(shape.nodes) == sum(counts)
    for x, y in shape.nodes.values():
        assert shape.node_radius <= x <= width - shape.node_radius
        assert shape.node_radius <= y <= shape.height - shape.node_radius
    places = list(shape.nodes.values())[:150]
    assert min((math.dist(a, b) for a, b in combinations(places, 2)), default=99.0) > 2 * shape.node_radius


def test_lans_do_not_overlap() -> None:
    shape = layout([crowd(3, 80, 1, 14, 200, 9, 30)], 960.0, 520.0)
    for one, other in combinations(shape.discs.values(), 2):
        assert math.dist((one.x, one.y), (other.x, other.y)) > one.radius + other.radius


def test_everybody_keeps_their_place() -> None:
    later = Moment(1.0, "later", crowd(3, 3).mailboxes[1:], [])
    assert layout([crowd(3, 3), later], 960.0, 520.0) == layout([crowd(3, 3)], 960.0, 520.0)


def test_the_set_that_most_hold_is_a() -> None:
    samples = [
        *(MailboxSample(f"x-{index}", "home", True, 7, 40) for index in range(2)),
        *(MailboxSample(f"y-{index}", "home", True, 9, 30) for index in range(3)),
        *(MailboxSample(f"z-{index}", "home", True, 1, 20) for index in range(9)),
        MailboxSample("off", "home", False, 9, 30),
    ]
    hostile = {sample.name for sample in samples if sample.name.startswith("z")}
    html = network([Moment(0.0, "now", samples, [])], hostile, "run-0")
    assert "2 different sets among 5 mailboxes; 1 down; 0 connections." in html
    assert "3 mailboxes, 9 messages" in html
    wide, _ = pictures(html)
    letters = [element.text for element in wide.iter("text") if element.get("class") == "letter"]
    assert letters == ["B", "B", "A", "A", "A"]
    assert sum("hostile" in (element.get("class") or "") for element in wide.iter("rect")) == 9
    assert sum("down" in (element.get("class") or "") for element in wide.iter("circle")) == 1


def test_many_sets_share_a_colour() -> None:
    samples = [MailboxSample(f"m-{index}", "home", True, 1, index) for index in range(20)]
    html = network([Moment(0.0, "now", samples, [])], (), "run-0")
    assert "14 mailboxes with 14 other sets" in html


def test_a_crowd_is_drawn_with_few_elements() -> None:
    html = network([crowd(500, 500)], (), "run-0")
    assert len(html) < 80_000
    wide, narrow = pictures(html)
    for picture in (wide, narrow):
        dots = [element.get("d", "") for element in picture.iter("path") if "dots" in (element.get("class") or "")]
        assert sum(dot.count("h0") for dot in dots) == 1000


def test_links_are_lines_or_bundles_and_lost_ones_are_told() -> None:
    few = crowd(3, 3)
    linked = Moment(0.0, "linked", few.mailboxes, [("m-0-0", "m-0-1"), ("m-0-1", "m-1-0"), ("m-1-0", "m-0-1")])
    apart = Moment(9.0, "apart", few.mailboxes, [("m-0-0", "m-0-1")])
    joined, _, torn, _ = pictures(network([linked, apart], (), "run-0"))
    classes = [element.get("class") for element in joined.iter("path")]
    assert classes == ["link", "link across"]
    assert [element.get("class") for element in torn.iter("path")] == ["lost", "link"]

    names = [sample.name for sample in crowd(40, 40).mailboxes]
    many = list(combinations(names, 2))[: REPORT_LINKS_MAX + 1]
    bundled, _ = pictures(network([Moment(0.0, "now", crowd(40, 40).mailboxes, many)], (), "run-0"))
    assert {element.get("class") for element in bundled.iter("path")} == {"bundle"}


def test_links_to_strangers_are_left_out() -> None:
    network([Moment(0.0, "now", crowd(2).mailboxes, [("m-0-0", "a phone")])], (), "run-0")

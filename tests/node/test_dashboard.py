"""The dashboard in a real browser, on real mailboxes: what it shows, that it is live, what it changes, who gets in."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.http.client import AdminClient, ClientError
from tests.browser import Page, browser
from tests.mailboxes import MailboxProcess, eventually
from tests.node.test_pairing import CLIENT, invitation

NASTY = "<img src=x onerror=alert(1)>&amp;\u202e"
LOADED = (
    "!document.getElementById('board').hidden && document.querySelectorAll('#settings .setting').length >= 5"
    " && document.getElementById('password') !== null"
)
COUNTED = "document.querySelectorAll('#topics code').length > 0"
LOCAL = ("--no-mdns", "--p2p", "127.0.0.1:0", "--sync-interval", "1")


def link(mailbox: MailboxProcess) -> str:
    with AdminClient.open(mailbox.data_dir) as client:
        return client.dashboard_link()


def text_of(page: Page, css: str) -> str:
    return str(page.run(f"document.querySelector({json.dumps(css)}).textContent"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MailboxProcess, MailboxProcess]]:
    """Two mailboxes that hold the same."""
    folder = tmp_path_factory.mktemp("world")
    with MailboxProcess(folder / "b", *LOCAL) as other:
        ours = folder / "a"
        ours.mkdir(mode=0o700)
        (ours / "config.toml").write_text(
            '# ours\nname = "Library"  # on the shelf\nstorage-limit = "1GiB"\n'
            f"peer = {json.dumps([other.address()])}\n"
        )
        with MailboxProcess(ours, *LOCAL) as mailbox:
            mailbox.store("topic " + NASTY.replace(":", ""), "log", {0: b"x" * 1000})
            mailbox.store("t" * 64, "log", {0: b"x" * 1000, 1: b"y"})
            eventually(lambda: mailbox.in_sync_with(other))
            yield mailbox, other


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture
def page(tab: Page, world: tuple[MailboxProcess, MailboxProcess]) -> Page:
    """The dashboard of the first mailbox, just opened."""
    tab.errors.clear()
    tab.requests.clear()
    tab.visit(link(world[0]))
    tab.wait(LOADED, what="the page")
    tab.wait(COUNTED, what="the count")
    return tab


def test_it_loads_from_the_mailbox_alone_and_without_an_error(
    page: Page, world: tuple[MailboxProcess, MailboxProcess]
) -> None:
    assert text_of(page, "h1") == "Library"
    page.wait("document.getElementById('verdict-title').textContent === '2 mailboxes hold the same'")
    neighbours = text_of(page, "#neighbours")
    assert world[1].info["mailbox_id"][:8] in neighbours
    assert "Holds the same" in neighbours
    assert page.errors == []
    requests = {request for request in page.requests if not request.startswith("about:")}
    assert all(request.startswith(world[0].info["admin"]) for request in requests), requests
    assert page.run("location.hash") == ""  # the code is gone from the address


def test_what_strangers_choose_is_text(page: Page) -> None:
    titles = page.run("[...document.querySelectorAll('#topics code')].map((e) => e.title)")
    assert any("<img" in title for title in titles)
    assert page.run("document.querySelectorAll('main img, main script').length") == 0
    assert page.errors == []


def test_no_script_makes_markup_from_text() -> None:
    folder = Path(__file__).parents[2] / "node" / "dashboard"
    scripts = [path.read_text() for path in folder.glob("*.js")]
    assert len(scripts) > 8
    for text in scripts:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|javascript:", text
        )
    page = (folder / "index.html").read_text()
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|\sstyle=|https?://", page)


def test_it_is_live(page: Page, world: tuple[MailboxProcess, MailboxProcess]) -> None:
    before = text_of(page, "#figures")
    page.run("window.mark = 1")
    world[1].store("t" * 64, "live", {0: b"from the other one"})
    page.wait(f"document.getElementById('figures').textContent !== {json.dumps(before)}", what="the update")
    page.wait("document.getElementById('events').textContent.includes('Synced')")
    assert page.run("window.mark") == 1  # it was not loaded anew
    assert page.errors == []


def change(page: Page, key: str, value: str) -> None:
    """Changes a setting by the keyboard alone."""
    page.run(f"document.getElementById('setting-{key}').focus(); document.activeElement.select()")
    page.type(value)
    page.press("Enter")


def test_a_setting_is_changed_by_the_keyboard_and_survives(
    page: Page, world: tuple[MailboxProcess, MailboxProcess]
) -> None:
    mailbox = world[0]
    change(page, "name", NASTY)
    page.wait(
        f"document.querySelector('h1').textContent === {json.dumps(NASTY.replace(chr(0x202E), ''))} || "
        "!document.getElementById('setting-name-wrong').hidden"
    )
    # A character that turns the direction of text around is not printable: it is refused, with the reason.
    assert "printable" in text_of(page, "#setting-name-wrong")
    change(page, "name", NASTY[:-1])
    page.wait(f"document.querySelector('h1').textContent === {json.dumps(NASTY[:-1])}", what="the name")
    assert "saved" in text_of(page, "#said")
    assert page.run("document.activeElement.id") == "setting-name"
    assert page.run("document.querySelectorAll('h1 img').length") == 0
    text = (mailbox.data_dir / "config.toml").read_text()
    assert tomllib.loads(text)["name"] == NASTY[:-1]
    assert text.startswith("# ours\n")
    assert "# on the shelf" in text
    assert mailbox.status()["name"] == NASTY[:-1]
    change(page, "name", "Library")
    page.wait("document.querySelector('h1').textContent === 'Library'")
    page.wait("document.getElementById('events').textContent.includes('the name is now')")


def test_a_wrong_setting_says_what_is_wrong_and_changes_nothing(
    page: Page, world: tuple[MailboxProcess, MailboxProcess]
) -> None:
    before = (world[0].data_dir / "config.toml").read_text()
    change(page, "storage-limit", "2G")
    page.wait("!document.getElementById('setting-storage-limit-wrong').hidden")
    assert "2GiB or 2GB" in text_of(page, "#setting-storage-limit-wrong")
    assert page.run("document.activeElement.getAttribute('aria-invalid')") == "true"
    assert (world[0].data_dir / "config.toml").read_text() == before
    page.press("Escape")
    assert page.run("document.getElementById('setting-storage-limit').value") == "1GiB"
    change(page, "storage-limit", "2GiB")
    page.wait("document.getElementById('figures').textContent.includes('of 2.0 GiB')", what="the limit")


def test_internet_mailboxes_come_and_go(page: Page, world: tuple[MailboxProcess, MailboxProcess]) -> None:
    mailbox, other = world
    nobody = "http://127.0.0.1:9"
    value = f"{other.address()}\n{nobody}"
    set_peers = (
        "(() => {{ const field = document.getElementById('setting-peer'); field.value = {}; "
        "field.dispatchEvent(new Event('input')); field.form.requestSubmit(); }})()"
    )
    page.run(set_peers.format(json.dumps(value)))
    page.wait("document.getElementById('neighbours').textContent.includes('be reached')", what="the reason")
    page.wait("document.getElementById('verdict-title').textContent === '1 mailbox needs a look'")
    page.run(set_peers.format(json.dumps(other.address())))
    page.wait("document.getElementById('verdict-title').textContent === '2 mailboxes hold the same'")
    assert mailbox.in_sync_with(other)


def test_a_stranger_is_shown_but_is_nobody_s_trouble(page: Page) -> None:
    """As the page shows what `node.overview` would send with a stranger's mailbox in the network."""
    stranger = {"mailbox_id": "S" * 43, "standing": "kept-out", "strange": True}
    stranger |= {"reason": "Set one with `mailboxd password set`."}
    stranger |= {"last_sync_s": None, "bytes_in": 0, "bytes_out": 0, "progress": None, "address": None, "named": False}
    ours = stranger | {"standing": "same", "strange": False, "last_sync_s": 1.0}
    state: dict[str, Any] = {"mailbox_id": "A" * 43, "name": "", "version": "1", "started_s": 1, "serving": True}
    state |= {"urls": [], "retention_s": 1, "messages": 0, "bytes": 0, "used_bytes": 0, "storage_limit": None}
    state |= {"room": None, "full": False, "at_limit": False, "evicted": 0}
    state |= {"relayed": {"stored": 0, "served": 0, "synced_in": 0, "synced_out": 0}}

    def shown(neighbours: list[dict[str, Any]], standings: dict[str, int]) -> list[Any]:
        value = state | {"neighbours": neighbours, "standings": standings, "strangers": 1}
        words = "['verdict-title', 'verdict-text', 'neighbours', 'neighbours-more']"
        script = f"import('./state.js').then((m) => (m.showState({json.dumps(value)}, null), {words}"
        return list(page.run(f"{script}.map((id) => document.getElementById(id).textContent)))"))

    title, text, listed, more = shown([ours, stranger], {"same": 1})
    assert title == "2 mailboxes hold the same"
    assert text.endswith("1 mailbox here belongs to others.")
    assert "Not let in" in listed
    assert "Set one with mailboxd password set." in listed  # what is to be typed is shown as such
    assert more == ""
    assert shown([stranger], {})[0] == "No mailbox to keep in step with is here now"


def test_what_is_changed_elsewhere_is_shown_but_not_under_somebody_s_hands(
    page: Page, world: tuple[MailboxProcess, MailboxProcess]
) -> None:
    with AdminClient.open(world[0].data_dir) as client:
        page.run("document.getElementById('setting-name').focus(); document.activeElement.select()")
        page.type("half a na")
        client.post("/admin/settings", {"retention": "6d"})
        page.wait("document.getElementById('events').textContent.includes('144 hours')")
        assert page.run("document.activeElement.value") == "half a na"
        page.run("document.activeElement.blur()")
        client.post("/admin/settings", {"retention": None})
        page.wait("document.getElementById('setting-retention').value === '7d'")
        page.wait("document.getElementById('setting-name').value === 'Library'")


def test_the_mailbox_mode(page: Page, world: tuple[MailboxProcess, MailboxProcess]) -> None:
    mailbox = world[0]
    assert mailbox.request("GET", "/health")[0] == 200
    page.run("document.getElementById('mode').focus()")
    page.press("Enter")
    page.wait("document.getElementById('confirm').open")
    assert page.run("document.activeElement.className") == "no"  # what does nothing is what Enter would press
    page.press("Escape")
    page.wait("!document.getElementById('confirm').open")
    assert mailbox.request("GET", "/health")[0] == 200
    page.run("document.getElementById('mode').click()")
    page.run("document.querySelector('#confirm .danger').click()")
    page.wait("document.getElementById('verdict-title').textContent === 'The mailbox mode is off'")
    assert mailbox.request("GET", "/health")[0] == 503
    assert tomllib.loads((mailbox.data_dir / "config.toml").read_text())["paused"] is True
    page.run("document.getElementById('mode').click()")
    page.wait("document.getElementById('mode').getAttribute('aria-checked') === 'true'")
    assert mailbox.request("GET", "/health")[0] == 200


SYSTEMCTL = """#!/bin/sh
# Stands for systemd's: keeps what is enabled in a file, and writes down what it was asked to do.
case "$*" in
  *show*) cat "$0.state" 2>/dev/null || true; exit 0;;
  *" enable "*) echo enabled > "$0.state";;
  *" disable "*) echo disabled > "$0.state";;
esac
echo "$@" >> "$0.log"
"""
SAVED = "document.querySelector('#setting-{} ~ .primary').hidden"
AT_LOGIN = "document.getElementById('start-at-login')"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="systemd's command stands in")
def test_start_at_login_is_switched_and_nothing_is_started_or_stopped(tab: Page, tmp_path: Path) -> None:
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    environment = {"PATH": f"{systemctl.parent}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    unit = tmp_path / "config" / "systemd" / "user" / "mailboxd.service"
    mailbox = MailboxProcess(tmp_path / "data", *LOCAL).start(env=environment)
    try:
        tab.visit(link(mailbox))
        tab.wait(f"{AT_LOGIN} !== null")
        assert tab.run(f"{AT_LOGIN}.getAttribute('aria-checked')") == "false"
        assert tab.run(f"{AT_LOGIN}.disabled") is False
        tab.run(f"{AT_LOGIN}.click()")
        tab.wait(f"{AT_LOGIN}.getAttribute('aria-checked') === 'true'")
        assert str(mailbox.data_dir) in unit.read_text()
        tab.wait("document.getElementById('events').textContent.includes('is started at login')")
        pid = mailbox.pid
        assert mailbox.stop() == 0
        mailbox.start(env=environment)
        tab.visit(link(mailbox))
        tab.errors.clear()  # while it was away
        tab.wait(f"{AT_LOGIN}?.getAttribute('aria-checked') === 'true'", what="the same after a restart")
        tab.run(f"{AT_LOGIN}.click()")
        tab.wait(f"{AT_LOGIN}.getAttribute('aria-checked') === 'false'")
        assert mailbox.pid != pid
        assert mailbox.request("GET", "/health")[0] == 200
        asked = Path(f"{systemctl}.log").read_text().split("\n")
        assert asked == [
            "--user daemon-reload",
            "--user enable mailboxd.service",
            "--user disable mailboxd.service",
            "",
        ]
        assert tab.errors == []
    finally:
        mailbox.__exit__()
        tab.leave()


WAKEPY = """
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

@contextmanager
def running(on_fail):
    said = Path(__file__).with_name("said")
    said.write_text(said.read_text() + "on " if said.exists() else "on ")
    yield SimpleNamespace(active=True)
    said.write_text(said.read_text() + "off ")

keep = SimpleNamespace(running=running)
"""


def test_every_setting_applies_at_once_and_survives_a_restart(tab: Page, tmp_path: Path) -> None:
    """With a stand-in for the library that keeps awake, which writes down when it does."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "wakepy.py").write_text(WAKEPY)
    path = f"{library}:{Path(__file__).parents[2]}"
    peer = "http://127.0.0.1:9"
    with MailboxProcess(tmp_path / "data", *LOCAL) as given:
        given.stop()  # it was started without the library
        mailbox = given.start(env={"PYTHONPATH": path})
        tab.visit(link(mailbox))
        tab.wait(LOADED)
        for key, value in (("name", "Attic"), ("storage-limit", "1GiB"), ("retention", "6d")):
            change(tab, key, value)
            tab.wait(f"document.getElementById('said').textContent.endsWith('saved.') && {SAVED.format(key)}", what=key)
        assert (mailbox.status()["name"], mailbox.status()["storage_limit"]) == ("Attic", 1 << 30)
        tab.run("document.getElementById('setting-peer').focus()")
        tab.type(peer)
        tab.run("document.getElementById('setting-peer').form.requestSubmit()")
        tab.wait("document.getElementById('neighbours').textContent.includes('127.0.0.1:9')", what="the peer")
        tab.run("document.getElementById('keep-awake').click()")
        tab.wait("document.getElementById('keep-awake').getAttribute('aria-checked') === 'true'")
        assert (library / "said").read_text() == "on "
        tab.run("document.getElementById('password').focus()")
        tab.type("a long enough password")
        tab.press("Enter")
        tab.wait("document.getElementById('access').textContent.includes('One is set')", what="the password")
        assert mailbox.request("POST", "/blobs/get", {"topics": {}})[0] == 401
        tab.run("document.getElementById('mode').click()")
        tab.run("document.querySelector('#confirm .danger').click()")
        tab.wait("document.getElementById('mode').getAttribute('aria-checked') === 'false'")
        assert mailbox.request("GET", "/health")[0] == 503

        assert mailbox.stop() == 0
        assert (library / "said").read_text() == "on off "
        mailbox.start(env={"PYTHONPATH": path})
        assert mailbox.request("GET", "/health")[0] == 503
        assert (library / "said").read_text() == "on off on "
        status = mailbox.status()
        assert (status["name"], status["storage_limit"], status["admission"]["password"]) == ("Attic", 1 << 30, True)
        tab.visit(link(mailbox))
        tab.wait(LOADED)
        shown = tab.run("[...document.querySelectorAll('#settings input, #settings textarea')].map((e) => e.value)")
        assert shown == ["Attic", "1GiB", "6d", peer]
        switches = tab.run("['mode', 'keep-awake'].map((id) => document.getElementById(id).ariaChecked)")
        assert switches == ["false", "true"]
        assert "One is set" in text_of(tab, "#access")
        tab.run("document.getElementById('mode').click()")
        tab.wait("document.getElementById('mode').getAttribute('aria-checked') === 'true'")
        assert mailbox.request("GET", "/health")[0] == 200
        tab.run("document.getElementById('keep-awake').click()")
        tab.wait("document.getElementById('keep-awake').getAttribute('aria-checked') === 'false'")
        assert (library / "said").read_text() == "on off on off "
    tab.leave()


def test_where_nothing_can_start_it_at_login_the_switch_says_why(tab: Page, tmp_path: Path) -> None:
    mailbox = MailboxProcess(tmp_path / "data", *LOCAL).start(env={"PATH": str(tmp_path)})
    try:
        tab.visit(link(mailbox))
        tab.errors.clear()  # of the mailbox that it was on before
        tab.wait(f"{AT_LOGIN}?.disabled === true")
        assert "there is no systemctl here" in text_of(tab, "#settings")
        with AdminClient.open(mailbox.data_dir) as client, pytest.raises(ClientError, match="there is no systemctl"):
            client.post("/admin/start-at-login", {"value": True})
        assert tab.errors == []
    finally:
        mailbox.__exit__()
        tab.leave()


def test_a_phone_is_paired_by_a_picture(page: Page) -> None:
    page.run("[...document.querySelectorAll('#access button')].find((b) => b.textContent.startsWith('Pair')).click()")
    page.wait("document.getElementById('pairing').open && document.querySelector('#pairing-code path') !== null")
    assert text_of(page, "#pairing-uri").startswith("mailboxd:pair?v=1&id=")
    page.press("Escape")
    page.wait("!document.getElementById('pairing').open && document.querySelector('#pairing-code path') === null")
    assert page.errors == []


def test_a_password_is_set_and_removed(page: Page, world: tuple[MailboxProcess, MailboxProcess]) -> None:
    page.run("document.getElementById('password').focus()")
    page.type("a long enough password")
    page.press("Enter")
    page.wait("document.getElementById('access').textContent.includes('One is set')", what="the password")
    assert world[0].status()["admission"]["password"] is True
    assert page.run("document.getElementById('password').value") == ""
    page.run("[...document.querySelectorAll('#access button')].find((b) => b.textContent === 'Remove').click()")
    page.run("document.querySelector('#confirm .danger').click()")
    page.wait("document.getElementById('access').textContent.includes('None is set')")


# --- who gets in -----------------------------------------------------------------------------------------------------


def test_a_link_works_once(page: Page, world: tuple[MailboxProcess, MailboxProcess]) -> None:
    page.run("localStorage.clear()")
    used = link(world[0])
    page.visit(used)
    page.wait(LOADED)
    page.run("localStorage.clear()")
    for wrong in (used, used[:-5] + "AAAAA"):
        page.visit(wrong)
        page.wait("!document.getElementById('signed-out').hidden")
        assert "used already or is too old" in text_of(page, "#signed-out-why")
        assert page.run("document.getElementById('board').hidden") is True
    assert "mailboxd dashboard" in text_of(page, "#signed-out")


def test_without_a_link_there_is_nothing_to_see(page: Page, world: tuple[MailboxProcess, MailboxProcess]) -> None:
    page.run("localStorage.clear()")
    page.visit(world[0].info["admin"] + "/")
    page.wait("!document.getElementById('signed-out').hidden")
    assert page.run("fetch('/admin/settings').then((answer) => answer.status)") == 401
    assert page.run("document.cookie") == ""


def test_signing_out_ends_the_session(page: Page) -> None:
    page.run("document.getElementById('sign-out').click()")
    page.wait("document.readyState === 'complete' && !document.getElementById('signed-out')?.hidden")
    assert page.run("fetch('/admin/settings').then((answer) => answer.status)") == 401


# --- for everybody ---------------------------------------------------------------------------------------------------

CONTRAST = """(() => {
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const ground = (element) => { for (let e = element; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] > 200) return c; } return [255, 255, 255, 255]; };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(":disabled, .skip")) continue;
    const [a, b] = [luminance(rgba(getComputedStyle(element).color)), luminance(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push([element.tagName, element.className, element.textContent.slice(0, 30), ratio]);
  }
  return low;
})()"""  # noqa: E501


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(
    page: Page, world: tuple[MailboxProcess, MailboxProcess], scheme: str
) -> None:
    page.visit(link(world[0]), scheme=scheme)
    page.wait(LOADED)
    page.wait(COUNTED)
    ground = [int(v) for v in re.findall(r"\d+", str(page.run("getComputedStyle(document.body).backgroundColor")))]
    assert (sum(ground) > 384) is (scheme == "light")
    assert page.run(CONTRAST) == []


def test_every_control_has_a_name_and_a_role(page: Page) -> None:
    page.call("Accessibility.enable")
    nodes: list[dict[str, Any]] = page.call("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    for role in ("button", "textbox", "switch", "radio", "radiogroup", "heading", "region"):
        assert roles.get(role), role
        assert all(roles[role]), f"a {role} without a name: {roles[role]}"
    assert roles["switch"][0] == "Mailbox mode"
    assert {"Name", "Storage limit", "Messages live for", "Internet mailboxes", "Password"} <= set(roles["textbox"])
    levels = page.run(
        "[...document.querySelectorAll('h1,h2,h3')].filter((e) => e.checkVisibility()).map((e) => e.tagName)"
    )
    assert levels[0] == "H1"
    assert levels.count("H1") == 1
    assert page.run("document.documentElement.lang") == "en"


def test_all_of_it_is_reached_by_the_keyboard(page: Page) -> None:
    page.run("document.body.focus()")
    focused: list[str] = []
    for _ in range(60):
        page.press("Tab")
        what = str(page.run("(({ id, name, className }) => id || name || className)(document.activeElement)"))
        if what in focused and what == focused[0]:
            break
        focused.append(what)
    assert focused[0] == "skip"
    for wanted in ("sign-out", "mode", "setting-name", "setting-retention", "setting-peer", "password", "events"):
        assert wanted in focused, (wanted, focused)
    outline = page.run(
        "(document.getElementById('sign-out').focus(), getComputedStyle(document.activeElement).outlineStyle)"
    )
    assert outline != "none" or page.run("document.activeElement.matches(':focus-visible')")


@pytest.mark.parametrize("width", [320, 390, 800])
def test_it_fits_a_phone(page: Page, world: tuple[MailboxProcess, MailboxProcess], width: int) -> None:
    page.visit(link(world[0]), width=width, height=800)
    page.wait(LOADED)
    page.wait(COUNTED)
    assert page.run("document.documentElement.scrollWidth") <= width
    small = page.run(
        "[...document.querySelectorAll('button')].filter((e) => e.checkVisibility())"
        ".map((e) => e.getBoundingClientRect()).filter((r) => r.height < 24 || r.width < 24).length"
    )
    assert small == 0


def test_axe_finds_nothing(page: Page) -> None:
    """With AXE_CORE=…/axe.min.js (`npm pack axe-core`), the checks that accessibility testers use."""
    path = os.environ.get("AXE_CORE")
    if path is None:
        pytest.skip("AXE_CORE names no axe.min.js")
    script = Path(path).read_text()
    found = page.run(f"(async () => {{ {script}; return JSON.stringify((await axe.run(document)).violations); }})()")
    assert json.loads(found) == []


# --- beginnings and ends ---------------------------------------------------------------------------------------------


def test_an_open_page_does_not_hold_up_the_end_and_comes_back_after_it(tab: Page, tmp_path: Path) -> None:
    with MailboxProcess(tmp_path / "data", *LOCAL) as mailbox:
        printed = mailbox.command("dashboard", "--print").stdout
        assert printed.startswith(mailbox.info["admin"] + "/#")
        tab.visit(printed.strip())
        tab.wait(LOADED)
        change(tab, "name", "Attic")
        tab.wait("document.querySelector('h1').textContent === 'Attic'")
        began_at = time.monotonic()
        assert mailbox.stop() == 0
        assert time.monotonic() - began_at < 20  # HTTP's grace, the longest that it may take, is a quarter of that
        tab.wait("document.getElementById('link').textContent.includes('connection lost')")
        mailbox.start()
        assert mailbox.status()["name"] == "Attic"
        tab.wait("!document.getElementById('signed-out').hidden", what="the same address")
        assert "started anew" in text_of(tab, "#signed-out-why")
    tab.leave()


def test_a_phone_is_unpaired(tab: Page, tmp_path: Path) -> None:
    with MailboxProcess(tmp_path / "data", *LOCAL) as mailbox:
        uri = invitation(mailbox)["uri"]
        CLIENT["pair_by_code"](uri, "the lost phone")
        tab.visit(link(mailbox))
        tab.wait(LOADED)
        tab.wait("document.getElementById('access').textContent.includes('the lost phone')", what="the phone")
        tab.run("document.querySelector('[aria-label=\"Unpair the lost phone\"]').click()")
        tab.run("document.querySelector('#confirm .danger').click()")
        tab.wait("document.getElementById('said').textContent.includes('is unpaired')", what="the answer")
        tab.wait("!document.getElementById('access').textContent.includes('the lost phone')", what="its end")
        assert mailbox.status()["admission"]["devices"] == 0

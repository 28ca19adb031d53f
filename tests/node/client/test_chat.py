"""`mailboxd chat`: two programs over two mailboxes, as two people would use it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.client.chat import Line, Room
from protocols.model import LogName
from tests.mailboxes import MailboxProcess, clean_environment, eventually
from tests.netns import Host, Lan
from tests.node.test_admission_processes import set_password

SECRET = "the gate is green"


class Chat:
    """A running `mailboxd chat`: with one mailbox, or invited by one, or on `host` with those that it finds there."""

    def __init__(
        self,
        data_dir: Path,
        name: str,
        mailbox: MailboxProcess | str | None,
        *args: str,
        secret: str = SECRET,
        host: Host | None = None,
    ) -> None:
        words = [sys.executable, "-m", "node.cli", "chat", "--topic", "garden", "--name", name]
        if isinstance(mailbox, str):
            words += ["--no-mdns", "--invitation", mailbox]
        elif mailbox is not None:
            words += ["--no-mdns", "--mailbox", mailbox.info["http"][0]]
        words += ["--data-dir", str(data_dir / name), *args]
        self.process = subprocess.Popen(
            words if host is None else host.command(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment({"MAILBOXD_CHAT_SECRET": secret}),
        )
        self.lines: list[str] = []
        self.notes: list[str] = []
        for stream, into in ((self.process.stdout, self.lines), (self.process.stderr, self.notes)):
            assert stream is not None
            threading.Thread(target=self._read, args=(stream, into), daemon=True).start()

    @staticmethod
    def _read(stream: IO[str], into: list[str]) -> None:
        into.extend(iter(stream.readline, ""))

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=60)

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MailboxProcess, MailboxProcess]]:
    """Two mailboxes that keep each other in step."""
    place = tmp_path_factory.mktemp("chat")
    options = ("--no-mdns", "--p2p", "127.0.0.1:0")
    with (
        MailboxProcess(place / "one", *options) as one,
        MailboxProcess(place / "two", *options, "--peer", one.address()) as two,
    ):
        yield one, two


def test_two_people_over_two_mailboxes(joined: tuple[MailboxProcess, MailboxProcess], tmp_path: Path) -> None:
    one, two = joined
    with Chat(tmp_path, "anna", one) as anna, Chat(tmp_path, "bob", two, "--json") as bob:
        anna.say("hello \x1b[31mred")
        eventually(lambda: bob.lines, timeout_s=90, what="anna's line at bob's")
        said = json.loads(bob.lines[0])
        assert (said["name"], said["text"], said["seq"]) == ("anna", "hello \x1b[31mred", 0)
        bob.say("good \x1b[31mmorning")
        eventually(lambda: anna.lines, timeout_s=90, what="bob's line at anna's")
        assert anna.lines[0].endswith("] bob: good \\x1b[31mmorning\n")  # nobody writes to another's terminal
        eventually(lambda: any(one.info["http"][0] in note and "is here" in note for note in anna.notes))
        anna.process.send_signal(signal.SIGINT)
        assert anna.process.wait(timeout=30) == 130
        assert "Traceback" not in "".join(anna.notes)
        bob.say("are you there?")
        assert bob.end() == 0
    with Chat(tmp_path, "anna", one) as anna:  # what was said meanwhile is there, what was read is not shown again
        assert anna.end() == 0
        eventually(lambda: [line.partition("] ")[2] for line in anna.lines] == ["bob: are you there?\n"])
    everything = json.dumps([str(item) for item in one.read(Room("garden", SECRET).topic).items()])
    assert "morning" not in everything
    assert "anna" not in everything


def test_two_people_over_two_mailboxes_with_a_password(tmp_path: Path) -> None:
    options = ("--no-mdns", "--p2p", "127.0.0.1:0")
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        set_password(place, "correct horse battery")
    with (
        MailboxProcess(places[0], *options) as one,
        MailboxProcess(places[1], *options, "--https", "127.0.0.1:0", "--peer", one.address()) as two,
    ):
        with Chat(tmp_path, "stranger", one, "--wait", "1") as stranger:
            eventually(lambda: "for --invitation" in "".join(stranger.notes))
            assert stranger.end() == 1
        invitations = [invitation_of(one), invitation_of(two)]
        with Chat(tmp_path, "anna", invitations[0]) as anna, Chat(tmp_path, "bob", invitations[1]) as bob:
            anna.say("hello")
            eventually(lambda: bob.lines, timeout_s=90, what="anna's line at bob's")
            bob.say("good morning")
            eventually(lambda: anna.lines, timeout_s=90, what="bob's line at anna's")
            assert anna.end() == bob.end() == 0
        assert (tmp_path / "anna" / "mailboxes.json").stat().st_mode & 0o777 == 0o600
        assert '"https://' in (tmp_path / "bob" / "mailboxes.json").read_text()
        # From now on no invitation is needed; a used one does no harm to whom it was for, and helps nobody else.
        for again in (None, invitations[1]):
            with Chat(tmp_path, "bob", again, *(["--no-mdns"] if again is None else [])) as bob:
                bob.say("it is me again")
                assert bob.end() == 0
        with Chat(tmp_path, "eve", invitations[1]) as eve:
            assert eve.process.wait(timeout=60) == 1
            eventually(lambda: "`mailboxd pair` there shows a new one" in "".join(eve.notes))
            assert len(eve.notes) == 1
        (device,) = (one for one in json.loads(two.command("devices", "--json").stdout))
        assert device["name"].startswith("bob, chat on ")


@pytest.mark.parametrize("wrong", ["mailboxd:pair?v=1", "https://example.org", "mailboxd:pair?v=1&id=x&code=y&url=z"])
def test_what_is_no_invitation_is_told_in_a_line(wrong: str, tmp_path: Path) -> None:
    with Chat(tmp_path, "anna", wrong) as anna:
        assert anna.process.wait(timeout=60) == 2
        eventually(lambda: "put it into quotes" in "".join(anna.notes))
    assert not (tmp_path / "anna").exists()


def invitation_of(mailbox: MailboxProcess) -> str:
    return str(json.loads(mailbox.command("pair", "--json").stdout)["uri"])


def test_mailboxes_on_a_lan_come_and_go(lan: Lan, tmp_path: Path) -> None:
    """Nobody names a mailbox. The first one dies; the second one gets from the phones what it missed."""
    first = MailboxProcess(tmp_path / "first", prefix=lan.add_host().command([]), http="0.0.0.0:0")
    second_host = lan.add_host()
    with (
        Chat(tmp_path, "anna", None, "--json", host=lan.add_host()) as anna,
        Chat(tmp_path, "bob", None, "--json", host=lan.add_host()) as bob,
    ):
        anna.say("before there is any mailbox")
        with first:
            eventually(lambda: bob.lines, timeout_s=90, what="the first mailbox")
            first.kill()
        bob.say("is anybody here?")
        with MailboxProcess(tmp_path / "second", prefix=second_host.command([]), http="0.0.0.0:0"):
            eventually(lambda: anna.lines, timeout_s=90, what="the second mailbox")
            with Chat(tmp_path, "carol", None, "--json", host=lan.add_host()) as carol:
                eventually(lambda: len(carol.lines) == 2, timeout_s=90, what="both lines at carol's")
                said = {json.loads(line)["text"] for line in carol.lines}
                assert said == {"before there is any mailbox", "is anybody here?"}
        assert len(bob.lines) == len(anna.lines) == 1


def test_where_no_mailbox_is_found_it_says_how_to_name_one(lan: Lan, tmp_path: Path) -> None:
    with Chat(tmp_path, "anna", None, host=lan.add_host(connected=False)) as anna:
        eventually(lambda: "name one with --mailbox" in "".join(anna.notes))


def test_who_does_not_know_the_word_sees_nothing(joined: tuple[MailboxProcess, MailboxProcess], tmp_path: Path) -> None:
    with Chat(tmp_path, "eve", joined[0], secret="the gate is brown") as eve:
        assert eve.end() == 0
        assert eve.lines == []


def test_without_a_mailbox_it_says_so_and_keeps_what_was_written(
    joined: tuple[MailboxProcess, MailboxProcess], tmp_path: Path
) -> None:
    nowhere = MailboxProcess(tmp_path / "none")
    nowhere.data_dir.mkdir()
    (nowhere.data_dir / "node.json").write_text(json.dumps({"http": ["http://127.0.0.1:1"]}))
    with Chat(tmp_path, "carl", nowhere, "--wait", "0.5") as carl:
        carl.say("later")
        assert carl.end() == 1
        eventually(lambda: "goes out when you start this chat again" in "".join(carl.notes))
    with Chat(tmp_path, "carl", joined[1]) as carl:
        assert carl.end() == 0
    with Chat(tmp_path, "dora", joined[1]) as dora:
        assert dora.end() == 0
        eventually(lambda: any(line.endswith("carl: later\n") for line in dora.lines))


ROOM = Room("garden", SECRET)
PLACE = LogName(ROOM.topic, "log")


@given(st.text(min_size=1, max_size=200), st.integers(0, 2**64 - 1))
def test_what_is_sealed_opens_at_its_place_only(text: str, seq: int) -> None:
    text = text.encode(errors="replace").decode()
    sealed = ROOM.seal(Line("anna", text, 1.5), PLACE, seq)
    assert ROOM.read(PLACE, seq, sealed) == Line("anna", text, 1.5)
    assert not ROOM.accepts(PLACE, seq ^ 1, sealed)
    assert not ROOM.accepts(LogName(ROOM.topic, "other"), seq, sealed)


@given(st.binary(max_size=200))
def test_garbage_is_no_message(garbage: bytes) -> None:
    assert not ROOM.accepts(PLACE, 0, garbage)


def test_rooms_differ_by_topic_and_word() -> None:
    assert len({ROOM.topic, Room("garden", SECRET + "!").topic, Room("gardens", SECRET).topic}) == 3

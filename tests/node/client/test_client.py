"""The client kit with whole mailboxes as processes: real HTTP, real files, real kills."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from node.client import Client, ClientStoreError, Mailbox, Message, open_client
from node.client.blocking import BlockingClient
from protocols.model import MailboxId
from tests.mailboxes import MailboxProcess

OPTIONS = ("--no-mdns", "--p2p", "127.0.0.1:0")
PATIENCE_S = 30


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MailboxProcess, MailboxProcess]]:
    """Two mailboxes that know nothing of each other: what gets across, clients have carried."""
    place = tmp_path_factory.mktemp("pair")
    with MailboxProcess(place / "one", *OPTIONS) as one, MailboxProcess(place / "two", *OPTIONS) as two:
        yield one, two


def at(*mailboxes: MailboxProcess) -> list[Mailbox]:
    return [Mailbox(mailbox.info["http"][0]) for mailbox in mailboxes]


async def receive(client: Client, count: int) -> list[Message]:
    messages: list[Message] = []
    with trio.fail_after(PATIENCE_S):
        while len(messages) < count:
            messages.append(await anext(client.messages()))
    return messages


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what another process does sets no event
            await trio.sleep(0.05)


async def flush(client: Client, mailboxes: int = 1) -> None:
    with trio.fail_after(PATIENCE_S):
        await client.flushed(mailboxes)


def test_messages_reach_all_mailboxes_and_come_back_in_order(
    pair: tuple[MailboxProcess, MailboxProcess], tmp_path: Path
) -> None:
    async def main() -> None:
        async with (
            open_client(tmp_path / "anna", topics=["t1"], mailboxes=at(*pair)) as anna,
            open_client(tmp_path / "bob", topics=["t1"], mailboxes=at(pair[1])) as bob,
        ):
            assert [await anna.publish("t1", f"{n}".encode()) for n in range(20)] == list(range(20))
            await flush(anna, 2)
            got = await receive(bob, 20)
            assert [(m.log, m.seq, m.content) for m in got] == [(anna.own_log, n, f"{n}".encode()) for n in range(20)]
            await bob.publish("t1", b"thanks")
            assert [m.content for m in await receive(anna, 1)] == [b"thanks"]

            await until(lambda: pair[0].read("t1") == pair[1].read("t1"))

    trio.run(main)
    assert len(pair[0].read("t1")) == 21


def test_what_a_client_holds_is_carried_to_a_mailbox_that_lacks_it(
    pair: tuple[MailboxProcess, MailboxProcess], tmp_path: Path
) -> None:
    """Others' messages, too, and when both mailboxes were never met at the same time."""
    pair[0].store("t2", "carol", {0: b"a", 1: b"b", 2: b"c"})

    async def main() -> None:
        async with open_client(tmp_path / "me", topics=["t2"], mailboxes=at(pair[0])) as client:
            await client.publish("t2", b"mine")
            await flush(client)
            assert [m.content for m in await receive(client, 3)] == [b"a", b"b", b"c"]
        async with open_client(tmp_path / "me", topics=["t2"], mailboxes=at(pair[1])) as client:
            await flush(client)
            await until(lambda: pair[1].read("t2") == pair[0].read("t2"))
            with trio.move_on_after(0.5):
                raise AssertionError(await anext(client.messages()))  # each is delivered once, over restarts, too

    trio.run(main)
    assert pair[1].read("t2")["carol", 2] == b"c"


def test_one_of_two_mailboxes_dies_and_comes_back_empty(tmp_path: Path) -> None:
    async def main() -> None:
        with MailboxProcess(tmp_path / "stays", *OPTIONS) as stays:
            dies = MailboxProcess(tmp_path / "dies", *OPTIONS)
            dies.start()
            addresses = at(stays, dies)
            port = addresses[1].port
            async with (
                open_client(tmp_path / "anna", topics=["t"], mailboxes=addresses) as anna,
                open_client(tmp_path / "bob", topics=["t"], mailboxes=addresses) as bob,
            ):
                await anna.publish("t", b"0")
                await flush(anna, 2)
                dies.kill()
                for number in range(1, 4):
                    await anna.publish("t", f"{number}".encode())
                await flush(anna, 1)
                assert [m.content for m in await receive(bob, 4)] == [b"0", b"1", b"2", b"3"]
                with MailboxProcess(tmp_path / "new", *OPTIONS, http=f"127.0.0.1:{port}") as new:
                    anna.trigger()
                    await until(lambda: len(new.read("t")) == 4)
                    await until(lambda: all(state.is_well for state in anna.mailboxes()))

    trio.run(main)


def test_gaps_are_filled_or_given_up(pair: tuple[MailboxProcess, MailboxProcess], tmp_path: Path) -> None:
    one, two = pair
    one.store("t4", "dave", {0: b"0", 3: b"3", 4: b"4"})

    async def main() -> None:
        async with open_client(tmp_path / "me", topics=["t4"], mailboxes=at(one, two), gap_patience_s=6) as client:
            assert [m.seq for m in await receive(client, 1)] == [0]
            two.store("t4", "dave", {1: b"1"})  # comes by another way, while delivery waits
            client.trigger()
            got = await receive(client, 3)
            assert [(m.seq, m.skipped, m.is_late) for m in got] == [(1, 0, False), (3, 1, False), (4, 0, False)]
            two.store("t4", "dave", {2: b"2"})  # too late for its place
            client.trigger()
            got = await receive(client, 1)
            assert [(m.seq, m.content, m.is_late) for m in got] == [(2, b"2", True)]
            await until(lambda: one.read("t4") == two.read("t4"))

    trio.run(main)
    assert len(one.read("t4")) == 5


def test_a_second_program_is_kept_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_client(tmp_path / "me", topics=["t"]):
            with pytest.raises(ClientStoreError, match="in use by another program"):
                async with open_client(tmp_path / "me", topics=["t"]):
                    pass

    trio.run(main)


def test_errors_of_the_application_come_out_as_they_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_client(tmp_path / "me", topics=["t"]) as client:
            with pytest.raises(KeyError):
                await client.publish("other", b"")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        trio.run(main)


def test_without_trio(pair: tuple[MailboxProcess, MailboxProcess], tmp_path: Path) -> None:
    with (
        BlockingClient(tmp_path / "anna", topics=["t5"], mailboxes=at(pair[0])) as anna,
        BlockingClient(tmp_path / "bob", topics=["t5"], mailboxes=at(pair[0])) as bob,
    ):
        for number in range(3):
            anna.publish("t5", f"{number}".encode())
        assert anna.flushed(timeout_s=PATIENCE_S)
        got = []
        for message in bob.messages(timeout_s=PATIENCE_S):
            got.append(message.content)
            if len(got) == 3:
                break
        assert got == [b"0", b"1", b"2"]
        assert bob.next_message(timeout_s=0.1) is None
        assert [state.is_well for state in bob.mailboxes()] == [True]
        with pytest.raises(ClientStoreError), BlockingClient(tmp_path / "bob", topics=["t5"]):
            pass
    with pytest.raises(RuntimeError, match="closed"):
        bob.publish("t5", b"")


def test_https_with_a_pin_and_a_token(tmp_path: Path) -> None:
    async def main(url: str, mailbox_id: MailboxId) -> None:
        async def try_out(address: Mailbox, name: str) -> str:
            async with open_client(tmp_path / name, topics=["t"], mailboxes=[address]) as client:
                await client.publish("t", b"x")
                await until(lambda: client.mailboxes()[0].reason != "not reached yet")
                if client.mailboxes()[0].is_well:
                    await flush(client)
                return client.mailboxes()[0].reason

        assert await try_out(Mailbox(url, mailbox_id=mailbox_id), "by-id") == ""
        assert await try_out(Mailbox(url, pin=mailbox_id.key_pin, token="secret"), "by-pin") == ""
        stranger = MailboxId(bytes(32))
        assert "pinned" in await try_out(Mailbox(url, mailbox_id=stranger), "other")
        assert "no authority vouches" in await try_out(Mailbox(url), "unpinned")

    with MailboxProcess(tmp_path / "box", *OPTIONS, "--https", "127.0.0.1:0") as box:
        trio.run(main, box.info["https"][0], MailboxId.parse(box.info["mailbox_id"]))
        assert len(box.read("t")) == 2  # nothing was sent to who could not prove its key


KILLED = """
import sys, os, signal, trio
from pathlib import Path
from node.client import Mailbox, open_client
from node.client.store import ClientStore

async def main():
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    ClientStore.note_sent = die  # the mailbox has it, and we have not written that down
    async with open_client(Path(sys.argv[1]), topics=["t6"], mailboxes=[Mailbox(sys.argv[2])]) as client:
        for number in range(5):
            await client.publish("t6", b"%d" % number)
        await trio.sleep_forever()

trio.run(main)
"""


def test_killed_between_sending_and_noting(pair: tuple[MailboxProcess, MailboxProcess], tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(tmp_path / "me"), pair[0].info["http"][0]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    before = pair[0].read("t6")
    assert before

    async def main() -> None:
        async with open_client(tmp_path / "me", topics=["t6"], mailboxes=at(*pair)) as client:
            assert await client.publish("t6", b"next") == 5
            await flush(client, 2)

    trio.run(main)
    assert [blob for _, blob in sorted(pair[0].read("t6").items())] == [b"0", b"1", b"2", b"3", b"4", b"next"]
    assert pair[0].read("t6") == pair[1].read("t6")


async def test_only_what_was_not_taken_comes_again_after_a_crash(tmp_path: Path) -> None:
    """The program dies while it works on the second message: that one comes again, the first one does not."""
    with MailboxProcess(tmp_path / "box", *OPTIONS) as box:
        box.store("t", "eve", {0: b"0", 1: b"1", 2: b"2"})
        with pytest.raises(RuntimeError):
            async with open_client(tmp_path / "me", topics=["t"], mailboxes=at(box)) as client:
                assert [m.seq for m in await receive(client, 2)] == [0, 1]
                raise RuntimeError
        async with open_client(tmp_path / "me", topics=["t"], mailboxes=at(box)) as client:
            assert [m.seq for m in await receive(client, 2)] == [1, 2]

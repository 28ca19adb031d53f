"""A client at a mailbox with a password: shut out, paired, let in, and shut out again once its token is taken back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from node.client import Mailbox, open_client
from node.client.pairing import pair
from protocols.client.answers import Refused
from tests.mailboxes import MailboxProcess
from tests.node.test_admission_processes import set_password


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailboxProcess]:
    path = tmp_path_factory.mktemp("locked") / "box"
    set_password(path, "correct horse battery")
    with MailboxProcess(path, "--no-mdns", "--p2p", "127.0.0.1:0", "--https", "127.0.0.1:0") as box:
        yield box


def invitation(mailbox: MailboxProcess) -> str:
    return str(json.loads(mailbox.command("pair", "--json").stdout)["uri"])


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - what another process does sets no event
            await trio.sleep(0.05)


def test_paired_by_a_code_and_revoked(mailbox: MailboxProcess, tmp_path: Path) -> None:
    async def main() -> None:
        stranger = Mailbox(mailbox.info["http"][0])
        async with open_client(tmp_path / "me", topics=["t"], mailboxes=[stranger]) as client:
            await client.publish("t", b"let me in")
            await until(lambda: "401" in client.mailboxes()[0].reason)
            uri = invitation(mailbox)
            address = await pair(uri, "my laptop")
            assert address.token and address.is_https
            client.remove(stranger.url)
            client.add(address)
            with trio.fail_after(30):
                await client.flushed()
            with pytest.raises(Refused, match="403"):  # good once
                await pair(uri, "another")
            (device,) = json.loads(mailbox.command("devices", "--json").stdout)
            assert device["name"] == "my laptop"
            mailbox.command("revoke", device["device"])
            client.trigger()
            await until(lambda: "401" in client.mailboxes()[0].reason)

    trio.run(main)


async def test_what_is_no_invitation(mailbox: MailboxProcess) -> None:
    uri = invitation(mailbox)
    for text in (
        "",
        "https://example.org",
        uri.replace("v=1", "v=2"),
        uri.split("&url")[0],
        uri.replace("id=", "id=x"),
    ):
        with pytest.raises(ValueError, match="no invitation"):
            await pair(text, "me")
    with pytest.raises(ValueError, match="printable"):
        await pair(uri, "")
    with pytest.raises(Refused):  # another code: the mailbox does not know it
        await pair(uri.replace("code=", "code=AAAA"), "me")
    assert (await pair(uri, "me")).token

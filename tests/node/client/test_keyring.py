"""The file in which a client keeps the tokens that mailboxes gave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.client import Mailbox
from node.client.keyring import Keyring, KeyringError
from protocols.limits.client import CLIENT_MAILBOXES_MAX
from protocols.model import MailboxId


def mailbox(number: int, token: str = "t") -> Mailbox:
    return Mailbox(f"http://10.0.0.1:{4000 + number}", token=token, mailbox_id=MailboxId(bytes([number]) * 32))


def test_it_keeps_one_address_of_each_mailbox(tmp_path: Path) -> None:
    place = tmp_path / "new" / "place"
    keyring = Keyring(place)
    assert keyring.mailboxes == []
    for one in (mailbox(1), mailbox(2), mailbox(1, "another")):
        keyring.keep(one)
    assert Keyring(place).mailboxes == keyring.mailboxes == [mailbox(2), mailbox(1, "another")]
    assert [one.token for one in Keyring(place).mailboxes] == ["t", "another"]
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "mailboxes.json").stat().st_mode & 0o777 == 0o600


def test_the_oldest_give_way(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path)
    for number in range(CLIENT_MAILBOXES_MAX + 2):
        keyring.keep(mailbox(number))
    kept = Keyring(tmp_path).mailboxes
    assert len(kept) == CLIENT_MAILBOXES_MAX
    assert (kept[0], kept[-1]) == (mailbox(2), mailbox(CLIENT_MAILBOXES_MAX + 1))


@pytest.mark.parametrize(
    "text", [b"", b"{}x", b"[1]", b'[{"id": 1}]', b'[{"id": "x", "url": "y", "token": "z"}]', b"[" * 9999]
)
def test_a_damaged_file_is_told(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "mailboxes.json").write_bytes(text)
    with pytest.raises(KeyringError, match="damaged"):
        Keyring(tmp_path)


def test_what_can_t_be_written_is_told(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "file" / "place")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeyringError, match="can't be written"):
        keyring.keep(mailbox(1))

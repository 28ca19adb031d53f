"""Addresses of mailboxes as values."""

from __future__ import annotations

import pytest

from protocols.client.address import Mailbox
from protocols.model import MailboxId

ID = MailboxId(bytes(range(32)))


def test_parts() -> None:
    box = Mailbox("http://[fe80::1%eth0]:3411/way/in/")
    assert (box.host, box.port, box.path, box.authority) == ("fe80::1%eth0", 3411, "/way/in", "[fe80::1%eth0]:3411")
    assert (Mailbox("https://box.example").port, Mailbox("http://box.example").port) == (443, 80)
    assert Mailbox("http://box.example").authority == "box.example"


def test_what_proves_who_it_is() -> None:
    assert Mailbox("https://x", mailbox_id=ID).key_pin == ID.key_pin == Mailbox("https://x", pin=ID.key_pin).proven
    assert Mailbox("https://x").key_pin is None
    assert Mailbox("http://x", mailbox_id=ID).proven == "http://x"  # by plain HTTP an id is only claimed


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Mailbox("https://x", token="secret"))


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://x"},
        {"url": "http://"},
        {"url": "http://x:0"},
        {"url": "http://x:65536"},
        {"url": "http://a b"},
        {"url": "http://x/\r\nHost: y"},
        {"url": "http://x/?q"},
        {"url": "http://user@x"},
        {"url": "http://x", "token": "a\r\nb"},
        {"url": "http://x", "token": ""},
        {"url": "http://x", "pin": ID.key_pin},
        {"url": "https://x", "pin": "sha256//short"},
    ],
)
def test_nonsense_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"is not|has"):
        Mailbox(**options)  # type: ignore[arg-type]

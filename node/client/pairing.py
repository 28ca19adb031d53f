"""How a client is let in by a mailbox with a password: with the code that `mailboxd pair` shows."""

from __future__ import annotations

import base64
import binascii
import json
import os
from urllib.parse import parse_qs

from node.client.link import Link
from protocols.admission.pairing import check_device_name, code_keys, code_name, opened_grant, sealed_name
from protocols.client.address import Mailbox
from protocols.client.answers import Cause, Refused
from protocols.errors import RemoteProtocolError
from protocols.model import MailboxId

__all__ = ["invited_by", "pair"]

_SCHEME = "mailboxd:pair?"


async def pair(invitation: str, device_name: str) -> Mailbox:
    """Uses an invitation up (`mailboxd:pair?…`, good once, for minutes) and returns the mailbox's address with a token
    for this client: keep it, it is needed from then on. `device_name` is what the owner of the mailbox sees.

    Raises ValueError for what is no invitation or no name, Refused if the mailbox does not take it.
    """
    mailbox_id, code, addresses = _read(invitation)
    keys = code_keys(code, mailbox_id.public_key)
    box = sealed_name(keys, check_device_name(device_name), os.urandom)
    body = json.dumps({"code": _text(code_name(code)), "box": _text(box)}).encode()
    for address in addresses:
        link = Link(address)
        try:
            answer = json.loads(await link.request("POST", "/pair", body))
            token, _ = opened_grant(keys, _bytes(answer["box"]))
            return Mailbox(address.url, token=token, mailbox_id=mailbox_id)
        except Refused as refused:
            if refused.cause is not Cause.UNREACHABLE or address == addresses[-1]:
                raise
        except (RemoteProtocolError, ValueError, KeyError, TypeError):
            raise Refused(Cause.FAULTY, "it is not the mailbox that has shown this code") from None
        finally:
            await link.aclose()
    raise AssertionError("unreachable")


def invited_by(invitation: str) -> MailboxId:
    """Which mailbox an invitation is of. Raises ValueError for what is none."""
    return _read(invitation)[0]


def _read(invitation: str) -> tuple[MailboxId, bytes, list[Mailbox]]:
    try:
        if not invitation.startswith(_SCHEME):
            raise ValueError
        fields = parse_qs(invitation.removeprefix(_SCHEME), strict_parsing=True)
        if fields["v"] != ["1"]:
            raise ValueError
        mailbox_id = MailboxId.parse(fields["id"][0])
        addresses = [Mailbox(url, mailbox_id=mailbox_id) for url in fields["url"]]
        return mailbox_id, _bytes(fields["code"][0]), addresses
    except (ValueError, KeyError):
        raise ValueError("this is no invitation of a mailbox (mailboxd:pair?…, as `mailboxd pair` shows it)") from None


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None

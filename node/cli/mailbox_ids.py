"""Mailboxes as users name them: by an id, the beginning of one, or a PeerId."""

from __future__ import annotations

from collections.abc import Sequence

import click

from node.cli.options import TakesIds
from node.cli.program import fail

__all__ = ["TakesMailboxIds", "find_mailbox"]


class TakesMailboxIds(TakesIds):
    """A command with mailbox ids as arguments."""

    # As long as those that `peers` shows, or longer.
    id_chars_min = 8


def find_mailbox(text: str, ids: Sequence[str]) -> str:
    """The one of the known `ids` that is meant. Ends the command if there is none, or more than one."""
    from protocols.model import MailboxId  # noqa: PLC0415

    if text.startswith("12D3Koo"):
        try:
            text = str(MailboxId.from_peer_id(text))
        except ValueError as error:
            raise click.UsageError(str(error), click.get_current_context()) from None
    found = [mailbox_id for mailbox_id in ids if text and mailbox_id.startswith(text)]
    if not found:
        fail(f"{text!r} is not a known mailbox; `mailboxd peers` shows those that are")
    if len(found) > 1:
        fail(f"{text!r} is the beginning of {len(found)} ids; give more of it")
    return found[0]

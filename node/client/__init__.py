"""The client kit: what a chat app needs to use mailboxes. `docs/client.md` shows how.

`client` is the trio client, `blocking` the same for programs without trio. Below them: `seat` (one mailbox) with its
`link` (HTTP), `deliveries` (what the application gets), `store` and `desk` (the file). `pairing` gets a token from a
mailbox with a password, `keyring` keeps it. What they decide is in `protocols/client`. Nothing here knows how a mailbox
works inside.
"""

from node.client.client import Client, MailboxState, open_client
from node.client.deliveries import Message
from node.client.store import ClientStoreError
from protocols.client.address import Mailbox

__all__ = ["Client", "ClientStoreError", "Mailbox", "MailboxState", "Message", "open_client"]

"""What a phone must know to be paired, as one URI: where the mailbox is, who it is, and a one-time code."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from node.admission.pairing import Pairing
from node.clock import Clock
from protocols.limits.admission import INVITATION_URLS_MAX
from protocols.model import MailboxId

__all__ = ["Inviter", "pairing_uri"]


def pairing_uri(mailbox_id: MailboxId, code: bytes, urls: Sequence[str]) -> str:
    """`mailboxd:pair?v=1&id=…&code=…&url=…`, and `&pin=…` where a URL is https. The id is enough to check the pin."""
    fields = [("v", "1"), ("id", str(mailbox_id)), ("code", base64.urlsafe_b64encode(code).rstrip(b"=").decode())]
    fields += [("url", url) for url in urls]
    if any(url.startswith("https:") for url in urls):
        fields.append(("pin", mailbox_id.key_pin))
    return f"mailboxd:pair?{urlencode(fields, safe=':/[]', quote_via=quote)}"


class Inviter:
    """Makes invitations for one mailbox. `urls` gives its addresses for phones as they are now, https first."""

    def __init__(
        self, pairing: Pairing, mailbox_id: MailboxId, urls: Callable[[], Sequence[str]], clock: Clock
    ) -> None:
        self._pairing = pairing
        self._mailbox_id = mailbox_id
        self._urls = urls
        self._clock = clock

    def invite(self, seconds: float) -> dict[str, Any]:
        """A new one-time code that is good for so long, and the URI with it."""
        code = self._pairing.open_code(seconds)
        urls = _for_phones(self._urls())
        until = datetime.fromtimestamp(self._clock.now_s() + seconds, UTC).isoformat(timespec="seconds")
        return {
            "uri": pairing_uri(self._mailbox_id, code.code, urls),
            "urls": urls,
            "until": until.replace("+00:00", "Z"),
            "seconds": int(seconds),
        }


def _for_phones(urls: Sequence[str]) -> list[str]:
    """The few addresses that a phone is most likely to reach: of the best scheme only, this machine's own last."""
    secure = [url for url in urls if url.startswith("https:")]
    chosen = secure or list(urls)
    elsewhere = [url for url in chosen if urlsplit(url).hostname not in ("127.0.0.1", "::1")]
    return sorted(elsewhere or chosen, key=lambda url: "[" in url)[:INVITATION_URLS_MAX]

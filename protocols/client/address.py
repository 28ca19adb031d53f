"""Where a mailbox is, and what is needed to be let in and to know that it is that one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from protocols.model import MailboxId

__all__ = ["Mailbox"]

_URL = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<ip6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[A-Za-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*)",
    re.ASCII,
)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_PIN = re.compile(r"sha256//[A-Za-z0-9+/]{43}=")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox's address. Raises ValueError where it makes no sense.

    `url` is `http://` or `https://` with host and port (and a path, behind some proxies). `token` is sent as
    `Authorization: Bearer`. `pin` is the key that its certificate must have, in curl's form `sha256//…`; a known
    `mailbox_id` says as much. With neither, `https://` asks the certificate authorities of the system.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    pin: str | None = None
    mailbox_id: MailboxId | None = None

    def __post_init__(self) -> None:
        match = _URL.fullmatch(self.url)
        if match is None or not 1 <= int(match["port"] or 1) <= 65535:
            raise ValueError(f"{self.url!r} is not the URL of a mailbox (http://HOST:PORT)")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ValueError("the token has characters that no token has")
        if self.pin is not None and not _PIN.fullmatch(self.pin):
            raise ValueError(f"{self.pin!r} is not a pin (sha256// and 44 characters of base64)")
        if self.pin is not None and not self.is_https:
            raise ValueError(f"{self.url!r} has a pin, but only https:// can be pinned")

    @property
    def is_https(self) -> bool:
        """Whether it is reached by TLS."""
        return self.url.startswith("https://")

    @property
    def key_pin(self) -> str | None:
        """The pin to hold its certificate against, None to ask certificate authorities."""
        if self.pin is None and self.mailbox_id is not None and self.is_https:
            return self.mailbox_id.key_pin
        return self.pin

    @property
    def proven(self) -> str:
        """The name under which to remember what it was told: the key if that is proven, else no more than the URL."""
        pin = self.key_pin
        return self.url if pin is None else pin

    @property
    def host(self) -> str:
        """Host name or IP address, without brackets."""
        match = self._match()
        return match["ip6"] or match["host"]

    @property
    def port(self) -> int:
        """1 to 65535."""
        return int(self._match()["port"] or (443 if self.is_https else 80))

    @property
    def path(self) -> str:
        """What stands before all routes, without a slash at its end."""
        return self._match()["path"].rstrip("/")

    @property
    def authority(self) -> str:
        """As it stands in a `Host` header."""
        match = self._match()
        host = f"[{match['ip6']}]" if match["ip6"] else match["host"]
        return f"{host}:{match['port']}" if match["port"] else host

    def _match(self) -> re.Match[str]:
        match = _URL.fullmatch(self.url)
        assert match is not None
        return match

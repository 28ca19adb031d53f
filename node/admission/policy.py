"""One policy for all who knock: open, password, trusted, distrusted. It decides for mailboxes and for phones, and
everything else asks it. It does no I/O: what must be kept goes through `AdmissionKeeper`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from node.aside import aside
from protocols.admission.messages import Needs
from protocols.limits.admission import DEVICES_MAX, TICKETS_MAX, TRUST_MAX
from protocols.model import MailboxId

__all__ = ["Admission", "AdmissionError", "AdmissionKeeper", "Device", "Password", "token_hash"]


class AdmissionError(Exception):
    """It can't be done or kept; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Password:
    """What stands for the password: its stretched secret, and a random name for it."""

    secret: bytes = field(repr=False)
    generation: bytes


@dataclass(frozen=True, slots=True)
class Device:
    """A paired phone. Of its token only the hash is kept. `paired_s` is Unix time."""

    device_id: str
    name: str
    token_hash: bytes = field(repr=False)
    paired_s: float


class AdmissionKeeper(Protocol):
    """Keeps what was decided. Durable on return; raises AdmissionError, and then nothing was changed. `keep_devices` is
    called in a thread, one call at a time."""

    def keep_password(self, password: Password | None) -> None: ...

    def keep_trust(
        self, trusted: Iterable[MailboxId], distrusted: Iterable[MailboxId], proven: Iterable[MailboxId]
    ) -> None: ...

    def keep_devices(self, devices: Iterable[Device]) -> None: ...


class _Forgetful:
    """Keeps nothing: for mailboxes in memory."""

    def keep_password(self, password: Password | None) -> None:
        """Does nothing."""

    def keep_trust(
        self, trusted: Iterable[MailboxId], distrusted: Iterable[MailboxId], proven: Iterable[MailboxId]
    ) -> None:
        """Does nothing."""

    def keep_devices(self, devices: Iterable[Device]) -> None:
        """Does nothing."""


def token_hash(token: str) -> bytes:
    """BLAKE2b of a device's token. It is random enough that nothing slower is needed."""
    return hashlib.blake2b(token.encode(errors="surrogatepass"), digest_size=32, person=b"mailboxd token").digest()


_NEVER: Final = {
    "distrusted": "it is distrusted here; `mailboxd distrust --undo` lets it in again",
    "untrusted": "it is not trusted here, and only trusted mailboxes are let in (--only-trusted); "
    "`mailboxd trust` lets it in",
}


class Admission:
    """The policy as it is now. Without a password, trust or distrust it lets everybody in.

    `fixed_password` says that the password comes from elsewhere (a file that the user named) and can't be changed here.
    """

    def __init__(
        self,
        *,
        password: Password | None = None,
        fixed_password: str | None = None,
        trusted: Iterable[MailboxId] = (),
        distrusted: Iterable[MailboxId] = (),
        proven: Iterable[MailboxId] = (),
        devices: Iterable[Device] = (),
        only_trusted: bool = False,
        keeper: AdmissionKeeper | None = None,
    ) -> None:
        self.password = password
        self.fixed_password = fixed_password
        self.only_trusted = only_trusted
        self._trusted = set(trusted)
        self._distrusted = set(distrusted)
        self._proven = dict.fromkeys(proven)
        self._devices = {device.token_hash: device for device in devices}
        self._keeper = keeper or _Forgetful()
        self._devices_turn = trio.Lock()
        self._watchers: list[Callable[[frozenset[MailboxId] | None], None]] = []

    # --- decisions -------------------------------------------------------------------------------------------------

    def of_mailbox(self, mailbox_id: MailboxId) -> Needs:
        """What a mailbox must bring to be let in."""
        if self._trusted and mailbox_id in self._trusted:
            return Needs.NOTHING
        if self.only_trusted or (self._distrusted and mailbox_id in self._distrusted):
            return Needs.NEVER
        return Needs.NOTHING if self.password is None else Needs.PROOF

    def why_never(self, mailbox_id: MailboxId) -> str:
        """Why a mailbox is not let in whatever it proves, for people."""
        return _NEVER["distrusted" if mailbox_id in self._distrusted else "untrusted"]

    def of_phone(self, *, is_paired: bool) -> bool:
        """Whether a phone may store and get."""
        return self.password is None or is_paired

    def device_of(self, token: str) -> Device | None:
        """The paired phone with this token. Found by a hash, so that the time it takes tells nothing of the tokens."""
        hashed = token_hash(token)
        device = self._devices.get(hashed)
        return device if device is not None and hmac.compare_digest(device.token_hash, hashed) else None

    # --- what there is ---------------------------------------------------------------------------------------------

    @property
    def trusted(self) -> list[MailboxId]:
        """In the order of their ids."""
        return sorted(self._trusted)

    @property
    def distrusted(self) -> list[MailboxId]:
        """In the order of their ids."""
        return sorted(self._distrusted)

    @property
    def devices(self) -> list[Device]:
        """The paired phones, the oldest first."""
        return sorted(self._devices.values(), key=lambda device: (device.paired_s, device.device_id))

    def is_trusted(self, mailbox_id: MailboxId) -> bool:
        """Whether the user has named it as one to trust."""
        return mailbox_id in self._trusted

    def has_proven(self, mailbox_id: MailboxId) -> bool:
        """Whether a mailbox has proven the password at some time since that was set. It has to prove it anew; but it
        need not share with strangers how many guesses there may be."""
        return mailbox_id in self._proven

    # --- changes ---------------------------------------------------------------------------------------------------

    def watch(self, watcher: Callable[[frozenset[MailboxId] | None], None]) -> None:
        """`watcher` is called after every change with the mailboxes that it is about; None: all, as the password was
        changed. It must not block or raise."""
        self._watchers.append(watcher)

    def set_password(self, password: Password | None) -> None:
        """Sets or clears the password, at once and durably. Raises AdmissionError."""
        if self.fixed_password is not None:
            raise AdmissionError(
                f"this mailbox takes its password from {self.fixed_password} (--password-file); change it there and "
                "start the mailbox again"
            )
        self._keeper.keep_trust(self._trusted, self._distrusted, ())
        self._proven = {}
        self._keeper.keep_password(password)
        self.password = password
        self._tell(None)

    def note_proven(self, mailbox_id: MailboxId) -> None:
        """A mailbox has proven the password. Raises AdmissionError if that can't be kept."""
        if mailbox_id in self._proven:
            return
        self._proven[mailbox_id] = None
        while len(self._proven) > TICKETS_MAX:
            del self._proven[next(iter(self._proven))]
        self._keeper.keep_trust(self._trusted, self._distrusted, self._proven)

    def trust(self, mailbox_id: MailboxId) -> None:
        """Lets a mailbox in without a password. Raises AdmissionError."""
        self._decide(mailbox_id, self._trusted | {mailbox_id}, self._distrusted - {mailbox_id})

    def distrust(self, mailbox_id: MailboxId) -> None:
        """Never lets a mailbox in. Raises AdmissionError."""
        self._decide(mailbox_id, self._trusted - {mailbox_id}, self._distrusted | {mailbox_id})

    def forget(self, mailbox_id: MailboxId) -> None:
        """Neither trusts nor distrusts a mailbox any more. Raises AdmissionError."""
        self._decide(mailbox_id, self._trusted - {mailbox_id}, self._distrusted - {mailbox_id})

    def _decide(self, mailbox_id: MailboxId, trusted: set[MailboxId], distrusted: set[MailboxId]) -> None:
        if len(trusted) + len(distrusted) > TRUST_MAX:
            raise AdmissionError(f"{TRUST_MAX} mailboxes are trusted or distrusted already; undo some")
        self._keeper.keep_trust(trusted, distrusted, self._proven)
        is_new = (trusted, distrusted) != (self._trusted, self._distrusted)
        self._trusted, self._distrusted = trusted, distrusted
        if is_new:
            self._tell(frozenset({mailbox_id}))

    async def add_device(self, device: Device) -> None:
        """Pairs a phone, durably. Raises AdmissionError."""
        async with self._devices_turn:
            if len(self._devices) >= DEVICES_MAX:
                raise AdmissionError(f"{DEVICES_MAX} phones are paired already; revoke some with `mailboxd revoke`")
            devices = {**self._devices, device.token_hash: device}
            await aside(self._keeper.keep_devices, list(devices.values()))
            self._devices = devices

    async def revoke(self, devices: Iterable[Device]) -> None:
        """Makes the tokens of these phones worthless: at once, and durably on return. Raises AdmissionError; then they
        are good as before."""
        gone = {device.token_hash: device for device in devices}
        self._devices = self._without(gone)
        async with self._devices_turn:
            self._devices = self._without(gone)  # of those that were being paired meanwhile
            try:
                with trio.CancelScope(shield=True):  # nor is it good again after a restart, if nobody waits any more
                    await aside(self._keeper.keep_devices, list(self._devices.values()))
            except AdmissionError:
                self._devices |= gone
                raise

    def _without(self, gone: Container[bytes]) -> dict[bytes, Device]:
        return {hashed: device for hashed, device in self._devices.items() if hashed not in gone}

    def _tell(self, affected: frozenset[MailboxId] | None) -> None:
        for watcher in self._watchers:
            watcher(affected)

"""What the user decides about who is let in: the same for a running mailbox (through its administration) and for one
that isn't running (on its files). Values are plain JSON."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from node.admission.files import new_password
from node.admission.policy import Admission, AdmissionError, Device
from protocols.limits.admission import SECRET_BYTES
from protocols.model import MailboxId

__all__ = ["AdmissionOffice"]


class AdmissionOffice:
    """Changes one policy. Every method raises AdmissionError with a line for the user.

    `last_seen` tells when a device was last heard of (Unix seconds), None if it was not since the start. `told` is told
    of what was decided, in words. `void_codes` makes open codes for phones worthless.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        last_seen: Callable[[Device], float | None] = lambda _device: None,
        told: Callable[[str], object] = lambda _text: None,
        void_codes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._admission = admission
        self._void_codes = void_codes
        self._told = told
        self._last_seen = last_seen

    def state(self) -> dict[str, Any]:
        """Everything: whether there is a password and where it comes from, whom to trust, which phones are paired."""
        admission = self._admission
        source = None if admission.password is None else admission.fixed_password or "the data directory"
        return {
            "password": admission.password is not None,
            "password_source": source,
            "only_trusted": admission.only_trusted,
            "trusted": [str(one) for one in admission.trusted],
            "distrusted": [str(one) for one in admission.distrusted],
            "devices": [self._device(device) for device in admission.devices],
        }

    def _device(self, device: Device) -> dict[str, Any]:
        seen_s = self._last_seen(device)
        return {
            "device": device.device_id,
            "name": device.name,
            "paired": _date(device.paired_s),
            "last_seen": None if seen_s is None else _date(seen_s),
        }

    def set_password(self, secret: str | None) -> dict[str, Any]:
        """Sets the password by its stretched secret (64 hex digits), or clears it (None)."""
        if secret is None:
            self._admission.set_password(None)
            self._told("the password was removed: the mailbox is open")
            return self.state()
        try:
            raw = bytes.fromhex(secret)
        except ValueError:
            raw = b""
        if len(raw) != SECRET_BYTES:
            raise AdmissionError(f"a stretched password has {SECRET_BYTES} bytes in hex")
        self._admission.set_password(new_password(raw))
        self._told("a password was set")
        return self.state()

    def decide(self, mailbox: str, stance: str) -> dict[str, Any]:
        """Makes a mailbox (43 characters) `trusted`, `distrusted` or `neither`."""
        try:
            mailbox_id = MailboxId.parse(mailbox)
        except ValueError as error:
            raise AdmissionError(str(error)) from None
        ways = {
            "trusted": self._admission.trust,
            "distrusted": self._admission.distrust,
            "neither": self._admission.forget,
        }
        if stance not in ways:
            raise AdmissionError(f"{stance!r} is not one of {', '.join(ways)}")
        ways[stance](mailbox_id)
        self._told(f"mailbox {mailbox_id.short} is {stance} now")
        return self.state()

    async def revoke(self, device: str | None) -> dict[str, Any]:
        """Makes the token of one device (its id) worthless, or those of all (None), and then the open codes as well."""
        codes = self._void_codes() if device is None else 0  # first: what is being paired now is not paired afterwards
        devices = [one for one in self._admission.devices if device in (None, one.device_id)]
        if not devices and device is not None:
            raise AdmissionError(f"no paired phone is called {device!r}; `mailboxd devices` lists them")
        await self._admission.revoke(devices)
        for one in devices:
            self._told(f"the phone {one.name!r} was revoked")
        return {"revoked": [self._device(one) for one in devices], "codes": codes}


def _date(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

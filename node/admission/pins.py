"""Who answered where: a place's first identity is remembered, and another one there is reported, not passed over.

Places are what people know mailboxes by: the URL of a plain mailbox, or an IP address and port in the local network. A
plain mailbox proves nothing, so there another id is refused until the user trusts it; a mailbox that is found by mDNS
proves its key and is let in or not by that, so there it is said, once, and shown with the neighbour.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import trio

from node.admission.policy import Admission
from node.aside import aside
from node.datadir import DataDirError, write_file
from protocols.limits.admission import ADMISSION_FILE_BYTES_MAX, PINS_MAX
from protocols.model import MailboxId

__all__ = ["Pins"]

log = logging.getLogger(__name__)


class Pins:
    """The places of one mailbox, kept in a file. A file that is lost or damaged only begins anew: pins are notes.

    `keep_up` writes them down, in a thread, while the mailbox runs.

    `is_connected` tells whether a mailbox is in touch now: then it has merely moved. `told` is told of every change.
    """

    def __init__(
        self,
        path: Path,
        admission: Admission,
        *,
        is_connected: Callable[[MailboxId], bool],
        told: Callable[[str], object] = lambda _text: None,
    ) -> None:
        self._path = path
        self._admission = admission
        self._is_connected = is_connected
        self._told = told
        self._places: OrderedDict[str, str] = OrderedDict()
        self._changed = trio.Event()
        self._notices: OrderedDict[MailboxId, str] = OrderedDict()
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError):
            if path.stat().st_size <= ADMISSION_FILE_BYTES_MAX:
                places = json.loads(path.read_text())["places"].items()
                self._places.update((str(place), str(mailbox_id)) for place, mailbox_id in places)

    # --- plain mailboxes -------------------------------------------------------------------------------------------

    def why_not(self, url: str, answered: str | None) -> str | None:
        """Why the plain mailbox that answered at a URL, with this id, is not to be used; None if it is."""
        pinned = self._places.get(url)
        if answered is None:
            return None if pinned is None else f"mailbox {pinned[:8]} was there before; what answers now says no id"
        if pinned not in (None, answered) and not self._is_trusted(answered):
            return (
                f"another mailbox answers there: {answered[:8]} instead of {str(pinned)[:8]}; "
                f"if that is right: mailboxd trust {answered}"
            )
        self._pin({url: answered})
        return None

    def _is_trusted(self, text: str) -> bool:
        with suppress(ValueError):
            return self._admission.is_trusted(MailboxId.parse(text))
        return False

    # --- mailboxes that were found ---------------------------------------------------------------------------------

    def met(self, mailbox_id: MailboxId, hosts_and_ports: Sequence[tuple[str, int]]) -> None:
        """A mailbox was synced with that announces these addresses."""
        pins = {}
        for host, port in hosts_and_ports:
            place = f"{host} port {port}"
            before = self._other(place, mailbox_id)
            if before is not None and self._is_connected(before):
                continue  # it is still there, whatever this one says
            if before is not None:
                self._report(mailbox_id, before, place)
            pins[place] = str(mailbox_id)
        self._pin(pins)

    def _other(self, place: str, mailbox_id: MailboxId) -> MailboxId | None:
        """Who was at a place before, if that was another one."""
        pinned = self._places.get(place)
        with suppress(ValueError):
            return None if pinned in (None, str(mailbox_id)) else MailboxId.parse(str(pinned))
        return None

    def _report(self, mailbox_id: MailboxId, before: MailboxId, place: str) -> None:
        notice = f"at {place} there was mailbox {before.short} before: that was set up anew, or somebody poses as it"
        self._notices[mailbox_id] = notice
        if len(self._notices) > PINS_MAX:
            self._notices.popitem(last=False)
        log.warning("mailbox %s: %s", mailbox_id.short, notice)
        self._told(f"mailbox {mailbox_id.short}: {notice}")

    def notice(self, mailbox_id: MailboxId) -> str | None:
        """What is odd about where a mailbox is; None if nothing is."""
        return self._notices.get(mailbox_id)

    def _pin(self, pins: dict[str, str]) -> None:
        if all(self._places.get(place) == mailbox_id for place, mailbox_id in pins.items()):
            return
        for place, mailbox_id in pins.items():
            self._places[place] = mailbox_id
            self._places.move_to_end(place)
        while len(self._places) > PINS_MAX:
            self._places.popitem(last=False)
        self._changed.set()

    # --- the file ---------------------------------------------------------------------------------------------------

    async def keep_up(self) -> None:
        """Writes the places down whenever there are others, and at last when it is cancelled."""
        try:
            while True:
                await self._changed.wait()
                await self._write()
        finally:
            if self._changed.is_set():
                await self._write()

    async def _write(self) -> None:
        """The places as they are now; those of a moment later are written after them."""
        self._changed = trio.Event()
        content = (json.dumps({"places": self._places}, indent=1) + "\n").encode()
        try:
            with trio.CancelScope(shield=True):  # what was noted is written, also if the mailbox ends now
                await aside(write_file, self._path, content)
        except DataDirError as error:
            log.warning("who answers where can't be kept: %s", error)

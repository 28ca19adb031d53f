"""Admits mailboxes: runs the exchange of `protocols/admission` with them, and knows who is in.

Whoever wants to sync asks `is_admitted` (cheap) or `admit` (may run the exchange). A proof is good for as long as a
connection with that mailbox lasts; a ticket makes the next one cheap.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Generator
from typing import Any, Final

import trio

from node.admission.guesses import Exchanges, Guesses
from node.admission.policy import Admission, AdmissionError
from node.aside import aside
from node.transport.api import Stream, StreamBroken, Transport
from node.transport.frames import next_frame
from protocols.admission.exchange import (
    ADMISSION_PROTOCOL,
    Admitted,
    Compute,
    Effect,
    Guess,
    NotAdmitted,
    Party,
    Receive,
    Send,
    Ticket,
    Why,
    initiate,
    respond,
)
from protocols.admission.messages import Needs
from protocols.admission.secret import for_mailboxes
from protocols.errors import RemoteProtocolError
from protocols.limits.admission import (
    ADMISSION_FRAME_BYTES_MAX,
    ADMISSION_NONCE_BYTES,
    ADMISSION_TIMEOUT_S,
    ADMISSIONS_AT_ONCE_MAX,
    PAKES_AT_ONCE_MAX,
    TICKETS_MAX,
)
from protocols.model import MailboxId
from protocols.sync.wire import FrameDecoder, encode_frame

__all__ = ["Doorkeeper", "KeptOut"]

log = logging.getLogger(__name__)

_WHY: Final = {
    Why.REFUSED_BY_PEER: "it does not let this mailbox in: it distrusts it, or lets in only those that it trusts",
    Why.NO_PASSWORD_HERE: "it has a password and this mailbox has none; set the same one with `mailboxd password set`, "
    "or have it trust this mailbox",
    Why.NO_PASSWORD_THERE: "it has no password and this mailbox has one; set the same one there, or let it in with "
    "`mailboxd trust`",
    Why.OTHER_PASSWORD: "it has another password; set the same one on both with `mailboxd password set`",
}


class KeptOut(Exception):
    """A mailbox and this one don't let each other in; the message says why. `pause_s` says when to try again at the
    soonest, None for any time."""

    def __init__(self, reason: str, *, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class Doorkeeper:
    """One mailbox's. Construct before the transport runs. `entropy(n)` gives n random bytes."""

    def __init__(
        self, admission: Admission, transport: Transport, *, network: str, entropy: Callable[[int], bytes]
    ) -> None:
        self.admission = admission
        self._transport = transport
        self._network = network
        self._entropy = entropy
        self._is_named: Callable[[MailboxId], bool] = lambda _mailbox_id: False
        self._told: Callable[[MailboxId, Exception | None], None] = lambda _mailbox_id, _error: None
        self._secret = self._derived()
        self._greeted: set[MailboxId] = set()
        """With whom an exchange ended well on the connection that there is."""
        self._proven: set[MailboxId] = set()
        """Those of them that have proven our password."""
        self._tickets: OrderedDict[MailboxId, Ticket] = OrderedDict()
        self._others: OrderedDict[MailboxId, bytes] = OrderedDict()
        """Passwords, by their generation, that are other ones than ours."""
        self._incoming: dict[MailboxId, trio.CancelScope] = {}
        self._locks: dict[MailboxId, trio.Lock] = {}
        self._pakes = trio.Semaphore(PAKES_AT_ONCE_MAX)
        self.guesses = Guesses()
        self._exchanges = Exchanges()
        transport.hears = self.is_admitted
        transport.serve(ADMISSION_PROTOCOL, self._on_stream)
        transport.on_connection(self._on_connection)
        admission.watch(self._on_change)

    def report_to(
        self, told: Callable[[MailboxId, Exception | None], None], *, is_named: Callable[[MailboxId], bool]
    ) -> None:
        """`told` hears how exchanges ended that others began: None, KeptOut or RemoteProtocolError. `is_named` says
        whom the user has named, who therefore need not share the number of guesses with strangers."""
        self._told = told
        self._is_named = is_named

    def is_admitted(self, mailbox_id: MailboxId) -> bool:
        """Whether we may exchange anything with a mailbox now."""
        needs = self.admission.of_mailbox(mailbox_id)
        return needs is Needs.NOTHING or (needs is Needs.PROOF and mailbox_id in self._proven)

    def why_not(self, mailbox_id: MailboxId) -> str:
        """What to tell a mailbox that is not admitted."""
        if self.admission.of_mailbox(mailbox_id) is Needs.NEVER:
            return "this mailbox does not let you in: it distrusts you, or lets in only those that it trusts"
        return "this mailbox has a password; set the same one with `mailboxd password set`, or have it trust yours"

    def refuses(self, mailbox_id: MailboxId) -> str | None:
        """Why there is no point in even connecting with a mailbox; None if there is."""
        if self.admission.of_mailbox(mailbox_id) is Needs.NEVER:
            return self.admission.why_never(mailbox_id)
        return None

    def doubt(self, mailbox_id: MailboxId) -> None:
        """It says that we are not admitted: greet it anew before the next sync."""
        self._greeted.discard(mailbox_id)
        self._proven.discard(mailbox_id)

    async def admit(self, mailbox_id: MailboxId) -> None:
        """Makes sure that a connected mailbox and this one admit each other, as far as that is known from here.

        Raises KeptOut, RemoteProtocolError, PeerUnreachable or StreamBroken.
        """
        if (never := self.refuses(mailbox_id)) is not None:
            raise KeptOut(never)
        if self._has_greeted(mailbox_id):
            return
        lock = self._locks.setdefault(mailbox_id, trio.Lock())
        try:
            async with lock:
                if not self._has_greeted(mailbox_id):
                    await self._greet(mailbox_id)
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(mailbox_id, None)

    def _has_greeted(self, mailbox_id: MailboxId) -> bool:
        """Whether there is nothing (more) to prove. An open mailbox has nothing to say here; one that wants a proof
        refuses our sync and asks for it."""
        return self._secret is None or mailbox_id in self._greeted

    async def _greet(self, mailbox_id: MailboxId) -> None:
        for is_last in (False, True):
            stream = await self._transport.open_stream(mailbox_id, ADMISSION_PROTOCOL)
            party = self._party(mailbox_id)
            try:
                await self._run(party, initiate(party), stream)
            except NotAdmitted as error:
                if error.why is Why.LATER and not error.pause_s and party.ticket is not None and not is_last:
                    continue  # it has forgotten the ticket, and so have we now
                raise self._explained(mailbox_id, error) from None
            return

    async def _on_stream(self, stream: Stream) -> None:
        peer = stream.peer
        if peer in self._incoming or not self._make_room():
            await stream.abort()
            return
        party = self._party(peer)
        error: Exception | None = None
        scope = self._incoming[peer] = trio.CancelScope()
        try:
            with scope:
                await self._run(party, respond(party), stream)
            if scope.cancelled_caught:
                return
        except NotAdmitted as refused:
            error = self._explained(peer, refused)
        except RemoteProtocolError as broken:
            error = broken
        except StreamBroken as broken:
            log.debug("mailbox %s: its admission broke off: %s", peer.short, broken)
            return
        finally:
            del self._incoming[peer]
        self._told(peer, error)

    def _make_room(self) -> bool:
        """Whether one more exchange may be answered. The oldest with a stranger ends for it: honest ones are short."""
        if len(self._incoming) < ADMISSIONS_AT_ONCE_MAX:
            return True
        oldest = next((peer for peer in self._incoming if not self._is_known(peer)), None)
        if oldest is not None:
            self._incoming[oldest].cancel()
        return oldest is not None and len(self._incoming) < 2 * ADMISSIONS_AT_ONCE_MAX

    # --- one exchange ----------------------------------------------------------------------------------------------

    def _party(self, peer: MailboxId) -> Party:
        password = self.admission.password
        return Party(
            local=self._transport.local.public_key,
            peer=peer.public_key,
            network=self._network,
            needs=self.admission.of_mailbox(peer),
            nonce=self._entropy(ADMISSION_NONCE_BYTES),
            entropy=self._entropy,
            secret=self._secret,
            generation=b"" if password is None else password.generation,
            ticket=self._tickets.get(peer),
            known_other=self._others.get(peer, b""),
        )

    async def _run(self, party: Party, steps: Generator[Effect, Any, Admitted], stream: Stream) -> None:
        """Drives an exchange to its end and notes how it ended."""
        peer = stream.peer
        try:
            with trio.fail_after(ADMISSION_TIMEOUT_S):
                admitted = await self._drive(steps, stream)
                await stream.close()
        except trio.TooSlowError:
            await stream.abort()
            raise StreamBroken(f"{peer.short} took too long to be admitted") from None
        except (NotAdmitted, RemoteProtocolError) as error:
            if self._tickets.get(peer) is party.ticket:
                self._tickets.pop(peer, None)
            if isinstance(error, NotAdmitted) and error.generation and party.secret == self._secret:
                _put(self._others, peer, error.generation)
            self.doubt(peer)
            await stream.close()  # in good order: the reason is on its way to the peer
            if isinstance(error, RemoteProtocolError) and error.code == "ended":  # it may just have been switched off
                raise StreamBroken(f"{peer.short} ended its admission in the middle") from None
            raise
        except BaseException:
            with trio.CancelScope(shield=True):
                await stream.abort()
            raise
        finally:
            steps.close()
        if party.secret != self._secret or peer not in self._transport.connected():
            raise StreamBroken("the password was changed, or the connection lost, meanwhile")
        self._greeted.add(peer)
        if admitted.proven:
            self._proven.add(peer)
            self._others.pop(peer, None)
            try:
                self.admission.note_proven(peer)
            except AdmissionError as error:
                log.warning("that %s has proven the password can't be kept: %s", peer.short, error)
        if admitted.ticket is not None:
            _put(self._tickets, peer, admitted.ticket)

    async def _drive(self, steps: Generator[Effect, Any, Admitted], stream: Stream) -> Admitted:
        peer = stream.peer
        named = self.admission.is_trusted(peer) or self._is_named(peer)
        guesses = _OneGuess(self.guesses, self._exchanges, str(peer), known=self._is_known(peer), named=named)
        try:
            return await self._drive_on(steps, stream, guesses)
        finally:
            guesses.over()

    async def _drive_on(self, steps: Generator[Effect, Any, Admitted], stream: Stream, guesses: _OneGuess) -> Admitted:
        decoder = FrameDecoder(bytes_max=ADMISSION_FRAME_BYTES_MAX)
        result: object = None
        failure: Exception | None = None
        while True:
            try:
                effect = steps.throw(failure) if failure else steps.send(result)
            except StopIteration as stop:
                admitted: Admitted = stop.value
                guesses.right()
                return admitted
            failure = None
            match effect:
                case Send(frame):
                    await stream.send_all(encode_frame(frame))
                    result = None
                case Receive():
                    result = await next_frame(stream, decoder, piece_bytes=ADMISSION_FRAME_BYTES_MAX)
                case Compute(work):
                    async with self._pakes:
                        try:
                            result = await aside(work)
                        except RemoteProtocolError as error:
                            failure = error
                case Guess():
                    result = guesses.begin()

    def _is_known(self, peer: MailboxId) -> bool:
        policy = self.admission
        return policy.has_proven(peer) or policy.is_trusted(peer) or self._is_named(peer)

    def _explained(self, peer: MailboxId, error: NotAdmitted) -> KeptOut:
        match error.why:
            case Why.REFUSED_BY_US:
                return KeptOut(self.admission.why_never(peer))
            case Why.LATER:
                return KeptOut(
                    f"passwords were tried too often; it goes on in {error.pause_s:.0f} s", pause_s=error.pause_s
                )
            case _:
                return KeptOut(_WHY[error.why])

    # --- changes ---------------------------------------------------------------------------------------------------

    def _derived(self) -> bytes | None:
        password = self.admission.password
        return None if password is None else for_mailboxes(password.secret)

    def _on_connection(self, mailbox_id: MailboxId, up: bool) -> None:
        self.doubt(mailbox_id)

    def _on_change(self, affected: frozenset[MailboxId] | None) -> None:
        if affected is not None:
            self._greeted -= affected
            self._proven -= affected
            return
        self._secret = self._derived()
        self._greeted.clear()
        self._proven.clear()
        self._tickets.clear()
        self._others.clear()
        self.guesses.forget()


class _OneGuess:
    """The guess that one exchange may make."""

    def __init__(self, guesses: Guesses, exchanges: Exchanges, who: str, *, known: bool, named: bool) -> None:
        self._guesses = guesses
        self._exchanges = exchanges
        self._named = named
        self._who = who
        self._known = known
        self._is_open = False

    def begin(self) -> float:
        """See `Guesses`."""
        now = trio.current_time()
        pause_s = self._exchanges.pause_s(self._who, now, named=self._named)
        pause_s = pause_s or self._guesses.begin(self._who, now, known=self._known)
        self._is_open = not pause_s
        if self._is_open:
            self._exchanges.begun(self._who, now, named=self._named)
        return pause_s

    def right(self) -> None:
        """See `Guesses`."""
        if self._is_open:
            self._guesses.right(self._who, known=self._known)

    def over(self) -> None:
        """See `Guesses`."""
        if self._is_open:
            self._guesses.over()
        self._is_open = False


def _put(table: OrderedDict[MailboxId, Any], mailbox_id: MailboxId, value: object) -> None:
    table[mailbox_id] = value
    table.move_to_end(mailbox_id)
    if len(table) > TICKETS_MAX:
        table.popitem(last=False)

"""The mailbox's side of pairing: one-time codes that are open, exchanges over the password that are under way, and the
tokens that come of them."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import trio

from node.admission.guesses import Exchanges, Guesses
from node.admission.policy import Admission, AdmissionError, Device, token_hash
from node.aside import aside
from node.clock import Clock
from protocols.admission.pairing import (
    PairingKeys,
    code_keys,
    code_name,
    opened_name,
    password_keys,
    password_pake,
    sealed_grant,
)
from protocols.admission.secret import for_phones
from protocols.errors import RemoteProtocolError
from protocols.limits.admission import (
    CODE_BYTES,
    CODES_MAX,
    DEVICE_ID_BYTES,
    DEVICE_TOKEN_BYTES,
    PAIRING_SESSION_BYTES,
    PAIRING_SESSION_S,
    PAIRING_SESSIONS_MAX,
    PAKES_AT_ONCE_MAX,
)
from protocols.model import MailboxId

__all__ = ["Code", "Pairing", "PairingRefused"]


class PairingRefused(Exception):
    """A phone is not paired: an HTTP status, and one line. `pause_s`: when it may try again, 0 if that is no matter."""

    def __init__(self, status: int, text: str, *, pause_s: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.pause_s = pause_s


@dataclass(frozen=True, slots=True)
class Code:
    """A one-time code that is open; `until_at` is trio's clock."""

    code: bytes
    until_at: float


@dataclass(frozen=True, slots=True)
class _Session:
    """An exchange over the password that waits for the phone's proof."""

    keys: PairingKeys
    generation: bytes
    who: str
    until_at: float


class Pairing:
    """One mailbox's. `on_paired` is told of every phone that was paired."""

    def __init__(
        self,
        admission: Admission,
        mailbox_id: MailboxId,
        clock: Clock,
        *,
        on_paired: Callable[[Device], object] = lambda _device: None,
    ) -> None:
        self._admission = admission
        self._mailbox = mailbox_id.public_key
        self._clock = clock
        self._on_paired = on_paired
        self._codes: OrderedDict[bytes, Code] = OrderedDict()
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._voided = 0
        """How often everything that was open was made void."""
        self._pakes = trio.Semaphore(PAKES_AT_ONCE_MAX)
        self.guesses = Guesses()
        self._exchanges = Exchanges()
        admission.watch(self._on_change)

    def open_code(self, seconds: float) -> Code:
        """A new one-time code that is good for so long. Of too many the oldest is forgotten."""
        code = Code(secrets.token_bytes(CODE_BYTES), trio.current_time() + seconds)
        self._codes[code_name(code.code)] = code
        if len(self._codes) > CODES_MAX:
            self._codes.popitem(last=False)
        return code

    async def by_code(self, name: bytes, box: bytes) -> bytes:
        """Pairs a phone that has a one-time code, and uses the code up. Raises PairingRefused; then the code is good as
        before."""
        code = self._codes.get(name)
        if code is None or trio.current_time() > code.until_at:
            self._codes.pop(name, None)
            raise PairingRefused(403, "This code is unknown, used up or too old; show a new one with `mailboxd pair`.")
        keys = code_keys(code.code, self._mailbox)
        phone = _opened(keys, box)
        del self._codes[name]  # before anything is waited for: it is good for one phone
        voided = self._voided
        try:
            return await self._grant(keys, phone)
        except PairingRefused:
            if voided == self._voided:
                self._codes[name] = code
            raise

    async def begin(self, share: bytes, client: str) -> tuple[bytes, bytes, bytes]:
        """Answers a phone's share: (session, share, proof). `client` is by what its guesses are counted. Raises
        PairingRefused."""
        password = self._admission.password
        if password is None:
            raise PairingRefused(409, "This mailbox has no password; pair with a code, as `mailboxd pair` shows it.")
        now = trio.current_time()
        pause_s = self._exchanges.pause_s(client, now) or self.guesses.begin(client, now)
        if pause_s:
            raise PairingRefused(429, "Passwords were tried too often.", pause_s=pause_s)
        self._exchanges.begun(client, now)
        self.guesses.over()  # a phone may never come back
        session = secrets.token_bytes(PAIRING_SESSION_BYTES)
        async with self._pakes:
            try:
                own_share, keys = await aside(self._agree, for_phones(password.secret), share, session)
            except RemoteProtocolError as error:
                raise PairingRefused(400, f"{error}.") from None
        until_at = trio.current_time() + PAIRING_SESSION_S
        self._sessions[session] = _Session(keys, password.generation, client, until_at)
        if len(self._sessions) > PAIRING_SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return session, own_share, keys.mailbox_proof

    def _agree(self, secret: bytes, share: bytes, session: bytes) -> tuple[bytes, PairingKeys]:
        pake = password_pake(secret, self._mailbox, is_phone=False, entropy=secrets.token_bytes)
        own_share = pake.share()
        return own_share, password_keys(pake.key(share), self._mailbox, share, own_share, session)

    async def finish(self, session: bytes, proof: bytes, box: bytes) -> bytes:
        """Pairs a phone that proves that it has the password; each session takes one try. Raises PairingRefused."""
        found = self._sessions.pop(session, None)
        if found is None or trio.current_time() > found.until_at:
            raise PairingRefused(403, "This exchange is unknown or too old; begin anew.")
        password = self._admission.password
        is_right = hmac.compare_digest(found.keys.phone_proof, proof)
        if not is_right or password is None or password.generation != found.generation:
            raise PairingRefused(403, "This is not the mailbox's password.")
        self.guesses.right(found.who)
        return await self._grant(found.keys, _opened(found.keys, box))

    async def _grant(self, keys: PairingKeys, name: str) -> bytes:
        """Makes a token for the phone of this name."""
        voided = self._voided
        token = secrets.token_urlsafe(DEVICE_TOKEN_BYTES)
        device_id = base64.b32encode(secrets.token_bytes(DEVICE_ID_BYTES)).decode().lower()
        device = Device(device_id, name, token_hash(token), self._clock.now_s())
        try:
            await self._admission.add_device(device)
            if voided != self._voided:
                await self._admission.revoke([device])
                raise PairingRefused(403, "Pairing was made void meanwhile; begin anew.")
        except AdmissionError as error:
            raise PairingRefused(507, f"{error}.") from None
        self._on_paired(device)
        return sealed_grant(keys, token, device_id, secrets.token_bytes)

    def void_codes(self) -> int:
        """Makes every open code worthless, and ends the exchanges that are under way; returns how many codes."""
        voided = len(self._codes)
        self._codes.clear()
        self._sessions.clear()
        self._voided += 1
        return voided

    def _on_change(self, affected: frozenset[MailboxId] | None) -> None:
        if affected is None:
            self.void_codes()  # who changes the password wants no invitation of before to be good
            self.guesses.forget()


def _opened(keys: PairingKeys, box: bytes) -> str:
    """The phone's name in the box. Raises PairingRefused."""
    try:
        return opened_name(keys, box)
    except RemoteProtocolError as error:
        raise PairingRefused(403 if error.code == "key" else 400, f"{error}.") from None

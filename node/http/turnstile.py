"""Who is let in, and who has to wait: everything that a server decides by who its client is.

In quiet times that is next to nothing: a rate for each client. When strangers strain the mailbox they give way first:
their requests wait for their turn, their stores need a proof of work, new connections of theirs are rationed, and where
there is no room for another connection it is one of theirs that goes. Then those give way who ask for more than a phone
does, whoever they are.
"""

from __future__ import annotations

import secrets

import trio

from node.http.head import Head
from node.http.limits import HttpLimits, RateLimiter, is_loopback
from node.http.messages import HttpError
from node.http.pressure import Pressure
from node.http.standing import Acquaintances, Standing, client_key
from node.http.turns import Turns
from protocols.challenges import CHALLENGE_HEADER, PROOF_HEADER, Challenger
from protocols.errors import RemoteProtocolError
from protocols.limits.shedding import (
    CHALLENGE_KEY_BYTES,
    CONNECT_BURST,
    CONNECT_RATE,
    HTTP_STRANGERS_BODY_BYTES_MAX,
    KNOWN_BURST,
    KNOWN_RATE,
    SHED_RETRY_AFTER_S,
)

__all__ = ["Turnstile"]


class Turnstile:
    """One server's. Clients are IP addresses, times any monotonic clock."""

    def __init__(self, limits: HttpLimits) -> None:
        self.pressure = Pressure()
        self.turns = Turns()
        self.acquaintances = Acquaintances()
        self.challenged = 0
        self.proven = 0
        self._trust_loopback = limits.trust_loopback
        self._rates = RateLimiter(rate=limits.requests_per_client_rate, burst=limits.requests_per_client_burst)
        self._manners = RateLimiter(rate=KNOWN_RATE, burst=KNOWN_BURST)
        self._knocks = RateLimiter(rate=CONNECT_RATE, burst=CONNECT_BURST)
        self._challenger = Challenger(secrets.token_bytes(CHALLENGE_KEY_BYTES))
        self._strangers_knocks = 0
        self._strangers_proven = 0

    def is_exempt(self, client: str) -> bool:
        """Whether nothing is counted for it: it is on this machine, which is trusted."""
        return self._trust_loopback and is_loopback(client)

    def standing(self, client: str, now_s: float) -> Standing:
        """What its address alone says."""
        return self.acquaintances.standing(client_key(client), now_s)

    def may_connect(self, client: str, now_s: float) -> bool:
        """Whether another connection from there is accepted, room permitting."""
        key = client_key(client)
        if self.is_exempt(client) or self.acquaintances.standing(key, now_s) > Standing.STRANGER:
            return True
        self._strangers_knocks += 1
        return not self.pressure.is_high or self._knocks.admit(key, now_s)

    def admit(self, head: Head, client: str, *, device: str | None, stores: bool, now_s: float) -> Standing:
        """As what a request is served; `device` is the paired one that it comes from. Whoever is served as less than
        what it is asks for too much, and takes turns like strangers. Raises HttpError if it is not served."""
        key = client_key(client)
        is_paired = device is not None
        # Counted by itself: whoever shares its address (a /64, a router) could use up what is for that.
        counted = f"device {device}" if is_paired else key
        if not self._rates.admit(counted, now_s):
            self.acquaintances.misbehaved(key, now_s)
            raise HttpError.busy(429, "Too many requests from your address.", retry_after_s=1)
        standing = Standing.PAIRED if is_paired else self.acquaintances.standing(key, now_s)
        if is_paired:
            self.acquaintances.vouched(key, now_s)
        if standing > Standing.STRANGER:
            self.turns.company(now_s)
            if self.pressure.is_high and not self._manners.admit(f"{standing.name} {counted}", now_s):
                standing = Standing(standing - 1)
        if standing is Standing.STRANGER and stores and self.pressure.is_high:
            if head.length is None or head.length > HTTP_STRANGERS_BODY_BYTES_MAX:
                why = f"The mailbox is flooded: stores of more than {HTTP_STRANGERS_BODY_BYTES_MAX} bytes have to wait."
                raise HttpError.busy(503, why, retry_after_s=SHED_RETRY_AFTER_S)
            if self.pressure.bits:
                self._take_proof(head, key, now_s)
        return standing

    def _take_proof(self, head: Head, key: str, now_s: float) -> None:
        bits = self.pressure.bits
        why = "The mailbox is flooded: come back later, or send the proof of work that Mailbox-Challenge asks for."
        proof = head.headers.get(PROOF_HEADER)
        if proof is not None:
            try:
                self._challenger.take(proof, key, bits, now_s)
            except RemoteProtocolError as error:
                why = f"{str(error).capitalize()}."
            else:
                self.proven += 1
                self._strangers_proven += 1
                return
        self.challenged += 1
        refusal = HttpError.busy(429, why, retry_after_s=SHED_RETRY_AFTER_S)
        refusal.headers += ((CHALLENGE_HEADER, self._challenger.challenge(key, bits, now_s)),)
        raise refusal

    def answered(self, client: str, status: int, now_s: float) -> None:
        """A request was answered: whoever behaves while there is no strain is known after a while."""
        if status < 400 and not self.pressure.is_high:
            self.acquaintances.behaved(client_key(client), now_s)

    def misbehaved(self, client: str, now_s: float) -> None:
        """It broke HTTP, or came too slowly."""
        self.acquaintances.misbehaved(client_key(client), now_s)

    def look(self, *, elapsed_s: float, share: float) -> None:
        """See `Pressure.look`."""
        now_s = trio.current_time()
        self.pressure.look(
            elapsed_s=elapsed_s,
            busy_s=self.turns.busy_s(now_s),
            share=share,
            knocks=self._strangers_knocks,
            proven=self._strangers_proven,
        )
        self._strangers_knocks = self._strangers_proven = 0

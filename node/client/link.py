"""One mailbox's HTTP connection: kept open between requests, with TLS to a pinned key, and bounds on everything."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime

import httptools
import trio

from protocols.challenges import CHALLENGE_HEADER, PROOF_HEADER, read_challenge, solve
from protocols.client.address import Mailbox
from protocols.client.answers import Cause, Refused, judge
from protocols.errors import RemoteProtocolError
from protocols.limits.client import (
    CLIENT_ANSWER_BYTES_MAX,
    CLIENT_CONNECT_TIMEOUT_S,
    CLIENT_HEAD_BYTES_MAX,
    CLIENT_IDLE_S,
    CLIENT_PROOF_BITS_MAX,
    CLIENT_PROOFS_MAX,
    CLIENT_RATE_MIN,
    CLIENT_STALL_S,
)
from protocols.limits.units import KIB

__all__ = ["Link"]

_RECEIVE_BYTES = 64 * KIB


class _Answer:
    """httptools' callbacks; it has no other interface."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.retry_after: str | None = None
        self.challenge: str | None = None
        self.received_bytes = 0
        self.is_in_body = self.is_complete = self.has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"retry-after":
            self.retry_after = value.decode("latin-1")
        elif name == CHALLENGE_HEADER.encode():
            self.challenge = value.decode("latin-1")
        self.has_length |= name in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self.is_in_body = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = True


class Link:
    """Requests to one mailbox, one at a time."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self._stream: trio.abc.Stream | None = None
        self._used_at = 0.0
        self._lock = trio.Lock()

    async def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of the answer to one request (`body` is JSON). Works for it if a flooded mailbox asks for that.
        Raises Refused."""
        proof = ""
        for _ in range(CLIENT_PROOFS_MAX):
            status, answer = await self._ask(method, path, body, proof)
            if status != 429 or answer.challenge is None or not path.endswith("/store"):  # reading is never asked for
                break
            proof = f"{PROOF_HEADER}: {await _solve(answer.challenge)}\r\n"
        refused = judge(status, answer.retry_after, bytes(answer.body[:KIB]), now=datetime.now(UTC))
        if refused is not None:
            raise refused
        return bytes(answer.body)

    async def _ask(self, method: str, path: str, body: bytes, headers: str) -> tuple[int, _Answer]:
        mailbox = self.mailbox
        head = f"{method} {mailbox.path}{path} HTTP/1.1\r\nHost: {mailbox.authority}\r\nUser-Agent: mailboxd-client\r\n"
        if mailbox.token is not None:
            head += f"Authorization: Bearer {mailbox.token}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head += headers
        async with self._lock:
            is_reused = self._stream is not None and trio.current_time() - self._used_at < CLIENT_IDLE_S
            try:
                status, keep, answer = await self._exchange(head.encode("ascii") + b"\r\n" + body, is_reused=is_reused)
            except BaseException:
                await self._drop()
                raise
            if keep:
                self._used_at = trio.current_time()
            else:
                await self._drop()
        return status, answer

    async def aclose(self) -> None:
        """Closes the connection; a following request opens another."""
        await self._drop()

    async def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0), suppress(trio.BrokenResourceError):
                await trio.aclose_forcefully(stream)

    async def _exchange(self, request: bytes, *, is_reused: bool) -> tuple[int, bool, _Answer]:
        if not is_reused:
            await self._drop()
            self._stream = await self._open()
        stream = self._stream  # which is another one, or none, if the link is closed meanwhile
        assert stream is not None
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        try:
            await self._send(stream, request)
            await self._receive(stream, parser, answer)
        except (trio.BrokenResourceError, trio.ClosedResourceError, _Ended):
            if is_reused and not answer.received_bytes:  # it was closed while we were silent; to ask again is no harm
                return await self._exchange(request, is_reused=False)
            raise Refused(Cause.UNREACHABLE, "the connection broke") from None
        except httptools.HttpParserError:
            raise Refused(Cause.FAULTY, "it does not speak HTTP") from None
        return parser.get_status_code(), parser.should_keep_alive(), answer

    async def _send(self, stream: trio.abc.Stream, request: bytes) -> None:
        with trio.move_on_after(CLIENT_STALL_S + len(request) / CLIENT_RATE_MIN):
            await stream.send_all(request)
            return
        raise Refused(Cause.UNREACHABLE, "it takes requests too slowly")

    async def _receive(self, stream: trio.abc.Stream, parser: httptools.HttpResponseParser, answer: _Answer) -> None:
        begun_at = trio.current_time()
        while not answer.is_complete:
            with trio.move_on_at(begun_at + CLIENT_STALL_S + answer.received_bytes / CLIENT_RATE_MIN) as scope:
                data = await stream.receive_some(_RECEIVE_BYTES)
            if scope.cancelled_caught:
                raise Refused(Cause.UNREACHABLE, "it did not answer in time")
            if not data:
                if answer.is_in_body and not answer.has_length:  # then the end of the connection is that of the answer
                    return
                raise _Ended
            answer.received_bytes += len(data)
            if not answer.is_in_body and answer.received_bytes > CLIENT_HEAD_BYTES_MAX:
                raise Refused(Cause.FAULTY, "the head of its answer does not end")
            parser.feed_data(data)
            if len(answer.body) > CLIENT_ANSWER_BYTES_MAX:
                raise Refused(Cause.FAULTY, f"it answered with more than {CLIENT_ANSWER_BYTES_MAX} bytes")

    async def _open(self) -> trio.abc.Stream:
        with trio.move_on_after(CLIENT_CONNECT_TIMEOUT_S):
            try:
                return await _connect(self.mailbox)
            except ConnectionRefusedError:
                raise Refused(Cause.UNREACHABLE, "nothing listens there") from None
            except (OSError, trio.BrokenResourceError, ssl.SSLError, ssl.CertificateError) as error:
                raise Refused(Cause.UNREACHABLE, f"no connection: {_reason(error)}") from None
        raise Refused(Cause.UNREACHABLE, "no connection in time")


async def _solve(challenge: str) -> str:
    try:
        bits, _ = read_challenge(challenge)
    except RemoteProtocolError as error:
        raise Refused(Cause.BUSY, f"it is flooded, and {error}") from None
    if bits > CLIENT_PROOF_BITS_MAX:
        raise Refused(Cause.BUSY, "it is flooded, and asks for more work than a message is worth")
    return await trio.to_thread.run_sync(solve, challenge)


class _Ended(Exception):
    """The other side closed the connection before its answer was complete."""


async def _connect(mailbox: Mailbox) -> trio.abc.Stream:
    try:
        stream = await trio.open_tcp_stream(mailbox.host, mailbox.port)
    except OSError as error:
        causes = error.__cause__.exceptions if isinstance(error.__cause__, ExceptionGroup) else (error,)
        raise next((cause for cause in causes if isinstance(cause, OSError)), error) from None
    stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
    if not mailbox.is_https:
        return stream
    try:
        return await _secure(stream, mailbox)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def _secure(stream: trio.SocketStream, mailbox: Mailbox) -> trio.abc.Stream:
    """TLS over `stream`. With a pin, the key alone says who it is; names, dates and authorities mean nothing. Nothing
    of the request is sent before that is certain."""
    pin = mailbox.key_pin
    context = ssl.create_default_context()
    if pin is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = trio.SSLStream(stream, context, server_hostname=mailbox.host, https_compatible=True)
    await tls.do_handshake()
    if pin is not None and _pin_of(tls.getpeercert(binary_form=True) or b"") != pin:
        raise Refused(Cause.UNREACHABLE, "its key is not the pinned one: this is another mailbox, or one in between")
    return tls


def _pin_of(certificate: bytes) -> str:
    import base64  # noqa: PLC0415 - only who uses HTTPS pays for these
    import hashlib  # noqa: PLC0415

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415
    from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415

    try:
        key = load_der_x509_certificate(certificate).public_key()
    except ValueError:
        return ""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256//{base64.b64encode(hashlib.sha256(spki).digest()).decode()}"


def _reason(error: BaseException) -> str:
    while isinstance(error, trio.BrokenResourceError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ssl.SSLCertVerificationError):
        return "no authority vouches for its certificate; pin its key (`mailboxd identity` shows the pin)"
    if isinstance(error, ssl.SSLError):
        return "TLS failed; is this an https:// address?"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)

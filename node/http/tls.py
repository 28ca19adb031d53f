"""HTTPS without a certificate authority: the certificate is the mailbox's own Ed25519 identity, signed by itself.

Whoever knows a MailboxId knows the key that the certificate must have, and so detects anyone in between; names and
dates in it mean nothing. Source: RFC 8410 (Ed25519 in X.509), RFC 8446 (TLS 1.3).
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from node.http.sockets import ClientSocket
from protocols.limits.http import HTTP_SEND_PIECE_BYTES
from protocols.limits.units import KIB
from protocols.model import MailboxId

__all__ = ["TlsSocket", "server_context"]

_RECEIVE_BYTES: Final = 64 * KIB
_FROM: Final = datetime(2026, 1, 1, tzinfo=UTC)
_UNTIL: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280, 4.1.2.5: no expiry


def server_context(seed: bytes, mailbox_id: MailboxId, directory: Path) -> ssl.SSLContext:
    """TLS 1.3 with the certificate of the identity whose secret `seed` (32 bytes) is.

    Python's ssl reads keys from files only, so there is one in `directory` for a moment, for its owner alone.
    Raises OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # sessions are not resumed: a handshake with this key is cheap
    context.set_alpn_protocols(["http/1.1"])
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".tls-", suffix=".pem") as file:  # 0600
        file.write(_certificate(seed, mailbox_id))
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _certificate(seed: bytes, mailbox_id: MailboxId) -> bytes:
    """Key and certificate in PEM; the same every time."""
    from cryptography import x509  # noqa: PLC0415 - only who serves HTTPS pays for it
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    key = Ed25519PrivateKey.from_private_bytes(seed)
    host = x509.DNSName(f"{mailbox_id.base32.lower()}.local")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(mailbox_id))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(mailbox_id.public_key[:16]) >> 1 | 1)
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, algorithm=None)
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)


class TlsSocket(ClientSocket):
    """An accepted socket that speaks TLS; takes `sock` over. The handshake is part of the first `recv`. What breaks
    TLS, such as a client that speaks plain HTTP, raises OSError like a connection that breaks."""

    shakes_hands = True

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def recv(self, bytes_max: int) -> bytes:
        """What has come, up to `bytes_max`; empty at the end. Raises OSError."""
        while True:
            try:
                data = self._tls.read(bytes_max)
            except ssl.SSLWantReadError:
                await self._flush()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            else:
                await self._flush()
                return data
            more = await super().recv(_RECEIVE_BYTES)
            if more:
                self._incoming.write(more)
            else:
                self._incoming.write_eof()

    async def send(self, data: bytes | memoryview) -> int:
        """Sends some of `data`, at least a byte; returns how much. Raises OSError."""
        sent = self._tls.write(data[:HTTP_SEND_PIECE_BYTES])
        await self._flush()
        return sent

    async def shutdown(self) -> None:
        """Nothing more will be sent, and what comes is of no interest. Raises OSError."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()
        await super().shutdown()

    async def drain(self, bytes_max: int) -> bytes:
        """What has come, up to `bytes_max`, as it is on the wire."""
        return await super().recv(bytes_max)

    async def _flush(self) -> None:
        while self._outgoing.pending:
            data = self._outgoing.read()
            view = memoryview(data)
            while view:
                view = view[await super().send(view) :]

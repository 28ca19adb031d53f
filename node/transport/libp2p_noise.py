"""Noise messages after the handshake: many at a time, on the same wire as libp2p's own.

What encryption costs is little beside what is around it. libp2p's layers copy each message seven times and ask the
socket for each, or hand each to it; here a read takes what has come, a write sends all it is given in one go, and the
only copies are those into and out of the socket. The handshake and its keys stay libp2p's.
"""

from __future__ import annotations

from typing import Any, Final

from libp2p.io.abc import EncryptedMsgReadWriter

from node.transport.libp2p_tcp import TcpSocket
from protocols.limits.transport import RECEIVE_BUFFER_BYTES, RECEIVE_BUFFER_FIRST_BYTES

__all__ = ["PLAINTEXT_BYTES_MAX", "NoiseMessages"]

_LENGTH_BYTES: Final = 2
_MESSAGE_BYTES_MAX: Final = 2**16 - 1
PLAINTEXT_BYTES_MAX: Final = _MESSAGE_BYTES_MAX - 16
"""What a Noise message holds beside its tag."""


class NoiseMessages(EncryptedMsgReadWriter):  # type: ignore[misc]
    """The messages of one connection, both ways. `established` is libp2p's own, which has read nothing yet.

    One task at a time may read, and one may write. Whatever is wrong with what comes raises; the connection is over
    then.
    """

    def __init__(self, established: EncryptedMsgReadWriter, socket: TcpSocket) -> None:
        super().__init__(established.conn)
        keys = established.noise_state.noise_protocol
        self._sealing: Any = keys.cipher_state_encrypt
        self._opening: Any = keys.cipher_state_decrypt
        self._socket = socket
        self._buffer = bytearray(RECEIVE_BUFFER_FIRST_BYTES)
        self._start = self._end = 0
        """Where what was received and not read yet stands in the buffer."""

    def encrypt(self, data: bytes | memoryview) -> bytes:
        sealed: bytes = self._sealing.encrypt_with_ad(None, data)
        return sealed

    def decrypt(self, data: bytes | memoryview) -> bytes:
        opened: bytes = self._opening.decrypt_with_ad(None, data)
        return opened

    async def write_msg(self, msg: bytes) -> None:
        """Sends `msg`, in as many messages as it takes."""
        parts: list[bytes] = []
        view = memoryview(msg)
        for start in range(0, len(msg), PLAINTEXT_BYTES_MAX):
            sealed = self.encrypt(view[start : start + PLAINTEXT_BYTES_MAX])
            parts += (len(sealed).to_bytes(_LENGTH_BYTES, "big"), sealed)
        await self._socket.write(b"".join(parts))

    async def read_msg(self) -> bytes:
        """The next message; empty at the end. Waits only if it has not come yet: whoever reads many gives others their
        turn."""
        while (end := self._message_end()) > self._end:
            if not await self._receive(end - self._start):
                return b""
        with memoryview(self._buffer) as view:
            opened = self.decrypt(view[self._start + _LENGTH_BYTES : end])
        self._start = end
        return opened

    def _message_end(self) -> int:
        """Where the first message ends, or its length if that has not come."""
        body = self._start + _LENGTH_BYTES
        return body if self._end < body else body + int.from_bytes(self._buffer[self._start : body], "big")

    async def _receive(self, wanted: int) -> int:
        """Receives some more of a message that is `wanted` bytes long; 0 at the end."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + wanted > len(self._buffer):
            self._buffer[: self._end - self._start] = self._buffer[self._start : self._end]
            self._start, self._end = 0, self._end - self._start
        with memoryview(self._buffer) as view:
            received = await self._socket.read_into(view[self._end :])
        self._end += received
        if self._end == len(self._buffer) < RECEIVE_BUFFER_BYTES:  # there is more than this takes at a time
            self._buffer += bytes(RECEIVE_BUFFER_BYTES - len(self._buffer))
        return received

    async def close(self) -> None:
        await self._socket.close()

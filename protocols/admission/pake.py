"""SPAKE2 over Ed25519 (`spake2` library, wire-compatible with the Rust crate of that name) behind two functions' worth
of interface: a share to send, a key from the other's share. Costs 3 ms and 5 ms of CPU on a laptop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import spake2

from protocols.errors import RemoteProtocolError
from protocols.limits.admission import PAKE_SHARE_BYTES

__all__ = ["Pake"]

_FIELD: Final = 2**255 - 19
_Y_MASK: Final = 2**255 - 1
_SIDES: Final = {True: (spake2.SPAKE2_A, b"B"), False: (spake2.SPAKE2_B, b"A")}


class Pake:
    """One side of one exchange. `first` is who opens it; `id_first` and `id_second` say who the two are. `entropy(n)`
    gives n random bytes. Use `share` and `key` once each."""

    def __init__(
        self, secret: bytes, *, first: bool, id_first: bytes, id_second: bytes, entropy: Callable[[int], bytes]
    ) -> None:
        side, self._other_side = _SIDES[first]
        self._pake = side(secret, idA=id_first, idB=id_second, entropy_f=entropy)

    def share(self) -> bytes:
        """What to send to the other side: 32 bytes that tell nothing of the secret."""
        message: bytes = self._pake.start()
        return message[1:]

    def key(self, share: bytes) -> bytes:
        """The key (32 bytes) that both have exactly if their secrets and ids are equal.

        Raises RemoteProtocolError if `share` is no element of the group, or our own one thrown back.
        """
        if len(share) != PAKE_SHARE_BYTES:
            raise RemoteProtocolError("malformed", f"a share of {len(share)} bytes")
        y = int.from_bytes(share, "little") & _Y_MASK
        if y >= _FIELD or y == 1:  # the library knows the neutral element in one of its spellings only
            raise RemoteProtocolError("share", "not a share: the neutral element, or spelt in another way")
        try:
            key: bytes = self._pake.finish(self._other_side + share)
        except Exception as error:  # the library raises half a dozen kinds, all about `share`
            raise RemoteProtocolError("share", f"not a share: {type(error).__name__}") from None
        return key

"""Makes operations as the app does, with another CBOR library: nothing here is shared with what reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cbor2
from blake3 import blake3
from nacl.signing import SigningKey

from protocols.model import LogName


@dataclass(frozen=True)
class Author:
    """Somebody who signs. `number` makes the key."""

    number: int = 1
    topic: bytes = field(default=bytes(range(32)))

    @property
    def key(self) -> SigningKey:
        return SigningKey(blake3(b"author %d" % self.number).digest())

    @property
    def name(self) -> LogName:
        """The log of this author in the topic."""
        return LogName(self.topic.hex(), bytes(self.key.verify_key).hex())

    def fields(self, seq: int, payload: bytes | None, *, dated: bool, extensions: object = None) -> list[Any]:
        """The fields of a header but for the signature."""
        fields: list[Any] = [1, bytes(self.key.verify_key), len(payload or b"")]
        fields += [blake3(payload).digest()] if payload else []
        fields += [1_790_000_000_000_000] if dated else []
        fields += [seq]
        fields += [blake3(b"the one before").digest()] if seq else []
        fields += [[]] if dated else []
        return [*fields, {"topic": self.topic} if extensions is None else extensions]

    def header(self, seq: int, payload: bytes | None = b"hello", *, dated: bool = False, **more: Any) -> list[Any]:
        """A signed header."""
        fields = self.fields(seq, payload, dated=dated, **more)
        signature = self.key.sign(cbor2.dumps(fields)).signature
        return [*fields[:2], signature, *fields[2:]]

    def blob(self, seq: int, payload: bytes | None = b"hello", *, dated: bool = False, **more: Any) -> bytes:
        """An operation as the app stores it."""
        return wrap(self.header(seq, payload, dated=dated, **more), payload, dated=dated)


def wrap(header: list[Any], payload: bytes | None, *, dated: bool) -> bytes:
    """A header and its payload in the form of their generation."""
    return cbor2.dumps({"header": header if dated else cbor2.dumps(header), "body": payload})

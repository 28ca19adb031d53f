"""The administration's part in carrying messages by foot: a command reads the bundle and brings it record by record."""

from __future__ import annotations

import struct
from typing import Final

from node.http.admin.bodies import json_response
from node.http.messages import HttpError, Request, Response, Router
from node.mailbox import Mailbox
from node.sneakernet import take_record
from node.store.api import StoreError, StoreFull
from protocols.errors import RemoteProtocolError
from protocols.limits.http import HTTP_BODY_BYTES_MAX
from protocols.limits.sync import SEALED_DATA_BYTES_MAX, SEALED_HEAD_BYTES_MAX
from protocols.model import MailboxId
from protocols.sneakernet.seal import Record
from protocols.sync.interest import Interest
from protocols.sync.wire import pack, unpack

__all__ = ["add_bundle_routes", "record_body"]

_LENGTHS: Final = struct.Struct(">32sQI")
"""The maker, its retention in seconds, and the bytes of the head that follows; the rest is data."""

assert _LENGTHS.size + SEALED_HEAD_BYTES_MAX + SEALED_DATA_BYTES_MAX <= HTTP_BODY_BYTES_MAX


def record_body(record: Record, *, maker: MailboxId, maker_retention_s: int) -> bytes:
    """The body in which a record of a bundle, whose seal has been checked, is brought."""
    head = pack([record.type, *record.fields])
    return _LENGTHS.pack(maker.public_key, maker_retention_s, len(head)) + head + record.data


def add_bundle_routes(router: Router, mailbox: Mailbox, *, network: str, interest: Interest | None) -> None:
    """GET /admin/bundles tells by which rules this mailbox keeps messages, POST takes a record of a bundle."""

    async def rules(_request: Request) -> Response:
        topics = None if interest is None else interest.packed.hex()
        return json_response({"network": network, "retention_s": mailbox.retention.retention_s, "topics": topics})

    async def take(request: Request) -> Response:
        try:
            maker, retention_s, record = _read(bytes(request.body))
            taken = await take_record(mailbox, record, maker=maker, maker_retention_s=retention_s)
        except RemoteProtocolError as error:
            raise HttpError(400, f"This is no record of a bundle: {error}.") from None
        except StoreFull as error:
            raise HttpError(507, f"{error}.") from None
        except StoreError as error:
            raise HttpError.busy(503, f"{error}.", retry_after_s=5) from None
        return json_response(taken._asdict())

    router.get("/admin/bundles", rules)
    router.post("/admin/bundles", take, takes_json=False)


def _read(body: bytes) -> tuple[MailboxId, int, Record]:
    if len(body) < _LENGTHS.size:
        raise RemoteProtocolError("malformed", "it is too short")
    key, retention_s, head_bytes = _LENGTHS.unpack_from(body)
    if head_bytes > SEALED_HEAD_BYTES_MAX:
        raise RemoteProtocolError("limit", f"a head of {head_bytes} bytes")
    kind, *fields = unpack(body[_LENGTHS.size : _LENGTHS.size + head_bytes]) or [0]
    return MailboxId(key), retention_s, Record(kind, fields, body[_LENGTHS.size + head_bytes :])

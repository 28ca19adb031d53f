"""The phones' API: the Toy Mailbox API's routes over a mailbox. `protocols/toy_api.md` describes it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from typing import Final, TypeVar, TypeVarTuple

import msgspec

from node.admission.pairing import Pairing
from node.aside import aside
from node.http.messages import Handler, HttpError, PrincipalPort, Request, Response, Router
from node.http.openapi import openapi_document
from node.http.pairing import add_pairing_route
from node.http.shares import Gate, Share
from node.http.standing import client_key
from node.mailbox import Mailbox
from node.store.api import Position, ReadPage, StoreError, StoreFull
from protocols.limits.http import (
    HTTP_BODY_FREE_BYTES,
    HTTP_OFFLOAD_BYTES,
    HTTP_PAGE_BYTES,
    HTTP_STREAM_BYTES,
    MISSING_ANSWER_MAX,
)
from protocols.model import LogName, MailboxId
from protocols.operations import NotGenuine
from protocols.toy_answers import AnswerWriter, encode_watermarks
from protocols.toy_api import BadRequest, Family, StoreRequest, decode_get, decode_store

__all__ = ["CORS_HEADERS", "toy_router"]

_JSON: Final = "application/json"
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

CORS_HEADERS: Final = (
    ("access-control-allow-origin", "*"),
    ("access-control-expose-headers", "*"),
    ("vary", "origin, access-control-request-method, access-control-request-headers"),
    ("x-content-type-options", "nosniff"),
)
"""On every answer: the app's web views come from anywhere, and there is nothing here that a cookie would protect."""


def toy_router(
    mailbox: Mailbox, mailbox_id: MailboxId, door: PrincipalPort | None = None, pairing: Pairing | None = None
) -> Router:
    """The phones' routes: `/health`, `/blobs/*`, `/blips/*` and `/openapi.json`, open to every origin. `door` says who
    may store and get; without one, everybody. With `pairing` there is `/pair`, too."""
    router = Router(headers=CORS_HEADERS, cors=True, door=door)
    health = msgspec.json.encode({"status": "ok", "endpoint_id": str(mailbox_id)})
    router.get("/health", _constant(health))
    router.get("/openapi.json", _constant(msgspec.json.encode(openapi_document(pairs=pairing is not None))))
    if pairing is not None:
        add_pairing_route(router, pairing)
    gate = Gate()
    router.load = gate.load
    for family in Family:
        routes = _FamilyRoutes(mailbox, family, gate, door)
        router.post(
            f"/{family.value}/store", routes.store, stores=True, is_private=True, check_room=gate.check_room_for_store
        )
        router.post(f"/{family.value}/get", routes.get, is_private=True, check_room=gate.check_room_for_get)
    return router


def _constant(document: bytes) -> Handler:
    async def answer(_request: Request) -> Response:
        return Response(200, document, _JSON)

    return answer


class _FamilyRoutes:
    """The two routes of one family. The families differ in the names of fields, and in the answer to a store."""

    def __init__(self, mailbox: Mailbox, family: Family, gate: Gate, door: PrincipalPort | None) -> None:
        self._mailbox = mailbox
        self._family = family
        self._gate = gate
        self._door = door

    async def store(self, request: Request) -> Response:
        """Stores everything in the request, durably, or nothing."""
        try:
            size = len(request.body)
            async with self._gate.storing(request.standing, size):
                wanted = await _aside(size, decode_store, request.body, self._family)
                watermarks = await self._deliver(wanted, _source_of(request))
        except NotGenuine as error:
            raise HttpError(400, str(error)) from None
        except StoreFull as error:
            raise HttpError(507, f"{error}.") from None
        except StoreError as error:
            raise HttpError.busy(503, f"{error}.", retry_after_s=5) from None
        if self._family is Family.BLOBS:
            return Response(201)
        return Response(201, await _aside(size, encode_watermarks, wanted.logs, watermarks), _JSON)

    async def _deliver(self, wanted: StoreRequest, client: str) -> Mapping[LogName, int | None]:
        watermarks: Mapping[LogName, int | None] = {}
        if wanted.messages:
            watermarks = (await self._mailbox.deliver(wanted.messages, client=client)).watermarks
        if self._family is Family.BLOBS:
            return watermarks
        others = [
            name for t, logs in wanted.logs.items() for log in logs if (name := LogName(t, log)) not in watermarks
        ]
        return {**watermarks, **await self._mailbox.store.watermarks(others)} if others else watermarks

    async def get(self, request: Request) -> Response:
        """Answers with what the client lacks. A short answer is made whole; a long one is streamed page by page, in
        memory that is reserved for it before it is read."""
        query = await _aside(len(request.body), decode_get, request.body)
        writer = await _aside(len(request.body), _Writer, self._family, query)
        async with self._gate.getting(request.standing) as share:
            return await self._get(request, share, query, writer)

    async def _get(
        self, request: Request, gate: Share, query: Mapping[str, Mapping[str, int]], writer: _Writer
    ) -> Response:
        try:
            page = await gate.read(self._mailbox, query, None, HTTP_BODY_FREE_BYTES)
            if page.after is None and _size(page) <= 4 * HTTP_BODY_FREE_BYTES:
                return Response(200, await self._write(writer, page) + await writer.end(), _JSON)
            kept = page if _size(page) <= 4 * HTTP_BODY_FREE_BYTES else None
            pages = self._pages(request, gate, query, writer, kept)
            del kept
            del page
            start = await anext(pages)
        except StoreError as error:
            raise HttpError.busy(503, f"{error}.", retry_after_s=5) from None
        return Response(200, _Stream(start, pages), _JSON)

    async def _pages(
        self,
        request: Request,
        gate: Share,
        query: Mapping[str, Mapping[str, int]],
        writer: _Writer,
        page: ReadPage | None,
    ) -> AsyncGenerator[bytes, None]:
        """The JSON of a long answer. `page` is its first page unless that was too large to keep while waiting."""
        held = await gate.reserve(HTTP_STREAM_BYTES)
        try:
            after: Position | None = None
            more = True
            while more:
                if self._door is not None:  # whoever was let in may have been revoked meanwhile
                    self._door.check(self._door.identify(request.headers, is_here=request.is_here))
                if page is None:
                    page = await gate.read(self._mailbox, query, after, HTTP_PAGE_BYTES)
                need = 4 * _size(page)
                if need > held + HTTP_STREAM_BYTES:  # one huge blob: read again once there is room for it
                    page = None
                    gate.give_back(held)  # who waits must not hold what others wait for
                    held = 0
                    held = await gate.reserve(need)
                    page = await gate.read(self._mailbox, query, after, HTTP_PAGE_BYTES)
                after = page.after
                more = after is not None
                text = await gate.write(partial(self._write, writer, page))
                page = None
                yield text
            yield await writer.end()
        finally:
            gate.give_back(held)

    async def _write(self, writer: _Writer, page: ReadPage) -> bytes:
        text = await writer.page(page)
        self._mailbox.served += sum(len(entry.messages) for entry in page.entries)
        return text


def _source_of(request: Request) -> str:
    """Who a client is for fair shares: the paired device, wherever it is, else the address as it is counted."""
    device = request.principal.device
    return client_key(request.client) if device is None else f"device {device}"


class _Writer:
    """Turns pages into JSON, large ones in a worker thread, and bounds the missing seqs of the whole answer."""

    def __init__(self, family: Family, query: Mapping[str, Mapping[str, int]]) -> None:
        self._writer = AnswerWriter(family, query)
        self._missing_left = MISSING_ANSWER_MAX
        self._topics_bytes = 100 * len(query)

    async def page(self, page: ReadPage) -> bytes:
        """The JSON of one page."""
        return await _aside(_size(page) + self._topics_bytes, self._page, page)

    def _page(self, page: ReadPage) -> bytes:
        parts = []
        for name, messages, missing in page.entries:
            parts.append(self._writer.part(name, messages, missing[: max(1, self._missing_left)]))
            self._missing_left -= len(missing)
        return b"".join(parts)

    async def end(self) -> bytes:
        """The rest of the document."""
        return await _aside(self._topics_bytes, self._writer.end)


def _size(page: ReadPage) -> int:
    """About how many bytes the page holds."""
    return sum(
        100 + 10 * len(entry.missing) + sum(len(blob) + 20 for _, blob in entry.messages) for entry in page.entries
    )


class _Stream:
    """A long answer: what has been made of it so far, and then page by page. Closing gives its memory back, also if
    nobody has asked for the first piece."""

    def __init__(self, start: bytes, pages: AsyncGenerator[bytes, None]) -> None:
        self._start = start
        self._pages = pages

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> bytes:
        piece, self._start = self._start, b""
        while not piece:  # an empty piece would end the chunked body
            piece = await anext(self._pages)
        return piece

    async def aclose(self) -> None:
        """Ends the answer, complete or not."""
        await self._pages.aclose()


async def _aside(size: int, work: Callable[[*_Ts], _T], *arguments: *_Ts) -> _T:
    """Does `work` on about `size` bytes of JSON, in a worker thread if it would hold up the others."""
    try:
        if size > HTTP_OFFLOAD_BYTES:
            return await aside(work, *arguments)
        return work(*arguments)
    except BadRequest as error:
        raise HttpError(error.status, str(error)) from None

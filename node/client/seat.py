"""One mailbox that a client talks to: carries out what `protocols.client.exchange` asks for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import trio

from node.client.desk import Desk
from node.client.link import Link
from node.client.store import state_of
from protocols.client.answers import Cause, Refused
from protocols.client.book import Book
from protocols.client.exchange import Ask, Effect, Give, Keep, Load, NoteGone, NoteSent, Outcome, exchange
from protocols.errors import RemoteProtocolError
from protocols.limits.client import CLIENT_DECODE_BYTES
from protocols.model import LogName
from protocols.toy_answers import TopicAnswer, decode_get_answer, decode_watermarks
from protocols.toy_api import Family, encode_get, encode_store

__all__ = ["Seat"]

_T = TypeVar("_T")


class Seat:
    """A mailbox and what became of the last turn with it. `on_news` is called with the size of what was
    received."""

    def __init__(
        self, link: Link, desk: Desk, book: Book, family: Family, *, is_named: bool, on_news: Callable[[int], None]
    ) -> None:
        self.link = link
        self.is_named = is_named
        self.mailbox_id = None if link.mailbox.mailbox_id is None else str(link.mailbox.mailbox_id)
        self.is_open = False
        """What we know of it has been read."""
        self.outcome: Outcome | None = None
        self._desk = desk
        self._book = book
        self._family = family
        self._on_news = on_news

    @property
    def ledger(self) -> str:
        """The name under which we know what it was sent."""
        return self.link.mailbox.proven

    async def talk(self, *, polls: bool, listens: bool = True) -> Outcome:
        """One turn. `polls`: ask what is new, too; but not unless the client `listens`."""
        try:
            if not self.is_open:
                await self._open()
        except Refused as refused:
            return Outcome(refused=refused)
        polls = polls or not self._book.ledger(self.ledger).has_met  # whoever is met is asked first what it has
        steps = exchange(self._book, self.ledger, polls=polls and listens, now_s=trio.current_time())
        return await self._carry_out(steps)

    async def _open(self) -> None:
        """The first contact: what is known of it, and who it is, so that it isn't met twice. Raises Refused."""
        if self.is_named and self.mailbox_id is None:
            self.mailbox_id = _endpoint_id(await self.link.request("GET", "/health"))
        store = self._desk.store
        self._book.restore_ledger(self.ledger, await self._desk.do(partial(store.ledger, self.ledger)))
        self.is_open = True

    async def _carry_out(self, steps: Generator[Effect, Any, Outcome]) -> Outcome:
        result: object = None
        refused: Refused | None = None
        while True:
            try:
                effect = steps.send(result) if refused is None else steps.throw(refused)
            except StopIteration as stop:
                outcome: Outcome = stop.value
                return outcome
            refused = None
            try:
                result = await self._do(effect)
            except Refused as error:
                refused = error

    async def _do(self, effect: Effect) -> object:
        store = self._desk.store
        match effect:
            case Ask(query):
                return await self._get(query)
            case Give(messages):
                return await self._store(messages)
            case Load(keys):
                return await self._desk.do(partial(store.blobs, keys))
            case Keep(messages):
                states = {name: state_of(self._book.record(name)) for name, _, _ in messages}
                await self._desk.do(partial(store.keep, messages, states, at_s=time.time()))
                self._on_news(sum(len(blob) for _, _, blob in messages))
            case NoteSent(sent):
                await self._desk.do(partial(store.note_sent, self.ledger, sent))
            case NoteGone(name, gone):
                await self._desk.do(partial(store.note_gone, self.ledger, name, json.dumps(list(gone))))
        return None

    async def _get(self, query: Mapping[str, Mapping[str, int]]) -> Mapping[str, TopicAnswer]:
        body = encode_get(query)
        try:
            answer = await self.link.request("POST", f"/{self._family.value}/get", body)
        except Refused as refused:
            if refused.cause is not Cause.NO_SUCH_ROUTE:
                raise
            # An older generation calls them blobs, a newer one blips.
            self._family = Family.BLOBS if self._family is Family.BLIPS else Family.BLIPS
            answer = await self.link.request("POST", f"/{self._family.value}/get", body)
        return await _read(len(answer), decode_get_answer, answer, self._family)

    async def _store(self, messages: Sequence[tuple[LogName, int, bytes]]) -> Mapping[LogName, int | None]:
        body = encode_store(self._family, messages)
        answer = await self.link.request("POST", f"/{self._family.value}/store", body)
        if not answer:  # older generations only say 201
            return {}
        return await _read(len(answer), decode_watermarks, answer)


def _endpoint_id(health: bytes) -> str | None:
    try:
        answer = json.loads(health)
    except (ValueError, RecursionError):
        raise Refused(Cause.FAULTY, "it is no mailbox: its /health is not JSON") from None
    found = answer.get("endpoint_id") if isinstance(answer, dict) else None
    return found if isinstance(found, str) and len(found) <= 64 else None


async def _read(size: int, decode: Callable[..., _T], *arguments: object) -> _T:
    try:
        if size > CLIENT_DECODE_BYTES:
            return await trio.to_thread.run_sync(partial(decode, *arguments))
        return decode(*arguments)
    except RemoteProtocolError as error:
        raise Refused(Cause.FAULTY, str(error)) from None

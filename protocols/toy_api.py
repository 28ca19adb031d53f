"""The Toy Mailbox API's bodies: bytes to typed values and back. The API in prose is `toy_api.md` beside this file.

Theory of operation. msgspec decodes at a speed that Python code can't reach, but it is a little too lenient for us: it
takes negative numbers and numbers above 2^64-1, `-0`, base64 with stray trailing bits, repeated keys (the last wins:
we would acknowledge a message that we dropped), unlimited nesting in fields that it skips, and bad UTF-8 there. So a
body goes through these steps, each a few fast passes over the bytes:

1. UTF-8 as a whole, and the number of `:` in it, which bounds the number of members before anything is built.
2. The top level becomes `field name -> raw JSON`. From here on the syntax is known to be right.
3. The one field we want is decoded with its type.
4. Members are counted: ids, digits and base64 contain no `:`, so a sound request has exactly as many of them as it has
   members. Any difference means a repeated key or a bad id, and the exact (slow) check says which.

Bytes from a client raise `BadRequest` and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import msgspec

from protocols.errors import RemoteProtocolError
from protocols.limits.data import SEQ_MAX
from protocols.limits.http import (
    EXACT_CHECK_BYTES_MAX,
    GET_MEMBERS_MAX,
    JSON_DEPTH_MAX,
    JSON_SLICE_BYTES,
    STORE_MEMBERS_MAX,
)
from protocols.model import LogName, check_id

__all__ = [
    "BadRequest",
    "Body",
    "Family",
    "StoreRequest",
    "decode_get",
    "decode_store",
    "encode_get",
    "encode_store",
]

Body: TypeAlias = bytes | bytearray
Query: TypeAlias = dict[str, dict[str, int]]


class BadRequest(RemoteProtocolError):
    """A request body that is refused. `status` is the HTTP status to answer: 400, 413 or 422; the text is one clear
    sentence for whoever wrote the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__("bad-request", text)
        self.status = status


class Family(Enum):
    """The two generations of routes. `store` is the field of a store request and of a topic in an answer; `answer` is
    the field that holds the answer to a get."""

    BLOBS = "blobs"
    BLIPS = "blips"

    @property
    def store(self) -> str:
        return self.value

    @property
    def answer(self) -> str:
        return f"{self.value}_by_topic"


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a client wants stored: messages as (log, seq, blob), and every topic with its logs, also empty ones."""

    messages: Sequence[tuple[LogName, int, bytes]]
    logs: Mapping[str, Sequence[str]]


_Decoded: TypeAlias = dict[str, dict[str, dict[int, bytes]]]

_encode = msgspec.json.Encoder().encode
_top_level = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any_json = msgspec.json.Decoder(msgspec.Raw)
_store = msgspec.json.Decoder(dict[str, dict[str, dict[int, bytes]]])
_store_raw = msgspec.json.Decoder(dict[str, dict[str, dict[str, msgspec.Raw]]])
_heights = msgspec.json.Decoder(dict[str, dict[str, int]])
_heights_raw = msgspec.json.Decoder(dict[str, dict[str, msgspec.Raw]])
_key = msgspec.json.Decoder(str)
_log = msgspec.json.Decoder(dict[int, bytes])

_SEQ_KEY = re.compile(r"0|[1-9][0-9]{0,19}")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_OPEN = re.compile(rb"[ \t\r\n]*\{")
_MEMBER = re.compile(rb'[ \t\r\n]*("[^"\\]*")[ \t\r\n]*:')
_AFTER = re.compile(rb"[ \t\r\n]*([,}])")

# Canonical base64 ends in `=` only after a sextet whose unused bits are zero: 4 of them before `==`, 2 before `=`.
_STRAY_BITS = re.compile(rb'="(?:(?<=[^AQgw]==")|(?<=[^=AEIMQUYcgkosw048]="))')


# --- requests: decoding ------------------------------------------------------------------------------------------


def decode_store(body: Body, family: Family) -> StoreRequest:
    """Reads the body of `/blobs/store` or `/blips/store`. Raises BadRequest."""
    field = _required(body, family.store, STORE_MEMBERS_MAX)
    decoded = _store_slices(body, family.store) if len(body) > JSON_SLICE_BYTES else None
    if decoded is None:
        decoded = _store_whole(bytes(field.raw))
    messages: list[tuple[LogName, int, bytes]] = []
    logs: dict[str, list[str]] = {}
    members = len(decoded)
    for topic, by_log in decoded.items():
        check_topic(topic)
        logs[topic] = list(by_log)
        members += len(by_log)
        for log, by_seq in by_log.items():
            check_log(log)
            name = LogName(topic, log)
            members += len(by_seq)
            for seq, blob in by_seq.items():
                messages.append((name, seq, blob))
                if not 0 <= seq <= SEQ_MAX:
                    raise _seq_outside(str(seq))
    if members != field.colons:
        _check_keys(body, family.store, field, members)
    return StoreRequest(messages, logs)


def decode_get(body: Body) -> Query:
    """Reads the body of `/blobs/get` or `/blips/get`: topic -> log -> height. Raises BadRequest."""
    field = _required(body, "topics", GET_MEMBERS_MAX)
    raw = bytes(field.raw)
    try:
        query = _heights.decode(raw)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        _check_heights(raw)
        raise BadRequest(422, "A height is not an integer in 0..2^64-1.") from None
    if b"-" in raw:  # msgspec takes -0
        _check_heights(raw)
    members = len(query)
    for topic, heights in query.items():
        check_topic(topic)
        members += len(heights)
        for log, height in heights.items():
            check_log(log)
            if not 0 <= height <= SEQ_MAX:
                raise _height_outside(str(height))
    if members != field.colons:
        _check_keys(body, "topics", field, members)
    return query


def check_topic(topic: str) -> None:
    """Raises BadRequest if it is no topic id."""
    try:
        check_id("topic", topic)
    except ValueError as error:
        raise BadRequest(400, f"{error}.") from None


def check_log(log: str) -> None:
    """Raises BadRequest if it is no log id."""
    try:
        check_id("author", log)
    except ValueError as error:
        raise BadRequest(400, f"{error}.") from None


class _Field(NamedTuple):
    """The one field that matters: its JSON text (a view of the body), and the `:` of the body that must be in it."""

    raw: msgspec.Raw
    colons: int


def _required(body: Body, field: str, members_max: int) -> _Field:
    """Finds the field; everything else in the body has been checked as far as it must."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(400, f"The body is not valid UTF-8 (byte {error.start}).") from None
    colons = body.count(b":")
    if colons > members_max:
        raise BadRequest(413, f"More than {members_max} entries in one request; send it in parts.")
    try:
        top = _top_level.decode(body)
    except msgspec.ValidationError:
        _check_syntax(body)
        raise BadRequest(422, "The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise BadRequest(400, f"The body is not valid JSON: {error}.") from None
    except (UnicodeDecodeError, RecursionError):
        raise BadRequest(400, "The body is not valid JSON.") from None
    others = [bytes(raw) for name, raw in top.items() if name != field]
    for text in others:
        _check_depth(text, depth_max=JSON_DEPTH_MAX - 1)
    if field not in top:
        raise BadRequest(422, f"The field `{field}` is missing.")
    return _Field(top[field], colons - 1 - sum(1 + text.count(b":") for text in others))


def _check_syntax(body: Body) -> None:
    _check_depth(body, depth_max=JSON_DEPTH_MAX)
    try:
        _any_json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest(400, "The body is not valid JSON.") from None


def _check_depth(text: Body, *, depth_max: int) -> None:
    if text.count(b"[") + text.count(b"{") <= depth_max:
        return
    if len(text) > EXACT_CHECK_BYTES_MAX:
        raise BadRequest(400, "The body has large parts that are not of this API.")
    depth = 0
    for match in _TOKENS.finditer(text):
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth > depth_max:
                raise BadRequest(400, f"The JSON is nested deeper than {JSON_DEPTH_MAX}.")
        elif token in b"]}":
            depth -= 1


def _check_keys(body: Body, name: str, field: _Field, members: int) -> None:
    """The `:` don't add up: is a key repeated, or does only some other field's name contain one?"""
    if sum(key == name for key, _ in _pairs(body)) > 1:
        raise BadRequest(422, f"The field `{name}` is given twice.")
    raw = bytes(field.raw)
    if members != raw.count(b":"):
        _check_repeated(raw)


class _Pairs(list[tuple[str, Any]]):
    """An object as the pairs it was written with."""


def _pairs(text: Body) -> _Pairs:
    """The JSON object `text` with repeated keys kept. Only for the rare body that needs an exact look: bounded."""
    if len(text) > EXACT_CHECK_BYTES_MAX:
        raise BadRequest(400, "A key is repeated or contains ':'.")
    try:
        pairs = json.loads(text.decode(), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):  # e.g. an integer of 5,000 digits in a field that we ignore
        raise BadRequest(400, "The body is not valid JSON.") from None
    if not isinstance(pairs, _Pairs):
        raise BadRequest(422, "The body must be a JSON object.")
    return pairs


def _check_repeated(raw: bytes) -> None:
    pending: list[object] = [_pairs(raw)]
    while pending:
        node = pending.pop()
        if isinstance(node, _Pairs):
            if len({name for name, _ in node}) != len(node):
                raise BadRequest(400, "A key is repeated in an object.")
            pending.extend(value for _, value in node)


def _seq_outside(text: str) -> BadRequest:
    return BadRequest(422, f"The sequence number {text[:40]} is not an integer in 0..2^64-1.")


def _height_outside(text: str) -> BadRequest:
    return BadRequest(422, f"The height {text[:40]} is not an integer in 0..2^64-1.")


# --- a store's field -------------------------------------------------------------------------------------------------


def _is_odd(raw: Body) -> bool:
    """Whether a negative key or a base64 with stray bits may be in it."""
    # To look for one byte takes a fiftieth of what looking for two takes, and mostly it is not there.
    return (b"-" in raw and b'"-' in raw) or (b"=" in raw and _STRAY_BITS.search(raw) is not None)


def _store_whole(raw: bytes) -> _Decoded:
    if b"\\" in raw or _is_odd(raw):
        _check_values(raw)
    try:
        return _store.decode(raw)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        _check_values(raw)
        raise _wrong_type(raw, "blob", error) from None


def _check_values(raw: bytes) -> None:
    """Looks at every key and value as it was written, and raises BadRequest for the first one that is wrong. For bodies
    that msgspec refused, or with something in them that it takes but we don't (or that looks like it)."""
    try:
        by_topic = _store_raw.decode(raw)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong_type(raw, "map of blobs", error) from None
    for by_log in by_topic.values():
        for by_seq in by_log.values():
            for seq, value in by_seq.items():
                _check_seq_key(seq)
                _check_blob(value)


def _check_seq_key(seq: str) -> None:
    if not _NUMBER.fullmatch(seq):
        raise BadRequest(400, f"The sequence number {seq[:40]!r} is not a number.")
    if not _SEQ_KEY.fullmatch(seq) or int(seq) > SEQ_MAX:
        raise _seq_outside(seq)


def _check_blob(value: msgspec.Raw) -> None:
    try:
        text = _key.decode(value)
    except (msgspec.ValidationError, UnicodeDecodeError):
        raise BadRequest(422, "A blob must be a string of base64.") from None
    if len(text) % 4 or not _BASE64.fullmatch(text):
        raise BadRequest(422, "A blob is not valid base64 (standard alphabet, with padding, no white space).")
    if _STRAY_BITS.search(b'%b"' % text[-3:].encode()):
        raise BadRequest(422, "A blob is not canonical base64: its last character has stray bits.")


class _NotPlain(Exception):
    """The slicer met something other than the plain shape; the ordinary way finds out what it is."""


def _store_slices(raw: Body, name: str) -> _Decoded | None:
    """As `_store_whole` for a whole body, in slices, or None for a shape that it does not know: one call into msgspec
    holds the interpreter's lock while it runs, and at 64 MiB every other client would notice. Syntax that is not looked
    at here has been checked."""
    if b"\\" in raw:
        return None
    result: _Decoded = {}
    try:
        key, at = _member(raw, _eat(_OPEN, raw, 0))
        at = _eat(_OPEN, raw, at)
        more = key == name
        while more:
            topic, at = _member(raw, at)
            if topic in result:
                raise _NotPlain
            result[topic], at = _topic_slices(raw, _eat(_OPEN, raw, at))
            more, at = _more(raw, at)
    except (_NotPlain, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return result if key == name else None


def _topic_slices(raw: Body, at: int) -> tuple[dict[str, dict[int, bytes]], int]:
    logs: dict[str, dict[int, bytes]] = {}
    more = True
    while more:
        log, at = _member(raw, at)
        end = raw.find(b"}", at)  # neither digits nor base64 contain one
        if log in logs or end < 0:
            raise _NotPlain
        logs[log] = _log_slices(raw, _eat(_OPEN, raw, at), end)
        more, at = _more(raw, end + 1)
    return logs, at


def _log_slices(raw: Body, at: int, end: int) -> dict[int, bytes]:
    """The members of one log, from after its `{` to before its `}`."""
    messages: dict[int, bytes] = {}
    count = 0
    while at < end:
        cut = raw.find(b",", min(at + JSON_SLICE_BYTES, end), end)  # neither digits nor base64 contain one
        part = raw[at:end] if cut < 0 else raw[at:cut]
        if part.isspace() or cut == end - 1 or _is_odd(part):
            raise _NotPlain
        members = _log.decode(b"{" + part + b"}")
        count += len(members)
        messages.update(members)
        at = end if cut < 0 else cut + 1
    if len(messages) != count:
        raise _NotPlain
    return messages


def _eat(pattern: re.Pattern[bytes], raw: Body, at: int) -> int:
    match = pattern.match(raw, at)
    if match is None:
        raise _NotPlain
    return match.end()


def _member(raw: Body, at: int) -> tuple[str, int]:
    match = _MEMBER.match(raw, at)
    if match is None:
        raise _NotPlain
    return _key.decode(match[1]), match.end()


def _more(raw: Body, at: int) -> tuple[bool, int]:
    """Whether another member follows, and where."""
    match = _AFTER.match(raw, at)
    if match is None:
        raise _NotPlain
    return match[1] == b",", match.end()


# --- a get's field ---------------------------------------------------------------------------------------------------


def _check_heights(raw: bytes) -> None:
    """As `_check_values`, for heights."""
    try:
        by_topic = _heights_raw.decode(raw)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong_type(raw, "map of heights", error) from None
    for heights in by_topic.values():
        for value in heights.values():
            text = bytes(value).decode(errors="replace")[:40]
            if not _SEQ_KEY.fullmatch(text) or int(text) > SEQ_MAX:
                raise _height_outside(text)


def _wrong_type(raw: bytes, what: str, error: Exception) -> BadRequest:
    if len(raw) <= EXACT_CHECK_BYTES_MAX:
        _check_depth(raw, depth_max=JSON_DEPTH_MAX - 1)
    if isinstance(error, msgspec.ValidationError):
        return BadRequest(422, f"{error}.")
    if isinstance(error, RecursionError):
        return BadRequest(400, f"The JSON is nested deeper than {JSON_DEPTH_MAX}.")
    return BadRequest(400, f"A {what} is not valid UTF-8.")


# --- requests: encoding ----------------------------------------------------------------------------------------------


def encode_store(family: Family, messages: Iterable[tuple[LogName, int, bytes]]) -> bytes:
    """The body that stores `messages` (log, seq, blob)."""
    topics: dict[str, dict[str, dict[int, bytes]]] = {}
    for name, seq, blob in messages:
        topics.setdefault(name.topic, {}).setdefault(name.log, {})[seq] = blob
    return _encode({family.store: topics})


def encode_get(query: Mapping[str, Mapping[str, int]]) -> bytes:
    """The body that asks for topics: topic -> log -> height, the highest seq that the asker has."""
    return _encode({"topics": query})

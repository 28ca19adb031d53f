"""Bytes to a request's head, and a chunked body to its content. No I/O.

Theory of operation. One regular expression describes the only heads that are taken: HTTP/1.0 or 1.1, CRLF after every
line, no folding, no space before a colon. It is a strict subset of RFC 9112, and of what h11 takes, so that no proxy
in front of us can read a request differently. What doesn't match is looked at again, to say what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from protocols.limits.http import (
    HTTP_CHUNK_LINE_BYTES_MAX,
    HTTP_HEAD_BYTES_MAX,
    HTTP_HEADERS_MAX,
    HTTP_KNOWN_HEAD_BYTES_MAX,
    HTTP_KNOWN_HEADS_MAX,
)

__all__ = ["BadHead", "ChunkedBody", "Head", "check_partial", "parse_head"]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(
    rb"(" + _TOKEN + rb") ([!-~]+) HTTP/1\.([01])\r\n"
    rb"((?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*)\r\n"
)
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") (\S+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")
_HOST = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_NOT_METHOD = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_DIGITS = re.compile(r"[0-9]+")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")

# These may stand in a head once only: two of them are two opinions about one request.
_ONCE = frozenset({"host", "content-length", "transfer-encoding", "content-type", "expect", "authorization", "origin"})


class BadHead(Exception):
    """A request that is not understood, or not wanted as it is. The connection is closed after the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head. Header names are in lower case; a repeated one's values are joined with `, `.

    `length` is the body's size in bytes, None if it comes in chunks, 0 if there is none.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    length: int | None
    keep_alive: bool
    is_http11: bool = True

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a go-ahead before it sends the body."""
        return self.is_http11 and "expect" in self.headers


def check_partial(data: bytes) -> None:
    """Looks at the beginning of a head that is not complete. Raises BadHead if it can't become one."""
    if len(data) > HTTP_HEAD_BYTES_MAX:
        raise BadHead(431, f"The request's head is longer than {HTTP_HEAD_BYTES_MAX} bytes.")
    space = data.find(b" ", 0, 64)
    if _NOT_METHOD.match(data) or _NOT_METHOD.search(data[: space if space >= 0 else 64].rstrip(b"\r\n")):
        raise BadHead(400, "This is not HTTP.")
    if _BARE_LF.search(data):
        raise BadHead(400, "A line ends in LF without CR.")


def parse_head(data: bytes) -> Head:
    """Reads a complete head, with the empty line that ends it. Raises BadHead."""
    if len(data) > HTTP_HEAD_BYTES_MAX:
        raise BadHead(431, f"The request's head is longer than {HTTP_HEAD_BYTES_MAX} bytes.")
    return _parse_known(data) if len(data) <= HTTP_KNOWN_HEAD_BYTES_MAX else _parse(data)


def _parse(data: bytes) -> Head:
    match = _HEAD.fullmatch(data)
    if match is None:
        raise _what_is_wrong(data)
    method, target, minor, block = match.groups()
    headers: dict[str, str] = {}
    lines = block.decode("latin-1").split("\r\n")
    if len(lines) > HTTP_HEADERS_MAX + 1:
        raise BadHead(431, f"The request has more than {HTTP_HEADERS_MAX} headers.")
    lines.pop()
    for line in lines:
        name, _, value = line.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        if name in headers:
            if name in _ONCE:
                raise BadHead(400, f"The header {name} is given twice.")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    if method == b"CONNECT":
        raise BadHead(405, "")
    if not target.startswith(b"/") and not (method == b"OPTIONS" and target == b"*"):
        raise BadHead(400, "The target must be a path, not a whole URL.")
    return _meaning(method.decode(), target.decode(), headers, http11=minor == b"1")


_parse_known = lru_cache(HTTP_KNOWN_HEADS_MAX)(_parse)
"""A client's heads are all alike."""


def _meaning(method: str, target: str, headers: Mapping[str, str], *, http11: bool) -> Head:
    host = headers.get("host")
    if host is None:
        if http11:
            raise BadHead(400, "The header Host is missing.")
    elif not _HOST.fullmatch(host):
        raise BadHead(400, "The header Host is not a host and a port.")
    expect = headers.get("expect")
    if expect is not None and expect.lower() != "100-continue":
        raise BadHead(417, "Only `Expect: 100-continue` is understood.")
    connection = headers.get("connection")
    keep_alive = http11
    if connection is not None and http11:
        keep_alive = "close" not in [word.strip() for word in connection.lower().split(",")]
    return Head(method, target, headers, _length(headers, http11=http11), keep_alive, http11)


def _length(headers: Mapping[str, str], *, http11: bool) -> int | None:
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise BadHead(400, "Content-Length and Transfer-Encoding contradict each other.")
        if not http11:
            raise BadHead(400, "HTTP/1.0 has no Transfer-Encoding.")
        if coding.lower() != "chunked":
            raise BadHead(501, "The only Transfer-Encoding understood is chunked.")
        return None
    if length is None:
        return 0
    if len(length) > 20 or not _DIGITS.fullmatch(length):
        raise BadHead(400, "Content-Length is not a number.")
    return int(length)


def _what_is_wrong(data: bytes) -> BadHead:
    line, _, rest = data.partition(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return BadHead(400, "The request line is not `METHOD /path HTTP/1.1`.")
    if match[3] != b"1" or match[4] not in (b"0", b"1"):
        return BadHead(505, "This server speaks HTTP/1.1.")
    if _BARE_LF.search(data):
        return BadHead(400, "A line ends in LF without CR.")
    for field in rest[:-4].split(b"\r\n"):
        if field[:1] in (b" ", b"\t"):
            return BadHead(400, "A header is folded over two lines.")
        if not _FIELD.fullmatch(field):
            return BadHead(400, "A header is not `Name: value`.")
    return BadHead(400, "The path contains a character that must be percent-encoded.")


class ChunkedBody:
    """Takes the bytes of a chunked body apart. Feed what arrives; `finished` once the last chunk and its trailer are
    through, then `rest` holds the bytes that belong to the next request. Trailers are checked and dropped."""

    def __init__(self) -> None:
        self.finished = False
        self.rest = b""
        self._line = b""
        self._left = 0
        self._state = "size"
        self._overhead = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The content in `data`, in pieces. Raises BadHead."""
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and not self.finished:
            if self._state == "content":
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._overhead = max(0, self._overhead - 16 * len(piece))
                if not self._left:
                    self._state = "end"
                continue
            end = data.find(b"\n", at)
            line = self._line + (data[at:] if end < 0 else data[at : end + 1])
            self._overhead += len(line) - len(self._line)
            if len(line) > HTTP_CHUNK_LINE_BYTES_MAX or self._overhead > HTTP_HEAD_BYTES_MAX:
                raise BadHead(400, "The chunked body consists of little but chunk heads.")
            if self._state == "end" and not b"\r\n".startswith(line):
                raise BadHead(400, "A chunk is longer than it says.")
            self._line = line
            if end < 0:
                break
            at = end + 1
            self._line = b""
            self._take_line(line)
        if self.finished:
            self.rest = data[at:]
        return pieces

    def _take_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise BadHead(400, "A line ends in LF without CR.")
        line = line[:-2]
        if self._state == "end":
            self._state = "size"
        elif self._state == "size":
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise BadHead(400, "A chunk's size is not a hexadecimal number.")
            self._left = int(match[1], 16)
            self._state = "content" if self._left else "trailer"
        elif not line:
            self.finished = True
        elif not _FIELD.fullmatch(line):
            raise BadHead(400, "The chunked body's trailer is not `Name: value`.")

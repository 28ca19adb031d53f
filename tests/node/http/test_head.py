"""The head's grammar and the chunked body, held against h11: what we take, it takes with the same meaning."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.http.head import BadHead, ChunkedBody, Head, check_partial, parse_head
from protocols.limits.http import HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX


def head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def refused(data: bytes) -> int:
    with pytest.raises(BadHead) as caught:
        parse_head(data)
    return caught.value.status


def test_a_head_in_full() -> None:
    data = head("POST /blobs/get?a=b HTTP/1.1", "HOST: a.b:80", "Content-Length:  5\t", "X-A: 1", "x-a: 2", "x-empty:")
    assert parse_head(data) == Head(
        "POST",
        "/blobs/get?a=b",
        {"host": "a.b:80", "content-length": "5", "x-a": "1, 2", "x-empty": ""},
        5,
        True,
    )


@pytest.mark.parametrize(
    ("version", "connection", "keep"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Upgrade, CLOSE", False),
        ("1.1", "keep-alive", True),
        ("1.0", None, False),
        ("1.0", "keep-alive", False),
    ],
)
def test_keep_alive(version: str, connection: str | None, keep: bool) -> None:
    lines = ["GET / HTTP/" + version, "Host: a"] + ([f"Connection: {connection}"] if connection else [])
    assert parse_head(head(*lines)).keep_alive is keep


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("GET / HTTP/1.1",), 400),  # no Host
        (("GET / HTTP/1.1", "Host: a", "Host: a"), 400),
        (("GET / HTTP/1.1", "Host: a/b"), 400),
        (("GET / HTTP/1.1", "Host: a b"), 400),
        (("GET / HTTP/1.1", "Host: a@b"), 400),
        (("GET / HTTP/1.1", "Host : a"), 400),
        (("GET / HTTP/1.1", "Host: a", " folded"), 400),
        (("GET / HTTP/1.1", " Host: a"), 400),
        (("GET / HTTP/1.1", "Host: a", "no colon"), 400),
        (("GET / HTTP/1.1", "Host: a", "x: \0"), 400),
        (("GET / HTTP/1.1", "Host: a", "x: \x7f"), 400),
        (("GET / HTTP/1.1", "Host: a", "x: a\rb"), 400),
        (("GET / HTTP/1.1", "Host: a", "ü: b"), 400),
        (("GET /ü HTTP/1.1", "Host: a"), 400),
        (("GET /a b HTTP/1.1", "Host: a"), 400),
        (("GET  / HTTP/1.1", "Host: a"), 400),
        (("GET /  HTTP/1.1", "Host: a"), 400),
        (("GET / http/1.1", "Host: a"), 400),
        (("GET /", "Host: a"), 400),
        (("GET http://a/ HTTP/1.1", "Host: a"), 400),
        (("GET a HTTP/1.1", "Host: a"), 400),
        (("GET * HTTP/1.1", "Host: a"), 400),
        (("GET / HTTP/1.9", "Host: a"), 505),
        (("GET / HTTP/2.0", "Host: a"), 505),
        (("PRI * HTTP/2.0",), 505),
        (("GET / HTTP/0.9", "Host: a"), 505),
        (("GET / HTTP/1.10", "Host: a"), 400),
        (("CONNECT a:80 HTTP/1.1", "Host: a:80"), 405),
        (("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Content-Length: 6"), 400),
        (("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Content-Length: 5"), 400),
        (("POST / HTTP/1.1", "Host: a", "Content-Length: 5, 5"), 400),
        (("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
        (("POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"), 400),
        (("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip, chunked"), 501),
        (("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
        (("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked, identity"), 501),
        (("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: \x0bchunked"), 400),
        (("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: xchunked"), 501),
        *(
            (("POST / HTTP/1.1", "Host: a", f"Content-Length: {n}"), 400)
            for n in ("-1", "+5", "", "0x5", "5 5", "1_0", "²")
        ),
        (("POST / HTTP/1.1", "Host: a", "Content-Length: " + "1" * 21), 400),
        (("GET / HTTP/1.1", "Host: a", "Expect: 200-ok"), 417),
        (("GET / HTTP/1.1", "Host: a", *["x: y"] * HTTP_HEADERS_MAX), 431),
        (("GET / HTTP/1.1", "Host: a", "x: " + "y" * HTTP_HEAD_BYTES_MAX), 431),
    ],
)
def test_heads_that_are_refused(lines: tuple[str, ...], status: int) -> None:
    assert refused(head(*lines)) == status


def test_limits_are_inclusive() -> None:
    assert (
        len(parse_head(head("GET / HTTP/1.1", "Host: a", *(f"x{n}: y" for n in range(HTTP_HEADERS_MAX - 1)))).headers)
        == 100
    )
    room = HTTP_HEAD_BYTES_MAX - len(head("GET / HTTP/1.1", "Host: a", "x: "))
    parse_head(head("GET / HTTP/1.1", "Host: a", "x: " + "y" * room))
    assert parse_head(head("POST / HTTP/1.1", "Host: a", "Content-Length: " + "9" * 20)).length == int("9" * 20)


def test_bare_line_feeds_are_refused_wherever_they_stand() -> None:
    data = head("GET / HTTP/1.1", "Host: a", "x: y")
    for at in [i for i, byte in enumerate(data[:-2]) if byte == 0x0D]:
        with pytest.raises(BadHead):
            parse_head(data[:at] + data[at + 1 :])


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00", b"\x80", b" GET", b"{", b"G\xffT", b"GET / HTTP/1.1\nHost: a\n\n", b"SSH-2.0-\x00"],
)
def test_what_can_never_become_a_head_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(BadHead) as caught:
        check_partial(data)
    assert caught.value.status == 400


@given(st.data())
def test_no_beginning_of_a_good_head_is_refused(data: st.DataObject) -> None:
    whole = head("OPTIONS /blobs HTTP/1.1", "Host: a.b", "x-y: z é")
    check_partial(whole[: data.draw(st.integers(1, len(whole)))])


# --- against h11 ------------------------------------------------------------------------------------------------------

LINES = st.sampled_from(
    [
        "GET / HTTP/1.1",
        "POST /a?b HTTP/1.0",
        "GET  / HTTP/1.1",
        "Host: a",
        "Host: [::1]:80",
        "host:b",
        "Content-Length: 3",
        "content-length: 03",
        "Content-Length : 3",
        "Transfer-Encoding: chunked",
        "transfer-encoding: Chunked",
        "Connection: close",
        "Expect: 100-continue",
        "x: \t y \t",
        " z",
        "",
        "x",
        ": y",
    ]
)


@given(
    st.lists(LINES, max_size=6).map(lambda lines: "".join(f"{line}\r\n" for line in lines))
    | st.text("GET /:HTP1.\r\nost", max_size=60)
)
@example("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
def test_what_we_take_h11_takes_with_the_same_meaning(text: str) -> None:
    data = text.encode("latin-1")
    end = data.find(b"\r\n\r\n")
    data = data[: end + 4] if end >= 0 else data + b"\r\n\r\n"
    try:
        ours = parse_head(data)
    except BadHead:
        return
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(data)
    theirs = peer.next_event()
    assert isinstance(theirs, h11.Request)
    assert (ours.method, ours.target) == (theirs.method.decode(), theirs.target.decode())
    combined: dict[str, str] = {}
    for name, value in theirs.headers:
        key = name.decode()
        combined[key] = f"{combined[key]}, {value.decode('latin-1')}" if key in combined else value.decode("latin-1")
    if combined.get("transfer-encoding"):
        combined["transfer-encoding"] = ours.headers["transfer-encoding"]  # h11 writes it in lower case
    if "content-length" in combined:
        assert int(combined["content-length"]) == ours.length
    assert combined == ours.headers


@given(st.binary(max_size=200))
def test_arbitrary_heads_are_read_or_refused(data: bytes) -> None:
    for read in (parse_head, check_partial):
        try:
            read(data)
        except BadHead as error:
            assert error.status in (400, 405, 417, 431, 501, 505)


# --- chunked bodies ---------------------------------------------------------------------------------------------------


def chunked(pieces: list[bytes], *, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    return b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in pieces) + b"0\r\n" + trailer + b"\r\n"


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(
    st.lists(st.binary(min_size=1, max_size=30), max_size=8),
    st.sampled_from([b"", b";a=b", b" ; x"]),
    st.sampled_from([b"", b"x: y\r\n"]),
    st.binary(max_size=10),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_chunks_however_they_arrive(
    pieces: list[bytes], extension: bytes, trailer: bytes, rest: bytes, cuts: list[int]
) -> None:
    reader = ChunkedBody()
    got: list[bytes] = []
    left = b""
    for part in split(chunked(pieces, extension=extension, trailer=trailer) + rest, cuts):
        if reader.finished:
            left += part
        else:
            got += reader.feed(part)
    assert reader.finished
    assert b"".join(got) == b"".join(pieces)
    assert reader.rest + left == rest


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1_0\r\n",
        b"1\n",
        b"1\r\nab\r\n",
        b"1\r\na\0",
        b"1\r\na\r\r",
        b"2\r\na\r\n0",
        b"1\r\na\n0\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n x: y\r\n\r\n",
        b"0\r\nx: y\n\r\n",
        b"1;\0\r\n",
        b"1" * 16 + b"\r\n",
        b"1;" + b"x" * 5000,
        b"0\r\n" + b"x: y\r\n" * 4000,
        b"1;" + b"x" * 4000 + b"\r\na\r\n" + (b"1;" + b"x" * 4000 + b"\r\na\r\n") * 5,
    ],
)
def test_bad_chunks(data: bytes) -> None:
    with pytest.raises(BadHead) as caught:
        ChunkedBody().feed(data)
    assert caught.value.status == 400


def test_many_tiny_chunks_are_honest() -> None:
    reader = ChunkedBody()
    assert b"".join(reader.feed(b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")) == b"x" * 20_000
    assert reader.finished


@given(st.binary(max_size=80) | st.text("0123aF;\r\n x:", max_size=60).map(str.encode), st.lists(st.integers(0, 80)))
def test_arbitrary_chunks_are_read_as_h11_reads_them_or_refused(data: bytes, cuts: list[int]) -> None:
    reader = ChunkedBody()
    got = b""
    try:
        for part in split(data, cuts):
            if not reader.finished:
                got += b"".join(reader.feed(part))
    except BadHead:
        return
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    theirs = b""
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Data):
            theirs += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert reader.finished
            break
        elif event is h11.NEED_DATA:
            assert not reader.finished
            break
    assert theirs == got

"""The question whether others can connect to this mailbox, and the answer. The spec stands in reach.md beside this."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.limits.tools import REACH_FRAME_BYTES_MAX, REACH_HOSTS_MAX, REACH_PORTS_MAX
from protocols.sync.wire import as_array, as_int, as_text, pack, unpack

__all__ = ["Outcome", "Trial", "decode_answer", "decode_question", "encode_answer", "encode_question", "protocol_id"]


_HOST_BYTES_MAX: Final = 45  # the longest IPv6 address


class Outcome(enum.IntEnum):
    """What became of one attempt to connect."""

    OPEN = 0
    CLOSED = 1
    SILENT = 2


class Trial(NamedTuple):
    """One attempt: `host` is the text of an IP address."""

    port: int
    host: str
    outcome: Outcome


def protocol_id(network: str) -> str:
    """The protocol's name on a transport for mailboxes of `network`."""
    return f"/mailboxd/reach/1/{network}"


def encode_question(ports: Sequence[int]) -> bytes:
    """The frame's payload that asks for `ports`. Raises LocalProtocolError if they are not 1 to 4 different ports."""
    if not 1 <= len(ports) <= REACH_PORTS_MAX or len({*ports}) < len(ports) or not all(0 < p < 65536 for p in ports):
        raise LocalProtocolError(f"not {REACH_PORTS_MAX} different ports at the most: {ports}")
    return pack([*ports])


def decode_question(payload: bytes) -> list[int]:
    """The ports asked for. Raises RemoteProtocolError."""
    ports = [_port(value) for value in as_array(_unpacked(payload), "the question", length_max=REACH_PORTS_MAX)]
    if not ports or len({*ports}) < len(ports):
        raise RemoteProtocolError("bad-ports", "no ports are asked for, or one of them twice")
    return ports


def encode_answer(trials: Sequence[Trial]) -> bytes:
    """The frame's payload with what became of the attempts."""
    return pack([[trial.port, trial.host, int(trial.outcome)] for trial in trials])


def decode_answer(payload: bytes, asked: Sequence[int]) -> list[Trial]:
    """What a neighbour says of the ports that it was asked for. Raises RemoteProtocolError."""
    lines = as_array(_unpacked(payload), "the answer", length_max=REACH_PORTS_MAX * REACH_HOSTS_MAX)
    return [_trial(as_array(line, "a line", length=3), asked) for line in lines]


def _trial(line: list[Any], asked: Sequence[int]) -> Trial:
    port = _port(line[0])
    if port not in asked:
        raise RemoteProtocolError("bad-ports", f"port {port} was not asked for")
    host = as_text(line[1], "an address", bytes_max=_HOST_BYTES_MAX)
    try:
        host = str(ip_address(host))
    except ValueError:
        raise RemoteProtocolError("bad-host", "a line has no IP address") from None
    if "%" in host:  # a zone, which may be any text
        raise RemoteProtocolError("bad-host", "an address with a zone means nothing to others")
    return Trial(port, host, Outcome(as_int(line[2], "an outcome", maximum=max(Outcome))))


def _unpacked(payload: bytes) -> list[Any]:
    if len(payload) > REACH_FRAME_BYTES_MAX:
        raise RemoteProtocolError("frame-size", f"a frame of {len(payload)} bytes")
    return unpack(payload)


def _port(value: Any) -> int:
    port = as_int(value, "a port", maximum=65535)
    if port == 0:
        raise RemoteProtocolError("bad-ports", "0 is no port")
    return port

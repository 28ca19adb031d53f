"""What single things cost, as measured. What is a bound or a format is taken from the node, not from here.

CPU and bytes on the wire: mailboxes of this version as processes on loopback, one core of the machine that
docs/benchmarks/results.md names. A Raspberry Pi takes about five times the CPU. Bytes of frames: the simulator, which
runs the node's own code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from node.discovery.api import Announcement
from node.discovery.packets import Speaker, query
from protocols.discovery import instance_names
from protocols.limits.data import HANDLE_BYTES
from protocols.limits.discovery import MDNS_KNOWN_ANSWERS_MAX
from protocols.limits.sync import SYNC_VERSION_MAX
from protocols.model import MailboxId
from protocols.sync.hints import STATE_PREFIX_BYTES, TOPIC_PREFIX_BYTES, HintedLog, encode_hints

__all__ = ["ON_THE_WIRE", "SIMULATED", "Wire", "announcement_bytes", "hint_bytes", "query_bytes"]

# --- bytes of frames in streams, both directions ---------------------------------------------------------------------

IDLE_SESSION_BYTES: Final = 144
"""A full session that finds both equal, with both hellos."""

NEWS_SESSION_BYTES: Final = 187
"""A hint's session that finds nothing."""

MESSAGE_BYTES: Final = 59
"""What a message adds to a session beside its content: its log's name and state, its header."""

HINTED_MESSAGE_BYTES: Final = 22
"""The same of a message that comes with a hint, beside its names: number, date, lengths."""


@dataclass(frozen=True, slots=True)
class Wire:
    """What lies around the frames: bytes for each session and hint, and for each second of a connection. `names_bytes`
    has a message that comes with a hint for its topic and its log."""

    idle_session_bytes: float
    news_session_bytes: float
    hint_bytes: float
    connection_bytes_per_s: float
    names_bytes: float


ON_THE_WIRE: Final = Wire(
    idle_session_bytes=870, news_session_bytes=1100, hint_bytes=475, connection_bytes_per_s=120, names_bytes=128
)
"""libp2p: heads of Yamux, Noise, TCP and IP, acknowledgements, the names of protocols; a hint's signature and envelope
(371 bytes); a ping every 1.5 s. Measured on loopback: 955 bytes for an idle session with its frames, 2,280 for a hint,
its session and a message of 300, 980 for one of 300 that comes with its hint. The app's names have 64 digits each."""

SIMULATED: Final = Wire(
    idle_session_bytes=450, news_session_bytes=660, hint_bytes=60, connection_bytes_per_s=0, names_bytes=15
)
"""The simulator counts 60 bytes for a frame, and no pings; its names are short."""

# --- CPU seconds of one side -----------------------------------------------------------------------------------------

BASE_CPU: Final = 0.0015
"""Of a core: a mailbox without neighbours."""

CONNECTION_CPU: Final = 0.00019
"""Of a core: pings, timers and gossip's heartbeat of one idle connection."""

HINT_CPU_S: Final = 0.00018
"""One copy of a hint, sent or heard. To tell one neighbour more of a message took 0.1 ms."""

IDLE_SESSION_CPU_S: Final = 0.004
NEWS_SESSION_CPU_S: Final = 0.0085
"""With the commit of what came, and the index brought up to date: for one message each, on a machine that was busy with
other things. With the hint before it, and a message that is too large for one, it was 8.8 ms."""

HINTED_MESSAGES_CPU_S: Final = 0.0036
"""What a hint costs the one that takes messages from it, beside the hint itself: a commit, and the index brought up to
date. Measured with a hundred messages of 300 B, 0.3 s apart, between processes with SQLite: 3.1 to 4.2 ms less what the
receiver takes idle, on a machine that was busy with other things. Where several come at once they share commits, and
it is less by half."""

BULK_MESSAGE_CPU_S: Final = 0.00003
"""What one more message adds to a session or a hint: 100,000 of 1000 B took a fresh mailbox 2.5 s."""

POLL_CPU_S: Final = 0.0003
"""A phone's question; what it stores is rarer by far."""

# --- memory ----------------------------------------------------------------------------------------------------------

BASE_MEMORY_BYTES: Final = 110 * 2**20
INDEX_MESSAGE_BYTES: Final = 2.1
"""In logs of a hundred messages."""
INDEX_LOG_BYTES: Final = 64.0
CONNECTION_MEMORY_BYTES: Final = 200_000
"""Of each neighbour: a socket, its tasks, libp2p's notes."""

# --- phones ----------------------------------------------------------------------------------------------------------

POLL_BYTES: Final = 600
"""Heads of a question and its answer, and what lies around the bodies."""

POLL_LOG_BYTES: Final = 75
"""A log in a question: its name of 64 digits and how far it goes."""

# --- the node's own formats ------------------------------------------------------------------------------------------

_IP_UDP_ETHERNET_BYTES: Final = 46


def _some_id(number: int) -> MailboxId:
    return MailboxId(number.to_bytes(32))


def hint_bytes(audience: float, logs: float = 1.0) -> float:
    """So many logs in a hint that names so many mailboxes."""
    return _hint_bytes(round(audience)) + (logs - 1) * (HANDLE_BYTES + STATE_PREFIX_BYTES + TOPIC_PREFIX_BYTES)


@cache
def _hint_bytes(audience: int) -> int:
    named = [(number << 224).to_bytes(32) for number in range(audience)]
    log = HintedLog(bytes(STATE_PREFIX_BYTES), bytes(TOPIC_PREFIX_BYTES))
    return len(encode_hints({bytes(HANDLE_BYTES): log}, audience=named)[0])


def announcement_bytes() -> int:
    """A mailbox's announcement or answer by mDNS on the air, with one address."""
    speaker = Speaker(Announcement(_some_id(1), 3411, 4001, SYNC_VERSION_MAX, "main"), ("192.168.1.5",))
    return sum(len(packet) + _IP_UDP_ETHERNET_BYTES for packet in speaker.announcement())


def query_bytes(known: int) -> int:
    """A question by mDNS from somebody who knows so many mailboxes."""
    names = [name for number in range(min(known, MDNS_KNOWN_ANSWERS_MAX)) for name in instance_names(_some_id(number))]
    return sum(len(packet) + _IP_UDP_ETHERNET_BYTES for packet in query(names))

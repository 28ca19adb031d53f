"""Connections between mailboxes: sockets, libp2p, streams and frames."""

from __future__ import annotations

from typing import Final

from protocols.limits.units import KIB, MIB

ANNOUNCEMENT_BYTES_MAX: Final = 16 * KIB
"""Largest announcement on a channel: hints only, thousands of times smaller than what gossip is able to carry."""

ANNOUNCEMENT_QUEUE_MAX: Final = 32
"""Announcements that wait for their handler. More are dropped: hints are hints."""

STREAMS_PER_PEER_MAX: Final = 128
"""Streams that one peer may have open to us. Sync needs a few; a thousand would be an attack."""

STREAM_WINDOW_BYTES: Final = 256 * KIB
"""Bytes in flight in one direction of a stream before the sender waits: Yamux's initial window."""

STREAM_WINDOW_BYTES_MAX: Final = 1 * MIB
"""What a stream's receive window grows to while its reader keeps up: 20 MiB/s over a path of 50 ms."""

UNREAD_BYTES_PER_CONNECTION_MAX: Final = 8 * MIB
"""Bytes that one connection may make us hold unread. Honest peers have a few streams, read as they come."""

UNREAD_BYTES_TOTAL_MAX: Final = 64 * MIB
"""The same over all connections, so that many attackers together can't exhaust a small computer either."""

SEND_QUEUE_BYTES: Final = 256 * KIB
"""Frames of all streams that wait for one connection's socket: enough to keep it busy between two switches of task."""

SEND_BATCH_BYTES: Final = 256 * KIB
"""Frames that are encrypted and handed to the socket in one go: an eighth of a millisecond's work."""

RECEIVE_BUFFER_FIRST_BYTES: Final = 66 * KIB
"""What a connection reads from its socket at a time, at first: a whole Noise message has room."""

RECEIVE_BUFFER_BYTES: Final = 256 * KIB
"""The same once it has filled that: fewer, larger reads take less CPU, and all connections that are let in together
hold 64 MiB at the most."""

RECEIVE_STRETCH_FRAMES: Final = 256
"""Yamux frames, or pieces of one, that are handled before others have their turn: a millisecond's work. What a
connection receives at a time can hold 20,000, which would hold everybody up for a tenth of a second."""

CONTROL_QUEUE_FRAMES_MAX: Final = 1024
"""Answers (pongs, resets, window updates) that wait for one connection's socket. Who makes us owe more and does not
read them is cut off."""

REFUSED_STREAMS_MAX: Final = 2048
"""Streams beyond `STREAMS_PER_PEER_MAX` that a connection may ask for, all told, before it is cut off."""

PING_INTERVAL_S: Final = 1.5
"""A connection from which nothing was heard for this long is pinged."""

PING_UNANSWERED_MAX: Final = 2
"""Pings without any sign of life before a connection counts as dead: a frozen peer is noticed within 6 s, a Wi-Fi
hiccup of 4 s is forgiven."""

SEND_STALL_S: Final = 60.0
"""A peer that lets no byte through the socket for this long is cut off."""

HANDSHAKE_S: Final = 5.0
"""From the accepted socket to the running connection. Measured 10 ms on a laptop; a Pi with Wi-Fi needs 0.3 s."""

HANDSHAKES_MAX: Final = 64
"""Handshakes under way. The oldest is dropped for a new one, so that silent sockets can't lock honest peers out."""

HANDSHAKES_PER_IP_MAX: Final = 16
"""The same for one address."""

HANDSHAKES_PER_IP_BURST: Final = 64
HANDSHAKES_PER_IP_RATE: Final = 2.0
"""Handshakes of one other machine that came to something, well or not: so many at once, and per second in the long
run. Each costs 10 ms of processor time, and a mailbox keeps its connection for hours."""

HANDSHAKES_BURST: Final = 512
HANDSHAKES_RATE: Final = 20.0
"""And of all other machines: a fifth of a processor, whatever the number of addresses."""

INBOUND_CONNECTIONS_MAX: Final = 256
"""Accepted connections. An idle one is closed for a new one; a mailbox on a large LAN meets some dozens of others."""

INBOUND_CONNECTIONS_PER_IP_MAX: Final = 32
"""The same for one address: room for a few mailboxes on one machine and their reconnects."""

INBOUND_IDLE_S: Final = 30.0
"""An accepted connection without a stream of ours for this long may be closed in favour of a new one."""

CONNECTIONS_PER_PEER_MAX: Final = 4
"""Connections with one mailbox. Two come about when both sides dial at once; with more, the oldest is closed."""

DIAL_S: Final = 4.0
"""For the TCP connection to one address of a peer."""

DIAL_STAGGER_S: Final = 0.25
"""Head start of each address over the next one, as in RFC 8305."""

DIALS_MAX: Final = 8
"""Addresses of one peer that are tried in one go: a host with many interfaces, not a list that an attacker made."""

OPEN_STREAM_S: Final = 10.0
"""For opening a stream and agreeing on its protocol."""

CLOSE_S: Final = 3.0
"""For closing something in good order before it is dropped."""

GOSSIP_RPC_BYTES_MAX: Final = 64 * KIB
"""Largest gossip frame that is read: an announcement and its envelope, four times over."""

GOSSIP_CONTROLS_MAX: Final = 16
"""Entries of each kind of control message (IHAVE, GRAFT, PRUNE) that count in one gossip frame, and announcements that
it may ask for (IWANT). Mailboxes have one topic, so honest frames have one entry of each, and what they miss is little.
"""

GOSSIP_IDS_MAX: Final = 64
"""Announcements that one IHAVE may list: what a mailbox sends in some seconds. We ask for those that we have not
seen."""

GOSSIP_MESSAGES_PER_S: Final = 50.0
"""Gossip messages accepted from one neighbour, sustained. Mailboxes send a few per second each and forward none."""

GOSSIP_MESSAGES_BURST: Final = 200
"""The same for a moment."""

GOSSIP_PUBLISHER_MESSAGES_PER_S: Final = 12.0
"""Messages of one publisher that are taken, sustained, over all connections: one with news all the time sends ten.
What is over it is dropped here."""

GOSSIP_PUBLISHER_MESSAGES_BURST: Final = 60
"""The same for a moment."""

GOSSIP_PUBLISHERS_MAX: Final = 1024
"""Publishers whose rate is remembered; the one unheard for longest is forgotten."""

RESTART_BACKOFF_S: Final = 0.5
"""First pause before the network part is restarted after a failure; it doubles each time, with jitter."""

RESTART_BACKOFF_MAX_S: Final = 60.0
"""Longest such pause."""

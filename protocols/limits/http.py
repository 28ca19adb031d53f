"""The HTTP facade and its administration."""

from __future__ import annotations

from typing import Final

from protocols.limits.units import KIB, MIB

HTTP_BODY_BYTES_MAX: Final = 64 * MIB
"""Largest request body: the Toy Mailbox API's limit since its second generation. Exactly this many pass."""

HTTP_HEAD_BYTES_MAX: Final = 16 * KIB
"""Request line and headers together; browsers send 1-2 KiB."""

HTTP_HEADERS_MAX: Final = 100
"""Headers of one request; browsers send about 20."""

HTTP_KNOWN_HEADS_MAX: Final = 512
"""Heads whose meaning is remembered: a client's are all alike, and reading one is a tenth of a short request's cost."""

HTTP_KNOWN_HEAD_BYTES_MAX: Final = KIB
"""Size of a head above which it isn't remembered: with the above, 2 MB at most."""

HTTP_CHUNK_LINE_BYTES_MAX: Final = 4 * KIB
"""One line between the chunks of a body: a size of up to 15 digits, and extensions that nobody uses."""

HTTP_HEAD_TIMEOUT_S: Final = 10.0
"""From a request's first byte (or from accepting the connection) to the end of its head."""

HTTP_BODY_RATE_MIN: Final = 500
"""Bytes per second that a body must arrive at: an EDGE connection does ten times that, a slow-loris attack doesn't."""

HTTP_BODY_WINDOW_S: Final = 10.0
"""The minimum rate is averaged over this long, which is also the grace at the start. The app gives up after 10 s."""

HTTP_BODY_TIMEOUT_S: Final = 600.0
"""A whole body: 64 MiB at 1 Mbit/s."""

HTTP_IDLE_TIMEOUT_S: Final = 60.0
"""An open connection without a request; the app polls every 2.5 s."""

HTTP_SEND_STALL_S: Final = 30.0
"""A client must take the next piece of an answer in this time."""

HTTP_SEND_PIECE_BYTES: Final = 128 * KIB
"""What the kernel may hold unsent for one connection before we wait: the piece of the line above."""

HTTP_LINGER_S: Final = 10.0
"""After a refusal the rest of the request is read and thrown away for so long, because closing at once would destroy
the refusal on its way."""

HTTP_LINGER_BYTES_MAX: Final = 256 * MIB
"""And so much of it."""

HTTP_CONNECTIONS_MAX: Final = 1_000
"""Connections at once: a festival on one mailbox, in 20 MB of memory."""

HTTP_CONNECTIONS_PER_CLIENT_MAX: Final = 32
"""Of one IP address; browsers open 6. Loopback is exempt: a reverse proxy has everyone's."""

HTTP_BODIES_BYTES_MAX: Final = 128 * MIB
"""Request bodies in memory, over all connections: two of the largest. One IP address may hold half of it."""

HTTP_BODIES_BYTES_HIGHEST: Final = 64 * 1024 * MIB
"""Most that can be set for it: more memory than any mailbox has."""

HTTP_CONNECTIONS_HIGHEST: Final = 100_000
HTTP_REQUESTS_PER_CLIENT_HIGHEST: Final = 1_000_000
SYNC_SESSIONS_HIGHEST: Final = 256
"""Most that can be set for connections, requests per second and sync sessions: beyond what one process is able to."""

HTTP_CONNECTIONS_LOWEST: Final = 16
"""Fewest connections that can be set: a browser takes six."""

HTTP_BODY_FREE_BYTES: Final = 64 * KIB
"""Bodies up to this size don't count there, so that somebody's huge upload never turns away a chat message. The number
of connections bounds them (64 MB)."""

HTTP_ANSWERS_BYTES_MAX: Final = 128 * MIB
"""Answers to gets in memory, over all connections; answers above `HTTP_BODY_FREE_BYTES` wait for room."""

HTTP_ANSWER_WAIT_S: Final = 8.0
"""How long an answer waits for room before the client is told to come back: less than the 10 s after which the app
gives up anyway."""

HTTP_PAGE_BYTES: Final = MIB
"""Blob bytes in one page of a streamed answer: small against what a connection holds anyway, large against what
reading a page costs."""

HTTP_STREAM_BYTES: Final = 4 * HTTP_PAGE_BYTES
"""What a streamed answer is reckoned to hold: a page, its JSON (4/3), and a copy of that on its way out."""

HTTP_READS_MAX: Final = 8
"""Pages read from the store for HTTP at once (8 MiB of blobs, or a large message each); others wait their turn."""

HTTP_REQUESTS_PER_CLIENT_RATE: Final = 200.0
"""Requests per second of one IP address, loopback exempt. A phone makes up to 0.8 (a get and a store every 2.5 s), so
250 phones may share the address of one router."""

HTTP_REQUESTS_PER_CLIENT_BURST: Final = 1_000
"""Requests at once beyond that rate: everyone behind a router coming back after an outage."""

HTTP_CLIENTS_REMEMBERED_MAX: Final = 4_096
"""IP addresses whose rate is kept track of; the one unseen for longest is forgotten."""

HTTP_STORES_WAITING_MAX: Final = 512
"""Stores under way at once, of paired phones and of known clients each; further ones get a 429. A commit takes some
hundred in one go, so this is under a second."""

HTTP_GRACE_S: Final = 5.0
"""At shutdown requests under way may take so long to finish."""

ADMIN_TOKEN_BYTES: Final = 32
"""Random bytes in the administration's token: nobody guesses 256 bits."""

ADMIN_BODY_BYTES_MAX: Final = 64 * KIB
"""A request to the administration names a mailbox at the most."""

CLIENT_TIMEOUT_S: Final = 30.0
"""The command line waits so long for the next byte of an answer: longer than a large read from a busy disk."""

SYNC_REQUEST_TIMEOUT_S: Final = 3600.0
"""And for a sync that the user asked for: a first sync of a full mailbox over a slow radio link."""

VERIFY_REQUEST_TIMEOUT_S: Final = 600.0
"""And for a comparison of the index with the store: ten million messages on a Raspberry Pi take two minutes."""

DIGEST_OFFLOAD_BYTES: Final = MIB
"""A client's messages are hashed in a worker thread from this size on: a gigabyte per second, so 1 ms."""

DIGEST_OFFLOAD_MESSAGES: Final = 1_000
"""And from this many messages on: about a microsecond each."""

HTTP_OFFLOAD_BYTES: Final = 64 * KIB
"""JSON from this size on is read and written in a worker thread: below, a thread costs more than it saves."""

STORE_MEMBERS_MAX: Final = 300_000
"""Topics, logs and messages together in one store. A full body of the app's smallest messages (200 bytes) has 241,000;
what is beyond would cost more memory in objects than the body itself."""

GET_MEMBERS_MAX: Final = 100_000
"""Topics and logs together in one get: a user of a thousand topics with a hundred authors each."""

MISSING_ANSWER_MAX: Final = 1_000_000
"""Missing seqs in one whole answer (up to 20 MB of digits). Beyond it each log's list is cut to its lowest seq, so that
the client still learns that something is missing, and asks again."""

JSON_DEPTH_MAX: Final = 128
"""Nesting of a request body: the reference's limit. Ours needs 4."""

FILES_BESIDE_HTTP: Final = 512
"""Open files beside the connections of phones: the store's, other mailboxes' connections, and some to spare."""

JSON_SLICE_BYTES: Final = MIB
"""Larger bodies are decoded in pieces of about this size: 1-2 ms in which no other Python code can run."""

EXACT_CHECK_BYTES_MAX: Final = MIB
"""Up to this size a body that breaks a rule gets a slow look that tells which one; no honest client needs it."""

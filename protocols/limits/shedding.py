"""What gives way when the mailbox is flooded."""

from __future__ import annotations

from typing import Final

from protocols.limits.http import HTTP_ANSWERS_BYTES_MAX, HTTP_READS_MAX, HTTP_STORES_WAITING_MAX
from protocols.limits.units import KIB, MIB

HTTP_STRANGERS_STORES_MAX: Final = HTTP_STORES_WAITING_MAX * 3 // 4
HTTP_STRANGERS_READS_MAX: Final = HTTP_READS_MAX // 8
HTTP_STRANGERS_ANSWERS_BYTES_MAX: Final = HTTP_ANSWERS_BYTES_MAX * 3 // 4
"""What strangers may take of these, all together: the rest is for those who are known, whose stores are counted by
themselves."""

HTTP_STRANGERS_STORES_AT_ONCE: Final = 32
HTTP_STRANGERS_STORING_BYTES: Final = 256 * KIB
"""Of strangers' stores so many, and so many bytes of bodies, are given to the store's writer at once (a larger one by
itself); others wait. A commit of so many costs each hardly more than one of hundreds, and whoever is known waits some
milliseconds for them, not for hundreds."""

STRANGERS_STORE_WAIT_S: Final = 4.0
"""If strangers' stores wait half as long for that, it is strain: no disk stalls for so long."""

HTTP_STRANGERS_BODY_BYTES_MAX: Final = MIB
"""Largest store of a stranger while there is strain: the largest of all keep the writer, and so everybody, for
seconds."""

HTTP_STRANGERS_GETS_MAX: Final = 128
"""Gets of strangers that wait for their first page; further ones get a 503. A short page takes a millisecond."""

CHALLENGE_KEY_BYTES: Final = 32
"""Random bytes that sign challenges: nobody guesses 256 bits."""

CHALLENGE_BUCKET_S: Final = 30.0
"""A challenge is good until the end of the next bucket, half a minute to a minute: a slow phone needs some seconds."""

CHALLENGE_BITS_FIRST: Final = 14
"""What is asked for first: 16,000 hashes, some 20 ms of a script and less than one of a phone's own code. (wire)"""

CHALLENGE_BITS_MAX: Final = 24
"""Most that is asked for: 16 million hashes, a second or two of a phone's own code. A client does no more for anybody.
(wire)"""

CHALLENGE_SLACK_BITS: Final = 2
"""A proof of so many bits less than by now are asked for still counts: the difficulty rose while it was searched."""

CHALLENGE_PROOFS_MAX: Final = 32_768
"""Proofs that are remembered so that each counts once: 300 a second in two buckets, 3 MB. Whoever fills that, from
sixty addresses, has spent minutes of computing at the lowest number of bits; others then wait for the next bucket."""

CHALLENGE_PROOFS_PER_CLIENT_MAX: Final = 512
"""Proofs of one client in a half minute: more than KNOWN_RATE, and too few to use up what is there for all."""

CHALLENGE_PROVEN_RATE: Final = 100.0
"""Requests with proofs per second that are welcome; with more of them the bits rise by one each second."""

PULSE_S: Final = 0.05
"""How often the server looks at how strangers wait."""

TURNS_AT_ONCE_MAX: Final = 8
"""Requests of strangers that are let in at once: a millisecond or two, for which whoever comes meanwhile waits."""

TURNS_WINDOW_S: Final = 0.01
"""In each stretch of this length so many are let in without further ado: 800 a second, a festival's phones four times
over."""

TURN_S: Final = 0.002
"""If those who were let in at once took longer, half as many are next time: on a slow computer."""

TURN_PAUSE_MAX_S: Final = 0.01
"""Strangers pause for as long as they had their turn, up to this: a turn of one at the least each time makes a hundred
requests a second, however slow the computer is."""

PAGE_PAUSE: Final = 3.0
"""After each page that is read or written for a stranger, it pauses for so many times as long as that took: the thread
that does it has a quarter of a core."""

COMPANY_S: Final = 10.0
"""They pause until nobody but strangers has come for so long: the app asks every 2.5 s."""

STRANGERS_BUSY_S: Final = 1.0
"""If strangers have waited for their turn for so long without a break there are more than can be served: strain. Two
hundred phones that come back at the same moment are served in 0.1 s, a thousand on a small computer in little more."""

KNOCKS_RATE: Final = 500.0
"""With more new connections of strangers per second these are rationed: a festival comes back after an outage."""

STRAIN_CHALLENGE_S: Final = 0.25
"""Strain for so long, and strangers' stores need a proof of work."""

CONNECT_RATE: Final = 1.0
CONNECT_BURST: Final = 8
"""New connections per second, and at once, that a stranger's address may have while there is strain; what is beyond is
closed at once, which costs a tenth of serving it. Browsers open six and keep them; a script opens one for each
request."""

ACCEPTS_AT_ONCE: Final = 8
ACCEPTS_LOOKED_AT: Final = 16
ACCEPT_PAUSE_S: Final = 0.004
"""Connections that are let in, and that are accepted at all, before others have their turn, and the pause after these
while there is strain: 2,000 and 4,000 a second. What comes beyond waits in the kernel."""

GUESTS_MAX: Final = 32
"""Where strangers have all their connections, so many may still come and show the token of a paired device at once; who
has none is turned away, and of more than so many whoever came first goes."""

PULSE_SMOOTHING: Final = 0.25
STRAIN_MAX: Final = 1 / PULSE_SMOOTHING
"""Weight of the newest look in the average, and most that one look counts: one look alone is no strain."""

CALM_S: Final = 5.0
"""Without strain for so long, the bits fall by one; below the first figure none are asked for."""

KNOWN_SLOT_S: Final = 10.0
KNOWN_SLOTS_MIN: Final = 6
"""A client that was served well in so many slots of that length is known: a minute of an ordinary phone's polling."""

KNOWN_FORGET_S: Final = 24 * 3600.0
"""A known client that was not seen for a day is a stranger again: addresses are given to others."""

KNOWN_RATE: Final = 10.0
KNOWN_BURST: Final = 100
"""Requests per second, and at once, up to which a client is served as what it is while there is strain; what is beyond
is served as a stranger's. A phone makes one a second."""

PENALTY_MAX: Final = 20.0
PENALTY_HALF_LIFE_S: Final = 60.0
"""Requests that broke HTTP or did not arrive in time, halved every minute, that make a client a stranger until they
have decayed below that."""

SHED_RETRY_AFTER_S: Final = 5
"""When a stranger that was sent away may come back: the app tries again after 5 s anyway."""

STRANGERS_CONNECTIONS_SHARE: Final = 0.875
"""Share of all connections that strangers may have: the rest is for addresses that are known, so that a phone that was
here before gets in whatever strangers do."""

KNOWN_IDLE_S: Final = 10.0
"""A known client's connection that was idle for so long may be closed for a new one. Phones that are on ask every few
seconds."""

FRESH_S: Final = 0.5
"""A connection that has sent no whole head for so long may be closed in favour of a new one where all are taken."""

NETWORK_CLIENTS: Final = 4
"""An IPv6 /64 may have as many connections as so many clients: whoever has one address in it has all of them, but a
LAN's phones share one, too."""
DASHBOARD_CODE_S: Final = 120.0
"""A login link is good for so long: time to paste it into a browser, and no more."""

DASHBOARD_CODES_MAX: Final = 8
"""Login links that are good at once; the oldest goes."""

DASHBOARD_SECRET_BYTES: Final = 32
"""Random bytes in a code, in a session's cookie and in its key: nobody guesses 256 bits."""

DASHBOARD_SESSION_S: Final = 7 * 86400.0
"""A session that nobody uses ends after so long; a page that is open uses it."""

DASHBOARD_SESSIONS_MAX: Final = 16
"""Sessions at once, more than one person has browsers; the one unused for longest goes."""

LIVE_LISTENERS_MAX: Final = 16
"""Pages that are told of changes at once: each costs a connection and a few dozen kilobytes a second at most."""

LIVE_HEARTBEAT_S: Final = 15.0
"""A page hears something at least this often: so both sides learn of a connection that is dead."""

LIVE_TICK_S: Final = 1.0
"""How often it is looked whether something changed, while a page is open: eyes need no more."""

LIVE_NEIGHBOURS_MAX: Final = 64
"""Neighbours that the page is sent, those in trouble first: 20 KB, and more than fit on a screen."""

LIVE_TOPICS_MAX: Final = 8
"""Topics that the page is sent; the others are summed up."""

CENSUS_PAUSE_S: Final = 60.0
"""Counting by topic reads every key: while a page is open it is done this often at most."""

CENSUS_SHARE: Final = 0.02
"""And it takes no more than this part of the time, however large the store is."""

PAUSED_RETRY_S: Final = 60
"""What phones are told about when to come back while the mailbox mode is off."""

SETTING_CHARS_MAX: Final = 500
"""A setting's text as it comes from the page: an address is a third of that."""

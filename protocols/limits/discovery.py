"""mDNS, the table of mailboxes, and their addresses."""

from __future__ import annotations

from typing import Final

MDNS_TXT_BYTES_MAX: Final = 400
"""Largest TXT record that is read: ours has about 30 bytes, and DNS-SD asks for less than 400 on multicast. (wire)"""

NETWORK_TAG_CHARS_MAX: Final = 32
"""Longest network tag: a word for people, and a TXT string has to hold it. (wire)"""

PROTOCOL_VERSION_MAX: Final = 65_535
"""Highest protocol version in a TXT record: a bound for a number from a stranger. (wire)"""

NEIGHBOUR_ADDRESSES_MAX: Final = 6
"""Addresses that are tried per mailbox: cable, WLAN and a bridge in both IP versions; more is a list to scan for a
stranger."""

MDNS_ANNOUNCED_ADDRESSES_MAX: Final = 8
"""Addresses in our own announcement, so that it stays one Ethernet packet with both instance names."""

MDNS_INTERFACES_MAX: Final = 16
"""Interfaces on which we speak: a machine full of containers has hundreds, of which a LAN is behind a few."""

MDNS_PACKET_BYTES_MAX: Final = 9_000
"""Largest mDNS packet (RFC 6762, section 17)."""

MDNS_NAMES_PER_PACKET_MAX: Final = 16
"""Mailboxes read from one packet. A responder speaks for those on its machine only."""

MDNS_PACKETS_PER_SECOND: Final = 200
MDNS_PACKETS_BURST: Final = 600
"""Packets about our service that are parsed, over all sources. Fifty mailboxes that all answer need fifty. What is
over it waits in the kernel's buffer and is dropped there, which costs nothing."""

MDNS_ANY_PACKETS_PER_SECOND: Final = 2_000
MDNS_ANY_PACKETS_BURST: Final = 4_000
"""Packets of any service that are looked at: ten times a busy link's; the rest is dropped in the kernel, too."""

MDNS_RESOLVES_PER_SECOND: Final = 5
MDNS_RESOLVES_BURST: Final = 10
"""Questions about mailboxes that were only named: bounds what inventors of names can make us send."""

MDNS_SOURCE_PACKETS_PER_SECOND: Final = 20
MDNS_SOURCE_PACKETS_BURST: Final = 60
"""The same per source address, so that one loud machine can't use up what is for all. A responder may say a thing
once a second; a machine with many mailboxes or a reflector needs a few times that."""

MDNS_SOURCES_MAX: Final = 512
"""Source addresses whose rate is remembered: more than a /24 has hosts."""

NEIGHBOURS_LIVE_MAX: Final = 512
"""Mailboxes that answer and are reported: far more than one link carries, and each costs a probe every 15 s."""

NEIGHBOURS_LIVE_PER_HOST_MAX: Final = 32
"""Of these behind one address: many for a test machine, few enough that one port can't be announced under ten
thousand names."""

NEIGHBOURS_WAITING_MAX: Final = 512
"""Mailboxes that were announced but did not answer (yet). The oldest of the source with most of them makes room, so
that whoever invents names pushes out own inventions."""

PROBE_TIMEOUT_S: Final = 2.0
"""How long a TCP connection to an announced address may take: what the phones' app grants."""

PROBE_INTERVAL_S: Final = 15.0
"""How often a live neighbour is tried: four times within the time after which it counts as lost."""

PROBE_RETRY_S: Final = 3.0
"""Soonest next try of a mailbox that did not answer: the pace of the app's newer generation. Doubles up to a minute."""

PROBE_RETRY_MAX_S: Final = 60.0
"""Longest pause between two tries of a mailbox that is announced but does not answer."""

PROBES_LIVE_MAX: Final = 16
"""Live neighbours tried at the same time: 512 of them, all gone silent, are through within 64 s."""

PROBES_WAITING_MAX: Final = 16
"""Announced mailboxes tried at the same time, apart from the live ones so that neither starves the other."""

PROBES_WAITING_PER_SECOND: Final = 20
"""Tries of announced mailboxes per second: bounds what inventors of names can make us do to others on the LAN."""

NEIGHBOUR_LOST_AFTER_S: Final = 60.0
"""A mailbox that was not heard of for this long is dropped: the design's figure."""

NEIGHBOUR_FORGET_AFTER_S: Final = 600.0
"""A mailbox that does not answer is tried on for this long after its last announcement."""

GOODBYE_RECHECK_S: Final = 15.0
"""After a goodbye the mailbox is not tried for this long: it needs time to stop. A forged goodbye thus costs a short
absence, and not more than one per NEIGHBOUR_LOST_AFTER_S is believed."""

MDNS_QUERY_INTERVAL_S: Final = 15.0
"""How often we ask who is there. Grows with the number of live neighbours beyond MDNS_KNOWN_ANSWERS_MAX."""

MDNS_KNOWN_ANSWERS_MAX: Final = 20
"""Live neighbours that a query lists so that they need not answer: as many as fit into one packet."""

MDNS_REPEAT_S: Final = 1.0
"""Soonest repetition of a multicast (RFC 6762, section 6), so that nobody makes us flood the link."""

MDNS_QUERY_INTERVAL_MAX_S: Final = 120.0
"""Longest that interval grows: a mailbox whose announcements were all lost is found within two minutes."""

INTERFACE_POLL_S: Final = 1.0
"""How often the addresses of this machine are looked at: costs about a millisecond."""

INTERFACE_SETTLE_S: Final = 0.5
"""How long they must stay the same before we start again with them: interfaces come up in steps."""

GOODBYE_TIME_S: Final = 1.0
"""Longest that saying goodbye may hold up a shutdown."""

DISCOVERY_RESTART_MAX_S: Final = 30.0
"""Longest pause before the sockets are opened again after an error."""

ADDRESSES_PARSED_KEPT: Final = 1024
"""Addresses in announcements whose meaning is remembered (some 200 kB): a LAN says the same few for days."""

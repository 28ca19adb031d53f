"""Scenarios, simulated and on real processes, and their reports."""

from __future__ import annotations

from typing import Final

from protocols.limits.units import KIB, MIB

# --- scenarios ----------------------------------------------------------------------------------------------

SCENARIO_FILE_BYTES_MAX: Final = 256 * KIB
"""Longest scenario file: some thousand faults, written one by one."""

SCENARIO_DURATION_MAX_S: Final = 60 * 86_400.0
"""Longest simulated time: two months are eight lives of a message."""

SCENARIO_MAILBOXES_MAX: Final = 10_000
"""Most mailboxes in a scenario: ten times what one core plays in bearable time."""

SCENARIO_PHONES_MAX: Final = 100_000
"""Most phones in a scenario: ten for each of the most mailboxes."""

SWARM_PLAY_MAX_S: Final = 1200.0
"""Longest wall time of one run in a swarm: the longest of drawn scenarios take a minute by themselves and several on a
busy machine, so one that takes so long hangs."""

MINIMISE_MAX_S: Final = 600.0
"""Wall time after which a failing scenario is handed over as small as it is by then."""

MINIMISE_PLAYS_MAX: Final = 2_000
"""Most runs for it, likewise."""

# --- the report of a simulation -----------------------------------------------------------------------------------

REPORT_SERIES_POINTS_MAX: Final = 480
"""Points of one curve: more than one every two pixels can't be seen."""

REPORT_LINES_MAX: Final = 140
"""Messages whose way is drawn one by one; more would only blacken the chart."""

REPORT_LINE_POINTS_MAX: Final = 24
"""Steps of such a line: a thousand mailboxes make a thousand steps within a few pixels."""

REPORT_MARKS_MAX: Final = 80
"""Marks in one lane of faults. Beyond it what is close together becomes one mark that says how many it stands for."""

REPORT_HAPPENINGS_MAX: Final = 5_000
"""Rows in the list of all that happened: about a megabyte. A week of churn in 200 mailboxes has more."""

REPORT_ROWS_UNFOLDED: Final = 20
"""Mailboxes in the table before the reader asks for the rest: a screen full."""

REPORT_MOMENTS_MAX: Final = 24
"""Pictures of the network: more can't be stepped through with pleasure."""

REPORT_MOMENT_MAILBOXES_MAX: Final = 12_000
"""Mailboxes in all those pictures together: their names and states are about a megabyte of JSON. With a thousand
mailboxes, twelve moments."""

REPORT_LINKS_MAX: Final = 800
"""Links drawn one by one in one picture of the network; beyond it only those between LANs are, as bundles."""

REPORT_DATA_HELD_MAX: Final = 40_000
"""Times at which mailboxes came to hold messages in the page's JSON, half a megabyte: beyond it an even sample of the
messages is kept."""

REPORT_DATA_LINKS_MAX: Final = 20_000
"""Links of all moments together in the page's JSON, for the same reason."""

REPORT_DATA_SAMPLES_MAX: Final = 4_000
"""Samples of each series in the page's JSON: a quarter of a megabyte. Three days at one a minute are as many."""

REPORT_MAILBOXES_MAX: Final = 2_000
"""Rows in the table of mailboxes: about a megabyte. Of more, those that sent most are shown."""

# --- scenarios on real processes ----------------------------------------------------------------------------------

WIRE_QUEUE_MAX_S: Final = 2.0
"""What would wait longer before a narrow link is dropped, as by any router."""

WIRE_CLOGGED_FRAMES_MAX: Final = 512
"""Frames held back in one direction of a clogged link: TCP sends no more before an answer comes."""

WIRE_FLOWS_MAX: Final = 4_096
"""TCP connections that are followed, so that they can be broken; those of twenty machines at their busiest."""

REAL_MAILBOXES_MAX: Final = 30
"""Processes of some 100 MB each that must share a few cores; with more, what is measured is the scheduler."""

REAL_PHONES_MAX: Final = 200
"""Phones are tasks of one process; each costs a namespace and a request every few seconds."""

REAL_DURATION_MAX_S: Final = 3600.0
"""Nobody waits longer for a play that can be played faster."""

REAL_BANDWIDTH_MIN_BYTES_PER_S: Final = 2_000.0
"""Below it a single packet takes longer than TCP waits for its answer."""

REAL_SETTLE_MIN_S: Final = 30.0
"""However fast a play is, mailboxes get this long to come together: they try neighbours that were gone again at
intervals of their own."""

REAL_START_TIMEOUT_S: Final = 60.0
"""A mailbox must be ready by then. It takes two seconds; thirty that start at once on two cores take half a minute."""

REAL_DISK_BYTES: Final = 64 * MIB
"""The file system of a mailbox whose disk fills up: room for all that phones write, and quickly filled."""

REAL_SAMPLES_MAX: Final = 600
"""Samples in a play, each of which asks every mailbox."""

REAL_SAMPLE_INTERVAL_MIN_S: Final = 0.25
"""And not more often than this: with twenty mailboxes, each is asked a hundred questions a second then."""

REAL_ANSWER_TIMEOUT_S: Final = 3.0
"""A mailbox that takes longer to answer a sample is left out of it."""

PHONE_LOOK_S: Final = 5.0
"""How often a phone asks its LAN for mailboxes."""

PHONE_FORGET_S: Final = 120.0
"""A phone forgets a mailbox that it has not heard of for so long: the life of an address in mDNS."""

PHONE_CONNECT_TIMEOUT_S: Final = 5.0
"""The app's patience with a connection."""

"""The dashboard, the command line and the doctor."""

from __future__ import annotations

from typing import Final

from protocols.limits.units import KIB, MIB

# --- the dashboard ---------------------------------------------------------------------------------------------

EVENTS_OF_A_KIND_MAX: Final = 50
"""Events of one kind that are remembered: what a person may want to look back at, and less than 1 MB in all."""

EVENT_CHARS_MAX: Final = 300
"""Characters of an event: a sentence with an address in it."""

EVENTS_SHOWN_MAX: Final = 100
"""Events that the page is sent: ten kilobytes at most times, and more than anyone reads."""

EVENT_MERGE_S: Final = 60.0
"""What happens again within this time (a sync with the same neighbour, the same trouble) is told as one event."""

EVENT_SUM_S: Final = 600.0
"""Syncs that follow each other are summed up for so long, then a new event begins: else an evening would be one."""

EVENT_NEIGHBOURS_MAX: Final = 256
"""Neighbours whose syncs are summed up for an event: as many as are known at once."""

HISTORY_HOUR_STEP_S: Final = 10.0
"""A sample of the last hour: as fine as a screen can show, and the counters cost nothing to read."""

HISTORY_WEEK_STEP_S: Final = 900.0
"""A sample of the last week: 672 of them, about as many as a screen has columns."""

HISTORY_SAMPLES_MAX: Final = 700
"""Samples in one ring whatever the clock does: a week's and some to spare; 200 KB at most."""

# --- the command line ------------------------------------------------------------------------------------------

SYNC_INTERVAL_MIN_S: Final = 0.1
"""Shortest `--sync-interval`: ten sessions a second with every peer is a busy loop already."""

SYNC_INTERVAL_MAX_S: Final = 24 * 3600.0
"""Longest `--sync-interval`: with less than one a day, a week's messages might expire before they are passed on."""

STORAGE_LIMIT_MIN_BYTES: Final = 64 * MIB
"""Least `--storage-limit`: below it the largest message would not fit."""

CONFIG_FILE_BYTES_MAX: Final = 2 * MIB
"""Largest `config.toml`: INTEREST_TOPICS_MAX topics of the longest kind, and FIXED_PEERS_MAX addresses."""

FIXED_PEERS_MAX: Final = 128
"""Mailboxes named with `--peer`: half of PEERS_MAX, so that those who come by themselves find room, too."""

NAME_CHARS_MAX: Final = 64
"""Longest `--name`: it stands in tables and logs."""

# --- the doctor -----------------------------------------------------------------------------------------------

DOCTOR_LISTEN_S: Final = 3.0
"""How long the doctor listens to multicast DNS: a mailbox answers within 1.2 s of a question; three are asked."""

DOCTOR_ANSWER_S: Final = 5.0
"""So long the doctor waits for the mailbox on this machine: it answers within milliseconds, or something is wrong."""

PROBE_ANSWER_BYTES_MAX: Final = 64 * KIB
"""Longest answer of `/health` that is read; ours has less than a hundred bytes."""

DOCTOR_NEIGHBOURS_MAX: Final = 32
"""So many neighbours the doctor tries to reach; what ails the network shows with fewer."""

DOCTOR_FSYNC_ROUNDS: Final = 16
"""Writes that the doctor times to judge the disk: the median of so many is steady within a few per cent."""

DOCTOR_FSYNC_SLOW_S: Final = 0.1
"""A disk whose fsync takes longer answers a phone late enough to be felt; SD cards take 5 to 50 ms."""

DOCTOR_DISK_LOW_BYTES: Final = 512 * MIB
"""With less than this free, a day of a busy mailbox may fill the disk."""

DOCTOR_CLOCK_OFF_S: Final = 60.0
"""Clocks that differ by more are not kept by anything, and will differ by CLOCK_SKEW_MAX_S one day."""

REACH_PORTS_MAX: Final = 4
"""Ports that a mailbox may ask a neighbour to try: HTTP, HTTPS, mailboxes, and one to spare."""

REACH_HOSTS_MAX: Final = 4
"""Addresses of the asking mailbox that are tried: IPv4 and IPv6, cable and WLAN."""

REACH_TIMEOUT_S: Final = 3.0
"""A port that has not answered by then is silent: a SYN is sent again after one second, and after three."""

REACH_INTERVAL_S: Final = 10.0
"""A neighbour is tried for each mailbox once in so long: being asked must not make it a port scanner."""

REACH_TRIALS_MAX: Final = 4
"""Mailboxes that are tried at the same time: with 16 connections each and three seconds, some twenty a second at most,
however many identities ask."""

REACH_FRAME_BYTES_MAX: Final = 2048
"""Question or answer: sixteen lines of a port, an address and a digit need half of it."""

REACH_NEIGHBOURS_MAX: Final = 3
"""So many neighbours are asked at once: one may be wrong, three are not."""

SERVICE_WATCHDOG_S: Final = 60.0
"""A mailbox that does not tell systemd for so long that it is well is started again: longer than the longest commit on
an SD card that is being worn out."""

SERVICE_RESTART_S: Final = 5.0
"""The service manager waits so long before it starts a mailbox again that has ended."""

SERVICE_START_S: Final = 600.0
"""A start may take so long: millions of messages are read on a slow disk."""

SERVICE_COMMAND_S: Final = 120.0
"""A service manager is given so long to do something: to stop a mailbox that ends its requests takes a while."""

SERVICE_ANSWER_S: Final = 10.0
"""A service manager that has not said within so long how things are does not answer: it takes milliseconds."""

TRAY_LOOK_S: Final = 5.0
"""The tray icon asks the mailbox so often how it is."""

UPDATE_ANSWER_BYTES_MAX: Final = 8 * MIB
"""What says which release is the newest: PyPI lists all of them in it."""

UPDATE_TIMEOUT_S: Final = 10.0
"""And each wait for it."""

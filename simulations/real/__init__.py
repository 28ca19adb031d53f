"""Scenarios played for real: `mailboxd run` processes in network namespaces, with real TCP, disks and time."""

"""`python -m node.cli` is `mailboxd`."""

from node.cli import main

main()

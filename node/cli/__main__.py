"""`python -m node.cli` is `mailboxd` without what stands above the node (the simulator)."""

from node.cli import main

main()

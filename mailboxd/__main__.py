"""`python -m mailboxd` is `mailboxd`."""

from node.cli.program import main, program
from simulations.command import simulate

__all__ = ["main", "program"]

program.add_command(simulate)

if __name__ == "__main__":  # a swarm's processes import this module, too
    main()

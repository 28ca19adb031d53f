"""The program `mailboxd` as a whole: the node's commands and the simulator's in one command line.

It stands above `simulations` and `node`, so that neither has to know what else the program can do.
"""

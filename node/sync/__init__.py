"""Keeps this mailbox in step with others.

`index` (with its parts, `index_*`) is the picture of what we hold, and `audit` compares it with the store. `driver`
runs one session over one stream, `engine` decides when to talk to whom, `peers` are those whom it knows, `news` tells
and hears over gossip what has come.
"""

"""Who may sync with whom: a password proven without being told, between two mailboxes, and for phones over HTTP.

`admission.md` and `pairing.md` are the specs.
"""

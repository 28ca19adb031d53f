"""Looks for what keeps a mailbox from working on this machine and this network, and says what to do about it."""

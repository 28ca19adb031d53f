"""How two mailboxes come to hold the same: hello, reconciliation of logs by ranges, transfer of what is missing.

Read `sync.md` (frames, messages, session), then `reconcile.md` (which messages differ), then `hints.md` (gossip).
"""

"""How mailboxes reach each other: one interface (`api`), libp2p (`libp2p`) and memory (`memory`)."""

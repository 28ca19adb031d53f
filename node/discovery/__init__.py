"""How mailboxes find each other: one interface (`api`), mDNS (`mdns`) and fixed addresses (`static`)."""

"""A mailbox in the background: what the system's service manager is told (`units`, `manager`) and hears (`notify`), and
what keeps the machine awake (`awake`)."""

"""What a client of mailboxes does, without I/O. `client.md` beside this file has it in prose.

`policies` and `rota` say whose turn it is and when, `answers` what a refusal means, `runs` and `book` keep account of
what is held, delivered and missing, `exchange` is one conversation with one mailbox, as a generator that yields what
it asks of the world.
"""

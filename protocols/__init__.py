"""The wire protocols of mailboxd, sans-IO.

Nothing here imports trio, sockets, clocks, randomness or storage: bytes and frozen dataclasses go in, bytes and frozen
dataclasses come out, and the same input gives the same output. Everything that touches the world lives in `node`.
`README.md` beside this file gives the reading order and lists the prose specs.
"""

"""Messages that travel by foot: sealed files (`seal`), what a mailbox has (`want`), what another brings it (`bundle`).

The spec is `sneakernet.md`. Nothing here reads a file or a clock: bytes in and out.
"""

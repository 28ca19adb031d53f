"""The two ways in which a protocol can fail, after h11: the other side's fault or ours."""

from __future__ import annotations

__all__ = ["LocalProtocolError", "RemoteProtocolError"]


class RemoteProtocolError(Exception):
    """The other side broke the protocol. Hostile bytes raise this and nothing else.

    `code` is a short stable word that goes on the wire and into counters; the message is for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LocalProtocolError(Exception):
    """Our own code used a protocol wrongly: a bug here, never the other side's fault."""

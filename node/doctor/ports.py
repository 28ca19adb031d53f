"""Whether the mailbox's ports are free, or answer where it runs already."""

from __future__ import annotations

from collections.abc import Sequence

from node.config import ListenAddress
from node.doctor.findings import Finding, good, problem
from node.http.client import ClientError, exchange
from node.http.server import open_listeners
from protocols.limits.tools import DOCTOR_ANSWER_S, PROBE_ANSWER_BYTES_MAX

__all__ = ["check_answers", "check_free_ports"]

_CHECK = "ports"


async def check_free_ports(addresses: Sequence[ListenAddress]) -> Finding:
    """Tries to listen on `addresses` as the mailbox would, and lets go at once."""
    for address in addresses:
        try:
            for listener in await open_listeners([address]):
                listener.close()
        except OSError as error:
            return problem(_CHECK, str(error.strerror or error), "`mailboxd run` can't start so")
    return good(_CHECK, f"free: {', '.join(map(str, addresses))}")


def check_answers(urls: Sequence[str]) -> Finding:
    """Asks the running mailbox at each of its URLs whether it is well, as a phone on this machine would."""
    for url in urls:
        try:
            exchange(url, "GET", "/health", timeout_s=DOCTOR_ANSWER_S, answer_bytes_max=PROBE_ANSWER_BYTES_MAX)
        except ClientError as error:
            return problem(
                _CHECK, f"the mailbox runs, but {error}", "a firewall on this machine may block its own ports"
            )
    return good(_CHECK, f"the mailbox answers at {', '.join(urls)}")

"""What the log says of syncs: long ones while they last, and those that are worth a line when they are over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from node.sync.driver import SessionTraffic
from node.sync.peers import NO_ROOM_HERE, NO_ROOM_THERE, Peer
from protocols.limits.replication import SYNC_LOGGED_MESSAGES_MIN, SYNC_PROGRESS_S
from protocols.sync.session import SessionResult

__all__ = ["KEPT_WITHIN_LIMIT", "progress_teller", "tell", "what_is_left"]

log = logging.getLogger(__name__)

KEPT_WITHIN_LIMIT: Final = "but for what this mailbox has let go to keep within its storage limit"


def progress_teller(peer: Peer) -> Callable[[], None]:
    """Logs how far a long sync is, for whoever watches the terminal, when it is called after a while."""
    told_at, told = trio.current_time(), 0

    def tell_progress() -> None:
        nonlocal told_at, told
        if trio.current_time() - told_at < SYNC_PROGRESS_S or (progress := peer.progress) is None:
            return
        moved = progress.received + progress.sent
        if moved - told >= SYNC_LOGGED_MESSAGES_MIN:
            log.info(
                "mailbox %s: %d of %d messages received (%d MB), %d sent, and going on",
                peer.mailbox_id.short,
                progress.received,
                progress.expected,
                progress.received_bytes // 1_000_000,
                progress.sent,
            )
        told_at, told = trio.current_time(), moved

    return tell_progress


def tell(peer: Peer, result: SessionResult, *, loudly: bool) -> None:
    """Logs a session that went well. The everyday ones, a few messages now and then, are not worth a line each."""
    moved = result.received + result.sent
    loudly = loudly or moved >= SYNC_LOGGED_MESSAGES_MIN
    if loudly or moved:
        standing = peer.state.value.replace("-", " ") + (f", {peer.reason}" if peer.reason else "")
        log.log(
            logging.INFO if loudly else logging.DEBUG,
            "mailbox %s: %s (messages received: %d, sent: %d)",
            peer.mailbox_id.short,
            standing,
            result.received,
            result.sent,
        )


def what_is_left(result: SessionResult, traffic: SessionTraffic, *, incoming: bool) -> str:
    """Why the two are not known to hold the same after a session; empty if they are."""
    if traffic.full:
        return NO_ROOM_HERE
    if traffic.unsigned:
        return "it has messages that are not signed by their authors, which this mailbox does not take"
    if not result.complete:
        if incoming:
            return "its last sync did not come to an end; there will be another"
        return "there is more to transfer; it goes on at once"
    if result.settled:
        return ""
    if result.peer is not None and result.peer.is_full:
        return NO_ROOM_THERE
    if result.skipped:
        return "what is missing is coming from another mailbox at the moment"
    return f"{result.gone} messages that it announced did not come"

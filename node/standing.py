"""How this mailbox stands with another, as people need to know it: not only the state, but what keeps them apart."""

from __future__ import annotations

from typing import Final

from node.sync.peers import NO_ROOM_HERE, NO_ROOM_THERE, Peer, PeerState
from node.sync.toy_peer import ToyPeer

__all__ = ["is_strange", "plain_standing", "standing"]

_REFUSALS: Final = {"admission": "kept-out", "clock": "clock", "network": "network", "version": "version"}


def standing(peer: Peer) -> str:
    """`same` (both hold the same), `syncing`, `behind`, `full-here`, `full-there`, `new` (not met yet), `away` (was
    here, can't be reached now: asleep or switched off), `unreachable` (was never reached), `kept-out`
    (another password, or no trust), `clock`, `network`, `version`, or `refused` for any other reason."""
    match peer.state:
        case PeerState.IN_SYNC:
            return "same"
        case PeerState.SYNCING:
            return "syncing"
        case PeerState.UNREACHABLE:
            return "unreachable" if peer.last_sync_s is None else "away"
        case PeerState.REFUSED:
            return _REFUSALS.get(peer.refusal, "refused")
    if peer.reason == NO_ROOM_HERE:
        return "full-here"
    if peer.reason == NO_ROOM_THERE:
        return "full-there"
    return "new" if peer.last_sync_s is None and not peer.sessions and not peer.failures else "behind"


_OF_OTHERS: Final = frozenset({"kept-out", "network", "version", "refused", "full-there"})


def is_strange(peer: Peer) -> bool:
    """Whether it is somebody else's: neither named by the user nor in step with us since the start, and apart for a
    reason that is its owner's business. Nothing need be done about it."""
    return not peer.fixed and peer.last_sync_s is None and standing(peer) in _OF_OTHERS


def plain_standing(peer: ToyPeer) -> str:
    """Likewise, of one that only speaks the phones' API."""
    match peer.state:
        case PeerState.IN_SYNC:
            return "same"
        case PeerState.SYNCING:
            return "syncing"
        case PeerState.UNREACHABLE:
            return "unreachable" if peer.last_sync_s is None else "away"
        case PeerState.REFUSED:
            return "refused"
    return "new" if peer.last_sync_s is None and not peer.failures else "behind"

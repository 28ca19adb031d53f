"""Strangers at a real mailbox with a password, over real libp2p: guesses by the thousand, junk, and silence."""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import trio

from node.config import ListenAddress
from node.sync.engine import SYNC_PROTOCOL
from node.transport.api import PeerUnreachable, StreamBroken
from node.transport.frames import next_frame
from node.transport.libp2p import Libp2pTransport
from protocols.addresses import PeerAddress
from protocols.admission.exchange import ADMISSION_PROTOCOL
from protocols.admission.messages import Answer, Hello, Needs, Outcome, Share, Verdict, decode, encode
from protocols.admission.pake import Pake
from protocols.model import MailboxId
from protocols.sync.codec import decode as decode_sync
from protocols.sync.messages import Refuse
from protocols.sync.wire import FrameDecoder, encode_frame
from tests.mailboxes import MailboxProcess, eventually
from tests.node.test_admission_processes import ARGS, PASSWORD, in_sync, set_password

GUESSES = 1_000


async def guess(stranger: Libp2pTransport, mailbox: MailboxId, share: bytes, chance: random.Random) -> str:
    """Opens one exchange with a share; says what came of it."""
    stream = await stranger.open_stream(mailbox, ADMISSION_PROTOCOL)
    decoder = FrameDecoder()
    hello = Hello(Needs.PROOF, chance.randbytes(32), chance.randbytes(16))
    try:
        await stream.send_all(encode_frame(encode(hello)) + encode_frame(encode(Share(share))))
        await next_frame(stream, decoder)
        frame = await next_frame(stream, decoder)
    except StreamBroken:
        return "broken off"
    finally:
        await stream.abort()
    match None if frame is None else decode(frame):
        case Answer():
            return "answered"
        case Verdict(Outcome.LATER):
            return "later"
        case other:
            return f"{other}"


async def test_guesses_junk_and_silence_over_libp2p(tmp_path: Path, nursery: trio.Nursery) -> None:
    chance = random.Random(1)
    set_password(tmp_path / "first", PASSWORD)
    set_password(tmp_path / "second", PASSWORD)
    first = MailboxProcess(tmp_path / "first", *ARGS)
    with first:
        second = MailboxProcess(tmp_path / "second", *ARGS, "--peer", first.address())
        with second:
            eventually(lambda: in_sync(second, first), what="the sync of the two")
            mailbox = MailboxId.parse(first.info["mailbox_id"])
            stranger = Libp2pTransport(
                signing_key_seed=hashlib.sha256(b"stranger").digest(),
                listen=ListenAddress("127.0.0.1", 0),
                network="main",
            )
            await nursery.start(stranger.run)
            await stranger.connect([PeerAddress.parse(first.address())])
            pake = Pake(b"a guess", first=True, id_first=b"x", id_second=b"y", entropy=os.urandom)
            share, process = pake.share(), psutil.Process(first.pid)
            before_s = sum(process.cpu_times()[:2])
            outcomes = Counter([await guess(stranger, mailbox, share, chance) for _ in range(GUESSES)])
            cost_s = sum(process.cpu_times()[:2]) - before_s
            print(f"\n{GUESSES} guesses over libp2p: {dict(outcomes)}, {cost_s:.1f} s of the mailbox's CPU")
            assert outcomes["answered"] + outcomes["later"] == GUESSES, outcomes
            assert 1 <= outcomes["answered"] <= 10
            # A sync that a stranger opens is refused with one frame.
            stream = await stranger.open_stream(mailbox, SYNC_PROTOCOL)
            decoder = FrameDecoder()
            frame = await next_frame(stream, decoder)
            assert frame is not None
            refusal = decode_sync(frame)
            assert isinstance(refusal, Refuse)
            assert refusal.code == "admission"
            # Junk on every stream that it opens, some of them left silent.
            for number in range(100):
                with suppress(PeerUnreachable, StreamBroken):  # one at a time, and none from who is shunned
                    stream = await stranger.open_stream(mailbox, ADMISSION_PROTOCOL)
                    if number % 3:
                        await stream.send_all(chance.randbytes(chance.randrange(1, 400)))
                        await stream.abort()
            # The two go on all the while.
            assert first.status()["messages"] == 0
            assert first.command("put", "tea", "alice", "0", __file__).returncode == 0
            await trio.to_thread.run_sync(lambda: eventually(lambda: in_sync(second, first), what="the next sync"))
            assert second.status()["messages"] == 1
            peers = {peer["mailbox_id"]: peer["state"] for peer in first.status()["peers"]}
            assert peers[str(stranger.local)] in ("refused", "unreachable")  # it answers no exchange of ours
            assert "Traceback" not in first.log()
            await stranger.disconnect(mailbox)
    nursery.cancel_scope.cancel()

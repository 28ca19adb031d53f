"""Who is let in at the phones' server: strangers and tokens, and what becomes of a device that is revoked meanwhile."""

from __future__ import annotations

import json

import pytest
import trio

from node.admission.policy import Admission, Device, Password, token_hash
from node.http.door import Door
from node.http.messages import HttpError
from node.http.toy import toy_router
from node.store.memory import MemoryStore
from protocols.model import LogName
from tests.node.http.harness import MAILBOX_ID, mailbox_over, receive_all, serving

TOKEN, OWN = "t" * 43, "o" * 43
DEVICE = Device("k3vq7m2a", "phone", token_hash(TOKEN), 0.0)
BEARER = f"authorization: Bearer {TOKEN}\r\n".encode()


def admission(*devices: Device, password: bool = True) -> Admission:
    return Admission(password=Password(b"s" * 32, b"g" * 16) if password else None, devices=devices)


def door(policy: Admission) -> Door:
    return Door(policy, own_token=OWN, now_s=lambda: 1000.0)


def status_of(policy: Admission, **headers: str) -> int:
    checked = door(policy)
    try:
        checked.check(checked.identify(headers, is_here=True))
    except HttpError as refused:
        return refused.status
    return 200


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (f"Bearer {OWN}", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer", 401),
        ("", 401),
        ("Bearer " + "x" * 10_000, 401),
        ("Bearer \udcff\udc80é", 401),
    ],
)
def test_only_tokens_open_a_mailbox_with_a_password(value: str, expected: int) -> None:
    assert status_of(admission(DEVICE), authorization=value) == expected
    assert status_of(admission(DEVICE, password=False), authorization=value) == 200


def test_the_administrations_token_opens_nothing_from_elsewhere() -> None:
    checked = door(admission(DEVICE))
    own, theirs = ({"authorization": f"Bearer {token}"} for token in (OWN, TOKEN))
    assert checked.identify(own, is_here=True).is_paired
    assert not checked.identify(own).is_paired
    assert checked.identify(theirs).is_paired


def test_a_paired_device_is_known_by_its_name_also_at_an_open_mailbox() -> None:
    policy = admission(DEVICE, password=False)
    checked = door(policy)
    principal = checked.identify({"authorization": f"Bearer {TOKEN}"})
    assert principal.is_paired
    assert principal.device == DEVICE.device_id
    assert checked.last_seen(DEVICE) == 1000.0
    assert not checked.identify({}).is_paired
    trio.run(policy.revoke, [DEVICE])
    assert not checked.identify({"authorization": f"Bearer {TOKEN}"}).is_paired


async def test_a_device_that_is_revoked_while_its_body_comes_stores_nothing() -> None:
    store, policy = MemoryStore(), admission(DEVICE)
    body = json.dumps({"blips": {"t": {"l": {"0": "aGVsbG8="}}}}).encode()
    head = b"POST /blips/store HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n" + BEARER
    async with (
        serving(toy_router(mailbox_over(store), MAILBOX_ID, door(policy))) as site,
        await site.connect() as stream,
    ):
        await stream.send_all(head + b"content-length: %d\r\n\r\n" % len(body) + body[:10])
        assert site.statistics.responses == {}
        await policy.revoke([DEVICE])
        await stream.send_all(body[10:])
        assert (await receive_all(stream)).startswith(b"HTTP/1.1 401 ")
    assert store.statistics().messages == 0


async def test_a_long_answer_breaks_off_when_its_reader_is_revoked() -> None:
    store, policy = MemoryStore(), admission(DEVICE)
    mailbox = mailbox_over(store)
    await mailbox.deliver([(LogName("t", "l"), seq, bytes(1_000_000)) for seq in range(12)])
    body = json.dumps({"topics": {"t": {}}}).encode()
    head = b"POST /blips/get HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" + BEARER
    async with serving(toy_router(mailbox, MAILBOX_ID, door(policy))) as site, await site.connect() as stream:
        await stream.send_all(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        start = await stream.receive_some(65536)
        assert start.startswith(b"HTTP/1.1 200 ")
        await policy.revoke([DEVICE])
        got = len(start)
        with pytest.raises(trio.BrokenResourceError):  # a part can't be taken for the whole
            while piece := await stream.receive_some(65536):
                got += len(piece)
    assert got < 12_000_000

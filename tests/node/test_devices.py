"""Paired phones are written down in a thread: in order, and never told before they are."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest
import trio
import trio.testing

from node.admission.pairing import Pairing, PairingRefused
from node.admission.policy import Admission, AdmissionError, Device, Password
from node.clock import SystemClock
from protocols.admission.pairing import code_keys, code_name, sealed_name
from protocols.model import MailboxId

MAILBOX = MailboxId(bytes(range(32)))


class SlowDisk:
    """Keeps what it is given once it may; then fails, if it is to."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.kept: list[list[str]] = []
        self.fails = False
        self.main = threading.get_ident()

    def keep_devices(self, devices: Iterable[Device]) -> None:
        assert threading.get_ident() != self.main
        assert self.goes_on.wait(30)
        if self.fails:
            raise AdmissionError("no room")
        self.kept.append([device.device_id for device in devices])

    def keep_password(self, password: Password | None) -> None:
        """Not asked."""

    def keep_trust(self, *_: object) -> None:
        """Not asked."""


def device(number: int) -> Device:
    return Device(f"d{number}", "phone", bytes([number]) * 32, float(number))


async def test_writes_keep_their_order_and_the_last_one_has_everything() -> None:
    disk = SlowDisk()
    policy = Admission(devices=[device(0)], keeper=disk)
    async with trio.open_nursery() as nursery:
        for number in (1, 2, 3):
            nursery.start_soon(policy.add_device, device(number))
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(policy.revoke, [device(0)])
        await trio.testing.wait_all_tasks_blocked()
        assert policy.devices == []  # revoked at once, and none is paired before it is on the disk
        disk.goes_on.set()
    assert [one.device_id for one in policy.devices] == disk.kept[-1] == ["d1", "d2", "d3"]
    assert len(disk.kept) == 4


async def test_what_can_not_be_written_is_as_before() -> None:
    disk = SlowDisk()
    policy = Admission(devices=[device(0)], keeper=disk)
    disk.fails = True
    disk.goes_on.set()
    with pytest.raises(AdmissionError):
        await policy.add_device(device(1))
    with pytest.raises(AdmissionError):
        await policy.revoke([device(0)])
    assert policy.devices == [device(0)]


async def test_a_code_pairs_one_phone_however_slow_the_disk_is_and_none_once_it_is_void() -> None:
    disk = SlowDisk()
    policy = Admission(keeper=disk)
    pairing = Pairing(policy, MAILBOX, SystemClock())
    answers: list[object] = []

    async def pair(code: bytes) -> None:
        try:
            keys = code_keys(code, MAILBOX.public_key)
            answers.append(await pairing.by_code(code_name(code), sealed_name(keys, "phone", bytes)))
        except PairingRefused as refused:
            answers.append(refused.status)

    async with trio.open_nursery() as nursery:
        code = pairing.open_code(60).code
        nursery.start_soon(pair, code)
        nursery.start_soon(pair, code)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [403]
        disk.goes_on.set()
    assert len(policy.devices) == 1
    disk.goes_on.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair, pairing.open_code(60).code)
        await trio.testing.wait_all_tasks_blocked()
        assert pairing.void_codes() == 0
        disk.goes_on.set()
    assert answers[-1] == 403
    assert len(policy.devices) == 1
    disk.fails = True
    code = pairing.open_code(60).code
    await pair(code)
    assert answers[-1] == 507
    disk.fails = False
    await pair(code)
    assert len(policy.devices) == 2

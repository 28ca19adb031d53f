"""Who answered where: another identity at a known place is said, and refused where nothing else proves it."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from node.admission.pins import Pins
from node.admission.policy import Admission
from node.aside import inline
from protocols.limits.admission import PINS_MAX
from protocols.model import MailboxId
from tests.mailboxes import MailboxProcess, eventually

ONE, TWO = MailboxId(b"1" * 32), MailboxId(b"2" * 32)
URL = "http://192.0.2.1:3411"


def pins(tmp_path: Path, admission: Admission | None = None, *connected: MailboxId) -> tuple[Pins, list[str]]:
    told: list[str] = []
    kept = Pins(
        tmp_path / "pins.json", admission or Admission(), is_connected=lambda one: one in connected, told=told.append
    )
    return kept, told


def test_a_plain_mailbox_keeps_its_first_identity_until_the_user_trusts_another(tmp_path: Path) -> None:
    admission = Admission()
    kept, _ = pins(tmp_path, admission)
    assert kept.why_not(URL, None) is None
    assert kept.why_not(URL, str(ONE)) is None
    trio.run(kept._write)
    again, _ = pins(tmp_path, admission)  # over a restart
    reason = again.why_not(URL, str(TWO))
    assert reason is not None
    assert f"mailboxd trust {TWO}" in reason
    assert again.why_not(URL, None) is not None
    assert again.why_not(URL, str(ONE)) is None
    admission.trust(TWO)
    assert again.why_not(URL, str(TWO)) is None
    assert again.why_not(URL, str(ONE)) is not None
    assert again.why_not(URL, "not an id") is not None


def test_another_mailbox_at_a_known_address_is_reported_once(tmp_path: Path) -> None:
    kept, told = pins(tmp_path)
    kept.met(ONE, [("192.0.2.1", 4001)])
    kept.met(ONE, [("192.0.2.1", 4001), ("192.0.2.9", 4001)])
    assert told == []
    for _ in range(3):
        kept.met(TWO, [("192.0.2.1", 4001)])
    assert len(told) == 1
    assert ONE.short in str(kept.notice(TWO))
    assert kept.notice(ONE) is None


def test_who_is_still_there_loses_no_place_to_who_claims_it(tmp_path: Path) -> None:
    kept, told = pins(tmp_path, None, ONE)
    kept.met(ONE, [("192.0.2.1", 4001)])
    kept.met(TWO, [("192.0.2.1", 4001)])
    kept.met(ONE, [("192.0.2.1", 4001)])
    assert told == []


def test_places_are_bounded_and_a_damaged_file_begins_anew(tmp_path: Path) -> None:
    kept, _ = pins(tmp_path)
    kept.met(ONE, [("192.0.2.1", port) for port in range(PINS_MAX + 100)])
    assert len(kept._places) == PINS_MAX
    for junk in ("", "[]", '{"places": 1}', "\xff", "{" * 10_000):
        (tmp_path / "pins.json").write_text(junk)
        again, _ = pins(tmp_path)
        assert again.why_not(URL, str(ONE)) is None


async def test_places_are_written_beside_other_work_and_the_last_ones_at_the_end(tmp_path: Path) -> None:
    """The event loop doesn't wait for the disk; what is noted while a file is being written is in the next one."""
    kept, _ = pins(tmp_path)
    with inline():  # so that the file is written whenever this test waits
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept.keep_up)
            kept.met(ONE, [("192.0.2.1", 4001)])
            assert not (tmp_path / "pins.json").exists()
            await trio.testing.wait_all_tasks_blocked()
            assert ONE.short in (tmp_path / "pins.json").read_text()
            kept.met(TWO, [("192.0.2.2", 4001)])
            nursery.cancel_scope.cancel()
    again, _ = pins(tmp_path)
    assert list(again._places.values()) == [str(ONE), str(TWO)]


def test_another_identity_behind_a_peer_address_is_refused_and_said(tmp_path: Path) -> None:
    args = ("--no-mdns", "--sync-interval", "1")
    with MailboxProcess(tmp_path / "first", *args, "--p2p", "127.0.0.1:0") as first:
        multiaddr, url = first.address(), first.info["http"][0]
        plain = MailboxProcess(tmp_path / "plain", *args, "--p2p", "127.0.0.1:0", "--peer", url)
        second = MailboxProcess(tmp_path / "second", *args, "--p2p", "127.0.0.1:0", "--peer", multiaddr)
        with plain, second:
            eventually(lambda: second.status()["peers"][0]["state"] == "in-sync", what="the first sync")
            eventually(lambda: plain.status()["peers"][0]["state"] == "in-sync", what="the first plain sync")
            first.stop()
            (first.data_dir / "identity.key").unlink()
            port = url.rsplit(":", 1)[1]
            with MailboxProcess(first.data_dir, *args, http=f"127.0.0.1:{port}"):
                eventually(
                    lambda: "another mailbox answers" in second.status()["peers"][0]["reason"], what="the report"
                )
                eventually(lambda: plain.status()["peers"][0]["state"] == "refused", what="the refusal")
                assert "mailboxd trust" in plain.status()["peers"][0]["reason"]
                assert "another mailbox answers there" in second.command("peers").stdout

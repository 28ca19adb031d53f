"""`mailboxd want`, `export` and `import` as a user calls them: on running mailboxes, stopped ones, and bad files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.store._verify import verify_file
from tests.mailboxes import MailboxProcess, clean_environment

OPTIONS = ("--no-mdns", "--p2p", "127.0.0.1:0")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MailboxProcess, MailboxProcess]]:
    """Two mailboxes that know nothing of each other."""
    folder = tmp_path_factory.mktemp("pair")
    with MailboxProcess(folder / "a", *OPTIONS) as one, MailboxProcess(folder / "b", *OPTIONS) as other:
        yield one, other


def cli(
    data_dir: Path, *arguments: str | Path, stdin: bytes = b"", code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", *map(str, arguments), "--data-dir", str(data_dir)],
        input=stdin,
        capture_output=True,
        env=clean_environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    if code:
        assert done.stderr.count(b"\n") == 1
    return done


def test_two_running_mailboxes_hold_the_same_afterwards(
    pair: tuple[MailboxProcess, MailboxProcess], tmp_path: Path
) -> None:
    one, other = pair
    assert one.store("tea", "alice", {seq: b"from a %d" % seq for seq in range(20)}) == 201
    assert one.store("tea", "large", {0: bytes(3_000_000), 1: b"x" * 2_000_000}) == 201
    assert other.store("tea", "alice", {seq: b"from a %d" % seq for seq in range(15)}) == 201
    assert other.store("tea", "bob", {0: b"from b"}) == 201
    want, bundle = tmp_path / "b.want", tmp_path / "b.bundle"
    assert cli(other.data_dir, "want", want).stdout == b"wrote down 16 messages\n"
    out = cli(one.data_dir, "export", "--for", want, bundle).stdout.decode()
    assert out.startswith(f"7 messages for mailbox {other.info['mailbox_id'][:8]}, 4.8 MiB; ")
    assert b"from a 14" not in bundle.read_bytes()
    made, imported = cli(other.data_dir, "import", bundle).stdout.decode().splitlines()
    assert one.info["mailbox_id"] in made
    assert imported == "7 messages imported"
    again = json.loads(cli(other.data_dir, "import", bundle, "--json").stdout)
    assert (again["stored"], again["known"], again["complete"]) == (0, 7, True)
    assert again["maker"] == one.info["mailbox_id"]
    assert again["recipient"] == other.info["mailbox_id"]
    assert other.read("tea")["large", 0] == bytes(3_000_000)
    # And back, through pipes.
    piped = cli(one.data_dir, "export", "--for", "-", "-", code=1)
    assert b"ends too early" in piped.stderr
    back = cli(other.data_dir, "export", "--for", "-", "-", stdin=cli(one.data_dir, "want", "-").stdout).stdout
    assert cli(one.data_dir, "import", "-", stdin=back).stdout.endswith(b"1 message imported\n")
    assert one.in_sync_with(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.bundle", "b.want"]


def test_a_torn_copy_and_a_damaged_one(pair: tuple[MailboxProcess, MailboxProcess], tmp_path: Path) -> None:
    one, _ = pair
    assert one.store("torn", "l", {seq: bytes([seq]) * 700_000 for seq in range(6)}) == 201
    bundle, stopped = tmp_path / "bundle", tmp_path / "stopped"
    cli(one.data_dir, "export", bundle)
    whole = bundle.read_bytes()
    bundle.write_bytes(whole[: len(whole) // 2])
    torn = cli(stopped, "import", bundle, code=1)
    assert b"ends too early; what came before it," in torn.stderr
    assert b"Copy it anew" in torn.stderr
    first = int(torn.stdout.split(b"\n")[1].split()[0])
    bundle.write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
    damaged = cli(stopped, "import", bundle, "--json", code=1)
    assert b"the seal is broken" in damaged.stderr
    assert json.loads(damaged.stdout)["complete"] is False
    bundle.write_bytes(whole)
    rest = json.loads(cli(stopped, "import", bundle, "--json").stdout)
    assert 0 < first <= rest["known"]
    assert rest["complete"]
    report = verify_file(stopped / "mailbox.sqlite3")
    assert report.messages == rest["known"] + rest["stored"]
    assert not report.problems


def test_on_stopped_mailboxes(tmp_path: Path) -> None:
    one = tmp_path / "one"
    with MailboxProcess(one, *OPTIONS, "--network", "trial") as mailbox:
        assert mailbox.store("t", "l", {0: b"zero", 1: b"one"}) == 201
        assert mailbox.stop() == 0
    (one / "config.toml").write_text('network = "trial"\n')
    bundle = tmp_path / "bundle"
    assert b"2 messages for any mailbox" in cli(one, "export", bundle).stdout
    other = tmp_path / "other"
    refused = cli(other, "import", bundle, code=1)
    assert b"from the network 'trial', and this mailbox is in 'main'" in refused.stderr
    (other / "config.toml").write_text('network = "trial"\n')
    assert b"2 messages imported" in cli(other, "import", bundle).stdout
    assert b"2 here already" in cli(other, "import", bundle).stdout


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "empty"),
        (b"PK\x03\x04 a photo", "this is no bundle"),
        (b"mailboxd want 1\n" + bytes(90), "where a bundle (`mailboxd export`) is needed"),
        (b"mailboxd bndl 1\n" + bytes(90), "a record of 0 and 0 bytes"),
        (b"mailboxd bn", "ends in its beginning"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "file").write_bytes(content)
    assert text in cli(tmp_path / "data", "import", tmp_path / "file", code=1).stderr.decode()


def test_what_can_not_be_read_or_written(tmp_path: Path, pair: tuple[MailboxProcess, MailboxProcess]) -> None:
    data_dir = pair[0].data_dir
    assert b"No such file" in cli(data_dir, "import", tmp_path / "nothing", code=1).stderr
    assert b"No such file" in cli(data_dir, "export", "--for", tmp_path / "nothing", tmp_path / "x", code=1).stderr
    assert b"can't be written" in cli(data_dir, "export", tmp_path / "no folder" / "x", code=1).stderr
    assert b"can't be written" in cli(data_dir, "export", "/dev/full/x", code=1).stderr
    assert b"no identity" in cli(tmp_path / "nobody", "want", tmp_path / "x", code=1).stderr
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_somebody_put_there_leads_nowhere(
    pair: tuple[MailboxProcess, MailboxProcess], tmp_path: Path
) -> None:
    """In a directory that others may write to: what is written aside must not land in a file of ours."""
    mine, bundle = tmp_path / "diary", tmp_path / "b.bundle"
    mine.write_text("dear diary")
    Path(f"{bundle}.part").symlink_to(mine)
    cli(pair[0].data_dir, "export", bundle)
    assert mine.read_text() == "dear diary"
    assert bundle.is_file()
    assert not bundle.is_symlink()

"""The identity: made once, kept, and whatever happens to its file never silently replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nacl.signing
import pytest

from node import datadir
from node.datadir import DataDir, DataDirError
from node.identity import Identity, IdentityError, IdentityMissing
from tests.node.test_datadir import open_dir, plain_user

__all__ = ["open_dir"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity.key"


def refused(path: Path, match: str) -> str:
    """Both ways of reading refuse the file in one line, and it is left as it was."""
    before = path.read_bytes() if path.is_file() and os.access(path, os.R_OK, effective_ids=True) else None
    for read in (Identity.load, Identity.load_or_create):
        with pytest.raises(IdentityError, match=match) as caught:
            read(path)
        assert not isinstance(caught.value, IdentityMissing)
    if before is not None:
        assert path.read_bytes() == before
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_is_made_at_the_first_start_and_kept(path: Path) -> None:
    first = Identity.load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Identity.load_or_create(path) == first == Identity.load(path)
    assert list(path.parent.iterdir()) == [path]


def test_all_three_ids_come_from_the_one_key(path: Path) -> None:
    identity = Identity.load_or_create(path)
    public_key = bytes(nacl.signing.SigningKey(identity.seed).verify_key)
    assert identity.mailbox_id.public_key == public_key
    assert identity.peer_id.startswith("12D3Koo")
    assert identity.mailbox_id.from_peer_id(identity.peer_id) == identity.mailbox_id


def test_two_are_different() -> None:
    assert Identity.generate() != Identity.generate()


def test_the_known_key_of_a_seed() -> None:
    # RFC 8032, section 7.1, test 1
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert Identity.from_seed(seed).mailbox_id.public_key == public


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32"):
        Identity.from_seed(bytes(size))


def test_the_secret_is_never_shown(path: Path) -> None:
    identity = Identity.load_or_create(path)
    assert identity.seed.hex() not in repr(identity)
    assert repr(identity.seed) not in repr(identity)


def test_reading_makes_nothing(path: Path) -> None:
    with pytest.raises(IdentityMissing, match="mailboxd run"):
        Identity.load(path)
    assert not path.exists()


def test_every_single_changed_byte_is_noticed(path: Path) -> None:
    Identity.load_or_create(path)
    good = path.read_bytes()
    for position in range(len(good)):
        for change in (0x01, 0x20, 0x80):
            path.write_bytes(good[:position] + bytes([good[position] ^ change]) + good[position + 1 :])
            with pytest.raises(IdentityError):
                Identity.load(path)


def test_every_cut_off_file_is_noticed(path: Path) -> None:
    Identity.load_or_create(path)
    good = path.read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises(IdentityError):
            Identity.load(path)


@pytest.mark.parametrize("extra", [b"\n", b"x", b"\0" * 8192, b"\xff"])
def test_more_than_belongs_there_is_damage(path: Path, extra: bytes) -> None:
    Identity.load_or_create(path)
    path.write_bytes(path.read_bytes() + extra)
    assert "copy" in refused(path, "damaged")


@pytest.mark.parametrize("content", [b"", b"\n", bytes(range(32)), b"\0" * 160, b"{}"])
def test_something_else_is_damage(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    assert "restore" in refused(path, "damaged")


def test_a_later_version_is_not_called_damage(path: Path) -> None:
    path.write_text("mailboxd identity 2 - something\n")
    path.chmod(0o600)
    assert "version" in refused(path, "another version")


def test_a_directory_in_its_place(path: Path) -> None:
    path.mkdir()
    refused(path, "is a directory")


def test_a_pipe_in_its_place_does_not_hang(path: Path) -> None:
    os.mkfifo(path)
    refused(path, "no plain file")


def test_a_link_to_nowhere_is_no_reason_for_a_new_identity(path: Path) -> None:
    path.symlink_to(path.parent / "secrets" / "key")
    refused(path, "link to nowhere")


def test_a_link_to_the_key_is_fine(path: Path) -> None:
    identity = Identity.load_or_create(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    assert Identity.load_or_create(path) == identity


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o777, 0o610])
def test_open_to_others_is_refused_as_ssh_does(path: Path, mode: int) -> None:
    Identity.load_or_create(path)
    path.chmod(mode)
    assert f"chmod 600 {path}" in refused(path, f"{mode:04o}")
    path.chmod(0o400)
    Identity.load(path)


def test_unreadable(open_dir: Path) -> None:
    path = open_dir / "identity.key"
    Identity.load_or_create(path)
    path.chmod(0)
    with plain_user():
        refused(path, "permission denied")
    path.chmod(0o600)


def test_two_that_start_at_once_agree_on_one_key(path: Path) -> None:
    script = "import sys\nfrom pathlib import Path\nfrom node.identity import Identity\nsys.stdin.read(1)\n"
    script += "print(Identity.load_or_create(Path(sys.argv[1])).mailbox_id)"
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("x")
        starter.stdin.flush()
    ids = {starter.communicate()[0] for starter in starters}
    assert ids == {f"{Identity.load(path).mailbox_id}\n"}


def test_a_file_system_without_links_works_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: str, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(datadir.os, "link", no_links)
    identity = Identity.load_or_create(path)
    with pytest.raises(FileExistsError):
        datadir.write_new_file(path, b"another")
    assert Identity.load_or_create(path) == identity
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_no_half_key(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with DataDir.open(path.parent):
        monkeypatch.setattr(datadir.os, "fsync", full)
        with pytest.raises(DataDirError, match="disk is full"):
            Identity.load_or_create(path)
        assert not path.exists()

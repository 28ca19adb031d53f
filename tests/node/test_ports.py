"""The ports of a mailbox: those of the last run if they are free, and none left open when one is taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.config import ListenAddress, RunConfig
from node.datadir import DataDir
from node.ports import open_ports, urls_of

HOST = "127.0.0.1"
ANY = ListenAddress(HOST, 0)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[DataDir]:
    with DataDir.open(tmp_path) as held:
        yield held


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server((HOST, 0)) as other:
        yield int(other.getsockname()[1])


def config(data_dir: DataDir, **options: object) -> RunConfig:
    return RunConfig(data_dir.path, **{"http": (ANY,), "p2p": ANY, **options})  # type: ignore[arg-type]


def is_free(port: int) -> bool:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind((HOST, port))
        except OSError:
            return False
        return True


async def test_the_administration_comes_back_to_its_port(data_dir: DataDir) -> None:
    async with open_ports(config(data_dir), data_dir, tls=None) as first:
        (admin,) = urls_of(first.admin)
        assert admin.startswith(f"http://{HOST}:")
        assert first.serving == [*first.phones]
    async with open_ports(config(data_dir), data_dir, tls=None) as again:
        assert urls_of(again.admin) == (admin,)


async def test_the_administration_goes_elsewhere_if_its_port_is_taken(data_dir: DataDir, taken: int) -> None:
    data_dir.save_admin_port(taken)
    async with open_ports(config(data_dir), data_dir, tls=None) as ports:
        (admin,) = ports.admin
        assert admin.address.port != taken
        assert data_dir.saved_admin_port() == admin.address.port


@pytest.mark.parametrize("wanted", [0, 40111])
async def test_mailboxes_find_us_where_we_were(data_dir: DataDir, wanted: int) -> None:
    """Unless the user names another port."""
    with socket.create_server((HOST, 0)) as before:
        port = int(before.getsockname()[1])
    data_dir.save_p2p_port(port)
    asked = config(data_dir, p2p=ListenAddress(HOST, wanted))
    async with open_ports(asked, data_dir, tls=None) as ports:
        assert ports.p2p == ListenAddress(HOST, wanted or port)


async def test_mailboxes_find_us_anew_if_our_port_is_taken(data_dir: DataDir, taken: int) -> None:
    data_dir.save_p2p_port(taken)
    async with open_ports(config(data_dir), data_dir, tls=None) as ports:
        assert ports.p2p == ANY


async def test_a_taken_port_leaves_none_open(data_dir: DataDir, taken: int) -> None:
    with socket.create_server((HOST, 0)) as before:
        free = int(before.getsockname()[1])
    wanted = config(data_dir, http=(ListenAddress(HOST, free),), https=(ListenAddress(HOST, taken),))
    with pytest.raises(OSError, match=f"can't listen on {HOST}:{taken}: another program uses that port"):
        async with open_ports(wanted, data_dir, tls=None):
            pass
    assert is_free(free)

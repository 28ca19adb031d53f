"""Networks of their own on this machine: what Linux calls network namespaces, and a cable into each.

The namespaces have no names, so that nothing is left of them when their processes and our descriptors are gone, however
we end. Everything here needs root.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["GATEWAY_MAC", "Namespace", "NamespaceError", "why_no_namespaces"]

GATEWAY_MAC: Final = "02:00:00:00:00:01"
"""Where machines send what is for another LAN. The switch takes it from there."""

_CLONE_NEWNET: Final = 0x40000000
_TUN: Final = Path("/dev/net/tun")
_OWN: Final = "/proc/thread-self/ns/net"
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_COMMAND_TIMEOUT_S: Final = 20.0


class NamespaceError(Exception):
    """The kernel did not do it; the message is fit for a user."""


def why_no_namespaces() -> str | None:
    """Why real networks can't be made here, in one sentence with a remedy, or None if they can."""
    if not hasattr(os, "geteuid") or not Path(_OWN).exists():
        return "playing on real processes needs Linux"
    if os.geteuid() != 0:
        return "playing on real processes needs root, to make network namespaces; run it with sudo"
    if shutil.which("ip") is None:
        return "playing on real processes needs the `ip` command; install iproute2"
    if not _TUN.exists():
        return f"playing on real processes needs {_TUN}; load the kernel module tun"
    try:
        with Namespace() as namespace:
            os.close(namespace.plug_in(mac="02:00:00:00:00:02"))
    except NamespaceError as error:
        return str(error)
    return None


class Namespace:
    """A network of its own with nothing but loopback, until a cable is plugged in. A context manager."""

    def __init__(self) -> None:
        """Raises NamespaceError."""
        with _back_home():
            _call("unshare", _CLONE_NEWNET)
            self._descriptor = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            # One protocol is enough, and addresses that come and go by themselves only blur what is measured. It may be
            # missing already, or a container may not let us.
            with suppress(OSError):
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        self.ip("link set lo up")

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of it; it is gone with the last process in it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread opens or starts inside lives in this network. No awaiting in there!"""
        with _back_home():
            _call("setns", self._descriptor, _CLONE_NEWNET)
            yield

    def ip(self, *commands: str) -> None:
        """Runs commands of `ip` here. Raises NamespaceError with its complaint."""
        self.run(["ip", "-batch", "-"], text="\n".join(commands) + "\n")

    def run(self, words: Sequence[str], *, text: str = "") -> str:
        """Runs a short command here and returns what it prints. Raises NamespaceError with its complaint."""
        with self.entered():
            try:
                done = subprocess.run(
                    words, input=text, capture_output=True, text=True, check=False, timeout=_COMMAND_TIMEOUT_S
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise NamespaceError(f"{' '.join(words)}: {error}") from error
        if done.returncode:
            raise NamespaceError(f"{' '.join(words)}: {done.stderr.strip() or text.strip()}")
        return done.stdout

    def plug_in(self, *, mac: str) -> int:
        """Makes `lan0` and returns its other end: a descriptor that reads and writes Ethernet frames. When it is
        closed, `lan0` is gone. Raises NamespaceError."""
        with self.entered():
            try:
                cable = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError as error:
                raise NamespaceError(f"{_TUN}: {error.strerror}") from error
            try:
                fcntl.ioctl(cable, _TUNSETIFF, struct.pack("16sH22x", b"lan0", _IFF_TAP | _IFF_NO_PI))
            except OSError as error:
                os.close(cable)
                raise NamespaceError(f"no interface on {_TUN}: {error.strerror}") from error
        self.ip(f"link set lan0 address {mac}")
        return cable

    def settle(self, *, address: str, prefix_bits: int, gateway: str) -> None:
        """Gives `lan0` this IPv4 address in place of any other, and the ways out of it. Raises NamespaceError."""
        self.ip(
            "address flush dev lan0",
            f"address add {address}/{prefix_bits} broadcast + dev lan0",
            "link set lan0 up",
            "route replace 224.0.0.0/4 dev lan0",
            f"neighbour replace {gateway} lladdr {GATEWAY_MAC} dev lan0 nud permanent",
            f"route replace default via {gateway}",
        )


@contextmanager
def _back_home() -> Iterator[None]:
    """Brings this thread back to the network in which it was."""
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            _call("setns", home, _CLONE_NEWNET)
        finally:
            os.close(home)


_libc: Final = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int) -> None:
    """A system call that Python knows only from 3.12 on. Raises NamespaceError."""
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        reason = os.strerror(number)
        if number == errno.EPERM:
            reason += "; it needs root with the right to administrate the network (CAP_SYS_ADMIN)"
        raise NamespaceError(f"network namespaces can't be used here ({name}: {reason})")

"""`mailboxd demo`: three real mailboxes part and come together again, in under a minute."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import trio

from node.cli.cluster import ClusterError, Link, MailboxProcess
from node.cli.options import DATA_DIR
from node.cli.output import bytes_text, count_text, table
from node.cli.program import EXIT_INTERRUPTED, fail
from node.cli.signals import until_signal
from node.datadir import DataDirError
from node.http.client import ClientError, read_topic
from node.identity import IdentityError
from node.workload import WorkloadError, WorkloadMessage, generate, in_requests, send

__all__ = ["demo"]

SYNC_INTERVAL_S: Final = 2.0
PATIENCE_S: Final = 20.0
"""How long mailboxes may take to come together before the demonstration counts as failed."""
CUT_ROUNDS: Final = 2.0
"""Sync intervals for which the cut is watched: time enough to notice a way around it."""
_LOOK_INTERVAL_S: Final = 0.1

NOTICEBOARD: Final = "6e6f74696365626f617264" + "0" * 42
ALICE: Final = "616c696365" + "a" * 54
CARLA: Final = "6361726c61" + "c" * 54
FROM_ALICE: Final = "Alice, at the square: water at the fountain, the pharmacy is open until six."
FROM_CARLA: Final = "Carla, at the school: we are all well, forty beds are free."


@click.command()
@click.option(
    "--data-dir",
    type=DATA_DIR,
    help="Keep the three data directories (with their logs) in this new directory.  [default: they are removed]",
)
@click.option(
    "--messages", type=click.IntRange(30, 100_000), default=600, show_default=True, help="How many to begin with."
)
def demo(data_dir: Path | None, messages: int) -> None:
    """Show three mailboxes on this machine part and come together again.

    Starts three mailboxes that only know each other, stores messages through them, cuts one of them off, stores more
    on both sides, joins them again, and shows that all three hold the same. Uses only addresses of this machine and
    takes less than a minute. Exit code 1 if they do not come together.

    \b
    Examples:
      mailboxd demo
      mailboxd demo --messages 20000
      mailboxd demo --data-dir /tmp/three-mailboxes
    """
    try:
        with _folder(data_dir) as folder:
            play = partial(until_signal, _Stage(folder, messages).play, note="stopping the mailboxes …")
            trio.run(play, restrict_keyboard_interrupt_to_checkpoints=True)
    except* (ClusterError, WorkloadError, ClientError, DataDirError, IdentityError, OSError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        fail(f"the demonstration failed: {error}")
    except* KeyboardInterrupt:
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        try:
            wanted.mkdir(mode=0o700, parents=True)
        except OSError as error:
            reason = "it exists; name a new directory" if error.errno == errno.EEXIST else error.strerror
            fail(f"{wanted}: {reason}")
        yield wanted
        return
    folder = Path(tempfile.mkdtemp(prefix="mailboxd-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Stage:
    """The three mailboxes A, B and C, a link for each pair, and what has been stored through them."""

    folder: Path
    messages: int
    mailboxes: list[MailboxProcess] = field(default_factory=list)
    links: dict[str, Link] = field(default_factory=dict)
    stored: set[tuple[str, str, int]] = field(default_factory=set)
    begun_at: float = 0.0

    async def play(self) -> None:
        self.begun_at = trio.current_time()
        click.echo(
            "Three mailboxes run on this machine, as they would on three computers in a town:\n"
            "\n      A ───── B      phones store messages in the one that is near,\n"
            "       ╲     ╱       and the mailboxes pass them on to each other.\n"
            "          C\n"
        )
        async with self._running():
            await self._store_through_all()
            await self._cut_off_c()
            await self._heal()
        click.echo(f"\nDone in {self._elapsed_s():.0f} s: nothing was lost, and nobody had to do anything.")

    # --- the acts ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self._say("1", "Starting A, B and C")
        async with trio.open_nursery() as nursery:
            try:
                await self._start(nursery)
                rows = [(m.name, str(m.identity.mailbox_id), m.info.http[0]) for m in self.mailboxes]
                click.echo(table(("", "MAILBOX ID", "PHONES USE"), rows, indent="   "))
                yield
            finally:
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as stopping:
                        for mailbox in self.mailboxes:
                            stopping.start_soon(mailbox.stop)
            nursery.cancel_scope.cancel()

    async def _start(self, nursery: trio.Nursery) -> None:
        self.mailboxes = [MailboxProcess(name, self.folder / name) for name in "ABC"]
        for one, other in itertools.combinations(self.mailboxes, 2):
            link = self.links[one.name + other.name] = Link(f"{one.name}–{other.name}")
            await nursery.start(link.run)
        network = f"demo-{os.getpid()}"
        for number, mailbox in enumerate(self.mailboxes):
            earlier = self.mailboxes[:number]
            peers = [f"--peer={other.address_through(self.links[other.name + mailbox.name])}" for other in earlier]
            mailbox.start(
                "--http=127.0.0.1:0",
                "--p2p=127.0.0.1:0",
                "--no-mdns",
                f"--network={network}",
                f"--sync-interval={SYNC_INTERVAL_S}",
                *peers,
            )
        for mailbox in self.mailboxes:
            info = await mailbox.wait_ready()
            port = int(info.p2p[0].split("/")[4])
            for name, link in self.links.items():
                if name[0] == mailbox.name:
                    link.target = ("127.0.0.1", port)

    async def _store_through_all(self) -> None:
        self._say("2", f"Storing {count_text(self.messages, 'message')} through all three, some of them twice")
        everything = list(generate(messages=self.messages))
        twice = everything[: self.messages // 10]
        report = await send(in_requests(everything), self._urls("ABC"), connections=6)
        await send(in_requests(twice, seed=2), self._urls("BCA"), connections=3)
        self._note(everything)
        click.echo(
            f"   {count_text(report.messages, 'message')} ({bytes_text(report.blob_bytes)}) acknowledged in "
            f"{report.elapsed_s:.1f} s, then {len(twice)} of them again through another mailbox"
        )
        await self._wait_equal()

    async def _cut_off_c(self) -> None:
        self._say("3", "Cutting C off: its links are dead, its phones don't notice")
        for name in ("AC", "BC"):
            self.links[name].cut()
        carried = self._carried()
        fresh = list(itertools.islice(generate(messages=self.messages * 2, seed=2), self.messages // 2))
        third = len(fresh) // 3
        town = [*fresh[third:], WorkloadMessage(NOTICEBOARD, ALICE, 0, FROM_ALICE.encode())]
        school = [*fresh[:third], WorkloadMessage(NOTICEBOARD, CARLA, 0, FROM_CARLA.encode())]
        await send(in_requests(town), self._urls("AB"), connections=4)
        await send(in_requests(school), self._urls("C"), connections=4)
        self._note([*town, *school])
        click.echo(f"   stored {count_text(len(town), 'message')} through A and B, {len(school)} through C")
        await trio.sleep(CUT_ROUNDS * SYNC_INTERVAL_S)
        statuses = await self._show()
        a, b, c = (status["fingerprint"] for status in statuses)
        if c in (a, b) or carried != self._carried():
            raise ClusterError("C was meant to be cut off, but its messages got through")
        for name, log in (("A", CARLA), ("C", ALICE)):
            if await self._read(name, log):
                raise ClusterError(f"{name} already has a message that was stored on the other side of the cut")
        click.echo(f"   A and B {'hold the same' if a == b else 'are not through yet'}, C holds something else")
        click.echo(f"   what C says of its neighbours: {self._standing(statuses[2])}")

    async def _heal(self) -> None:
        self._say("4", "Joining them again")
        for link in self.links.values():
            link.heal()
        await self._wait_equal()
        for name, author, log in (("C", "Alice", ALICE), ("A", "Carla", CARLA)):
            text = await self._read(name, log)
            if text not in (FROM_ALICE, FROM_CARLA):
                raise ClusterError(f"{name} does not have what {author} wrote during the cut")
            click.echo(f"   a phone at {name} reads what {author} wrote during the cut: “{text}”")
        rows = [(link.name, bytes_text(link.carried_bytes)) for link in self.links.values()]
        click.echo("\n   Carried in all, both ways: " + ", ".join(f"{name} {size}" for name, size in rows))

    # --- helpers -----------------------------------------------------------------------------------------------

    def _elapsed_s(self) -> float:
        return trio.current_time() - self.begun_at

    def _say(self, number: str, text: str) -> None:
        click.echo(click.style(f"\n{number}. {text}", bold=True) + f"   [{self._elapsed_s():.1f} s]")

    def _note(self, messages: Sequence[WorkloadMessage]) -> None:
        self.stored.update((message.topic, message.log, message.seq) for message in messages)

    def _urls(self, names: str) -> list[str]:
        return [mailbox.info.http[0] for name in names for mailbox in self.mailboxes if mailbox.name == name]

    def _carried(self) -> int:
        """Bytes that crossed the border to C."""
        return self.links["AC"].carried_bytes + self.links["BC"].carried_bytes

    async def _statuses(self) -> list[dict[str, Any]]:
        return [await mailbox.status() for mailbox in self.mailboxes]

    async def _show(self) -> list[dict[str, Any]]:
        statuses = await self._statuses()
        rows = [
            (mailbox.name, f"{status['messages']:,}", str(status["logs"]), str(status["fingerprint"])[:32])
            for mailbox, status in zip(self.mailboxes, statuses, strict=True)
        ]
        click.echo(table(("", "MESSAGES>", "LOGS>", "FINGERPRINT"), rows, indent="   "))
        return statuses

    async def _wait_equal(self) -> None:
        """Waits until all three hold everything that was stored, by count and by fingerprint."""
        begun = trio.current_time()
        while True:
            statuses = await self._statuses()
            equal = len({status["fingerprint"] for status in statuses}) == 1
            if equal and all(status["messages"] == len(self.stored) for status in statuses):
                break
            if trio.current_time() > begun + PATIENCE_S:
                await self._show()
                held = ", ".join(str(status["messages"]) for status in statuses)
                raise ClusterError(
                    f"after {PATIENCE_S:g} s A, B and C hold {held} of {len(self.stored)} messages; "
                    f"C says of its neighbours: {self._standing(statuses[2], reasons=True)}"
                )
            await trio.sleep(_LOOK_INTERVAL_S)
        took_s = trio.current_time() - begun
        await self._show()
        click.echo(f"   all three hold the same {len(self.stored):,} messages, {took_s:.1f} s later")

    async def _read(self, name: str, log: str) -> str | None:
        (url,) = self._urls(name)
        answer = await trio.to_thread.run_sync(read_topic, url, NOTICEBOARD, {})
        blob = answer.get(log, {}).get(0)
        return None if blob is None else blob.decode()

    def _standing(self, status: dict[str, Any], *, reasons: bool = False) -> str:
        names = {str(mailbox.identity.mailbox_id): mailbox.name for mailbox in self.mailboxes}
        peers = sorted(status["peers"], key=lambda peer: names.get(peer["mailbox_id"], "?"))
        words = [
            f"{names.get(peer['mailbox_id'], '?')} is {peer['state']}" + (f" ({peer['reason']})" if reasons else "")
            for peer in peers
        ]
        return ", ".join(words) or "it knows none"

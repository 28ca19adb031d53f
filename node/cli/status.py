"""`mailboxd status`, `peers` and `sync`: what a running mailbox tells through its administration."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from node.cli.mailbox_ids import TakesMailboxIds, find_mailbox
from node.cli.options import data_dir_option
from node.cli.output import ago, bytes_text, count_text, print_json, shorten, table
from node.cli.program import fail
from node.datadir import DataDirError, default_data_dir
from node.http.client import AdminClient, ClientError
from node.logs import escape_controls

__all__ = ["peers", "pressure_text", "status", "sync"]

_STATE_WORDS = {
    "in-sync": "in sync",
    "syncing": "syncing",
    "behind": "behind",
    "unreachable": "unreachable",
    "refused": "refused",
}


@contextmanager
def _client(data_dir: Path | None) -> Iterator[AdminClient]:
    """The running mailbox's administration; what goes wrong with it becomes one line."""
    try:
        with AdminClient.open(data_dir or default_data_dir()) as client:
            yield client
    except (ClientError, DataDirError) as error:
        fail(str(error))


@click.command()
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object that programs and scripts read.")
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show what a running mailbox holds and how it stands with its neighbours.

    Two mailboxes hold the same messages exactly if their fingerprints are equal.

    \b
    Examples:
      mailboxd status
      mailboxd status --json | jq .fingerprint
    """
    with _client(data_dir) as client:
        answer = client.status()
    if as_json:
        print_json(answer)
        return
    for label, text in _status_lines(answer):
        click.echo(f"{label:<12} {escape_controls(text)}")
    if answer["peers"]:
        click.echo(f"\n{_peer_table(answer['peers'])}")


def _status_lines(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name = answer.get("name")
    yield "mailbox", f"{answer['mailbox_id']}{f' ({name})' if name else ''}"
    limit = answer["storage_limit"]
    held = f"{count_text(answer['messages'], 'message')} in {count_text(answer['logs'], 'log')} of "
    held += f"{count_text(answer['topics'], 'topic')}, {bytes_text(answer['bytes'])}"
    if not answer.get("serving", True):
        yield "mode", "off: phones are not served; `mailboxd dashboard` switches it on"
    yield "holds", held + (f" of {bytes_text(limit)}" if limit is not None else "")
    yield "fingerprint", str(answer["fingerprint"])
    if answer["topics_synced"] is not None:
        yield "syncs", f"{count_text(answer['topics_synced'], 'topic')} only (--topic)"
    yield "lets in", _admission_text(answer["admission"])
    relayed = answer["relayed"]
    yield "phones", f"{relayed['stored']:,} stored, {relayed['served']:,} served"
    yield "mailboxes", f"{relayed['synced_in']:,} received, {relayed['synced_out']:,} sent"
    yield "index", _audit_text(answer["audit"])
    if "started" in answer:
        yield "started", f"{ago(answer['started'])}, version {answer.get('version', '?')}"
    if answer.get("require_signed"):
        yield "takes", "only messages that are signed by their authors (--require-signed)"
    pressed = pressure_text(answer.get("limits", ()))
    if pressed:
        yield "pressure", pressed
    states = Counter(str(peer["state"]) for peer in answer["peers"])
    summary = ", ".join(f"{number} {_STATE_WORDS.get(state, state)}" for state, number in sorted(states.items()))
    yield "neighbours", summary or "none known; see `mailboxd discover` and `mailboxd run --peer`"


def _admission_text(admission: Mapping[str, Any]) -> str:
    """Who may come in."""
    parts = ["those with the same password" if admission["password"] else "every mailbox and every phone"]
    if admission["only_trusted"]:
        parts = ["trusted mailboxes only", "paired phones only" if admission["password"] else "every phone"]
    parts += [f"{number} {what}" for what in ("trusted", "distrusted") if (number := admission[what])]
    if admission["devices"]:
        parts.append(count_text(admission["devices"], "paired phone"))
    return ", ".join(parts)


def pressure_text(limits: Sequence[Mapping[str, Any]]) -> str:
    """What strangers have to put up with at the moment; empty in quiet times."""
    used = {row["name"]: row["used"] for row in limits}
    bits = used.get("CHALLENGE_BITS_MAX")
    if not bits:
        return ""
    busy_s = used.get("STRANGERS_BUSY_S") or 0
    return f"flooded: strangers have waited in a queue for {busy_s:.0f} s, and their stores need work ({bits} bits)"


def _audit_text(audit: Mapping[str, Any]) -> str:
    """How far the index has been compared with the store, and whether it told the truth."""
    found = f"{count_text(audit['found'], 'difference')} mended" if audit["found"] else "no difference"
    compared = f"{audit['checked']:,} of {count_text(audit['of'], 'block')} compared"
    whole = f", all of it {ago(audit['last_pass'])}" if audit["last_pass"] else ""
    return f"{found}; {compared}{whole}"


def _peer_table(known: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            str(peer["mailbox_id"])[:8],
            _STATE_WORDS.get(str(peer["state"]), str(peer["state"])),
            ago(peer["last_sync"]),
            bytes_text(peer["last_sync_bytes"]),
            str(peer["last_sync_round_trips"]),
            shorten(escape_controls(_progress_text(peer) or str(peer["reason"] or _shared_text(peer))), 100),
        )
        for peer in known
    ]
    return table(("NEIGHBOUR", "STATE", "LAST SYNC", "BYTES>", "ROUND TRIPS>", "REASON"), rows)


def _shared_text(peer: Mapping[str, Any]) -> str:
    """What the two exchange, if it is not everything."""
    shared = peer.get("topics_shared")
    if shared is None:
        return ""
    return f"exchanges {count_text(shared, 'topic')}" if shared else "no topic in common: nothing is exchanged"


def _progress_text(peer: Mapping[str, Any]) -> str:
    """How far a sync is; empty if there is none, or it has moved nothing."""
    progress = peer.get("progress")
    if not progress or not (progress["received"] or progress["sent"]):
        return ""
    text = f"{progress['received']:,} of {count_text(progress['expected'], 'message')} received"
    return text + f" ({bytes_text(progress['received_bytes'])}), {progress['sent']:,} sent"


@click.command()
@data_dir_option()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def peers(data_dir: Path | None, as_json: bool) -> None:
    """Show the other mailboxes that a running one knows.

    With how it stands with each and why, what the last sync cost, and their addresses.

    \b
    Examples:
      mailboxd peers
      mailboxd peers --json
    """
    with _client(data_dir) as client:
        known = client.peers()
    if as_json:
        print_json(known)
    elif not known:
        click.echo("no other mailbox is known yet; see `mailboxd discover` and `mailboxd run --peer`", err=True)
    else:
        click.echo(_peer_table(known))
        for peer in known:
            click.echo(f"\n{peer['mailbox_id']}  {escape_controls(str(peer.get('software') or ''))}".rstrip())
            if peer.get("notice"):
                click.echo(f"  NOTE: {escape_controls(str(peer['notice']))}")
            for address in peer.get("addresses") or ["no address known"]:
                click.echo(f"  {escape_controls(str(address))}")


@click.command(cls=TakesMailboxIds)
@data_dir_option()
@click.argument("peer", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with one entry for each neighbour.")
def sync(data_dir: Path | None, peer: str | None, as_json: bool) -> None:
    """Compare with neighbours now, and wait for the result.

    PEER is a mailbox id, its beginning as `mailboxd peers` shows it, or a PeerId; without it, all known neighbours.
    Exit code 1 if a sync failed or if there is nobody to sync with.

    \b
    Examples:
      mailboxd sync
      mailboxd sync dmYx3QpA
    """
    with _client(data_dir) as client:
        wanted = None if peer is None else find_mailbox(peer, [str(known["mailbox_id"]) for known in client.peers()])
        with _progress_shown(data_dir):
            reports: list[dict[str, Any]] = client.sync(wanted)["syncs"]
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            click.echo(f"{str(report['mailbox_id'])[:8]}  {escape_controls(_outcome(report))}")
    failed = [report for report in reports if report["error"] is not None]
    if not reports:
        fail("no other mailbox is known yet; see `mailboxd discover` and `mailboxd run --peer`")
    if failed:
        fail(f"{len(failed)} of {count_text(len(reports), 'sync')} failed; `mailboxd peers` tells how each stands")


@contextmanager
def _progress_shown(data_dir: Path | None) -> Iterator[None]:
    """On a terminal, a line about how far the syncs are while the context lasts."""
    if not sys.stderr.isatty():
        yield
        return
    stop = threading.Event()
    watcher = threading.Thread(target=_show_progress, args=(data_dir or default_data_dir(), stop), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _show_progress(data_dir: Path, stop: threading.Event) -> None:
    with suppress(ClientError, DataDirError), AdminClient.open(data_dir) as client:
        while not stop.wait(0.5):
            known = [(peer["mailbox_id"][:8], _progress_text(peer)) for peer in client.peers()]
            line = "; ".join(f"{mailbox_id}: {text}" for mailbox_id, text in known if text)
            click.echo("\r\033[K" + shorten(line, 120), nl=False, err=True)
    click.echo("\r\033[K", nl=False, err=True)


def _outcome(report: Mapping[str, Any]) -> str:
    if report["error"] is not None:
        return f"failed: {report['error']}"
    received, sent = (count_text(report[key], "message") for key in ("received", "sent"))
    cost = f"{bytes_text(report['bytes'])} in {count_text(report['round_trips'], 'round trip')}"
    return f"in sync: {received} received, {sent} sent, {cost}"

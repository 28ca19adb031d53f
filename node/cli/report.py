"""`mailboxd report`: two mailboxes sign that they hold the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from node.cli.mailbox_ids import TakesMailboxIds, find_mailbox
from node.cli.options import data_dir_option
from node.cli.output import count_text, print_json
from node.cli.program import fail
from node.cli.streams import date_text, open_input, open_output, told_in_one_line
from node.datadir import default_data_dir
from node.http.client import AdminClient
from protocols.errors import RemoteProtocolError
from protocols.limits.sync import REPORT_FILE_BYTES_MAX
from protocols.report.verdict import Difference, Verdict, judge, read_file

__all__ = ["report"]

_SHOWN_MAX = 20


@click.command(cls=TakesMailboxIds)
@data_dir_option()
@click.argument("peer", required=False)
@click.option(
    "--verify", "known", type=click.Path(path_type=Path, allow_dash=True), help="Check the report in this file."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Where to write it (`-`: standard output).  [default: report-ID.json in this directory]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object about it.")
@click.pass_context
def report(
    context: click.Context,
    data_dir: Path | None,
    peer: str | None,
    known: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Have this mailbox and PEER sign what both hold at one moment, or check such a report.

    First they sync. Then each states a digest of every topic, signed with its identity, of all messages alive at the
    same boundary. Topics stand in the file as hashes. Anybody can check it later, without a network: exit code 0 if
    both signatures are good and both hold the same, else 1, with what differs. PEER is a mailbox id, or its beginning
    as `mailboxd peers` shows it.

    \b
    Examples:
      mailboxd report dmYx3QpA
      mailboxd report --verify report-dmYx3QpA.json
    """
    if (peer is None) == (known is None):
        raise click.UsageError("give either PEER or --verify FILE", context)
    if known is not None and output is not None:
        raise click.UsageError("--output goes with PEER", context)
    with told_in_one_line():
        content = _ask(data_dir, peer or "", output, as_json) if known is None else _read(known)
    try:
        verdict = judge(*read_file(content))
    except RemoteProtocolError as error:
        fail(f"{known or 'the report'} proves nothing: {error}")
    if as_json:
        print_json(_summary(verdict))
    else:
        for line in _words(verdict):
            click.echo(line, err=str(output) == "-")
    if not verdict.converged:
        fail(f"the two mailboxes differ in {count_text(len(verdict.differences), 'topic')}")


def _ask(data_dir: Path | None, peer: str, output: Path | None, as_json: bool) -> bytes:
    with AdminClient.open(data_dir or default_data_dir()) as client:
        mailbox_id = find_mailbox(peer, [str(known["mailbox_id"]) for known in client.peers()])
        content = client.report(mailbox_id)
    file = output or Path(f"report-{mailbox_id[:8]}.json")
    with open_output(file) as (write, _):
        write(content)
    if not as_json and str(file) != "-":
        click.echo(f"wrote {file}")
    return content


def _read(file: Path) -> bytes:
    with open_input(file) as (stream, _):
        return stream.read(REPORT_FILE_BYTES_MAX + 1)


def _words(verdict: Verdict) -> list[str]:
    asker, answerer = verdict.asker, verdict.answerer
    meeting = asker.meeting
    what = f"{count_text(verdict.topics, 'topic')}" + (" of those that both keep" if meeting.scope else "")
    lines = [
        f"signed by {asker.signer}, {date_text(asker.from_s)}",
        f"signed by {answerer.signer}, {date_text(answerer.from_s)}",
        f"about {what}, messages first stored {date_text(meeting.boundary_s)} or later, network {meeting.network}",
    ]
    if verdict.converged:
        lines.append(f"both held exactly the same: {count_text(verdict.logs, 'log')} in {what}")
        return lines
    lines += [f"topic {one.topic_hash.hex()}: {_difference(verdict, one)}" for one in verdict.differences[:_SHOWN_MAX]]
    if len(verdict.differences) > _SHOWN_MAX:
        lines.append(f"and {len(verdict.differences) - _SHOWN_MAX:,} more")
    return lines


def _difference(verdict: Verdict, one: Difference) -> str:
    asker, answerer = verdict.asker.signer.short, verdict.answerer.signer.short
    if one.asker is None or one.answerer is None:
        holder, other = (asker, answerer) if one.answerer is None else (answerer, asker)
        topic = one.asker or one.answerer
        assert topic is not None
        return f"only {holder} has it ({count_text(topic.logs, 'log')}), {other} has nothing of it"
    if one.asker.logs != one.answerer.logs:
        return f"{asker} has {count_text(one.asker.logs, 'log')} of it, {answerer} has {one.answerer.logs:,}"
    return f"both have {count_text(one.asker.logs, 'log')} of it, with different messages or dates"


def _summary(verdict: Verdict) -> dict[str, Any]:
    meeting = verdict.asker.meeting
    return {
        "converged": verdict.converged,
        "signers": [
            {"mailbox_id": str(one.signer), "from_s": one.from_s, "to_s": one.to_s, "topics": len(one.topics)}
            for one in (verdict.asker, verdict.answerer)
        ],
        "network": meeting.network,
        "boundary_s": meeting.boundary_s,
        "topics": verdict.topics,
        "logs": verdict.logs,
        "differences": [
            {
                "topic_hash": one.topic_hash.hex(),
                "logs": [None if topic is None else topic.logs for topic in (one.asker, one.answerer)],
            }
            for one in verdict.differences
        ],
    }

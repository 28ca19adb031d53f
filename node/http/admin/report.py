"""The administration's route for convergence reports."""

from __future__ import annotations

import msgspec

from node.http.messages import HttpError, Request, Response, Router
from node.sync.engine import SyncEngine
from node.sync.reports import ReportFailed, Reports
from protocols.limits.http import ADMIN_BODY_BYTES_MAX
from protocols.model import MailboxId
from protocols.report.verdict import write_file

__all__ = ["add_report_route"]


class _Wanted(msgspec.Struct):
    peer: str


def add_report_route(router: Router, engine: SyncEngine, reports: Reports) -> None:
    """POST /admin/report with {"peer": mailbox id}: syncs with it, and answers with the report's file."""

    async def report(request: Request) -> Response:
        try:
            peer = MailboxId.parse(msgspec.json.decode(request.body, type=_Wanted).peer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            raise HttpError(400, 'The body must be {"peer": "<mailbox id>"}.') from None
        if engine.table.get(peer) is None:
            raise HttpError(404, f"mailbox {peer} is not known here; `mailboxd peers` lists those that are")
        await engine.sync_now(peer)  # if it fails, the report says so better
        try:
            made = await reports.ask(peer)
        except ReportFailed as error:
            raise HttpError(502, str(error)) from None
        return Response(200, write_file(made.asker, made.answerer).encode(), "application/json")

    router.post("/admin/report", report, body_bytes_max=ADMIN_BODY_BYTES_MAX)

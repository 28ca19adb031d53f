"""The administration put together: its routes over a mailbox's parts, and what keeps an open dashboard fresh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import trio

from node.admission.invitation import Inviter
from node.admission.office import AdmissionOffice
from node.config import RunConfig, SettingsFile
from node.core import supervise
from node.events import EventKind
from node.feed import Feed
from node.history import History
from node.http.admin.admission import add_admission_routes
from node.http.admin.bundles import add_bundle_routes
from node.http.admin.dashboard import OPEN_PATHS, add_access, add_at_login, add_dashboard
from node.http.admin.live import Live
from node.http.admin.report import add_report_route
from node.http.admin.routes import admin_router
from node.http.admin.sessions import Sessions
from node.http.messages import Router
from node.http.server import Listener, serve_http
from node.limits_in_use import LimitsInUse
from node.overview import Overview
from node.parts import Parts
from node.ports import Ports, urls_of
from node.service.at_login import AtLogin
from node.service.manager import service_manager
from node.settings import Settings
from node.status import Administration

__all__ = ["Desk"]


class Desk:
    """What a mailbox answers to this machine's user."""

    def __init__(
        self,
        parts: Parts,
        config: RunConfig,
        ports: Ports,
        *,
        token: str,
        p2p_port: int,
        settings_file: SettingsFile,
        keep_awake: Callable[[bool], None],
    ) -> None:
        """`token` lets in. `p2p_port` is the one at which other mailboxes reach this one. `settings_file` keeps the
        dashboard's settings, `keep_awake` switches that on and off."""
        core, phones, events = parts.core, parts.phones, parts.events
        urls = (*urls_of(ports.phones), *urls_of(ports.secure))
        state = Administration(
            core,
            plain=parts.plain,
            reach=parts.reach,
            ports=[listener.address.port for listener in ports.serving] + [p2p_port],
            mailbox_id=parts.identity.mailbox_id,
            name=config.name,
            events=events,
            limits=LimitsInUse(core, config.limits, statistics=phones.statistics, turnstile=phones.turnstile),
            doors=parts.doors,
            notice=parts.pins.notice,
        )
        overview = Overview(core, plain=parts.plain, administration=state, doors=parts.doors, urls=urls)
        self._history, live = History(core.mailbox.clock, overview.reading), Live()
        self._feed = Feed(live, overview=overview, events=events, history=self._history, store=core.mailbox.store)
        settings = Settings(
            settings_file,
            config,
            core=core,
            plain=parts.plain,
            doors=parts.doors,
            events=events,
            rename=state.rename,
            keep_awake=keep_awake,
        )
        self.routes = _routes(parts, config, ports, state, token=token, settings=settings, live=live)

    async def run(
        self, listeners: Sequence[Listener], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serves until cancelled; `started` once it does."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise, "history", self._history.run)
            nursery.start_soon(supervise, "dashboard", self._feed.run)
            await nursery.start(serve_http, listeners, self.routes)
            task_status.started()


def _routes(
    parts: Parts,
    config: RunConfig,
    ports: Ports,
    state: Administration,
    *,
    token: str,
    settings: Settings,
    live: Live,
) -> Router:
    core, phones, mailbox_id = parts.core, parts.phones, parts.identity.mailbox_id
    tell_access = partial(parts.events.tell, EventKind.ACCESS)
    office = AdmissionOffice(
        parts.admission,
        last_seen=phones.door.last_seen,
        told=tell_access,
        void_codes=phones.pairing.void_codes,
    )
    inviter = Inviter(
        phones.pairing, mailbox_id, lambda: [*urls_of(ports.secure), *urls_of(ports.phones)], core.mailbox.clock
    )
    sessions = Sessions(mailbox_id.short)
    routes = admin_router(state, token, http=phones.statistics, sessions=sessions, open_paths=OPEN_PATHS)
    add_admission_routes(routes, office, inviter.invite)
    add_bundle_routes(routes, core.mailbox, network=config.network, interest=core.engine.interest)
    add_report_route(routes, core.engine, parts.reports)
    add_dashboard(
        routes,
        sessions=sessions,
        live=live,
        settings=settings,
        on_login=partial(tell_access, "somebody signed in to the dashboard"),
    )
    tell_setting = partial(parts.events.tell, EventKind.SETTINGS)
    add_at_login(routes, AtLogin(service_manager(config.data_dir), told=tell_setting))
    add_access(routes, office, inviter.invite)
    return routes

"""The metrics: a mailbox's status in Prometheus' terms. `monitoring/README.md` describes them.

Names carry units, counters end in `_total`, and no label takes a value that a stranger can choose: the number of series
is the same however many mailboxes and phones there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from node.http.server import HttpStatistics
from node.sync.peers import PeerState

__all__ = ["exposition"]

_WAYS: Final = ("stored", "served", "synced_in", "synced_out")


def exposition(
    status: Mapping[str, Any], http: HttpStatistics | None, events: Mapping[str, int], *, accept: str = ""
) -> tuple[bytes, str]:
    """The answer to a scrape and its content type: OpenMetrics where `accept` asks for it, else Prometheus' own text.

    `status` is the administration's; `http` are the phones' server's statistics; `events` counts by kind.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(status, http, events))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector(Collector):
    """Made for one scrape."""

    def __init__(self, status: Mapping[str, Any], http: HttpStatistics | None, events: Mapping[str, int]) -> None:
        self._status = status
        self._http = http
        self._events = events

    def collect(self) -> list[Metric]:
        """See prometheus_client."""
        return [*self._about(), *self._store(), *self._sync(), *self._http_metrics()]

    def _about(self) -> list[Metric]:
        status = self._status
        events = CounterMetricFamily(
            "mailboxd_events", "What happened, by kind, as the dashboard shows.", labels=["kind"]
        )
        for kind, count in sorted(self._events.items()):
            events.add_metric([kind], count)
        return [
            InfoMetricFamily("mailboxd_build", "The program's version.", value={"version": status["version"]}),
            _gauge("mailboxd_serving", "1 if phones are served, 0 while the mailbox mode is off.", status["serving"]),
            events,
        ]

    def _store(self) -> list[Metric]:
        status, audit = self._status, self._status["audit"]
        metrics = [
            _gauge("mailboxd_messages", "Messages held, variants counted.", status["messages"]),
            _gauge("mailboxd_logs", "Logs with at least one message.", status["logs"]),
            _gauge("mailboxd_topics", "Topics with at least one message.", status["topics"]),
            _gauge("mailboxd_stored_bytes", "Content of the messages held.", status["bytes"], "bytes"),
            _counter(
                "mailboxd_evicted_messages", "Let go before their time to make room.", status["evicted"]["messages"]
            ),
            _gauge("mailboxd_retention_seconds", "How long messages live.", status["retention_s"], "seconds"),
            _gauge("mailboxd_index_blocks", "Blocks of messages in the index.", audit["of"]),
            _counter(
                "mailboxd_index_differences", "Blocks in which the index differed from the store.", audit["found"]
            ),
        ]
        if status["storage_limit"] is not None:
            metrics.append(
                _gauge("mailboxd_storage_limit_bytes", "The storage limit.", status["storage_limit"], "bytes")
            )
        if status["room"] is not None:
            free, of = status["room"]["free_bytes"], status["room"]["of_bytes"]
            metrics += [
                _gauge("mailboxd_room_free_bytes", "Room left for messages, by limit and disk.", free, "bytes"),
                _gauge("mailboxd_room_bytes", "The limit, or the disk's size, that this is of.", of, "bytes"),
            ]
        return metrics

    def _sync(self) -> list[Metric]:
        status, sessions = self._status, self._status["sessions"]
        relayed = CounterMetricFamily(
            "mailboxd_relayed_messages",
            "Messages stored by phones, served to them, and received from and sent to other mailboxes.",
            labels=["way"],
        )
        for way in _WAYS:
            relayed.add_metric([way], status["relayed"][way])
        traffic = CounterMetricFamily(
            "mailboxd_sync_bytes",
            "Bytes of syncs with other mailboxes; messages that come with hints are not among them.",
            labels=["direction"],
            unit="bytes",
        )
        for direction in ("in", "out"):
            traffic.add_metric([direction], sessions[f"bytes_{direction}"])
        peers = GaugeMetricFamily("mailboxd_peers", "Known mailboxes by how we stand with them.", labels=["state"])
        states = [peer["state"] for peer in status["peers"]]
        for state in PeerState:  # all of them: what is not there can't be alerted on
            peers.add_metric([state.value], states.count(state.value))
        return [
            relayed,
            traffic,
            peers,
            _counter("mailboxd_sync_sessions", "Syncs with other mailboxes, broken ones too.", sessions["count"]),
            _counter("mailboxd_sync_round_trips", "Questions and answers of these.", sessions["round_trips"]),
        ]

    def _http_metrics(self) -> list[Metric]:
        http = self._http
        if http is None:
            return []
        responses = CounterMetricFamily("mailboxd_http_responses", "Answers to phones by status.", labels=["status"])
        for code, count in sorted(http.responses.items()):
            responses.add_metric([str(code)], count)
        return [
            responses,
            _gauge("mailboxd_http_connections", "Open connections of phones.", http.connections),
            _counter("mailboxd_http_accepted_connections", "Connections accepted.", http.accepted),
            _counter("mailboxd_http_refused_connections", "Connections refused for want of room.", http.turned_away),
            _counter("mailboxd_http_bad_requests", "Requests that broke HTTP or came too slowly.", http.bad_requests),
        ]


def _gauge(name: str, text: str, value: float, unit: str = "") -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value, unit=unit)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)

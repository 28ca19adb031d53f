"""The metrics: their names and units, a bounded number of series, and the rules and pictures that are made of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from node.events import EventKind
from node.http.admin.metrics import exposition
from node.http.server import HttpStatistics
from node.sync.peers import PeerState

FOLDER = Path(__file__).parents[4] / "monitoring"
EVENTS = {kind.value: 3 for kind in EventKind}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def status(peers: int = 3, **more: Any) -> dict[str, Any]:
    return {
        "version": "0.1.0",
        "serving": True,
        "messages": 3,
        "logs": 2,
        "topics": 1,
        "bytes": 2**40,
        "storage_limit": 2**41,
        "room": {"free_bytes": 2**40, "of_bytes": 2**41},
        "evicted": {"messages": 4, "bytes": 5},
        "retention_s": 604800,
        "relayed": {"stored": 3, "served": 7, "synced_in": 0, "synced_out": 1},
        "sessions": {"count": 4, "round_trips": 5, "bytes_in": 6, "bytes_out": 7},
        "audit": {"checked": 5, "of": 9, "found": 2, "last_pass": None},
        "peers": [{"state": "behind", "mailbox_id": f"{at}" * 43, "reason": f"r{at}"} for at in range(peers)],
    } | more


def samples(answer: dict[str, Any]) -> dict[tuple[str, ...], float]:
    body, _ = exposition(answer, HttpStatistics(responses={200: 5}), EVENTS)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in read_prometheus(body.decode())
        for sample in family.samples
    }


def test_what_stands_there() -> None:
    found = samples(status())
    assert found["mailboxd_messages",] == 3
    assert found["mailboxd_stored_bytes",] == 2**40
    assert found["mailboxd_room_free_bytes",] == 2**40
    assert found["mailboxd_serving",] == 1
    assert found["mailboxd_relayed_messages_total", "served"] == 7
    assert found["mailboxd_sync_bytes_total", "out"] == 7
    assert found["mailboxd_http_responses_total", "200"] == 5
    assert found["mailboxd_events_total", "refused"] == 3
    assert found["mailboxd_build_info", "0.1.0"] == 1
    assert found["process_cpu_seconds_total",] > 0


def test_every_state_is_there_also_when_nobody_is_in_it() -> None:
    found = samples(status(peers=2))
    assert {state: found["mailboxd_peers", state.value] for state in PeerState} == {
        state: 2 if state is PeerState.BEHIND else 0 for state in PeerState
    }


def test_strangers_can_not_make_more_series() -> None:
    assert len(samples(status(peers=0))) == len(samples(status(peers=500)))
    assert len(samples(status())) < 100


def test_names_units_and_help() -> None:
    body, content_type = exposition(status(), HttpStatistics(), EVENTS, accept=OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    families = list(read_openmetrics(body.decode()))
    assert len(families) > 20
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert re.fullmatch(r"(mailboxd|process)_[a-z_]+", family.name)
        assert not family.unit or family.name.endswith(f"_{family.unit}")
        assert "bytes" not in family.name or family.unit == "bytes" or family.name.startswith("process"), family.name


def test_without_a_limit_there_is_no_metric_of_it() -> None:
    found = samples(status(storage_limit=None, room=None))
    assert not [name for name, *_ in found if "limit" in name or "room" in name]


# --- rules and pictures ----------------------------------------------------------------------------------------------


def expressions() -> Iterator[str]:
    for line in (FOLDER / "alerts.yml").read_text().splitlines():
        if line.strip().startswith("expr:"):
            yield line.partition("expr:")[2]
    for panel in json.loads((FOLDER / "grafana-dashboard.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_rules_and_panels_speak_of_metrics_that_exist() -> None:
    known = {name for name, *_ in samples(status())} | {"up"}
    known |= {"process_cpu_seconds_total", "process_resident_memory_bytes"}
    found = {name for text in expressions() for name in re.findall(r"\b(?:mailboxd|process)_[a-z_]+", text)}
    assert len(found) > 12
    assert found <= known


def test_every_metric_is_described() -> None:
    described = (FOLDER / "README.md").read_text()
    names = {name for name, *_ in samples(status()) if name.startswith("mailboxd")}
    assert not [name for name in names if f"`{name}`" not in described]


def test_the_grafana_dashboard_is_whole() -> None:
    board = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= board.keys()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) > 10
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
        assert panel["title"]
        assert panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"]


def promtool(*arguments: str, given: bytes = b"") -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here (Debian: apt-get install prometheus)")
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, cwd=FOLDER, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    promtool("check", "metrics", given=exposition(status(), HttpStatistics(responses={200: 1}), EVENTS)[0])


def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_each_alert_fires_when_it_should() -> None:
    promtool("test", "rules", "alerts_test.yml")

"""Logging: nobody can forge a line, JSON is always JSON, and a closed stderr harms nobody."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from node.logs import Repetitions, escape_controls, set_up_logging
from protocols.limits.replication import LOG_LINE_S, LOG_LINES_BURST

NASTY = "a\nb\r\x1b[31m\x00\x9b\u2028\ud800é"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


def logged(*, as_json: bool, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    set_up_logging(level, as_json=as_json, stream=stream)
    return stream


def test_a_line_for_people() -> None:
    stream = logged(as_json=False)
    logging.getLogger("node.sync.engine").info("%s met", "x")
    logging.getLogger("node").debug("too much")
    date, rest = stream.getvalue().split(" ", 1)
    assert rest == "info sync.engine: x met\n"
    assert len(date) == len("2026-11-21T04:00:00.123Z")


def test_control_characters_cannot_forge_a_line() -> None:
    stream = logged(as_json=False)
    logging.getLogger("node").warning("said %s", NASTY)
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.rstrip("\n").isprintable()
    assert line.endswith("said a\\nb\\r\\x1b[31m\\x00\\x9b\\u2028\\ud800é\n")


def test_a_traceback_is_indented_and_escaped() -> None:
    stream = logged(as_json=False)
    try:
        raise ValueError("x\n2026 info fake: line")
    except ValueError:
        logging.getLogger("node").exception("failed")
    lines = stream.getvalue().splitlines()
    assert len(lines) > 3
    assert all(line.startswith("    ") for line in lines[1:])


def test_json_is_one_object_per_line() -> None:
    stream = logged(as_json=True)
    logging.getLogger("node.http").info("said %s", NASTY)
    try:
        raise ValueError(NASTY)
    except ValueError:
        logging.getLogger("elsewhere").exception("failed")
    first, second = stream.getvalue().splitlines()
    assert json.loads(first) | {"time": ""} == {
        "time": "",
        "level": "info",
        "source": "http",
        "message": f"said {NASTY}",
    }
    assert "Traceback" in json.loads(second)["trace"]


@pytest.mark.parametrize(("level", "libp2p"), [("debug", "WARNING"), ("error", "ERROR")])
def test_noisy_libraries_are_kept_down(level: str, libp2p: str) -> None:
    logged(as_json=False, level=level)
    assert logging.getLevelName(logging.getLogger("libp2p").level) == libp2p


def test_what_is_repeated_for_ever_is_written_now_and_then() -> None:
    now_s = 0.0
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(Repetitions(now_at=lambda: now_s))
    log = logging.Logger("node.test")
    log.addHandler(handler)

    def repeat(times: int) -> list[str]:
        for number in range(times):
            log.warning("lie %d", number)
        lines = out.getvalue().splitlines()
        out.seek(0)
        out.truncate()
        return lines

    assert len(repeat(10 * LOG_LINES_BURST)) == LOG_LINES_BURST
    now_s = LOG_LINE_S
    assert repeat(2) == [f"lie 0 ({9 * LOG_LINES_BURST} lines like this one were left out)"]
    log.warning("something else")
    log.debug("detail")
    assert out.getvalue().splitlines() == ["something else", "detail"]


def test_plain_text_stays_as_it_is() -> None:
    assert escape_controls("Küche – 3 °C …") == "Küche – 3 °C …"


def test_a_closed_stderr_harms_nobody() -> None:
    script = "import sys, logging\nfrom node.logs import set_up_logging\nset_up_logging('info', as_json=False)\n"
    script += "sys.stdin.read()\nfor _ in range(3): logging.info('x')\nprint('alive')"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    process.stderr.close()
    process.stderr = None
    assert process.communicate()[0] == "alive\n"

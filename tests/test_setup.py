"""The set-up script tells in one line what is missing; stand-ins for Python and pip fail as the real ones do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SETUP = Path(__file__).parent.parent / "scripts" / "setup.sh"

PYTHON = f"""#!/bin/sh
case "$*" in
    *"sys.version_info < (3, 11))") exit "${{TOO_OLD:-0}}" ;;
    *"import venv, ensurepip") exit "${{NO_VENV:-0}}" ;;
    --version) echo "Python 3.9.2" ;;
    *fcntl*) exec {sys.executable} "$@" ;;
    "-m venv --clear .venv")
        [ -z "${{NO_ROOM:-}}" ] || {{ echo "Error: [Errno 28] No space left on device" >&2; exit 1; }}
        mkdir -p .venv/bin && cp "$PIP" .venv/bin/python ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""

PIP = """#!/bin/sh
case "$*" in
    -c*) exit "${BROKEN:-0}" ;;
    *requirements.lock*) [ -z "${SLOW:-}" ] || { echo going on; sleep 30; }
        [ -z "${COMPLAINT:-}" ] || { echo "$COMPLAINT"; exit 1; } ;;
    *"-e ."*) ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""


def environment(folder: Path, **variables: str) -> dict[str, str]:
    for name, text in (("python", PYTHON), ("pip", PIP)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {**os.environ, "PYTHON": str(folder / "python"), "PIP": str(folder / "pip"), **variables}


def set_up(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SETUP, "requirements.lock"],
        cwd=folder,
        env=environment(folder, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_is_missing(tmp_path: Path) -> None:
    done = set_up(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / ".venv" / ".place").read_text().strip() == str(tmp_path)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"PYTHON": "no-such-python"}, "'no-such-python' was not found"),
        ({"TOO_OLD": "1"}, "Python 3.9.2 is too old"),
        ({"NO_VENV": "1"}, "apt-get install python3-venv"),
        ({"NO_ROOM": "1"}, "No space left on device"),
        ({"COMPLAINT": "src/curve.h:4:10: fatal error: gmp.h: No such file or directory"}, "libgmp-dev"),
        ({"COMPLAINT": "src/curve.h:2:10: fatal error: Python.h: No such file or directory"}, "python3-dev"),
        ({"COMPLAINT": "error: command 'aarch64-linux-gnu-gcc' failed: No such file or directory"}, "build-essential"),
        ({"COMPLAINT": "error: [Errno 2] No such file or directory: 'cc'"}, "build-essential"),
        ({"COMPLAINT": "ERROR: Could not install packages: [Errno 28] No space left on device"}, "the disk is full"),
        (
            {
                "COMPLAINT": "WARNING: Retrying after connection broken by 'NewConnectionError'\n"
                "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)"
            },
            "the set-up needs the internet",
        ),
        ({"COMPLAINT": "HTTPSConnectionPool(host='x', port=443): Max retries exceeded"}, "needs the internet"),
    ],
)
def test_what_is_missing_is_told_in_one_line(tmp_path: Path, variables: dict[str, str], told: str) -> None:
    done = set_up(tmp_path, **variables)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("mailboxd set-up: ")
    assert told in line


def test_what_nobody_thought_of_is_shown(tmp_path: Path) -> None:
    done = set_up(tmp_path, COMPLAINT="a\nb\nc\nd\ne\nthe very last straw")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2] == "the very last straw"
    assert done.stderr.splitlines()[-1].endswith("the whole story is in .venv/setup.log")


def test_a_broken_environment_is_made_anew(tmp_path: Path) -> None:
    assert set_up(tmp_path).returncode == 0
    (tmp_path / ".venv" / "bin" / "python").write_text("#!/no/such/interpreter\n")
    assert set_up(tmp_path).returncode == 0
    assert (tmp_path / ".venv" / "bin" / "python").read_text() == PIP


def test_an_interruption_is_told_and_the_lock_is_free_again(tmp_path: Path) -> None:
    log = tmp_path / ".venv" / "setup.log"
    process = subprocess.Popen(
        [SETUP, "requirements.lock"],
        cwd=tmp_path,
        env=environment(tmp_path, SLOW="1"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert told == "mailboxd set-up: interrupted; the same command goes on where it was\n"
    assert set_up(tmp_path).returncode == 0

"""`mailboxd service`, `update` and `run --keep-awake` as a user calls them."""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from node.cli.program import main
from node.service.awake import kept_awake

HAVE = importlib.metadata.version("mailboxd")


class _Handler(http.server.BaseHTTPRequestHandler):
    answers: dict[str, bytes] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        answer = self.answers.get(self.path)
        self.send_response(200 if answer is not None else 404)
        self.end_headers()
        with suppress(ConnectionError):  # whoever has read enough hangs up
            self.wfile.write(answer or b"no")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def source() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


@pytest.mark.parametrize(
    ("answer", "newest"),
    [
        ({"version": "99.1"}, "99.1"),
        ({"tag_name": "v99.0.0"}, "99.0.0"),
        ({"info": {"version": "99.0rc1"}}, "99.0rc1"),
        ({"version": HAVE}, None),
        ({"version": f"{HAVE}.0"}, None),
        ({"version": f"{HAVE}rc1"}, None),
        ({"version": "0.0.9"}, None),
    ],
)
def test_update_compares(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, source: str, answer: object, newest: str | None
) -> None:
    _Handler.answers = {"/": json.dumps(answer).encode()}
    options = ("update", "--check", "--source", source, "--data-dir", str(tmp_path))
    code, out, err = call(capsys, *options)
    assert (code, err) == (0, "")
    assert out.startswith(f"mailboxd {newest} is out" if newest else f"mailboxd {HAVE} is the newest")
    assert json.loads(call(capsys, *options, "--json")[1])["is_newer"] is (newest is not None)


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[1]", b"{}", b'{"version": "\\u001b[31m1"}', b"[" * 99_999, b"x" * 9_000_000]
)
def test_update_takes_no_nonsense(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, source: str, answer: bytes
) -> None:
    _Handler.answers = {"/x": answer}
    for path in ("/x", "/missing"):
        code, out, err = call(capsys, "update", "--check", "--source", source + path, "--data-dir", str(tmp_path))
        assert (code, out, err.count("\n")) == (1, "", 1)


def test_update_is_off_unless_a_source_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MAILBOXD_UPDATE_SOURCE", raising=False)
    assert "there is no source" in call(capsys, "update", "--check", "--data-dir", str(tmp_path))[2]
    assert "not an http" in call(capsys, "update", "--check", "--source", "file:///etc/passwd")[2]
    assert call(capsys, "update")[0] == 2


def test_service_status_and_uninstall_where_there_is_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    options = ("--data-dir", str(tmp_path / "data"))
    assert call(capsys, "service", "uninstall", *options)[:2] == (0, "there is no service\n")
    code, out, _ = call(capsys, "service", "status", *options)
    assert (code, out) == (1, "there is no service; `mailboxd service install` makes one\n")
    state = json.loads(call(capsys, "service", "status", "--json", *options)[1])
    assert (state["installed"], state["active"]) == (False, False)


def test_keep_awake_needs_its_library(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wakepy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    code, _, err = call(capsys, "run", "--keep-awake", "--data-dir", str(tmp_path / "data"))
    assert code == 1
    assert f"{sys.executable} -m pip install wakepy" in err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("is_active", [True, False])
def test_keep_awake_is_honest(
    is_active: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a stand-in that has wakepy's interface."""
    calls: list[str] = []

    class Mode:
        active = is_active

        def __enter__(self) -> Mode:
            calls.append("on")
            return self

        def __exit__(self, *_: object) -> None:
            calls.append("off")

    class Keep:
        @staticmethod
        def running(*, on_fail: str) -> Mode:
            assert on_fail == "pass"
            return Mode()

    library = ModuleType("wakepy")
    library.keep = Keep  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wakepy", library)
    with kept_awake() as awake:
        assert awake is is_active
        assert calls == ["on"]
    assert calls == ["on", "off"]
    assert ("does not let us" in caplog.text) is not is_active

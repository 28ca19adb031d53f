"""Wheel and source archive: everything is in them, and what is installed from them runs. The pages build a site."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.mailboxes import clean_environment, eventually

ROOT = Path(__file__).parent.parent
PACKAGES = ("mailboxd", "node", "protocols", "simulations")


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.splitlines())


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both, made from a copy of what is tracked."""
    if importlib.util.find_spec("build") is None:
        pytest.skip("needs the package `build`")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return target


@pytest.mark.slow
def test_everything_is_in_the_wheel_and_in_the_archive(dist: Path) -> None:
    (wheel,), (archive,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as packed:
        in_wheel = set(packed.namelist())
    with tarfile.open(archive) as unpacked:
        in_archive = {name.split("/", 1)[1] for name in unpacked.getnames() if "/" in name}
    assert tracked() <= in_wheel
    assert {*tracked(), "README.md", "LICENSE", "pyproject.toml"} <= in_archive
    ours = {name.split("/")[0] for name in in_wheel}
    assert {name for name in ours if not name.endswith(".dist-info")} == set(PACKAGES)


@pytest.fixture
def installed(dist: Path, tmp_path: Path) -> Path:
    """The program in a fresh environment. The wheel was made from the archive; what it depends on is taken from this
    environment, for want of a network."""
    (wheel,) = dist.glob("*.whl")
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "zz-dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(place / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--no-deps", "--no-index", "--ignore-installed", "--quiet", str(wheel)]
    subprocess.run(pip, check=True, cwd=tmp_path, timeout=300, env=_environment())
    where = [python, "-c", "import node; print(node.__file__)"]
    found = subprocess.run(where, capture_output=True, text=True, check=True, cwd=tmp_path, env=_environment())
    assert str(place) in found.stdout
    return place / "bin" / "mailboxd"


def _environment() -> dict[str, str]:
    return {name: value for name, value in clean_environment().items() if name != "PYTHONPATH"}


@pytest.mark.slow
def test_what_is_installed_runs(installed: Path, tmp_path: Path) -> None:
    def call(*arguments: str) -> str:
        command = [str(installed), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path, env=_environment()
        ).stdout

    assert call("--version") == f"mailboxd {_version()}\n"
    assert "two-lans" in call("simulate", "--list")
    assert ".TH MAILBOXD" in call("man")
    data = tmp_path / "data"
    options = ["--data-dir", str(data), "--http", "127.0.0.1:0", "--p2p", "127.0.0.1:0", "--no-mdns"]
    process = subprocess.Popen([str(installed), "run", *options], cwd=tmp_path, env=_environment())
    try:
        eventually((data / "node.json").exists, timeout_s=60, what="the start")
        assert json.loads(call("status", "--json", "--data-dir", str(data)))["messages"] == 0
        process.terminate()
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


def _version() -> str:
    match = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert match is not None
    return match[1]


def test_the_pages_build_a_site_without_a_warning() -> None:
    """Where MkDocs is not to be had, that pages and what they link to can be gathered."""
    command = [sys.executable, "scripts/docs.py"]
    if importlib.util.find_spec("mkdocs") is None:
        gather = "import sys; sys.path.insert(0, 'scripts'); import docs; docs.gather(docs.ROOT / 'build' / 'docs')"
        command = [sys.executable, "-c", gather]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert (ROOT / "build" / "docs" / "README.md").exists()


def test_the_containerfile_names_what_there_is() -> None:
    lines = (ROOT / "Containerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]]
    assert set(PACKAGES) <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    assert "USER mailbox" in lines
    assert 'ENTRYPOINT ["mailboxd"]' in lines

"""Builds the documentation site in build/site out of the Markdown pages where they are. Needs the extra `docs`.

MkDocs wants all pages in one folder; ours stand beside what they describe. So they are copied, with all they link to.
Any warning of MkDocs (a link that leads nowhere, for instance) fails the build.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CHANGELOG.md", "docs/**/*.md", "protocols/**/*.md", "simulations/**/*.md", "node/**/*.md")
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")

CONFIG = """\
site_name: mailboxd
docs_dir: {source}
site_dir: {site}
theme:
  name: readthedocs
  highlightjs: false
plugins: []
use_directory_urls: false
validation:
  omitted_files: info
  absolute_links: warn
  unrecognized_links: warn
  anchors: warn
"""


def gather(target: Path) -> list[Path]:
    """Copies all pages and what they link to below `target`; returns the pages."""
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    for page in pages:
        copy = target / page.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(LINK.sub(partial(_link, page=page, target=target), page.read_text()))
    return pages


def _link(match: re.Match[str], page: Path, target: Path) -> str:
    """A link as it stands on the site; what it leads to is copied, a folder's page stands for the folder."""
    start, where, end = match.groups()
    if "://" in where or where.startswith("mailto:"):
        return match[0]
    file = (page.parent / where).resolve()
    if file.is_dir():
        where, file = f"{where.rstrip('/')}/README.md", file / "README.md"
    if not file.is_relative_to(ROOT) or not file.is_file():
        return match[0]  # MkDocs will complain
    if file.suffix != ".md":
        copy = target / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return f"{start}{where}{end}"


def main() -> int:
    """The exit code of MkDocs."""
    build = ROOT / "build"
    source = build / "docs"
    shutil.rmtree(source, ignore_errors=True)
    gather(source)
    config = build / "mkdocs.yml"
    config.write_text(CONFIG.format(source=source, site=build / "site"))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", str(config)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

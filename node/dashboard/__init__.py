"""The dashboard's page: static files, as they are. No build step, nothing from elsewhere.

`index.html` is the frame, `dashboard.css` all looks. Of the scripts `main.js` joins the others: `session.js` (getting
in, requests), `stream.js` (live values), `state.js` (verdict, figures, neighbours), `chart.js` (traffic), `lists.js`
(topics, events), `settings.js`, `access.js` (password, phones); `confirm.js`, `dom.js` and `words.js` help. What a peer
or a client can choose is only set as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["page_files"]

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def page_files() -> Mapping[str, tuple[bytes, str]]:
    """Path -> (content, content type) of every file of the page; the page itself is at `/`."""
    files = {}
    for path in sorted(Path(__file__).parent.iterdir()):
        if path.suffix in _TYPES:
            name = "/" if path.name == "index.html" else f"/{path.name}"
            files[name] = path.read_bytes(), _TYPES[path.suffix]
    return files

"""Posts a file as a store, and prints the status: `http_send.py PORT FILE`. Its own process, to share no lock."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("POST", "/blobs/store", Path(sys.argv[2]).read_bytes(), {"Content-Type": "application/json"})
print(connection.getresponse().status)

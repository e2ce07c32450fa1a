"""The ClickHouse engine of chdb behind HTTP, for tests: clickhouse_front.py PORT FOLDER; runs in chdb's environment.

It takes what the server's HTTP interface takes, as far as the relay uses it: a query in the URL, rows in the body. It
is the real engine with its tables on disk, not the server: it knows nothing of accounts and replication.
"""

import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from chdb import session  # type: ignore[import-not-found]

_engine = session.Session(sys.argv[2])
_lock = threading.Lock()


class Front(BaseHTTPRequestHandler):
    """One request: a query and its rows."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, b"Ok.\n")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        query = parse_qs(urlsplit(self.path).query)["query"][0]
        try:
            with _lock:
                found = _engine.query(f"{query}\n{body.decode()}" if body else query, "JSONEachRow")
                data = found.bytes()
        except Exception as error:  # noqa: BLE001  # whatever the engine says, the client is to read it
            message = str(error)
            code = re.search(r"Code: (\d+)", message)
            self._answer(500, message.encode(), code.group(1) if code else "0")
        else:
            self._answer(200, data or b"")

    def _answer(self, status: int, body: bytes, code: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if code is not None:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as its base names it
        """Say nothing."""


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Front).serve_forever()

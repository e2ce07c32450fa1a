"""The ClickHouse engine of chdb behind HTTP, for tests: clickhouse_front.py PORT FOLDER; runs in chdb's environment.

It takes what the server's HTTP interface takes, as far as we use it: a query in the URL, in the body, or in both; rows
behind it; parameters, settings and a database in the URL. It is the real engine with its tables on disk, not the
server: it knows nothing of accounts and replication. Its session cannot leave `readonly` again, so that setting is
given with each SELECT alone, and other statements that come with it are refused here, as the server does.
"""

import re
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb import session  # type: ignore[import-not-found]

_engine = session.Session(sys.argv[2])
_lock = threading.Lock()
#: What in a URL is no setting, and settings of HTTP itself, which the engine does not know.
_NO_SETTING = {"query", "database", "default_format"}
_OF_HTTP = {"wait_end_of_query", "cancel_http_readonly_queries_on_client_close"}
_QUERY = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)
_REFUSED = "Code: 164. DB::Exception: Cannot execute query in readonly mode. (READONLY)"


def run(given: Mapping[str, str], body: str) -> bytes:
    """Return what the engine answers; raises what it says instead."""
    query = "\n".join(filter(None, (given.get("query"), body)))
    values = {name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")}
    settings = {name: value for name, value in given.items() if name not in {*_NO_SETTING, *_OF_HTTP}}
    listed = ", ".join(f"{name} = '{value}'" for name, value in settings.items() if not name.startswith("param_"))
    if listed and not _QUERY.match(query):
        raise ValueError(_REFUSED)
    with _lock:
        if "database" in given:
            _engine.query(f"USE {given['database']}")
        text = f"{query} SETTINGS {listed}" if listed else query
        try:
            found = _engine.query(text, given.get("default_format", "JSONEachRow"), params=values or None)
        except Exception:
            _engine.query("SELECT 1")  # chdb puts what a query had written when it failed before the next answer
            raise
        return found.bytes() or b""


class Front(BaseHTTPRequestHandler):
    """One request: a query and its rows."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, b"Ok.\n")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            data = run(given, body.decode())
        except Exception as error:  # noqa: BLE001  # whatever the engine says, the client is to read it
            message = str(error)
            code = re.search(r"Code: (\d+)", message)
            self._answer(500, message.encode(), code.group(1) if code else "0")
        else:
            self._answer(200, data)

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

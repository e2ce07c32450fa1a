"""Small real things for the request log: spans as records, and stores in temporary SQLite files."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from otel_telemetry.base import metrics, records
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.store.store import Store, open_store
from tests.exporters.forwarded import serving
from tests.exporters.known import known
from tests.exporters.otlp_receiver import Answer, Receiver, http_receiver
from tests.long import fewer

READ_IN = ("sqlite", "postgres", "clickhouse")
TRACE = "0af7651916cd43dd8448eb211c80319c"
SQLITE = sqlite.dialect()
SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND


def make_span(
    number: int,
    parent: int | None = None,
    attributes: dict[str, Any] | None = None,
    *,
    trace_id: str = TRACE,
    service: str = "chat",
    kind: str = "INTERNAL",
    local_root: bool | None = None,
    start: float = 0.0,
    seconds: float = 1.0,
    **other: Any,
) -> records.Span:
    """Return a span whose ids are made from small numbers."""
    root = local_root if local_root is not None else parent is None or kind in {"SERVER", "CONSUMER"}
    start_ns = START + round(start * SECOND)
    values: dict[str, Any] = {
        "trace_id": trace_id,
        "span_id": f"{number:016x}",
        "parent_span_id": None if parent is None else f"{parent:016x}",
        "local_root": root,
        "name": f"span {number}",
        "kind": kind,
        "start_ns": start_ns,
        "end_ns": start_ns + round(seconds * SECOND),
        "status": "UNSET",
        "status_message": "",
        "attributes": attributes or {},
        "events": (),
        "resource": {"service.name": service},
    }
    return records.Span(**{**values, **other})


def chat(model: str = "gpt-4o-mini", tokens: tuple[int, int] = (100, 20), **more: Any) -> dict[str, Any]:
    """Return the attributes of a model call in the current convention."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": tokens[0],
        "gen_ai.usage.output_tokens": tokens[1],
        **{key.replace("__", "."): value for key, value in more.items()},
    }


@pytest.fixture(name="span")
def span_fixture() -> Callable[..., records.Span]:
    return make_span


@pytest.fixture(name="chat")
def chat_fixture() -> Callable[..., dict[str, Any]]:
    return chat


@pytest.fixture(name="open_url")
def open_url_fixture(tables: Path) -> Iterator[Callable[..., Store]]:
    """Opens stores and closes them at the end."""
    stores: list[Store] = []

    def open_url(url: str, **settings: Any) -> Store:
        file = Path(url.removeprefix("sqlite:///"))
        if file.parent.is_dir() and not file.exists():
            shutil.copy(tables, file)
        stores.append(open_store(RequestLogSettings(url=url, **settings)))
        return stores[-1]

    yield open_url
    for store in stores:
        store.close()


@pytest.fixture(name="open_at")
def open_at_fixture(open_url: Callable[..., Store]) -> Callable[..., Store]:
    """Opens stores in files and closes them at the end."""
    return lambda path, **settings: open_url(f"sqlite:///{path}", **settings)


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request, with_tables):
    """Names a database without rows: a file, and one of a real server."""
    return with_tables(request.param)


@pytest.fixture(name="read_in", params=fewer(READ_IN, READ_IN[:2], "e2e"))
def read_in_fixture(request):
    """Names each database that can be asked; rows for ClickHouse are written to SQLite and sent on (`as_read`)."""
    return request.param


@pytest.fixture(name="dropped")
def dropped_fixture(monkeypatch):
    """What was counted as dropped since: (items, reason)."""
    counted: list[tuple[int, str]] = []
    monkeypatch.setattr(metrics.dropped, "add", lambda n, attributes: counted.append((n, attributes["reason"])))
    return counted


@pytest.fixture(name="loki")
def loki_fixture() -> Iterator[Receiver]:
    """Runs a server that takes whatever is pushed, as Loki answers, and keeps it."""
    with http_receiver(Receiver()) as receiver:
        receiver.answer = lambda got: Answer(204)
        yield receiver


@pytest.fixture(name="protocol", params=["grpc", "http"])
def protocol_fixture(request: pytest.FixtureRequest) -> Any:
    """Names each protocol of OTLP in turn."""
    return request.param


@pytest.fixture(name="receiver")
def receiver_fixture(protocol: str) -> Iterator[Receiver]:
    """Runs an OTLP receiver of that protocol."""
    with serving(protocol, Receiver()) as made:
        yield made


@pytest.fixture(name="make")
def make_fixture(protocol: str) -> Iterator[Callable[..., ForwardSink]]:
    """Makes sinks that forward to a receiver, with that protocol, and closes them: `make(receiver, **settings)`."""
    made: list[ForwardSink] = []

    def sink(receiver: Receiver, **settings: Any) -> ForwardSink:
        endpoint = f"http://127.0.0.1:{receiver.port}"
        config = ForwardSettings(**{"endpoint": endpoint, "protocol": protocol, **settings})
        made.append(ForwardSink("forward.there", config, "forward.there"))
        return made[-1]

    yield sink
    for each in made:
        each.close()


@pytest.fixture(name="store")
def store_fixture(open_at, tmp_path):
    return open_at(tmp_path / "log.db")


@pytest.fixture(name="rows")
def rows_fixture() -> Callable[..., list[dict[str, Any]]]:
    """Reads a table with nothing of ours in between, in key order; `facts` are what is known of spans."""

    def rows(path: Path, table: str) -> list[dict[str, Any]]:
        if table == "facts":
            engine = sa.create_engine(f"sqlite:///{path}")
            with engine.connect() as reading:
                found = known(reading)
            engine.dispose()
            return found
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")]  # noqa: S608
        finally:
            connection.close()

    return rows


@pytest.fixture(name="written", params=["sqlite", "postgres"])
def written_fixture(request, open_at, tmp_path, rows):
    """Writes spans and returns (requests, calls): as SQLite shows them, whichever database they are in."""

    def to_sqlite(*spans: records.Span, **settings: Any) -> Any:
        path = tmp_path / "written.db"
        open_at(path, **settings).write(spans)
        return rows(path, "request_log"), rows(path, "llm_call")

    def to_postgres(*spans: records.Span, **settings: Any) -> Any:
        store = open_store(RequestLogSettings(url=request.getfixturevalue("shared_database"), **settings))
        try:
            store.write(spans)
            return postgres_rows(store, "request_log"), postgres_rows(store, "llm_call")
        finally:
            assert store._engine is not None
            with store._engine.begin() as connection:
                for table in reversed(schema.metadata.sorted_tables):
                    connection.execute(sa.delete(table))
            store.close()

    return to_sqlite if request.param == "sqlite" else to_postgres


@pytest.fixture(scope="session", name="shared_database")
def shared_database_fixture(postgres) -> str:
    """One PostgreSQL database for many tests, each of which leaves it empty."""
    url: str = postgres.database()
    return url


def postgres_rows(store: Store, name: str) -> list[dict[str, Any]]:
    """Read a table in the order of its key, its values as SQLite would show them."""
    table = schema.metadata.tables[name]
    assert store._engine is not None
    with store._engine.connect() as connection:
        found = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings().all()
    processors = {c.name: c.type.dialect_impl(SQLITE).bind_processor(SQLITE) for c in table.c}
    return [{key: as_sqlite(value, processors[key]) for key, value in row.items()} for row in found]


def as_sqlite(value: Any, processor: Callable[[Any], Any] | None) -> Any:
    return value if processor is None or value is None else processor(value)

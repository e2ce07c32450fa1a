"""Small real things for the request log: spans as records, and stores in temporary SQLite files."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry import records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store import Store, open_store

TRACE = "0af7651916cd43dd8448eb211c80319c"
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


@pytest.fixture(name="open_at")
def open_at_fixture():
    """Opens stores and closes them at the end."""
    stores: list[Store] = []

    def open_at(path: Path, **settings: Any) -> Store:
        stores.append(open_store(RequestLogSettings(url=f"sqlite:///{path}", **settings)))
        return stores[-1]

    yield open_at
    for store in stores:
        store.close()


@pytest.fixture(name="store")
def store_fixture(open_at, tmp_path):
    return open_at(tmp_path / "log.db")


@pytest.fixture(name="rows")
def rows_fixture() -> Callable[..., list[dict[str, Any]]]:
    """Reads a table with nothing of ours in between, in the order of its key."""

    def rows(path: Path, table: str) -> list[dict[str, Any]]:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            connection.row_factory = sqlite3.Row
            key = "trace_id, span_id" if table == "span_node" else "id"
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY {key}")]  # noqa: S608
        finally:
            connection.close()

    return rows


@pytest.fixture(name="written")
def written_fixture(open_at, tmp_path, rows):
    """Writes spans and returns (requests, calls)."""

    def written(*spans: records.Span, **settings: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        path = tmp_path / "written.db"
        store = open_at(path, **settings)
        store.write(spans)
        return rows(path, "request_log"), rows(path, "llm_call")

    return written

"""What is filtered leaves as a file: from the page and from the command, the same rows."""

import io
import json
from pathlib import Path

import pytest
from starlette.datastructures import QueryParams
from typer.testing import CliRunner

from otel_telemetry.cli import app
from otel_telemetry.ui import asked, export
from otel_telemetry.ui.problems import Problem
from otel_telemetry.ui.reading import Reading


def test_parquet_has_the_rows_with_their_types(client):
    parquet = pytest.importorskip("pyarrow.parquet")
    answer = client.get("/ui/requests.parquet?range=1h&route=search")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    table = parquet.read_table(io.BytesIO(answer.content))
    lines = [json.loads(line) for line in client.get("/ui/requests.jsonl?range=1h&route=search").text.splitlines()]
    assert table.num_rows == len(lines) == 40
    assert str(table.schema.field("cost_usd").type) == "decimal128(20, 12)"
    assert str(table.schema.field("ts").type) == "timestamp[us, tz=UTC]"
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    costs = [None if row["cost_usd"] is None else float(row["cost_usd"]) for row in rows]
    assert costs == [None if line["cost_usd"] is None else float(line["cost_usd"]) for line in lines]
    assert parquet.read_table(io.BytesIO(client.get("/ui/requests.parquet?route=none").content)).num_rows == 0


def test_the_command_writes_what_the_page_shows(url: str, client, tmp_path: Path):
    run = CliRunner()
    for ending in ("csv", "jsonl"):
        path = tmp_path / f"failed.{ending}"
        found = run.invoke(app, ["export", "--db", url, "-o", str(path), "-f", "range=1h", "-f", "outcome=failed"])
        assert found.exit_code == 0, found.output
        assert path.read_bytes() == client.get(f"/ui/requests.{ending}?range=1h&outcome=failed").content
    assert run.invoke(app, ["export", "--db", url, "-f", "range=1h"]).stdout.count("\n") == 121


def test_exports_beyond_those_read_at_once_are_told_to_wait(url: str, client):
    turns = export.Turns()
    view = asked.view(QueryParams("range=1h"))
    reading = Reading(url)
    held = [turns.held(export.pages(reading, view)) for _ in range(export.AT_ONCE)]
    assert all(next(pages) for pages in held)
    with pytest.raises(Problem) as refused:
        next(turns.held(export.pages(reading, view)))
    assert (refused.value.status, refused.value.retry_after) == (503, 5)
    assert "4 exports" in str(refused.value)
    held.pop().close()  # who asked went away in the middle
    assert next(turns.held(export.pages(reading, view)))
    assert all(client.get("/ui/requests.csv?range=1h").status_code == 200 for _ in range(2 * export.AT_ONCE))


def test_columns_are_those_that_are_asked_for(client):
    page = client.get("/ui/requests?range=1h&columns=cost&columns=user").text
    assert ">user</th>" in page
    assert ">route</th>" not in page
    assert client.get("/ui/requests?columns=colour").status_code == 400


def test_who_asks_for_the_headers_alone_takes_no_turn(client):
    for _ in range(2 * export.AT_ONCE):
        answer = client.head("/ui/requests.csv?range=1h")
        assert answer.headers["content-disposition"] == 'attachment; filename="requests.csv"'
        assert not answer.content
    assert client.get("/ui/requests.csv?range=1h").status_code == 200

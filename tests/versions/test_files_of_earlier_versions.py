"""Files that an earlier version wrote are opened by this one: a database, a spool and a policy.

What is in `schema_0009` was written by the code of commit 16ee8c4, before its modules were moved: a store was given
spans of three traces in two batches (`request_log.sql` is the dump), a spool three batches, of which one destination
had one and could not take another. The values that a policy makes are those that the code of then made of the same.
"""

import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.exporters.request_log.store.store import open_store
from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.gateway.spool.writer import Spool
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor
from tests.exporters.conftest import chat, make_span

WRITTEN: Final = Path(__file__).parent / "schema_0009"
SECRET: Final = "an-example-of-a-secret"


@pytest.fixture(name="url")
def url_fixture(tmp_path: Path) -> str:
    file = tmp_path / "log.db"
    with sqlite3.connect(file) as connection:
        connection.executescript((WRITTEN / "request_log.sql").read_text(encoding="utf-8"))
    connection.close()
    return f"sqlite:///{file}"


def rows(url: str, table: str) -> list[dict[str, Any]]:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")]  # noqa: S608
    connection.close()
    return found


@pytest.mark.parametrize("table", ["request_log", "llm_call"])
def test_rows_of_then_are_what_they_were(url: str, table: str) -> None:
    then = rows(url, table)
    engine = database.connect(url)
    with engine.connect() as connection:
        assert connection.scalar(sa.text(f"SELECT version_num FROM {schema.VERSION_TABLE}")) == schema.HEAD  # noqa: S608
    engine.dispose()
    now = rows(url, table)
    assert len(then) == 2
    for before, after in zip(then, now, strict=True):
        assert {name: after[name] for name in before} == before


def test_a_late_span_of_then_still_belongs_to_its_request(url: str) -> None:
    store = open_store(RequestLogSettings(url=url, store_text=True))
    store.write([make_span(3, 1, chat("gpt-4o", (10, 1)), trace_id="a" * 32, start=2.6, seconds=0.2)])
    store.write([make_span(2, 1, chat("no-such-model", (5, 7)), trace_id="b" * 32, start=0.2)])  # again
    store.close()
    first, second = rows(url, "request_log")
    assert (first["llm_calls"], first["prompt_tokens"], first["route"]) == (2, 130, "direct")
    assert (second["id"], second["llm_calls"], second["prompt_tokens"]) == ("req-7", 1, 5)
    assert len(rows(url, "llm_call")) == 3


@pytest.fixture(name="folder")
def folder_fixture(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    file = folder / "spool.db"
    file.write_bytes(gzip.decompress((WRITTEN / "spool.db.gz").read_bytes()))
    file.chmod(0o600)
    return folder


def test_a_spool_of_then_goes_on_where_it_stood(folder: Path) -> None:
    spool = Spool(folder, 8 << 20, 24)
    try:
        spool.attach(["request_log", "forward.next"])
        assert [batch.body for batch in spool.due("request_log", 1 << 20, 10)] == [b"third"]
        assert [batch.body for batch in spool.due("forward.next", 1 << 20, 10)] == [b"first", b"second", b"third"]
        assert spool.append("traces", b"fourth", 1).result(10) == 4
        assert [batch.body for batch in spool.due("request_log", 1 << 20, 10)] == [b"third", b"fourth"]
    finally:
        spool.close()
    with SpoolReader(folder) as reader:
        (dead,) = reader.dead_letters()
        assert (dead.exporter, dead.signal, dead.reason) == ("request_log", "logs", "no table would take it")


@pytest.mark.parametrize(("service", "iban"), [("", "[REDACTED_IBAN]"), ("billing", "****3000")])
def test_a_policy_of_then_means_what_it_meant(service: str, iban: str) -> None:
    settings = RedactionSettings.model_validate({"policy": WRITTEN / "policy.yaml", "pseudonyms": {"secret": SECRET}})
    redactor = Redactor(settings).for_service(service)
    given = {
        "app.build": "jane@example.com",
        "app.debug.x": "gone",
        "app.order": json.dumps({"items": [{"owner": "Jane"}]}),
        "note": "jane@example.com paid with 4111 1111 1111 1111 from 127.0.0.1 and 10.0.0.7",
        "iban": "DE89370400440532013000",
    }
    assert dict(filter(None, (redactor.item(key, value) for key, value in given.items()))) == {
        "app.build": "jane@example.com",
        "app.order": '{"items": [{"owner": "k1_7816d87d3462"}]}',
        "note": "k1_57cfc3df6c30@example.com paid with ****1111 from 127.0.0.1 and [REDACTED_IP_ADDRESS]",
        "iban": iban,
    }

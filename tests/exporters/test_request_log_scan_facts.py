"""Scanning what is known of traces: it is looked at span by span, and written anew where something has to change."""

import pytest
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.derive.facts import IrrelevantSpan
from otel_telemetry.exporters.request_log.operate import scan
from otel_telemetry.exporters.request_log.operate.scan import Scan
from otel_telemetry.exporters.request_log.store.facts_table import FactsTable
from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor
from tests.exporters.known import known, rows_of
from tests.exporters.scanning import SECRET, Meanwhile, cleaner, everything, run
from tests.suite.operated import no_bytes_of

MAIL = "jane.doe@example.com"
CARD = "4111 1111 1111 1111"
VALUES = (MAIL, CARD, "jane.doe", "her-session")
CLEAN = "c" * 32
#: What is found in the rows of spans.
IN_SPANS = {
    ("trace_facts", "request_fields", "CREDIT_CARD"): 1,
    ("trace_facts", "request_fields", "EMAIL"): 2,
    ("trace_facts", "caller", "USER_ID"): 1,
    ("trace_facts", "caller", "SESSION_ID"): 1,
    ("trace_facts", "user_id", "USER_ID"): 1,
}


@pytest.fixture(name="store")
def store_fixture(open_url, url):
    return open_url(url)


@pytest.fixture(name="other")
def other_fixture(url, open_url, tmp_path, request):
    """Name another empty database of that kind, and open it."""
    is_file = url.startswith("sqlite")
    name = f"sqlite:///{tmp_path / 'other.db'}" if is_file else request.getfixturevalue("postgres").database()
    return name, open_url(name)


@pytest.fixture(name="spans")
def spans_fixture(span, chat):
    """Return a complete trace: the app's span, that of its model call, and one without attributes."""
    request_fields = {
        "request_log.route": "a",
        "request_log.note": f"paid with {CARD}",
        "request_log.error": f"no {MAIL}",
    }
    call = {**chat(), "user.id": "jane.doe", "session.id": "her-session"}
    first, second = span(1, None, request_fields), span(2, 1, call)
    irrelevant = IrrelevantSpan(
        first.trace_id, f"{3:016x}", first.span_id, "chat", 1_790_000_000_000_000, True, {"scope": MAIL}
    )
    return [first, second, irrelevant]


@pytest.fixture(name="clean")
def clean_fixture(span, chat):
    """Return another whole trace, in which nothing is found."""
    return [span(1, None, {"request_log.route": "b"}, trace_id=CLEAN), span(2, 1, chat(), trace_id=CLEAN)]


@pytest.fixture(name="late")
def late_fixture(span, chat):
    """Return a model call that comes later, without a user."""
    return span(4, 1, chat(), start=5)


def counts(store):
    return {name: len(rows) for name, rows in everything(store).items() if rows}


def in_spans(found):
    return {key: count for key, count in found.items() if key[0] == "trace_facts"}


def meanwhile(done):
    settings = RedactionSettings(pseudonyms=PseudonymSettings(secret=SECRET))
    return Meanwhile(Redactor(settings), done)


def test_a_packed_trace_is_told_of_as_its_rows_and_nothing_is_changed(store, url, spans, clean):
    store.write([*spans, *clean])
    before = everything(store)
    assert counts(store) == {"request_log": 2, "llm_call": 2, "trace_facts": 2}
    found = run(url, secret=SECRET).found
    assert in_spans(found) == IN_SPANS
    assert found["request_log", "user_id", "USER_ID"] == 1
    assert everything(store) == before


def test_fixing_unpacks_what_has_to_change_and_a_second_look_finds_nothing(store, url, spans, clean):
    store.write([*spans, *clean])
    scanned = run(url, fix=True, secret=SECRET)
    assert in_spans(scanned.found) == IN_SPANS
    assert scanned.left == 0
    assert counts(store) == {"request_log": 2, "llm_call": 2, "trace_facts": 2}
    text = str(everything(store))
    assert not [value for value in VALUES if value in text]
    assert CLEAN in text
    assert run(url, secret=SECRET).found == {}


def test_pages_go_through_all_packs_whatever_their_size(store, url, span, monkeypatch):
    monkeypatch.setattr(scan, "_PAGE", 2)
    for n in range(1, 8):
        request_fields = {"request_log.route": "a", "request_log.note": MAIL if n % 3 else "none"}
        store.write([span(1, None, request_fields, trace_id=f"{n:032x}")])
    assert run(url, fix=True, secret=SECRET).found["trace_facts", "request_fields", "EMAIL"] == 5
    assert counts(store)["trace_facts"] == 7
    assert run(url, secret=SECRET).found == {}


def test_no_byte_of_it_is_left_nor_does_a_late_span_bring_it_back(store, url, spans, late, tmp_path):
    store.write(spans)
    with Scan(url, cleaner(secret=SECRET), fix=True) as scanned:
        assert sum(count for _, count in scanned.steps()) == 3
        scanned.reclaim()
    for _ in range(2):
        if store._engine.dialect.name == "postgresql":
            with store._engine.connect() as connection:
                assert connection.execute(sa.text("SELECT pg_relation_size('trace_facts')")).scalar() > 0
        assert no_bytes_of(tmp_path, *VALUES)
        text = str(everything(store))
        assert not [value for value in VALUES if value in text]
        store.write([late])
    (row,) = everything(store)["request_log"]
    request = dict(zip(schema.request_log.c.keys(), row, strict=True))
    assert (request["llm_calls"], request["user_id"][:3], request["session_id"][:3]) == (2, "k1_", "k1_")


def test_what_follows_is_what_follows_however_the_trace_came(store, url, other, spans, late):
    name, rows = other
    store.write(spans)
    for each in reversed(spans):
        rows.write([each])
    found = [run(each, fix=True, secret=SECRET).found for each in (url, name)]
    assert found[0] == found[1]
    tables = (schema.request_log, schema.llm_call, schema.trace_facts)
    assert rows_of(store._engine, tables) == rows_of(rows._engine, tables)
    for each in (store, rows):
        each.write([late])
    assert rows_of(store._engine, tables) == rows_of(rows._engine, tables)


def test_a_trace_that_a_writer_adds_to_while_it_is_looked_at_is_rewritten_too(store, url, spans, late):
    store.write(spans)
    with Scan(url, meanwhile(lambda: store.write([late])), fix=True) as scanned:
        list(scanned.steps())
    assert in_spans(scanned.found) == IN_SPANS
    assert not [value for value in VALUES if value in str(everything(store))]
    with store._engine.connect() as connection:
        assert len(known(connection)) == 4  # the late call is known still


@pytest.mark.parametrize("done", ["request_log", "llm_call", "trace_facts"])
def test_nothing_slips_through_where_a_writer_adds_between_tables(store, url, spans, clean, late, span, done):  # noqa: PLR0917  # fixtures
    claimed = span(1, None, {"request_log.route": "b", "request_log.id": "7"}, trace_id="d" * 32)
    store.write([*spans, *clean, claimed])
    added = [late]
    with Scan(url, cleaner(secret=SECRET), fix=True) as scanned:
        for table, _ in scanned.steps():
            if table == done and added:
                store.write([added.pop()])
    assert not added
    text = str([everything(store)[name] for name in ("trace_facts", "request_log")])
    assert not [value for value in VALUES if value in text]


def test_what_is_changed_of_a_trace_while_it_is_looked_at_stays(store, url, spans):
    store.write(spans)

    def reprice():
        with store._engine.begin() as connection:
            table = FactsTable(connection)
            found = table.of([spans[0].trace_id])
            for fact in found[spans[0].trace_id]:
                if fact.call is not None:
                    fact.call.price_version = "repriced"
            table.replace([spans[0].trace_id], list(found.values()))

    with Scan(url, meanwhile(reprice), fix=True) as scanned:
        list(scanned.steps())
    assert in_spans(scanned.found) == IN_SPANS
    assert not [value for value in VALUES if value in str(everything(store))]
    with store._engine.connect() as connection:
        calls = [fact["call"] for fact in known(connection)]
    assert [call.price_version for call in calls if call is not None] == ["repriced"]


def test_ids_drawn_at_random_in_facts_are_no_cards(store, url, span, chat):
    trace, first = "c4111111111111111" + "0" * 14 + "a", 0x5500000000000004
    store.write([span(first, None, {"request_log.route": "a"}, trace_id=trace), span(2, first, chat(), trace_id=trace)])
    assert counts(store)["trace_facts"] == 1
    assert run(url).found == {}

"""Scanning stored rows: everything that today's rules find is reported without its value, and rewritten on demand."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate import scan
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.exporters.scanning import SECRET, everything, run

NOW = datetime(2026, 9, 22, tzinfo=UTC)
MAIL = "jane.doe@example.com"
CARD = "4111 1111 1111 1111"


@pytest.fixture(name="store")
def store_fixture(url):
    store = open_store(RequestLogSettings(url=url, store_text=True))
    yield store
    store.close()


@pytest.fixture(name="spans")
def spans_fixture(span, chat):
    """Return a request as rules of the past would have let it through: mail, card and ids as they were."""
    request_fields = {
        "request_log.route": "a",
        "request_log.query_text": f"I am {MAIL}",
        "request_log.topk": [{"title": f"card {CARD}"}],
        "request_log.note": f"paid with {CARD}",
        "request_log.user_id": "jane.doe",
        "request_log.session_id": "k0_0123456789ab",
        "client.address": "0123456789abcdef",
        "error.type": "Timeout",
    }
    call = {**chat(), "gen_ai.input.messages": f'[{{"content": "mail {MAIL}"}}]', "user.id": "jane.doe"}
    return [
        span(1, None, request_fields, status="ERROR", status_message=f"no answer for {MAIL}"),
        span(2, 1, call),
    ]


def put(store, table: str, **values) -> None:
    with store._engine.begin() as connection:
        connection.execute(sa.insert(schema.metadata.tables[table]), values)


def test_findings_are_told_by_table_column_and_type_and_nothing_is_changed(store, url, spans):
    store.write(spans)
    before = everything(store)
    found = run(url).found
    assert found["request_log", "query_text", "EMAIL"] == 1
    assert found["request_log", "topk", "CREDIT_CARD"] == 1
    assert found["request_log", "meta", "CREDIT_CARD"] == 1
    assert found["request_log", "error", "EMAIL"] == 1
    assert found["request_log", "user_id", "USER_ID"] == 1
    assert found["llm_call", "chat_request", "EMAIL"] == 1
    assert found["trace_facts", "request_fields", "EMAIL"] == 2
    assert {table for table, _, _ in found} == {"request_log", "llm_call", "trace_facts"}
    assert "jane" not in str(found).lower()
    assert everything(store) == before


def test_fixing_rewrites_all_of_it_and_a_second_look_finds_nothing(store, url, spans, monkeypatch):
    monkeypatch.setattr(scan, "_PAGE", 1)
    store.write(spans)
    assert run(url, fix=True, secret=SECRET).left == 0
    text = str(everything(store))
    for value in (MAIL, CARD, "jane.doe"):
        assert value not in text
    assert run(url, secret=SECRET).found == {}
    (row,) = everything(store)["request_log"]
    request_fields = dict(zip(schema.request_log.c.keys(), row, strict=True))
    assert request_fields["query_text"] == "I am [REDACTED_EMAIL]"
    assert request_fields["user_id"].startswith("k1_")
    assert (request_fields["session_id"], request_fields["ip_hash"]) == ("k0_0123456789ab", "0123456789abcdef")


def test_a_late_span_makes_the_same_row_out_of_what_was_rewritten(store, url, spans, span, chat):
    store.write(spans)
    run(url, fix=True, secret=SECRET)
    before = everything(store)["request_log"]
    store.write([span(3, 1, {}), span(4, 3, {"request_log.stage": "late"})])
    (row,), (old,) = everything(store)["request_log"], before
    differing = {name for name, new, was in zip(schema.request_log.c.keys(), row, old, strict=True) if new != was}
    assert differing == {"stage_ms"}


def test_every_table_is_looked_at(store, url):
    put(store, "feedback", id="1", ts=NOW, verdict="up", note=f"write to {MAIL}", sources=[{"by": MAIL}])
    put(store, "browser_event", id="1", ts=NOW, type="error", user_agent="x", data={"message": MAIL})
    put(store, "dead_letter", id="1", ts=NOW, reason=f"bad {MAIL}", item={"password": "hunter2-and-more"})
    put(store, "workflow_run", id="1", input={"to": [MAIL]}, created_at=NOW, updated_at=NOW)
    put(store, "workflow_step", id="1", run_id="1", output={"a": {"b": MAIL}})
    put(store, "workflow_event", id="1", type="x", ts=NOW, data={"c": MAIL}, user_id="jane.doe")
    run(url, fix=True)
    text = str(everything(store))
    assert MAIL not in text
    assert "hunter2" not in text
    assert "jane.doe" not in text
    assert run(url).found == {}


def test_an_id_of_a_request_that_holds_a_mail_address_gives_way_and_its_calls_follow(store, url, span, chat):
    store.write([span(1, None, {"request_log.route": "a", "request_log.id": f"7 {MAIL}"}), span(2, 1, chat())])
    put(store, "feedback", id="1", ts=NOW, verdict="up", request_id=f"7 {MAIL}")
    assert run(url, fix=True).left == 0
    found = everything(store)
    assert MAIL not in str(found)
    own = found["request_log"][0][0]
    assert own == f"{found['request_log'][0][2]}-{1:016x}"
    assert found["llm_call"][0][1] == own
    assert own in found["feedback"][0]
    store.write([span(3, 1, chat())])
    assert [row[0] for row in everything(store)["request_log"]] == [own]


def test_keys_that_cannot_be_rewritten_are_counted_as_left(store, url):
    put(store, "workflow_run", id=MAIL, created_at=NOW, updated_at=NOW)
    assert run(url, fix=True).left == 1
    assert run(url).found["workflow_run", "id", "EMAIL"] == 1


def test_sums_and_times_are_never_taken_for_cards_or_telephone_numbers(store, url, span, chat):
    store.write(
        [span(1, None, {"request_log.route": "a"}, start=n * 1e-4, trace_id=f"{n:032x}") for n in range(1, 300)]
    )
    store.write([span(2, 1, chat(), start=n * 1e-4, trace_id=f"{n:032x}") for n in range(1, 300)])
    assert run(url).found == {}


def test_pages_go_through_all_rows_of_partitioned_tables_too(store, url, span, monkeypatch):
    monkeypatch.setattr(scan, "_PAGE", 7)
    day = 86_400
    for n in range(1, 41):
        request_fields = {"request_log.route": "a", "request_log.note": MAIL}
        store.write([span(1, None, request_fields, start=-n * 10 * day, trace_id=f"{n:032x}")])
    assert run(url).found["request_log", "meta", "EMAIL"] == 40
    run(url, fix=True)
    assert run(url).found == {}


def test_ids_that_were_drawn_at_random_are_no_cards_whatever_their_digits(store, url, span, chat):
    trace, first = "c4111111111111111" + "0" * 14 + "a", 0x5500000000000004
    store.write([span(first, None, {"request_log.route": "a"}, trace_id=trace), span(2, first, chat(), trace_id=trace)])
    put(store, "feedback", id="1", ts=NOW, verdict="up", request_id=f"{trace}-{first:016x}")
    assert run(url).found == {}
    put(store, "feedback", id="2", ts=NOW, verdict="up", request_id="4111111111111111")
    assert run(url).found == {("feedback", "request_id", "CREDIT_CARD"): 1}


def test_what_was_dropped_already_is_not_found_again(store, url, span, chat, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("keys: {request_log.user_id: drop}")
    asked = {"request_log.route": "a", "request_log.query_text": "hello", "request_log.user_id": "jane"}
    store.write([span(1, None, asked), span(2, 1, {**chat(), "user.id": "jane"})])
    assert run(url, fix=True, policy=policy).found["trace_facts", "caller", "POLICY"] == 1
    assert "jane" not in str(everything(store))
    assert run(url, policy=policy).found == {}

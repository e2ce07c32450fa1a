"""From SDKs of four languages, through the Collector and the gateway, to every store: whole, and clean.

The stores are Jaeger, VictoriaLogs, Prometheus and the database. Each test runs for each way to run the stack:
Collector first with rows in SQLite and in PostgreSQL, and gateway first.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from examples.chat_app.demo import leaks
from tests.backends.observability import fetch
from tests.e2e import otlp_trace
from tests.e2e.otlp_trace import Event, Link, Span

pytestmark = pytest.mark.timeout(180)
SERVER, CLIENT, INTERNAL = 2, 3, 1
PSEUDONYM = re.compile(r"(k1_)?[0-9a-f]{12}")
REQUEST = {
    "request_log.route": "direct",
    "request_log.stage_ms.final": 12,
    "url.query": "card=[REDACTED_CREDIT_CARD]&q=tent",
    "url.full": "https://shop:[REDACTED_URL_CREDENTIALS]@payments.example.net/charge",
    "http.request.header.authorization": ["[REDACTED_AUTHORIZATION]"],
    "order.lines": ["1 tent", "ship to [REDACTED_EMAIL]"],
    "order.paid": True,
    "order.total": 249.5,
    "seen by [REDACTED_EMAIL]": True,
}
PEOPLE = ("client.address", "enduser.id", "session.id")
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.usage.input_tokens": 120,
    "gen_ai.usage.output_tokens": 30,
}
MESSAGES = [
    {
        "role": "user",
        "parts": [{"type": "text", "content": "My number is [REDACTED_PHONE], my SSN [REDACTED_SSN]."}],
    }
]
ORDER = {
    "order": {
        "mail": "[REDACTED_EMAIL]",
        "lines": [{"item": "tent"}, {"token": "[REDACTED_SECRET]", "note": "deploy with [REDACTED_API_KEY]"}],
    }
}


def trace(run, trace_id, count) -> dict[str, Span]:
    """Return a trace's spans by id, once all `count` are there."""

    def whole(answer):
        found = otlp_trace.spans(answer)
        return found if len(found) >= count else None

    found = run.stack.ask(lambda: run.stack.jaeger.trace(trace_id), whole)
    assert len(found) == count
    return {span.span_id: span for span in found}


def test_jaeger_shows_each_span_below_its_parent(run, sent):
    ids = sent.ids
    found = trace(run, ids["trace"], 4)
    parents = {"request": "", "call": ids["request"], "charge": ids["request"], "payment": ids["charge"]}
    kinds = {"request": SERVER, "call": CLIENT, "charge": INTERNAL, "payment": CLIENT}
    assert {name: found[ids[name]].parent for name in parents} == parents
    assert {name: found[ids[name]].kind for name in kinds} == kinds
    assert found[ids["request"]].name == "POST /chat for [REDACTED_EMAIL]"
    for span in found.values():
        assert span.resource["service.name"] == sent.scenario.service
        assert span.resource["owner"] == "on call: [REDACTED_EMAIL]"
        assert span.scope[:2] == ("shop", "1.2.3")
        assert span.scope[2] in ({}, {"maintainer": "[REDACTED_EMAIL]"})


def test_jaeger_shows_every_attribute_with_only_what_is_personal_replaced(run, sent):
    found = trace(run, sent.ids["trace"], 4)
    request, call = found[sent.ids["request"]].attributes, found[sent.ids["call"]].attributes
    people = {name: request.pop(name) for name in PEOPLE}
    assert request == (REQUEST if run.storage == "memory" else {k: as_text(v) for k, v in REQUEST.items()})
    assert all(PSEUDONYM.fullmatch(value) for value in people.values()), people
    assert json.loads(call.pop("gen_ai.input.messages")) == MESSAGES
    assert call == CALL


def test_jaeger_shows_events_exceptions_links_and_the_status(run, sent):
    found = trace(run, sent.ids["trace"], 4)
    request, payment = found[sent.ids["request"]], found[sent.ids["payment"]]
    assert request.events == [Event("mail sent to [REDACTED_EMAIL]", {"account": "[REDACTED_IBAN]", "amount": 12.5})]
    ids = sent.ids
    fields = {"reason": "same buyer [REDACTED_EMAIL]", "order": 1}
    shown = fields if run.storage == "memory" else {"opentracing.ref_type": "follows_from"}  # all that its disk keeps
    assert request.links == [Link(ids["earlier_trace"], ids["earlier"], shown)]
    assert list(trace(run, ids["earlier_trace"], 1)) == [ids["earlier"]]
    (exception,) = payment.events
    assert exception.name == "exception"
    message = exception.attributes["exception.message"]
    assert message == "card [REDACTED_CREDIT_CARD] of [REDACTED_EMAIL] was declined"
    assert payment.status == {"code": 2, "message": "declined: [REDACTED_CREDIT_CARD], key [REDACTED_API_KEY]"}


def test_the_store_of_logs_shows_both_log_records_of_the_request(run, sent):
    def both(answer) -> list[dict[str, str]] | None:
        records = [json.loads(line) for line in answer.splitlines()]
        return records if len(records) >= 2 else None

    query = f'service.name:="{sent.scenario.service}"'
    records = run.stack.ask(lambda: run.stack.logs.query(query), both)
    assert len(records) == 2
    by_level = {record["severity_text"]: record for record in records}
    for record in by_level.values():
        assert (record["trace_id"], record["span_id"]) == (sent.ids["trace"], sent.ids["request"])
        assert (record["customer"], record["peer"]) == ("[REDACTED_EMAIL]", "[REDACTED_IP_ADDRESS]")
        assert record["shop.step"] == "pay"
    assert by_level["INFO"]["_msg"] == "paid with [REDACTED_CREDIT_CARD], call [REDACTED_PHONE]"
    assert body_of(by_level["ERROR"]) == ORDER


def test_prometheus_shows_the_metrics_with_their_names_and_values(run, sent):
    service = sent.scenario.service

    def value(promql, **labels):
        def one(answer):
            result = json.loads(answer)["data"]["result"]
            return result[0] if result else None

        found: Any = run.stack.ask(lambda: run.stack.prometheus.query(promql), one)
        assert labels.items() <= found["metric"].items()
        return float(found["value"][1])

    here = f'job="{service}", deployment_environment_name="e2e"'
    assert value(f'shop_orders_total{{payment="card", {here}}}', buyer="[REDACTED_EMAIL]") == 3
    assert value(f'shop_orders_total{{payment="cash", {here}}}') == 4
    assert value(f"shop_latency_seconds_count{{{here}}}", peer="[REDACTED_IP_ADDRESS]") == 3
    assert value(f"shop_latency_seconds_sum{{{here}}}") == pytest.approx(3.6)
    assert value(f"shop_temperature_celsius{{{here}}}", place="till") == 21.5


@pytest.mark.parametrize("language", ["python", "go", "java"])  # the SDK of Node.js has no exemplars
def test_an_exemplar_leads_from_the_metric_to_the_trace(run, language):
    sent = run.sent[language]

    def some(answer):
        series = json.loads(answer)["data"]
        return [exemplar["labels"] for one in series for exemplar in one["exemplars"]] or None

    asked = f'shop_latency_seconds_bucket{{job="{sent.scenario.service}"}}'
    exemplars = run.stack.ask(lambda: run.stack.prometheus.exemplars(asked), some)
    for labels in exemplars:
        assert (labels["trace_id"], labels["span_id"]) == (sent.ids["trace"], sent.ids["request"])


@pytest.fixture
def rows(run) -> Iterator[sqlalchemy.Connection]:
    """A connection to the database that the gateway writes, with nothing of ours in between."""
    engine = sqlalchemy.create_engine(run.stack.database.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_the_database_has_one_row_for_the_request_and_one_for_its_model_call(run, sent, rows):
    trace_id = sent.ids["trace"]
    found = trace(run, trace_id, 4)[sent.ids["request"]].attributes  # it is in Jaeger: now wait for the rows
    asked = sqlalchemy.text("SELECT * FROM request_log WHERE trace_id = :trace_id")

    def written():
        rows.rollback()  # see what was committed since
        return json.dumps([dict(row) for row in rows.execute(asked, {"trace_id": trace_id}).mappings()], default=str)

    run.stack.ask(lambda: written().encode(), lambda answer: json.loads(answer) or None)
    (row,) = rows.execute(asked, {"trace_id": trace_id}).mappings()
    assert (row["route"], row["service"], row["environment"]) == ("direct", sent.scenario.service, "e2e")
    assert (row["model"], row["provider"]) == ("gpt-4o-mini-2024-07-18", "openai")
    assert (row["prompt_tokens"], row["completion_tokens"], row["llm_calls"]) == (120, 30, 1)
    # 0.15 and 0.60 USD for a million tokens
    assert Decimal(str(row["cost_usd"])) == Decimal("0.000036")
    assert (row["ip_hash"], row["user_id"], row["session_id"]) == tuple(found[name] for name in PEOPLE)
    assert bool(row["ok"])
    assert row["query_text"] is None
    calls = rows.execute(sqlalchemy.text("SELECT * FROM llm_call WHERE trace_id = :id"), {"id": trace_id}).mappings()
    (call,) = calls
    assert (call["span_id"], call["parent_span_id"]) == (sent.ids["call"], sent.ids["request"])
    assert call["request_id"] == row["id"]


def test_prometheus_reaches_every_target(run):
    stack = run.stack

    def all_up(answer):
        up = {found["metric"]["job"]: found["value"][1] for found in json.loads(answer)["data"]["result"]}
        return up if up == dict.fromkeys(("gateway", "apps", "collector"), "1") else None

    assert stack.ask(lambda: stack.prometheus.query("up"), all_up)


def test_the_gateway_counts_everything_as_accepted_delivered_and_clean(run):
    def counts(name, **labels):
        wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
        answer = run.stack.prometheus.query(f"sum by (signal) ({name}{{{wanted}}})")
        return {row["metric"]["signal"]: float(row["value"][1]) for row in json.loads(answer)["data"]["result"]}

    def all_there(answer):
        del answer
        accepted = counts("otel_telemetry_accepted_total")
        delivered = counts("otel_telemetry_delivered_total", exporter="forward.collector")
        return accepted if sum(accepted.values()) >= 44 and accepted == delivered else None

    accepted = run.stack.ask(lambda: run.stack.gateway.get("/health"), all_there)
    assert (accepted["traces"], accepted["logs"]) == (20, 8)
    assert counts("otel_telemetry_leaks_total") == {}
    assert set(counts("otel_telemetry_dropped_total").values()) == {0}
    assert counts("otel_telemetry_leak_checks_total")["traces"] > 0


def test_none_of_the_planted_values_is_in_any_byte_that_left(run):
    stack = run.stack
    asked = [
        f"{stack.jaeger.url}/api/services",
        *(f"{stack.jaeger.url}/api/traces?service={sent.scenario.service}&limit=50" for sent in run.sent.values()),
        f"{stack.logs.url}/select/logsql/query?query=*",
        f"{stack.logs.url}/select/logsql/field_names?query=*",
        f"{stack.prometheus.url}/api/v1/series?match[]={{job!=%22%22}}",
        f"{stack.prometheus.url}/api/v1/targets",
        f"http://127.0.0.1:{stack.collector.ports['METRICS']}/metrics",
        f"http://127.0.0.1:{stack.collector.ports['SELF']}/metrics",
    ]
    stack.answers.extend(fetch(url) for url in asked)
    stack.answers.extend(stack.gateway.get(path) for path in ("/metrics", "/health"))
    stack.answers.append(run.dump())
    write(stack.answers, stack.folder / "answers")
    for part in ("answers", "gateway", "collector", "prometheus"):  # Jaeger's file is 2 GB of holes while it runs
        assert leaks.find(run.planted, stack.folder / part) == []


def test_nor_is_any_in_all_the_files_they_leave_when_they_end(run):
    run.stack.close()
    assert leaks.find(run.planted, run.stack.folder) == []
    found = {leak.value for leak in leaks.find(run.planted, run.alerts)}
    assert found == set(run.planted), "the search does not find what was planted"


def as_text(value: Any) -> Any:
    """Return a value as Jaeger's disk storage keeps it: lists become their JSON."""
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value


def body_of(record: dict[str, str]) -> Any:
    """Return a structured body of a record: VictoriaLogs keeps it as fields with dots in their names."""
    return {"order": {"mail": record["order.mail"], "lines": json.loads(record["order.lines"])}}


def write(answers: list[bytes], folder: Path) -> None:
    """Put answers where the search looks."""
    folder.mkdir(exist_ok=True)
    for number, answer in enumerate(answers):
        (folder / str(number)).write_bytes(answer)

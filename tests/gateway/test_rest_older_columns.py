"""What older systems had in columns of a model call is in the same columns here, however the call came."""

from typing import Any

import pytest
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import database
from tests.gateway.rest_gateway import gateway_opener, pseudonyms

TRACE = "5b8efff798038103d269b633813fc60c"
HEADERS = {
    "x-chronicle-organization-id": "org1",
    "x-chronicle-project-id": "proj1",
    "x-chronicle-user-id": "anna",
    "x-chronicle-extra-meta": '{"team": "a", "usage": "high", "unpriced": 3}',
}


@pytest.fixture(name="gateway", params=["sqlite", "postgres"])
async def gateway_fixture(request, serving, with_tables):
    async with gateway_opener(serving, with_tables(request.param))() as gateway:
        yield gateway


def spans(*attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a trace request: the first span is the root, the others are below it."""
    found = []
    for number, given in enumerate(attributes, start=1):
        below = {"parentSpanId": "000000000000000a"} if number > 1 else {}
        times = {"startTimeUnixNano": "1795963000000000000", "endTimeUnixNano": "1795963001000000000"}
        values = [{"key": key, "value": value(each)} for key, each in given.items()]
        own = f"{number + 9:016x}"
        found.append({"traceId": TRACE, "spanId": own, **below, **times, "name": "s", "attributes": values})
    return {"resourceSpans": [{"scopeSpans": [{"spans": found}]}]}


def value(given: Any) -> dict[str, Any]:
    if isinstance(given, bool):
        return {"boolValue": given}
    return {"intValue": str(given)} if isinstance(given, int) else {"stringValue": given}


def call(model: str, **usage: int) -> dict[str, Any]:
    fields = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": model}
    return {**fields, **{f"gen_ai.usage.{name}": count for name, count in usage.items()}}


def ask(gateway: Any, query: str) -> list[tuple[Any, ...]]:
    engine = database.reader(gateway.url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(query)).all()]
    engine.dispose()
    return rows


@pytest.mark.parametrize("usage", [{"input_tokens": 5, "output_tokens": 5}, {"input_tokens": 5}])
async def test_what_headers_say_survives_pricing_and_is_where_events_have_it(gateway, usage):
    traces = spans(call("gpt-4o-mini", **usage))
    assert (await gateway.client.post("/v1/traces", json=traces, headers=HEADERS)).status_code == 200
    assert (await gateway.client.post("/events", json={"type": "x"}, headers=HEADERS)).status_code == 202
    (row,) = await gateway.until("llm_call", 1)
    await gateway.until("workflow_event", 1)
    assert (row["cost_usd"] is None) is ("output_tokens" not in usage)
    from_headers = {name: row["meta"][name] for name in ("team", "said_usage", "said_unpriced")}
    assert from_headers == {"team": "a", "said_usage": "high", "said_unpriced": 3}
    columns = "organization_id, project_id, user_id, request_organization_id, request_project_id, request_user_id"
    rows = ask(gateway, f"SELECT {columns} FROM chronicle_events")  # noqa: S608
    assert rows == [("org1", "proj1", pseudonyms.of("anna")) * 2] * 2


async def test_a_call_s_own_span_says_retries_limits_kind_and_what_came_with_the_answer(gateway):
    details = {
        "request_log.retries": 2,
        "request_log.rate_limited": True,
        "request_log.response_meta": '{"region":"eu"}',
        "request_log.event_type": "my_type",
        "request_log.meta": '{"team": "b"}',
        "request_log.ttfb_ms": 12,
    }
    usage = {"input_tokens": 100, "output_tokens": 20}
    own = {**call("gpt-4o-mini", **usage), **details}
    traces = spans({"request_log.route": "x"}, own, call("gpt-4o-mini", **usage), {**own, "request_log.retries": 1})
    assert (await gateway.client.post("/v1/traces", json=traces)).status_code == 200
    calls = await gateway.until("llm_call", 3)
    row = next(each for each in calls if each["retries"] == 2)
    assert (row["rate_limited"], row["response_meta"], row["event_type"]) == (True, {"region": "eu"}, "my_type")
    assert (row["total_latency_ms"], row["request_latency_ms"], row["ttfb_ms"]) == (1000.0, None, 12.0)
    assert (row["meta"]["team"], row["cost_usd"] is not None) == ("b", True)
    (request,) = await gateway.until("request_log", 1)
    assert (request["retries"], request["rate_limited"], request["llm_calls"]) == (3, True, 3)
    assert ask(gateway, "SELECT retries FROM chronicle_events WHERE event_type = 'my_type' ORDER BY 1") == [(1,), (2,)]

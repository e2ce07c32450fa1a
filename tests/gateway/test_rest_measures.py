"""What apps that only post to /log are measured by: the contract's metrics, with no label that may be personal."""

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_telemetry.gateway.receive.rest import Rest
from otel_telemetry.instrument.cache_measures import CacheMeasures
from otel_telemetry.instrument.log_measures import LogMeasures
from tests.gateway.rest_gateway import gateway_opener


@pytest.fixture(name="measured")
async def measured_fixture(serving, with_tables):
    """Returns what posts entries and returns {metric: [(attributes, value, or count and sum)]} after them."""

    async def measured(*entries: dict[str, Any]) -> dict[str, list[Any]]:
        reader = InMemoryMetricReader()
        meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
        rest = Rest(measure=LogMeasures(meter, CacheMeasures(meter)).record)
        async with gateway_opener(serving, with_tables("sqlite"))(rest=rest) as gateway:
            for entry in entries:
                assert (await gateway.client.post("/log", json=entry)).status_code == 200
        data: Any = reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return {
            metric.name: sorted(
                ((dict(each.attributes), measured_value(each)) for each in metric.data.data_points), key=str
            )
            for metric in metrics
        }

    return measured


def measured_value(point: Any) -> Any:
    return (point.count, point.sum) if hasattr(point, "sum") else point.value


DURATION = "gen_ai.client.operation.duration"


async def test_the_contract_s_entry_tells_of_rate_latency_and_first_byte_of_its_endpoint(measured):
    payload = {
        "timestamp": "2025-09-03T10:30:00Z",
        "service": "gateway",
        "tool": "write_answer",
        "args": {"model": "llama2", "prompt": "Hello"},
        "response": {"text": "Hi", "tokens": 150, "latency_ms": 250, "ttfb_ms": 120},
    }
    found = await measured({"event": "tool_execution", "payload": payload})
    assert found["telemetry_cache.tokens_per_second"] == [({}, 600.0)]
    assert found["telemetry_cache.ttfb"] == [({}, (1, 0.12))]
    endpoint = {"gen_ai.operation.name": "write_answer", "gen_ai.request.model": "llama2"}
    assert found[DURATION] == [(endpoint, (1, 0.25))]


async def test_flat_entries_errors_repairs_and_drift_count_too(measured):
    flat = {"tool": "search", "latency_ms": 100, "tokens": 50}
    found = await measured(
        {"event": "tool_execution", "payload": flat},
        {"event": "tool_execution", "payload": {**flat, "error": {"type": "TimeoutError", "message": "x"}}},
        {"event": "tool_execution", "payload": {**flat, "status": "failed"}},
        {"event": "tool_execution", "payload": {**flat, "status": "skipped"}},
        {"event": "content_repair", "payload": {}},
        {"event": "response_generation", "payload": {"response": {"repairs": 3}}},
        {"event": "policy_violation", "payload": {"policy": "tone"}},
        {"event": "other", "payload": {"drift": True}},
    )
    search = {"gen_ai.operation.name": "search"}
    assert found[DURATION] == [
        ({**search, "error.type": "TimeoutError"}, (1, 0.1)),
        ({**search, "error.type": "error"}, (1, 0.1)),
        (search, (2, 0.2)),
    ]
    assert found["telemetry_cache.repair_rate"] == [({"kind": "content"}, 4)]
    assert found["telemetry_cache.drift_incidents"] == [({"policy": "policy"}, 2)]


async def test_no_label_holds_what_may_be_personal(measured):
    payload_fields = {
        "latency_ms": 10,
        "args": {"model": "call +49 30 1234567"},
        "error": "jane@example.com is unknown",
    }
    found = await measured(
        {"event": "jane@example.com", "payload": {"tool": "bob@example.com", **payload_fields}},
        {"event": "x", "payload": {"tool": "Jane Doe", **payload_fields}},
    )
    assert found[DURATION] == [
        ({"error.type": "error"}, (1, 0.01)),
        ({"gen_ai.operation.name": "x", "error.type": "error"}, (1, 0.01)),
    ]

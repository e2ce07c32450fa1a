"""One item that protobuf cannot parse gives a partial success, over gRPC and HTTP; the rest of its batch is stored."""

import asyncio
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

ITEMS = 200
BAD = 66
SIGNALS: dict[str, tuple[Any, Any, str, str]] = {
    "traces": (ExportTraceServiceRequest, ExportTraceServiceResponse, "trace.v1.Trace", "rejected_spans"),
    "logs": (ExportLogsServiceRequest, ExportLogsServiceResponse, "logs.v1.Logs", "rejected_log_records"),
    "metrics": (
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
        "metrics.v1.Metrics",
        "rejected_data_points",
    ),
}


def batch(signal: str) -> bytes:
    """Return a request of which one item has a text that is not UTF-8."""
    request = SIGNALS[signal][0]()
    for number in range(ITEMS):
        if signal == "traces":
            span = request.resource_spans.add() if not number else request.resource_spans[0]
            scope = span.scope_spans[0] if number else span.scope_spans.add()
            scope.spans.add(trace_id=b"\7" * 16, span_id=(number + 1).to_bytes(8, "big"), name=f"call-{number:03d}")
        elif signal == "logs":
            group = request.resource_logs[0] if number else request.resource_logs.add()
            scope = group.scope_logs[0] if number else group.scope_logs.add()
            scope.log_records.add(severity_text=f"call-{number:03d}")
        else:
            group = request.resource_metrics[0] if number else request.resource_metrics.add()
            scope = group.scope_metrics[0] if number else group.scope_metrics.add()
            scope.metrics.add(name=f"call-{number:03d}").sum.data_points.add(as_int=1)
    return bytes(request.SerializeToString().replace(f"call-{BAD:03d}".encode(), b"call\xc3\x28\xff "))


async def over_grpc(running: Any, signal: str, body: bytes) -> Any:
    method = f"/opentelemetry.proto.collector.{SIGNALS[signal][2]}Service/Export"
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        return await channel.unary_unary(method, bytes, bytes)(body, timeout=10)


async def over_http(running: Any, signal: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
    own = {"content-type": "application/x-protobuf"} | (headers or {})
    async with httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post(f"/v1/{signal}", content=body, headers=own)
    assert answer.status_code == 200
    return answer.content


@pytest.mark.parametrize("send", [over_grpc, over_http])
@pytest.mark.parametrize("signal", SIGNALS)
async def test_one_bad_item_is_a_partial_success_with_its_path(running: Any, signal: str, send: Any) -> None:
    _, response, _, rejected = SIGNALS[signal]
    partial = response.FromString(await send(running, signal, batch(signal))).partial_success
    assert getattr(partial, rejected) == 1
    assert f"[{BAD}]." in partial.error_message
    assert "UTF-8" in partial.error_message
    (stored,) = running.spooled()
    assert stored.items == ITEMS - 1
    assert await asyncio.to_thread(running.sink.wait_for, 1)


async def test_headers_that_fill_columns_do_so_beside_a_bad_item_too(running: Any) -> None:
    answer = await over_http(running, "traces", batch("traces"), {"x-chronicle-run-id": "run-77"})
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (partial.rejected_spans, f"spans[{BAD}].name" in partial.error_message) == (1, True)
    (stored,) = running.spooled()
    assert stored.items == ITEMS - 1
    assert b"run-77" in stored.body

"""OTLP/gRPC: the three Export services over raw bytes, so that no message is built for nothing.

Limits and codes follow "OTLP Specification, OTLP/gRPC": RESOURCE_EXHAUSTED above the size limit (gRPC itself answers,
also for what decompresses to more), INVALID_ARGUMENT with BadRequest for malformed requests, UNAVAILABLE with RetryInfo
under overload. gzip and deflate are undone inside gRPC; other encodings are answered UNIMPLEMENTED there.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_telemetry.errors import TelemetryError
from otel_telemetry.gateway.auth import Keys
from otel_telemetry.gateway.otlp_json import Signal
from otel_telemetry.gateway.receive import Accepted, Receiver
from otel_telemetry.gateway.status import Refusal

_SERVICES: Final[dict[Signal, str]] = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
}
_RESPONSES: Final[dict[Signal, type[Message]]] = {
    "traces": ExportTraceServiceResponse,
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
}
REJECTED_FIELD: Final[dict[Signal, str]] = {
    "traces": "rejected_spans",
    "logs": "rejected_log_records",
    "metrics": "rejected_data_points",
}
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_MAX_SEND: Final = 4 << 20
_MAX_STREAMS: Final = 64  # requests of one connection at once; further ones wait in the client
_GRACE_MS: Final = 60_000  # for requests under way on a connection that has had its time; senders give up long before

_Handler = Callable[[bytes, Any], Awaitable[bytes]]


def response(signal: Signal, accepted: Accepted) -> Message:
    """Return the Export*ServiceResponse: empty for full success, else with its partial success."""
    answer = _RESPONSES[signal]()
    if accepted.rejected or accepted.problem:
        partial: Any = answer.partial_success  # type: ignore[attr-defined] # all three have it
        setattr(partial, REJECTED_FIELD[signal], accepted.rejected)
        partial.error_message = accepted.problem
    return answer


def make_server(
    receiver: Receiver, keys: Keys, max_body_bytes: int, *, share_port: bool = False, connection_seconds: float = 0.0
) -> grpc.aio.Server:
    """Return a server with the three services and no port yet; one that processes are to share where it says so.

    After `connection_seconds` (0: never; 10 % more or less, by chance) a client is told to connect anew. What it has
    sent by then is answered first, and what it sends meanwhile was not looked at: its gRPC sends that again.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_body_bytes),
            ("grpc.max_send_message_length", _MAX_SEND),
            ("grpc.max_concurrent_streams", _MAX_STREAMS),
            ("grpc.so_reuseport", int(share_port)),  # or a second gateway would quietly take half of the requests
            *_connection_age(connection_seconds),
        ]
    )
    for signal, service in _SERVICES.items():
        handler = grpc.unary_unary_rpc_method_handler(_handler(signal, receiver, keys))  # no codecs: bytes in and out
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    return server


def _connection_age(seconds: float) -> list[tuple[str, int]]:
    """Return the options; the jitter is gRPC's own (A9, server-side connection management)."""
    if not seconds:
        return []
    return [("grpc.max_connection_age_ms", int(seconds * 1000)), ("grpc.max_connection_age_grace_ms", _GRACE_MS)]


def _handler(signal: Signal, receiver: Receiver, keys: Keys) -> _Handler:
    async def export(body: bytes, context: Any) -> bytes:
        try:
            _authenticate(keys, context)
            with receiver.room() as room:
                room.grow(len(body))
                accepted = await receiver.accept(signal, body, room)
        except TelemetryError as error:
            return await _abort(context, receiver.refuse(signal, error))
        return response(signal, accepted).SerializeToString()

    return export


def _authenticate(keys: Keys, context: Any) -> None:
    metadata = dict(context.invocation_metadata() or ())
    keys.require(metadata.get, "ingest")


async def _abort(context: Any, refused: Refusal) -> bytes:
    await context.abort(_CODES[refused.code], refused.message, refused.trailers())
    raise AssertionError  # abort always raises

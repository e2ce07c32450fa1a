"""What is forwarded in tests, and to whom."""

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.exporters.otlp_receiver import Receiver, grpc_receiver, http_receiver


def serving(protocol: str, receiver: Receiver, port: int = 0) -> Any:
    return grpc_receiver(receiver, port) if protocol == "grpc" else http_receiver(receiver, port)


def traces(*names: str, resource: str = "chat") -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(schema_url="https://example.test/r")
    group.resource.attributes.add(key="service.name").value.string_value = resource
    scope = group.scope_spans.add(schema_url="https://example.test/s")
    scope.scope.name = "lib"
    for number, name in enumerate(names):
        scope.spans.add(trace_id=b"t" * 16, span_id=number.to_bytes(8, "big"), name=name)
    return bytes(request.SerializeToString())


def span_names(body: bytes) -> list[str]:
    request = ExportTraceServiceRequest.FromString(body)
    return [span.name for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]

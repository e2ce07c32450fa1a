"""Settings of OTLP forwarding: one such object for each destination."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from otel_telemetry.base.destinations import Signal
from otel_telemetry.exporters.http.destination import Destination, Endpoint


def _without_signal(value: str) -> str:
    for known in ("/v1/traces", "/v1/logs", "/v1/metrics"):
        if value.endswith(known):
            raise ValueError(f"must end before {known}, which is appended")
    return value


def _short(value: Any) -> Any:
    return "http" if value == "http/protobuf" else value


class ForwardSettings(Destination):
    """A destination to which redacted telemetry is forwarded as OTLP."""

    endpoint: Annotated[Endpoint, AfterValidator(_without_signal)] = Field(
        description="URL of the destination, without /v1/traces: http://collector:4317, https:// for TLS."
    )
    protocol: Annotated[Literal["grpc", "http"], BeforeValidator(_short)] = Field(
        "grpc", description="OTLP over gRPC, or over HTTP with protobuf bodies."
    )
    signals: tuple[Signal, ...] = Field(
        ("traces", "logs", "metrics"),
        description="Signals to send: traces, logs and metrics. Leave out those that the destination does not accept.",
        min_length=1,
    )
    max_request_bytes: int = Field(
        4_000_000,
        ge=1 << 10,
        description="Size in bytes up to which batches are merged into "
        "one request; gRPC servers accept 4 MiB by default.",
    )

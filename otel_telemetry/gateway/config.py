"""Settings of the gateway."""

from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from otel_telemetry.gateway.kafka.config import KafkaSettings

OpenEndpoint = Literal[
    "/log", "/feedback", "/telemetry", "/events", "/v1/traces", "/v1/logs", "/v1/metrics", "/metrics"
]


_TEN_YEARS = 3_650 * 24  # in hours


class GatewaySettings(BaseModel):
    """Where the gateway listens, what it accepts, and where it keeps what it has acknowledged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["all", "receive", "deliver", "redact"] = Field(
        "all",
        description="What this gateway does. receive: receive and spool; deliver: deliver from the spool; all: both; "
        "redact: redact for a Collector, and store nothing.",
    )
    workers: int = Field(
        1,
        ge=0,
        le=64,
        description="Processes that receive, sharing the ports, beside one that delivers; 0: all in one process. In the"
        " role redact, those that redact.",
    )
    socket: str = Field(
        "otel-redactor/redactor.sock",
        description="Unix socket on which the role redact listens, for its own user only; `-`: host and http_port.",
    )
    host: str = Field(
        "127.0.0.1", description="Address to listen on. Anything but loopback needs api_keys or tls_client_ca."
    )
    grpc_port: int = Field(4317, ge=0, le=65535, description="Port of OTLP/gRPC; 0: any free port.")
    http_port: int = Field(
        4318, ge=0, le=65535, description="Port of OTLP/HTTP, /health and /metrics; 0: any free port."
    )
    grpc_connection_seconds: float = Field(
        300.0,
        ge=0,
        le=1e6,
        description="Age at which a gRPC connection is closed in order (GOAWAY), so that clients spread over the "
        "processes behind a port or a balancer; no request is lost; 0: never.",
    )
    api_keys: tuple[SecretStr, ...] = Field(
        (),
        description="Keys that callers present as `authorization: Bearer KEY` or `x-api-key: KEY`; none: open. Each as"
        " `[ROLE[+ROLE]:]KEY` or `[ROLE[+ROLE]:]sha256:HEX`, roles ingest, cache, read,"
        " admin (all) and public (for web pages); none named: all."
        " `otel-telemetry key` makes one.",
    )
    open_endpoints: tuple[OpenEndpoint, ...] = Field(
        (),
        description="Endpoints that need no key although there are keys, for senders without a key: "
        + ", ".join(f"`{one}`" for one in get_args(OpenEndpoint))
        + ".",
    )
    allowed_origins: tuple[str, ...] = Field(
        (),
        description="Origins of web pages, like `https://app.example.com`, whose browsers may send to /telemetry,"
        " /feedback, OTLP/HTTP and to what is open; pages of other origins are refused.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names, beside those of this machine, by which a gateway on loopback without keys may be called:"
        " that of a proxy in front of it.",
    )
    tls_certificate: Path | None = Field(
        None, description="Certificate of both listeners with its chain, PEM; none: no TLS."
    )
    tls_key: Path | None = Field(None, description="Key of that certificate, PEM, without a password.")
    tls_client_ca: Path | None = Field(
        None, description="Authority whose certificates clients must show, PEM; none: clients need no certificate."
    )
    max_connections: int = Field(
        1024,
        ge=8,
        description="Connections that each listener of a receiving process holds at once; fewer where the limit of open"
        " files does not allow it.",
    )
    max_connections_per_address: int = Field(
        0,
        ge=0,
        description="Most of these from one address (IPv6: one /64 network); 0: any number, for use behind a proxy, "
        "where all have the proxy's address.",
    )
    max_body_bytes: int = Field(
        64 << 20, ge=1 << 10, description="Largest request, in bytes, also after decompression (OTLP advises 64 MiB)."
    )
    max_json_bytes: int = Field(
        16 << 20,
        ge=1 << 10,
        description="Largest OTLP/JSON request, in bytes: parsing JSON costs 200 times as much as protobuf.",
    )
    transport: Literal["disk", "kafka"] = Field(
        "disk",
        description="What stores batches between receiving and delivering: disk, the spool in spool_dir; or kafka, the "
        "topics that gateway.kafka names, for receivers and deliverers on several machines.",
    )
    kafka: KafkaSettings = KafkaSettings()
    spool_dir: Path = Field(
        Path("otel-spool"),
        description="Folder of the spool: every acknowledged batch, redacted, until delivered. With Kafka only for what"
        " the processes of one gateway share.",
    )
    spool_max_bytes: int = Field(
        1 << 30, ge=1 << 20, description="Size of the spool beyond which requests are refused with a Retry-After."
    )
    spool_retention_hours: float = Field(
        24.0,
        ge=0,
        le=_TEN_YEARS,
        description="How long delivered batches are kept for replay; 0: dropped once delivered.",
    )
    spool_max_age_hours: float = Field(
        0.0,
        ge=0,
        le=_TEN_YEARS,
        description="Age at which batches that were not delivered to an exporter are dropped for it, and counted; 0: "
        "never.",
    )
    dead_letter_max_bytes: int = Field(
        128 << 20,
        ge=0,
        description="Bytes of dead letters kept for each exporter, a quarter of spool_max_bytes at most; above it, the "
        "oldest are dropped, and counted; 0: all are kept, until the spool is full and refuses requests.",
    )
    max_pending_bytes: int = Field(
        128 << 20,
        ge=1 << 20,
        description="Bytes of requests in progress, each counted twice, for itself and its redacted copy; above it, "
        "requests are refused with a Retry-After.",
    )
    telemetry_per_minute: int = Field(
        60,
        ge=0,
        le=1_000_000,
        description="Requests to /telemetry that one client may send in a minute, to all workers together; 0: any.",
    )
    public_cpu_seconds: float = Field(
        15.0,
        ge=0,
        allow_inf_nan=False,
        description="CPU time that each receiver gives in a minute to work on requests of one public key, and to those"
        " that come to open endpoints without a key; above it, they are refused with a Retry-After; 0: any.",
    )
    shutdown_seconds: float = Field(10.0, gt=0, le=86_400, description="How long a stop waits for requests under way.")
    log_format: Literal["text", "json"] = Field(
        "text",
        description="Format of the log of `serve`, on standard error: text, or json, one object a line with time,"
        " level, logger, message, process and pid.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest severity that is logged; libraries log warnings and errors only."
    )

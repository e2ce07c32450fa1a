"""`otel-telemetry serve` and `otel-telemetry redactor`: run the gateway by the settings and the command line."""

import logging
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from sqlalchemy import make_url

from otel_telemetry import assemble_gateway
from otel_telemetry import settings as settings_module
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.serve import logs

Database = Annotated[
    str | None,
    typer.Option("--db", help="SQLAlchemy URL of the request_log database.", metavar="URL", show_default=False),
]
SpoolDir = Annotated[
    Path | None, typer.Option("--spool-dir", help="Folder of the spool.", metavar="DIR", show_default=False)
]


def serve(
    *,
    role: Annotated[
        str | None, typer.Option(help="What to do: receive, deliver, all of it; or redact.", show_default="all")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that receive, beside one that delivers; 0: one for all.", show_default="1"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port of OTLP/gRPC.", show_default="4317")] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port of OTLP/HTTP, /health and /metrics.", show_default="4318")
    ] = None,
    db: Database = None,
    spool_dir: SpoolDir = None,
) -> None:
    """Receive OTLP over gRPC and HTTP, redact it, keep it on disk, write the request_log.

    [bold]Try it:[/] otel-telemetry serve --db sqlite:///telemetry.db, then point any OpenTelemetry SDK at it with
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317. Ctrl-C stops it; nothing acknowledged is lost.
    """
    ports = {"host": host, "grpc_port": grpc_port, "http_port": http_port}
    given = {"role": role, "workers": workers, "spool_dir": spool_dir, **ports}
    _serve(**_sections(gateway=given, request_log={"url": db}))


def redactor(
    *,
    socket: Annotated[
        Path | None,
        typer.Option(help="Unix socket to listen on.", metavar="PATH", show_default="otel-redactor/redactor.sock"),
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port to listen on in place of a socket.", show_default=False)
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address of that port; beyond loopback it needs keys.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that redact.", show_default="1")] = None,
) -> None:
    """Redact what an OpenTelemetry Collector asks for, and keep nothing: the other half of its processor.

    The processor `otel_telemetry` of collector/ sends each batch here and passes on what comes back. The socket is for
    the user who runs both. Ctrl-C stops it.

    [bold]Try it:[/] otel-telemetry redactor --socket /run/otel-telemetry/redactor.sock
    """
    by_port = http_port is not None or host is not None
    if socket and by_port:
        raise ConfigurationError("--socket", "is of no use beside --http-port or --host", "leave one of them out")
    where = {"socket": "-", "http_port": http_port, "host": host} if by_port else {"socket": socket and str(socket)}
    _serve(**_sections(gateway={"role": "redact", "workers": workers, **where}))


def _serve(**given: dict[str, Any]) -> None:
    """Serve by the settings, and what was given on the command line."""
    load = settings_module.reader(**given)
    with logs.buffered():
        settings = load()
        logs.use(settings.gateway)
    gateway = assemble_gateway.gateway_of(settings, load)
    for line in filter(None, (_where_to(settings), _what_is_not_shared(settings))):
        logging.getLogger("otel_telemetry").info("%s", line)
    gateway.run()


def _where_to(settings: settings_module.Settings) -> str:
    """Return where requests are stored and delivered to; of addresses, only the host."""
    if settings.gateway.role == "redact":
        return "requests are redacted and returned to the client; nothing is stored"
    storage = f"what is acknowledged is kept in {_stored_in(settings)}"
    if settings.gateway.role == "receive":
        return f"{storage}; a gateway with --role deliver takes it from there"
    on = [f"OTLP to {name} at {urlsplit(one.endpoint).netloc}" for name, one in sorted(settings.forward.items())]
    if settings.loki.endpoint:
        on.append(f"log lines to {urlsplit(settings.loki.endpoint).netloc}")
    return ", ".join([f"rows go to {make_url(settings.request_log.url)}", *on, storage])


def _stored_in(settings: settings_module.Settings) -> str:
    if settings.gateway.transport == "disk":
        return str(settings.gateway.spool_dir)
    kafka = settings.gateway.kafka
    return f"the topics {kafka.topic_prefix}* of Kafka at {kafka.brokers}"


def _what_is_not_shared(settings: settings_module.Settings) -> str:
    """Return what several receivers do not share; "" if they share everything."""
    if settings.gateway.workers < 2 or settings.gateway.role in {"deliver", "redact"} or settings.cache.url:  # noqa: PLR2004 - one shares with nobody
        return ""
    return f"/cache is in the memory of each of {settings.gateway.workers} processes; cache.url makes it one, in Redis"


def _sections(**sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings that were given on the command line; what was not given is left to the environment."""
    given = {name: {key: v for key, v in section.items() if v is not None} for name, section in sections.items()}
    return {name: section for name, section in given.items() if section}

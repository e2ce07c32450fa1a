"""Safe, complete, useful telemetry for apps that call LLMs, on OpenTelemetry.

    import otel_telemetry

    otel_telemetry.configure(service_name="chat", exporter="request_log")

    with otel_telemetry.request(route="direct") as r:
        ...

Processors and exporters are imported by their own names, `otel_telemetry.processors.span` and so on; importing this
package alone loads neither.
"""

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Unpack

from otel_telemetry import cache
from otel_telemetry.app.arguments import Sections
from otel_telemetry.app.events import event, feedback
from otel_telemetry.cache import source
from otel_telemetry.request import request

if TYPE_CHECKING:
    from otel_telemetry.cache.parts import Parts

__version__ = metadata.version("otel-telemetry")

__all__ = ["__version__", "cache", "configure", "event", "feedback", "flush", "request"]


def configure(*, service_name: str | None = None, exporter: str | None = None, **sections: Unpack[Sections]) -> None:
    """Make this process emit safe telemetry: redaction, pseudonyms, FastAPI, httpx, Redis, model calls, an exporter.

    `exporter` is `otlp` (to a gateway or collector, the default) or `request_log` (straight into the database of
    `request_log.url`); OTEL_TRACES_EXPORTER, where set, wins. `sections` are settings, as mappings:
    `configure(request_log={"url": "sqlite:///app.db"})`. Raises ConfigurationError naming the setting that cannot be
    used. Applications are instrumented when they are made: call this before `FastAPI()`.
    """
    from otel_telemetry import assemble  # noqa: PLC0415  # the light face must not load the machinery

    assemble.configure(service_name=service_name, exporter=exporter, **sections)


def flush(timeout: float = 5.0) -> bool:
    """Write what is waiting of spans, logs and metrics now; return whether all of it was out in `timeout` seconds."""
    from otel_telemetry.app import lifecycle  # noqa: PLC0415  # the same

    return lifecycle.flush(timeout)


def _cache_parts(arguments: Mapping[str, Any]) -> "Parts":
    from otel_telemetry import assemble  # noqa: PLC0415  # the same

    return assemble.cache_parts(arguments)


def __getattr__(name: str) -> Any:
    """Load `otel_telemetry.fastapi` where it is first named: it needs FastAPI, and what reads requests."""
    if name == "fastapi":
        return import_module("otel_telemetry.fastapi")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


source.use(_cache_parts)

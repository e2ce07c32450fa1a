"""Safe, complete, useful telemetry for apps that call LLMs, on OpenTelemetry.

    import otel_telemetry

    otel_telemetry.configure(service_name="chat", exporter="request_log")

    with otel_telemetry.request(route="direct") as r:
        ...

Processors and exporters are imported by their own names, `otel_telemetry.processors.span` and so on; importing this
package alone loads neither.
"""

from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from otel_telemetry import cache
from otel_telemetry.cache import source
from otel_telemetry.request import request
from otel_telemetry.say import event, feedback

if TYPE_CHECKING:
    from otel_telemetry.cache.parts import Parts

__version__ = metadata.version("otel-telemetry")

__all__ = ["__version__", "cache", "configure", "event", "feedback", "request"]


def configure(*, service_name: str | None = None, exporter: str | None = None, **arguments: Any) -> None:
    """Make this process emit safe telemetry; see `otel_telemetry.assemble.configure`."""
    from otel_telemetry import assemble  # noqa: PLC0415  # the light face must not load the machinery

    assemble.configure(service_name=service_name, exporter=exporter, **arguments)


def _cache_parts(arguments: Mapping[str, Any]) -> "Parts":
    from otel_telemetry import assemble  # noqa: PLC0415  # the same

    return assemble.cache_parts(arguments)


source.use(_cache_parts)

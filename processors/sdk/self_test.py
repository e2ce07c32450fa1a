"""A self-test of the providers that are registered in this process, whatever they are and whatever they wrap.

A record with a test value is sent through each, and stopped at the guards (fail_closed.py): exporters never get it. A
provider whose records do not reach a guard is neither the SDK's nor leads to it: what it exports cannot be cleaned.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from opentelemetry import trace
from opentelemetry._logs import LogRecord, NoOpLoggerProvider, SeverityNumber
from opentelemetry._logs._internal import ProxyLoggerProvider
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import Meter

from otel_telemetry.base import conventions
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.base.within import within
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.sdk import fail_closed
from otel_telemetry.processors.sdk.fail_closed import GuardReached

_DEPTH: Final = 4
_UNSET: Final = (
    trace.ProxyTracerProvider,
    trace.NoOpTracerProvider,
    ProxyLoggerProvider,
    NoOpLoggerProvider,
    _ProxyMeterProvider,
    NoOpMeterProvider,
)
"""Providers that export nothing."""


def prove(tracer_provider: Any, logger_provider: Any, meter_provider: Any, redactor: Redactor) -> None:
    """Raise ConfigurationError where a registered provider exports what nobody here can redact."""
    for refusal in refusals(tracer_provider, logger_provider, meter_provider, redactor):
        raise refusal


def refusals(
    tracer_provider: Any, logger_provider: Any, meter_provider: Any, redactor: Redactor
) -> Iterator[ConfigurationError]:
    """Yield an error for each registered provider that exports what nobody here can redact."""
    if not _is_reached(tracer_provider, redactor, _send_span):
        yield _refusal(tracer_provider, "spans")
    if not _is_reached(logger_provider, redactor, _send_log):
        yield _refusal(logger_provider, "log records")
    if not isinstance(meter_provider, _UNSET) and not _leads_to(
        meter_provider.get_meter(finding_counts.SELF_TEST), Meter
    ):
        yield _refusal(meter_provider, "metrics")


def _is_reached(provider: Any, redactor: Redactor, send: Callable[[Any, str], bool]) -> bool:
    service = str(_resource(provider).get(conventions.SERVICE_NAME) or conventions.UNKNOWN_SERVICE)
    planted = finding_counts.planted_for(redactor, service)
    if isinstance(provider, _UNSET) or planted is None:
        return True
    try:
        with fail_closed.self_test(planted), finding_counts.muted():
            return send(provider, planted)
    except GuardReached as reached:
        return reached.clean


def _resource(provider: Any) -> Any:
    return getattr(getattr(provider, "resource", None), "attributes", None) or {}


def _send_span(provider: Any, planted: str) -> bool:
    """Send a span; return True if its absence proves nothing, because it was not sampled or is the API's own."""
    span = provider.get_tracer(finding_counts.SELF_TEST).start_span(
        planted, context=Context(), attributes={"a": planted}
    )
    unsampled = not span.is_recording() and isinstance(span, trace.NonRecordingSpan)
    span.end()
    return unsampled


def _send_log(provider: Any, planted: str) -> bool:
    record = LogRecord(body=planted, attributes={"a": planted}, severity_number=SeverityNumber.FATAL)
    provider.get_logger(finding_counts.SELF_TEST).emit(record)
    return False


def _leads_to(start: Any, kind: type) -> bool:
    """Return whether an object is of a kind, or holds one that is, or holds one that holds one."""
    return any(isinstance(each, kind) for each in within(start, _DEPTH))


def _refusal(provider: Any, what: str) -> ConfigurationError:
    name = f"{type(provider).__module__}.{type(provider).__qualname__}"
    return ConfigurationError(
        "redaction",
        f"the registered {name} exports {what} that otel-telemetry cannot reach: they would leave unredacted",
        "register a provider of opentelemetry-sdk (or one that leads to it) before, or start without that provider",
    )


__all__ = ["prove", "refusals"]

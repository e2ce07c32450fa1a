"""Providers that this environment registers before any program starts, and that redaction cannot reach.

OTEL_PYTHON_TRACER_PROVIDER and its like name them, or a `sitecustomize` of another vendor sets them.
"""

from otel_telemetry.app import lifecycle
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.log import RedactionLogProcessor
from otel_telemetry.processors.metric import MetricRedaction
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.sdk import fail_closed, self_test
from otel_telemetry.processors.span import RedactionSpanProcessor


def unreached(redactor: Redactor) -> list[ConfigurationError]:
    """Return why a program would be refused here, for each provider that is registered and not reached.

    As at the start of a program, each is sent a record with a made-up value, which exporters of the SDK never see.
    """
    fail_closed.guard(RedactionSpanProcessor(redactor), RedactionLogProcessor(redactor), MetricRedaction(redactor))
    try:
        return list(self_test.refusals(*lifecycle.providers(), redactor))
    except Exception as error:  # noqa: BLE001  # it is another's, and may fail in any way
        hint = "correct or unset OTEL_PYTHON_TRACER_PROVIDER, _LOGGER_PROVIDER and _METER_PROVIDER"
        return [ConfigurationError("providers", f"one cannot be tried: {type(error).__name__}: {error}", hint)]
    finally:
        fail_closed.release()


__all__ = ["unreached"]

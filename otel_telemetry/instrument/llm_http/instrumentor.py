"""The instrumentor: lets one observer see what httpx, httpx2, urllib3 (requests, botocore) and aiohttp send."""

from collections.abc import Callable, Collection
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # untyped
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from otel_telemetry.base import conventions
from otel_telemetry.instrument import afterwards
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.instrument.llm_http import over_aiohttp, over_httpx, over_urllib3
from otel_telemetry.instrument.llm_http.measures import Measures
from otel_telemetry.instrument.llm_http.observer import Observer


class LlmHttpInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped, see its import
    """Gives every model call over one of these clients a GenAI span and the GenAI client metrics.

    `instrument(config=None, tracer_provider=None, meter_provider=None)`; without arguments the defaults and the global
    providers. A call that another GenAI instrumentation has a span for already gets no second one.
    """

    _undo: tuple[Callable[[], None], ...] = ()

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: whichever of the clients is there is instrumented."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        config = kwargs.get("config") or InstrumentSettings()
        tracer_provider: TracerProvider | None = kwargs.get("tracer_provider")
        meter_provider: MeterProvider | None = kwargs.get("meter_provider")
        if not config.llm_http:
            return
        observer = Observer(
            config,
            trace.get_tracer(conventions.SCOPE_NAME, tracer_provider=tracer_provider),
            Measures(metrics.get_meter(conventions.SCOPE_NAME, meter_provider=meter_provider)),
        )
        afterwards.at_exit()
        self._undo = (
            observer.stop,
            *over_httpx.observe(observer),
            *over_urllib3.observe(observer),
            *over_aiohttp.observe(observer),
        )

    def _uninstrument(self, **kwargs: Any) -> None:
        del kwargs
        undo, self._undo = self._undo, ()
        for step in undo:
            step()
        afterwards.flush()

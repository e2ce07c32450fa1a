"""The one place where settings become live objects."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata, util
from typing import Any, Unpack

from opentelemetry import trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_telemetry import prices
from otel_telemetry import settings as settings_module
from otel_telemetry.app import config_file, console, joining, lifecycle, older_variables, recording
from otel_telemetry.app.arguments import Sections
from otel_telemetry.base import conventions
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.base.providers import add_span_processor
from otel_telemetry.cache.parts import Parts
from otel_telemetry.instrument import afterwards
from otel_telemetry.instrument.fastapi import fastapi_hooks, time_first_byte
from otel_telemetry.instrument.langchain_cache import mark_cached_answers
from otel_telemetry.processors import log, metric, span
from otel_telemetry.processors.ner import sdk as ner_export
from otel_telemetry.processors.ner.text import NerRedactor, ner_of
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.sdk import fail_closed, self_test
from otel_telemetry.request import set_enabled
from otel_telemetry.settings import Settings

_logger = logging.getLogger(__name__)
_started = False
"""Whether the SDK runs with our redaction in this process."""

NAME = "otel_telemetry"
"""Name of our distro and of our configurator among the entry points."""

INSTRUMENTORS = "opentelemetry_instrumentor"

DISABLED_INSTRUMENTATIONS = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"

REQUEST_LOG = "request_log"
"""Name of our exporters in OTEL_TRACES_EXPORTER and OTEL_LOGS_EXPORTER."""

PROMETHEUS = "otel_telemetry_prometheus"
"""Name of our exporter in OTEL_METRICS_EXPORTER; `prometheus` is taken for it, too."""

LOKI = "loki"
"""Name of our exporter in OTEL_LOGS_EXPORTER."""

LLM_HTTP = "otel_telemetry_llm_http"
"""Name of our instrumentation of model calls among the `opentelemetry_instrumentor` entry points."""

REDIS_CACHE = "otel_telemetry_redis_cache"
"""Name of our instrumentation of lookups in Redis among them."""

THREADS = "otel_telemetry_threads"
"""Name of what carries a request into threads among them."""

_INSTRUMENTED = {
    "fastapi": "fastapi",
    "httpx": "httpx",
    "httpx2": "httpx2",
    "logging": "logging",
    "redis": "redis",
    LLM_HTTP: "httpx2",
    REDIS_CACHE: "redis",
    THREADS: "threading",
    # What else makes requests, where its instrumentation is installed.
    "flask": "flask",
    "django": "django",
    "starlette": "starlette",
    "aiohttp-server": "aiohttp",
    "tornado": "tornado",
    "falcon": "falcon",
    "pyramid": "pyramid",
    "celery": "celery",
    "grpc_server": "grpc",
    "grpc_aio_server": "grpc",
}
"""What `configure()` instruments: the name of the entry point, and the module that must be there for it."""


def redactor_of(settings: Settings) -> Redactor:
    """Compile the rules and the policy; log it if a missing secret changes what is recorded."""
    if settings.redaction.pseudonyms.secret is None:
        _logger.warning(
            "redaction.pseudonyms.secret is not set: IP addresses, user and session ids are redacted in full, so rows "
            "cannot tell people apart. Set %s to a random text of 16 characters or more.",
            settings_module.variable("redaction.pseudonyms.secret"),
        )
    redactor = Redactor(settings.redaction)
    _logger.info("redaction engine: %s", redactor.engine)
    return redactor


def named_entities_of(settings: Settings, redactor: Redactor) -> NerRedactor | None:
    """Load the model that finds names, or return None where the settings leave it off."""
    ner = ner_of(settings.redaction, redactor)
    if ner is not None:
        _logger.info("names of people, places and dates are looked for with %s", ner.model)
    return ner


def switched_off() -> bool:
    """Return whether OTEL_SDK_DISABLED switches everything off: then not even the settings are looked at."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def load_settings(**arguments: Any) -> Settings | None:
    """Resolve the settings; None where everything is switched off, by them or by OTEL_SDK_DISABLED."""
    settings = None if switched_off() else settings_module.load(**arguments)
    on = settings is not None and settings.enabled
    set_enabled(on)
    if on:
        return settings
    os.environ["OTEL_SDK_DISABLED"] = "true"  # so that nobody else starts the SDK in our place
    return None


def default_environment(settings: Settings, exporter: str | None = None) -> None:
    """Set the OTEL_* variables that nobody has set yet; those that are set are left alone."""
    older_variables.for_the_sdk()
    traces = os.environ.setdefault("OTEL_TRACES_EXPORTER", exporter or "otlp")
    logs = os.environ.setdefault("OTEL_LOGS_EXPORTER", REQUEST_LOG if traces == REQUEST_LOG else "otlp")
    queues = ["BSP", "BLRP"] if logs == REQUEST_LOG else ["BSP"]  # of spans, and of log records
    elsewhere = "none" if traces == REQUEST_LOG else "otlp"
    given = os.environ.get("OTEL_METRICS_EXPORTER")
    if given:  # the SDK's own takes a port in each worker: all but the first would fail, and record nothing
        names = [PROMETHEUS if name.strip() == "prometheus" else name for name in given.split(",")]
        os.environ["OTEL_METRICS_EXPORTER"] = ",".join(names)
    defaults = {
        "OTEL_METRICS_EXPORTER": PROMETHEUS if settings.prometheus.port is not None else elsewhere,
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        "OTEL_PYTHON_CONFIGURATOR": NAME,
    }
    for queue in queues:
        largest = min(settings.request_log.batch_size, settings.request_log.queue_size)
        defaults[f"OTEL_{queue}_SCHEDULE_DELAY"] = str(int(settings.request_log.debounce * 1000))
        defaults[f"OTEL_{queue}_MAX_QUEUE_SIZE"] = str(settings.request_log.queue_size)
        defaults[f"OTEL_{queue}_MAX_EXPORT_BATCH_SIZE"] = str(largest)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if logs in ("none", REQUEST_LOG) and not config_file.named():  # no row is made of what `logging` is told
        os.environ.setdefault("OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION", "false")


def prometheus_address(settings: Settings) -> tuple[str, int, str]:
    """Return host, port and service of the Prometheus exporter: the settings', or OpenTelemetry's own variables'."""
    given = settings.prometheus
    service = str(Resource.create().attributes.get(conventions.SERVICE_NAME, ""))
    if given.port is not None:
        return given.host, given.port, service
    port = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT") or "9464"
    if not port.isdecimal():
        raise ConfigurationError("OTEL_EXPORTER_PROMETHEUS_PORT", "is no number", "set it to a port, as 9464")
    return os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST") or given.host, int(port), service


def start_sdk(settings: Settings, **arguments: Any) -> None:
    """Start the OpenTelemetry SDK as OTEL_* (or OTEL_CONFIG_FILE) say, with redaction in front of every exporter.

    The redactor is made first: if that fails, nothing is started, and nothing leaves.
    """
    _start(settings, lambda: _start_providers(settings, arguments))


def protect_sdk() -> None:
    """Put redaction in front of what another configurator has started, and our options into the instrumentations.

    Nothing is done where our own has started it. Raises where it cannot be done; then nothing leaves.
    """
    try:
        settings = load_settings()
        if settings is not None and not _started:
            _start(settings, _join_what_is_registered)
            _lend_options(settings)
    except Exception:
        lifecycle.shut_down_providers()
        raise


def _start(settings: Settings, make_providers: Callable[[], None]) -> None:
    global _started  # noqa: PLW0603  # one SDK a process
    console.show_warnings()
    redactor = redactor_of(settings)
    ner = named_entities_of(settings, redactor)
    summary, ratio = settings.redaction.summary, settings.redaction.leak_check_ratio
    spans = span.RedactionSpanProcessor(redactor, summary=summary, leak_check_ratio=ratio)
    logs = log.RedactionLogProcessor(redactor, leak_check_ratio=ratio)
    measures = metric.MetricRedaction(redactor, leak_check_ratio=ratio)
    fail_closed.guard(spans, logs, measures)
    try:
        make_providers()
        _put_in_front(spans, logs, measures)
        self_test.prove(*lifecycle.providers(), redactor)
        _look_for_names(ner, summary=summary)
        _record_unsampled(settings)
        _measure(settings)
        if settings.instrument.llm_http:
            mark_cached_answers(trace.get_tracer_provider())
    except Exception:
        lifecycle.shut_down_providers()  # fail closed: these exporters would be given what nobody cleans
        raise
    lifecycle.flush_at_end()
    _started = True


def _start_providers(settings: Settings, arguments: dict[str, Any]) -> None:
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        _join_what_is_registered(**arguments)
        return
    make: Any = _Configurator  # the SDK's own has no annotations
    configurator = make()
    if not config_file.named():
        configurator.configure(**arguments)
        return
    _lend_options(settings)
    config_file.start(configurator.configure)


def _join_what_is_registered(**arguments: Any) -> None:
    if not config_file.named():  # then the file alone says who exports
        joining.join(**arguments)


def _lend_options(settings: Settings) -> None:
    for entry_point in _chosen(settings):
        config_file.lend(entry_point.load(), instrumentation_options(settings, entry_point.name))


def _put_in_front(
    spans: span.RedactionSpanProcessor, logs: log.RedactionLogProcessor, measures: metric.MetricRedaction
) -> None:
    tracer_provider, logger_provider, meter_provider = lifecycle.providers()
    if isinstance(tracer_provider, TracerProvider):
        span.protect(tracer_provider, spans)
    if isinstance(logger_provider, LoggerProvider):
        log.protect(logger_provider, logs)
    if isinstance(meter_provider, MeterProvider):
        metric.protect(meter_provider, measures)


def _look_for_names(ner: NerRedactor | None, *, summary: bool) -> None:
    tracer_provider, logger_provider, _ = lifecycle.providers()
    spans = tracer_provider if isinstance(tracer_provider, TracerProvider) else None
    logs = logger_provider if isinstance(logger_provider, LoggerProvider) else None
    if ner is None:
        return
    if spans is None and not isinstance(tracer_provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        hint = "register a TracerProvider of opentelemetry-sdk, or switch off redaction.names and redaction.ner.enabled"
        raise ConfigurationError("redaction.names", "the exporters of the registered provider are not ours", hint)
    ner_export.protect(spans, logs, ner, summary=summary)


def _record_unsampled(settings: Settings) -> None:
    """Make rows of spans that the sampler leaves out, too, where a request_log exporter is among the exporters."""
    provider = trace.get_tracer_provider()
    if settings.request_log.unsampled and isinstance(provider, TracerProvider):
        from otel_telemetry.exporters.request_log.exporter import RequestLogSpanExporter  # noqa: PLC0415  # loads SQL

        recording.record_unsampled(provider, RequestLogSpanExporter)


def _measure(settings: Settings) -> None:
    """Make the figures that users define; those of spans and logs stand behind redaction."""
    if not settings.kpi:
        return
    from otel_telemetry.exporters.request_log.kpis import definitions, measures, sdk  # noqa: PLC0415  # loads SQL

    kpis = definitions.compiled(settings.kpi)
    measures.active.use(kpis)
    tracer_provider, logger_provider, _ = lifecycle.providers()
    if measures.active.wants("spans") and isinstance(tracer_provider, TracerProvider):
        add_span_processor(tracer_provider, sdk.KpiSpans(kpis))
    if measures.active.wants("logs") and isinstance(logger_provider, LoggerProvider):
        logger_provider.add_log_record_processor(sdk.KpiLogs(kpis))


class _Configurator(_OTelSDKConfigurator):
    """The SDK's own configurator, under a name of ours: it is a singleton per class."""


def instrumentation_options(settings: Settings, name: str) -> dict[str, Any]:
    """Return the arguments with which the instrumentation of that entry point name is to be started, now."""
    if name == "fastapi":
        time_first_byte()
        return fastapi_hooks(settings.instrument)
    if name == LLM_HTTP:
        captures = settings.instrument.captures(store_text=settings.request_log.store_text)
        return {"config": settings.instrument.model_copy(update={"capture_content": captures})}
    if name == REDIS_CACHE:
        return {"config": settings.instrument}
    return {}


def configure(*, service_name: str | None = None, exporter: str | None = None, **arguments: Unpack[Sections]) -> None:
    """Make this process emit safe telemetry: redaction, pseudonyms, FastAPI, httpx, Redis, model calls, an exporter.

    `exporter` is `otlp` (to a gateway or collector, the default) or `request_log` (directly into the database of
    `request_log.url`); OTEL_TRACES_EXPORTER, if set, has priority. Further arguments are settings, as nested mappings:
    `configure(request_log={"url": "sqlite:///app.db"})`. A TracerProvider that is already set is kept: redaction is put
    in front of its exporters, and ours is added.

    Raises ConfigurationError naming the setting that cannot be used. Applications are instrumented when they are
    created: call this before `FastAPI()`.
    """
    _refuse_unknown(exporter or "", arguments)
    settings = load_settings(**arguments)
    if settings is None:
        return
    if _started:
        _logger.warning("telemetry was started before: this call of configure() changes nothing")
        return
    default_environment(settings, exporter)
    resource = {conventions.SERVICE_NAME: service_name} if service_name else {}
    start_sdk(settings, resource_attributes=resource, exporter_args_map=_exporter_arguments(arguments))
    for entry_point in _chosen(settings):
        _instrument(entry_point, settings)
    console.keep_last_resort()


def _instrument(entry_point: metadata.EntryPoint, settings: Settings) -> None:
    """Start an instrumentation; one that cannot be, which a neighbour may have broken, does not stop the app."""
    try:
        entry_point.load()().instrument(**instrumentation_options(settings, entry_point.name))
    except Exception:
        _logger.warning("the instrumentation %s could not be started", entry_point.name, exc_info=True)


def _refuse_unknown(exporter: str, arguments: Mapping[str, Any]) -> None:
    """Refuse names that `configure()` does not know, with the nearest that it does."""
    names = {entry_point.name for entry_point in _exporters()} | {"none"}
    for name in filter(None, map(str.strip, exporter.split(","))):
        if name not in names:
            raise ConfigurationError("exporter", f"there is no exporter {name!r}", settings_module.nearest(name, names))
    known = {"service_name", "exporter", *Settings.model_fields}
    for name in arguments:
        if name not in known:
            problem = "configure() takes no such argument"
            raise ConfigurationError(name, problem, settings_module.nearest(name, known))


def _exporters() -> metadata.EntryPoints:
    return metadata.entry_points(group="opentelemetry_traces_exporter")


def _exporter_arguments(arguments: Mapping[str, Any]) -> dict[Any, dict[str, Any]]:
    """Return what the SDK gives our exporters when it makes them: the settings that are arguments here."""
    given = {REQUEST_LOG: REQUEST_LOG, LOKI: LOKI, PROMETHEUS: "prometheus"}
    ours = {name: arguments[section] for name, section in given.items() if section in arguments}
    groups = ("opentelemetry_traces_exporter", "opentelemetry_logs_exporter", "opentelemetry_metrics_exporter")
    known = (entry_point for group in groups for entry_point in metadata.entry_points(group=group))
    return {entry_point.load(): dict(ours[entry_point.name]) for entry_point in known if entry_point.name in ours}


def _chosen(settings: Settings) -> Iterator[metadata.EntryPoint]:
    """Yield the instrumentations that `configure()` starts: of what is installed, those that the settings want."""
    disabled = disabled_instrumentations()
    for entry_point in metadata.entry_points(group=INSTRUMENTORS):
        name = entry_point.name
        needs = None if name in disabled or "*" in disabled else _INSTRUMENTED.get(name)
        if needs and util.find_spec(needs) and instrumented(settings, name):
            yield entry_point


def disabled_instrumentations() -> set[str]:
    """Return the names that OTEL_PYTHON_DISABLED_INSTRUMENTATIONS switches off; "*" among them is all."""
    return {name.strip() for name in os.environ.get(DISABLED_INSTRUMENTATIONS, "").split(",")}


def instrumented(settings: Settings, name: str) -> bool:
    """Return whether the settings want the instrumentation of that entry point name."""
    instrument = settings.instrument
    switches = {LLM_HTTP: instrument.llm_http, REDIS_CACHE: instrument.redis_cache, THREADS: instrument.threads}
    return settings.enabled and switches.get(name, True)


def cache_parts(arguments: Mapping[str, Any]) -> Parts:
    """Return what a ResponseCache is made of; `arguments` are settings of `cache` that go before all others."""
    settings = settings_module.load(**({"cache": dict(arguments)} if arguments else {}))
    afterwards.watch()
    afterwards.do(prices.warm)
    return Parts(settings.cache, redactor_of(settings), prices.total, cache_secret(settings))


def cache_secret(settings: Settings) -> bytes | None:
    """Return the secret by which digests in cache keys are made, or None where none is set."""
    secret = settings.redaction.pseudonyms.secret
    return secret.get_secret_value().encode() if secret else None

"""The one place where settings become live objects."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import metadata, util
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_telemetry import config_file, console, conventions, lifecycle, prices
from otel_telemetry import settings as settings_module
from otel_telemetry.cache.parts import Parts
from otel_telemetry.errors import ConfigurationError
from otel_telemetry.instrument import log_measures
from otel_telemetry.instrument.client_address import client_address, networks
from otel_telemetry.instrument.fastapi import fastapi_hooks, time_first_byte
from otel_telemetry.instrument.llm_http import afterwards
from otel_telemetry.processors import log, metric, ner_export, span
from otel_telemetry.processors.ner_text import NerRedactor, ner_of
from otel_telemetry.processors.redactor import Redactor
from otel_telemetry.request import set_enabled
from otel_telemetry.settings import Settings

if TYPE_CHECKING:
    from otel_telemetry.gateway.config import GatewaySettings
    from otel_telemetry.gateway.group import Seat
    from otel_telemetry.gateway.rest import Rest
    from otel_telemetry.gateway.server import Gateway
    from otel_telemetry.gateway.supervisor import Supervisor
    from otel_telemetry.processors.otlp import OtlpRedactor
    from otel_telemetry.sinks import Sink

_logger = logging.getLogger(__name__)
_started = False
"""Whether the SDK runs with our redaction in this process."""

NAME = "otel_telemetry"
"""Name of our distro and of our configurator among the entry points."""

INSTRUMENTORS = "opentelemetry_instrumentor"

DISABLED_INSTRUMENTATIONS = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"

REQUEST_LOG = "request_log"
"""Name of our exporters in OTEL_TRACES_EXPORTER and OTEL_LOGS_EXPORTER."""

LOKI = "loki"
"""Name of our exporter in OTEL_LOGS_EXPORTER."""

LLM_HTTP = "otel_telemetry_llm_http"
"""Name of our instrumentation of model calls among the `opentelemetry_instrumentor` entry points."""

REDIS_CACHE = "otel_telemetry_redis_cache"
"""Name of our instrumentation of lookups in Redis among them."""

_INSTRUMENTED = {
    "fastapi": "fastapi",
    "httpx": "httpx",
    "httpx2": "httpx2",
    "logging": "logging",
    "redis": "redis",
    LLM_HTTP: "httpx2",
    REDIS_CACHE: "redis",
}
"""What `configure()` instruments: the name of the entry point, and the module that must be there for it."""


def redactor_of(settings: Settings) -> Redactor:
    """Compile the rules and the policy; says so where a missing secret changes what is recorded."""
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
    """Load the pipeline that finds names, or return None where redaction.ner leaves it off."""
    ner = ner_of(settings.redaction, redactor)
    if ner is not None:
        _logger.info("names of people, places and dates are looked for with %s", ner.model)
    return ner


def switched_off() -> bool:
    """Tell whether OTEL_SDK_DISABLED switches everything off: then not even the settings are looked at."""
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
    traces = os.environ.setdefault("OTEL_TRACES_EXPORTER", exporter or "otlp")
    logs = os.environ.setdefault("OTEL_LOGS_EXPORTER", REQUEST_LOG if traces == REQUEST_LOG else "otlp")
    queues = ["BSP", "BLRP"] if logs == REQUEST_LOG else ["BSP"]  # of spans, and of log records
    defaults = {
        "OTEL_METRICS_EXPORTER": "none" if traces == REQUEST_LOG else "otlp",
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


def start_sdk(settings: Settings, **arguments: Any) -> None:
    """Start the OpenTelemetry SDK as OTEL_* (or OTEL_CONFIG_FILE) say, with redaction in front of every exporter.

    The redactor is made first: where it cannot be, nothing is started, and nothing leaves.
    """
    _start(settings, lambda: _start_providers(settings, arguments))


def protect_sdk() -> None:
    """Put redaction in front of what another configurator has started, and our options into the instrumentations.

    Nothing is done where our own has started it. Raises where it cannot be done; then nothing leaves.
    """
    try:
        settings = load_settings()
        if settings is not None and not _started:
            _start(settings, lambda: None)
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
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        make_providers()
    try:
        _put_in_front(spans, logs, measures)
        _look_for_names(ner, summary=summary)
    except Exception:
        lifecycle.shut_down_providers()  # fail closed: these exporters would be given what nobody cleans
        raise
    lifecycle.flush_at_end()
    _started = True


def _start_providers(settings: Settings, arguments: dict[str, Any]) -> None:
    make: Any = _Configurator  # the SDK's own has no annotations
    configurator = make()
    if not config_file.named():
        configurator.configure(**arguments)
        return
    _lend_options(settings)
    config_file.start(configurator.configure)


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
    if ner is not None:
        ner_export.protect(spans, logs, ner, summary=summary)


class _Configurator(_OTelSDKConfigurator):
    """The SDK's own configurator, under a name of ours: it is a singleton per class."""


def instrumentation_options(settings: Settings, name: str) -> dict[str, Any]:
    """Return the arguments with which the instrumentation of that entry point name is to be started, now."""
    if name == "fastapi":
        time_first_byte()
        return fastapi_hooks(settings.instrument)
    if name in (LLM_HTTP, REDIS_CACHE):
        return {"config": settings.instrument}
    return {}


def configure(*, service_name: str | None = None, exporter: str | None = None, **arguments: Any) -> None:
    """Make this process emit safe telemetry: redaction, pseudonyms, FastAPI, httpx, Redis, model calls, an exporter.

    `exporter` is `otlp` (to a gateway or collector, the default) or `request_log` (straight into the database of
    `request_log.url`); OTEL_TRACES_EXPORTER, where set, wins. Further arguments are settings, as nested mappings:
    `configure(request_log={"url": "sqlite:///app.db"})`. A TracerProvider that the app has already set is kept, and
    redaction is put in front of its exporters. Raises ConfigurationError naming the setting that cannot be used.
    Applications are instrumented when they are made: call this before `FastAPI()`.
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
        entry_point.load()().instrument(**instrumentation_options(settings, entry_point.name))
    console.keep_last_resort()


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
    ours = {REQUEST_LOG, LOKI} & arguments.keys()
    known = [*_exporters(), *metadata.entry_points(group="opentelemetry_logs_exporter")]
    return {entry_point.load(): dict(arguments[entry_point.name]) for entry_point in known if entry_point.name in ours}


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
    """Tell whether the settings want the instrumentation of that entry point name."""
    switches = {LLM_HTTP: settings.instrument.llm_http, REDIS_CACHE: settings.instrument.redis_cache}
    return settings.enabled and switches.get(name, True)


def cache_parts(arguments: Mapping[str, Any]) -> Parts:
    """Return what a ResponseCache is made of; `arguments` are settings of `cache` that go before all others."""
    settings = settings_module.load(**({"cache": dict(arguments)} if arguments else {}))
    afterwards.watch()
    afterwards.do(prices.warm)
    return Parts(settings.cache, redactor_of(settings), prices.total, _cache_secret(settings))


def _cache_secret(settings: Settings) -> bytes | None:
    secret = settings.redaction.pseudonyms.secret
    return secret.get_secret_value().encode() if secret else None


def gateway_of(settings: Settings) -> "Gateway | Supervisor":
    """Put the gateway together: one process, or the supervisor of several, each of which makes its own part."""
    from otel_telemetry.gateway.supervisor import Supervisor  # noqa: PLC0415  # apps need none of it

    config = settings.gateway
    _refuse_own_door(settings)
    if config.workers and config.role != "deliver":
        return Supervisor(config, lambda own, seat: _process_of(settings, own, seat))
    return _process_of(settings, config)


def _process_of(settings: Settings, config: "GatewaySettings", seat: "Seat | None" = None) -> "Gateway":
    """Put one process of the gateway together: redaction where it receives, sinks where it delivers."""
    from otel_telemetry.gateway.server import Gateway  # noqa: PLC0415

    if config.role == "deliver":
        return Gateway(config, None, list(sinks_of(settings)), seat=seat)
    rules = redactor_of(settings)
    redactor, rest = _otlp_redactor_of(settings, rules), _rest_of(settings, rules)
    sinks = list(sinks_of(_in_one_process(settings))) if config.role != "receive" else []
    return Gateway(config, redactor, sinks, seat=seat, rest=rest)


def _rest_of(settings: Settings, rules: Redactor) -> "Rest":
    """Make the endpoints beside OTLP, with the cache behind some of them and what tells clients apart."""
    from otel_telemetry.cache.door import CacheDoor  # noqa: PLC0415
    from otel_telemetry.gateway.rest import Clients, Rest  # noqa: PLC0415

    trusted = networks(settings.instrument.trusted_proxies)
    address_of = partial(client_address, trusted=trusted) if trusted else None
    parts = Parts(settings.cache, rules, secret=_cache_secret(settings))
    return Rest(
        CacheDoor(parts), Clients(settings.gateway.telemetry_per_minute, address_of), log_measures.default.record
    )


def _otlp_redactor_of(settings: Settings, rules: Redactor) -> "OtlpRedactor":
    from otel_telemetry.processors.otlp import OtlpRedactor  # noqa: PLC0415

    redaction = settings.redaction
    return OtlpRedactor(
        rules,
        summary=redaction.summary,
        leak_check_ratio=redaction.leak_check_ratio,
        ner=named_entities_of(settings, rules),
    )


def sinks_of(settings: Settings) -> "Iterator[Sink]":
    """Make what the gateway delivers to: the request log, and every destination that is set."""
    from otel_telemetry.exporters.loki import sink as loki  # noqa: PLC0415
    from otel_telemetry.exporters.otlp.sink import ForwardSink  # noqa: PLC0415
    from otel_telemetry.exporters.request_log.sink import RequestLogSink  # noqa: PLC0415

    yield RequestLogSink(settings.request_log)
    for name, config in settings.forward.items():
        yield ForwardSink(f"forward.{name}", config, f"forward.{name}")
    if settings.loki.endpoint is not None:
        yield loki.make_sink(settings.loki)


def _in_one_process(settings: Settings) -> Settings:
    """Return the settings without writers beside the process: who asked for one process gets one."""
    return settings.model_copy(update={"request_log": settings.request_log.model_copy(update={"writers": 1})})


def _refuse_own_door(settings: Settings) -> None:
    """Refuse to forward to this gateway itself: each batch would come in again and again."""
    gateway = settings.gateway
    near = {"localhost", "127.0.0.1", "::1"}
    here = near | {gateway.host} if gateway.host in near | {"0.0.0.0", "::"} else {gateway.host}  # noqa: S104 - compared
    for name, config in settings.forward.items():
        parts = urlsplit(config.endpoint)
        port = parts.port or {"grpc": 4317, "http": 80}[config.protocol]
        if parts.hostname in here and port in {gateway.grpc_port, gateway.http_port}:
            hint = "name another receiver, or move gateway.grpc_port and http_port"
            raise ConfigurationError(f"forward.{name}.endpoint", "that is where this gateway listens", hint)

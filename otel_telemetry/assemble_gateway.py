"""Settings become a gateway: its processes, what redacts in them, and what they deliver to."""

import hashlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import BaseModel

from otel_telemetry.assemble import cache_secret, named_entities_of, redactor_of
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.base.private_folder import private_folder
from otel_telemetry.cache.parts import Parts, Rules
from otel_telemetry.instrument import log_measures
from otel_telemetry.instrument.client_address import client_address, networks
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.settings import Settings

if TYPE_CHECKING:
    from otel_telemetry.base.destinations import Sink
    from otel_telemetry.gateway.config import GatewaySettings
    from otel_telemetry.gateway.receive.auth import Keys
    from otel_telemetry.gateway.receive.rest import Clients, Rest
    from otel_telemetry.gateway.receive.rest.rate_limit import AddressOf, Shared
    from otel_telemetry.gateway.serve.group import WorkerContext
    from otel_telemetry.gateway.serve.lifecycle import Process
    from otel_telemetry.gateway.serve.page import Insight, MakePage, Page
    from otel_telemetry.gateway.serve.process import Counts
    from otel_telemetry.gateway.serve.reload import NewSettings
    from otel_telemetry.gateway.serve.supervisor import Make, Supervisor
    from otel_telemetry.processors.otlp.redactor import OtlpRedactor

_SECRET_BYTES: Final = 32
_log = logging.getLogger("otel_telemetry.gateway")


def gateway_of(settings: Settings, load: Callable[[], Settings] | None = None) -> "Process | Supervisor":
    """Build the gateway: one process, or the supervisor of several, each of which builds its own part.

    `load` reads the settings again, at a reload.
    """
    from otel_telemetry.gateway.serve.supervisor import Supervisor  # noqa: PLC0415  # apps need none of it

    config = settings.gateway
    _refuse_own_endpoint(settings)
    if config.transport == "kafka" and config.role != "redact":
        from otel_telemetry.gateway.kafka import client  # noqa: PLC0415

        client.check(config.kafka)
    secret = secrets.token_bytes(_SECRET_BYTES)
    if config.workers and config.role != "deliver":
        return Supervisor(config, _maker(settings, secret), (lambda: _anew(load, secret)) if load else None)
    return _process_of(settings, config, load=load, secret=secret)


def _maker(settings: Settings, secret: bytes) -> "Make":
    """Return what makes the processes of a group; they count calls of clients, and know sessions, together."""
    from otel_telemetry.gateway.receive.rest.shared_window import SharedWindow  # noqa: PLC0415  # none on Windows

    per_minute = settings.gateway.telemetry_per_minute
    shared = SharedWindow(per_minute) if per_minute else None
    return lambda own, worker: _process_of(settings, own, worker, shared, secret=secret)


def _anew(load: Callable[[], Settings], secret: bytes) -> "tuple[GatewaySettings, Make]":
    """Read the settings anew, and find out whether processes can be made of them."""
    settings = load()
    _refuse_own_endpoint(settings)
    redactor_of(settings)
    return settings.gateway, _maker(settings, secret)


def _process_of(
    settings: Settings,
    config: "GatewaySettings",
    worker: "WorkerContext | None" = None,
    shared: "Shared | None" = None,
    load: Callable[[], Settings] | None = None,
    *,
    secret: bytes,
) -> "Process":
    """Put one process of the gateway together: redaction where it receives, sinks where it delivers."""
    from otel_telemetry.gateway.serve.process import Gateway  # noqa: PLC0415
    from otel_telemetry.gateway.serve.redactor import RedactorProcess  # noqa: PLC0415

    if config.role == "deliver":
        reload = partial(_while_running, settings, load, None) if load else None
        page = None if worker else _page_of(settings, secret)
        others = otlp_redactor_of(settings, redactor_of(settings)) if config.transport == "kafka" else None
        counts = _counts_of(settings) if others else None
        return Gateway(config, others, list(sinks_of(settings)), worker=worker, load=reload, page=page, counts=counts)
    rules = redactor_of(settings)
    shared_rules = Rules(rules)
    redactor = otlp_redactor_of(settings, rules)
    reload = partial(_while_running, settings, load, shared_rules) if load else None
    if config.role == "redact":
        return RedactorProcess(config, redactor, worker=worker, load=reload)
    rest = _rest_of(settings, shared_rules, shared)
    sinks = list(sinks_of(_in_one_process(settings))) if config.role != "receive" else []
    page = _page_of(settings, secret)
    counts = _counts_of(settings)
    return Gateway(config, redactor, sinks, worker=worker, rest=rest, load=reload, page=page, counts=counts)


def _counts_of(settings: Settings) -> "Counts":
    """Return what stores the counts of redaction beside the rows."""
    from otel_telemetry.exporters.request_log.store.redactions import Redactions  # noqa: PLC0415

    return Redactions(settings.request_log.url)


def _page_of(settings: Settings, secret: bytes) -> "MakePage | None":
    """Return what makes the page of a gateway; `secret` signs its sessions, in all processes of a group."""
    if not settings.ui.enabled:
        return None

    def make(keys: "Keys", insight: "Insight") -> "Page":
        from otel_telemetry.ui.access import Access  # noqa: PLC0415
        from otel_telemetry.ui.app import make_page  # noqa: PLC0415
        from otel_telemetry.ui.reading import Reading, databases  # noqa: PLC0415

        _measure(settings)
        reading, written = map(Reading, databases(settings.ui, settings.request_log))
        access = Access(keys, secret, address_of=_address_of(settings))
        return make_page(reading, settings.redaction, settings.ui, access, insight, written=written)

    return make


def _while_running(started: Settings, load: Callable[[], Settings], cached: Rules | None) -> "NewSettings":
    """Read the settings anew for a gateway that is one process; `cached` are the rules of its cache."""
    from otel_telemetry.gateway.serve.reload import NewSettings  # noqa: PLC0415

    settings = load()
    _refuse_own_endpoint(settings)
    late = tuple(_changed(started, settings))
    if cached is None and started.gateway.transport == "disk":
        return NewSettings(settings.gateway, None, lambda: None, late)
    rules = redactor_of(settings)
    if cached is None:
        return NewSettings(settings.gateway, otlp_redactor_of(settings, rules), lambda: None, late)
    return NewSettings(settings.gateway, otlp_redactor_of(settings, rules), lambda: cached.use(rules), late)


def _changed(started: Settings, settings: Settings) -> Iterator[str]:
    """Yield the names of settings that are others now, beside those of the gateway and of redaction."""
    for name in Settings.model_fields:
        old, new = getattr(started, name), getattr(settings, name)
        if name in {"gateway", "redaction"} or old == new:
            continue
        of_section = type(old).model_fields if isinstance(old, BaseModel) else {}
        yield from (f"{name}.{one}" for one in of_section if getattr(old, one) != getattr(new, one))
        if not of_section:
            yield name


def _rest_of(settings: Settings, rules: Rules, shared: "Shared | None") -> "Rest":
    """Make the endpoints beside OTLP, with their cache and the rate limit for each client."""
    from otel_telemetry.cache.key_value import KeyValueCache  # noqa: PLC0415
    from otel_telemetry.gateway.receive.rest import Rest  # noqa: PLC0415

    parts = Parts(settings.cache, rules, secret=cache_secret(settings))
    return Rest(KeyValueCache(parts), clients_of(settings, shared), log_measures.default.record)


def clients_of(settings: Settings, shared: "Shared | None" = None) -> "Clients":
    """Make the object that identifies clients and limits how often each may send."""
    from otel_telemetry.gateway.receive.rest import Clients  # noqa: PLC0415

    return Clients(settings.gateway.telemetry_per_minute, _address_of(settings), shared)


def _address_of(settings: Settings) -> "AddressOf | None":
    """Return what finds a client's address behind trusted proxies; None without any."""
    trusted = networks(settings.instrument.trusted_proxies)
    return partial(client_address, trusted=trusted) if trusted else None


def window_of_workers(settings: Settings) -> "Shared | None":
    """Make what the workers of an app count clients' calls in together; None where each has to count its own."""
    from otel_telemetry.gateway.receive.rest.shared_window import SharedWindow  # noqa: PLC0415

    per_minute, secret = settings.gateway.telemetry_per_minute, settings.redaction.pseudonyms.secret
    app = f"{os.environ.get('OTEL_SERVICE_NAME', '')}\n{Path.cwd()}"
    folder = private_folder(f"app-{hashlib.sha256(app.encode()).hexdigest()[:16]}") if per_minute else None
    if folder is None:
        return None
    try:
        return SharedWindow.of_workers(folder, per_minute, secret.get_secret_value().encode() if secret else b"")
    except OSError as error:
        _log.warning("each worker limits clients of /telemetry by itself: %s", error)
        return None


def otlp_redactor_of(settings: Settings, rules: Redactor) -> "OtlpRedactor":
    """Make what redacts OTLP requests, by the settings and the rules that are compiled."""
    from otel_telemetry.processors.otlp.redactor import OtlpRedactor  # noqa: PLC0415

    redaction = settings.redaction
    return OtlpRedactor(
        rules,
        summary=redaction.summary,
        leak_check_ratio=redaction.leak_check_ratio,
        ner=named_entities_of(settings, rules),
    )


def _measure(settings: Settings) -> None:
    """Make the figures that users define this process's: it counts them where it writes, and shows them on the page."""
    from otel_telemetry.exporters.request_log.kpis.definitions import compiled  # noqa: PLC0415
    from otel_telemetry.exporters.request_log.kpis.measures import active  # noqa: PLC0415

    active.use(compiled(settings.kpi))


def sinks_of(settings: Settings) -> "Iterator[Sink]":
    """Make what the gateway delivers to: the request log, and every destination that is set."""
    from otel_telemetry.exporters.loki import sink as loki  # noqa: PLC0415
    from otel_telemetry.exporters.otlp.sink import ForwardSink  # noqa: PLC0415
    from otel_telemetry.exporters.request_log.anomalies.watch import Watch  # noqa: PLC0415
    from otel_telemetry.exporters.request_log.kpis.measures import active  # noqa: PLC0415
    from otel_telemetry.exporters.request_log.kpis.sink import KpiSink  # noqa: PLC0415
    from otel_telemetry.exporters.request_log.sink import RequestLogSink  # noqa: PLC0415

    _measure(settings)
    kpis = active.kpis
    yield RequestLogSink(settings.request_log)
    if settings.anomalies.enabled:
        Watch(settings.request_log, settings.anomalies, kpis)
    if active.wants("spans", "logs"):
        yield KpiSink(settings.request_log, kpis)
    for name, config in settings.forward.items():
        yield ForwardSink(f"forward.{name}", config, f"forward.{name}")
    if settings.loki.endpoint is not None:
        yield loki.make_sink(settings.loki)


def _in_one_process(settings: Settings) -> Settings:
    """Return the settings without writers beside the process: who asked for one process gets one."""
    return settings.model_copy(update={"request_log": settings.request_log.model_copy(update={"writers": 1})})


def _refuse_own_endpoint(settings: Settings) -> None:
    """Refuse to forward to this gateway itself: each batch would come in again and again."""
    gateway = settings.gateway
    if gateway.role == "redact":
        return  # it forwards nothing
    near = {"localhost", "127.0.0.1", "::1"}
    here = near | {gateway.host} if gateway.host in near | {"0.0.0.0", "::"} else {gateway.host}  # noqa: S104 - compared
    for name, config in settings.forward.items():
        parts = urlsplit(config.endpoint)
        port = parts.port or {"grpc": 4317, "http": 80}[config.protocol]
        if parts.hostname in here and port in {gateway.grpc_port, gateway.http_port}:
            hint = "name another receiver, or move gateway.grpc_port and http_port"
            raise ConfigurationError(f"forward.{name}.endpoint", "that is where this gateway listens", hint)

"""Checks whether the gateway's destinations accept its data: sends each an empty request, with its own settings.

An empty Export request is legal, and answered with success; Loki reports whether it is ready, and then answers a push
without lines. So address, TLS, headers, protocol and signals are all tried as they are used.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from otel_telemetry.base.errors import ConfigurationError, DeliveryRefused, StoreUnavailable
from otel_telemetry.exporters.http.destination import Destination
from otel_telemetry.exporters.loki.client import LineClient
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink
from otel_telemetry.settings import Settings

_SECONDS: Final = 3.0
_LOKI: Final = "loki"
_TLS: Final = ("ssl", "tls", "certificate", "handshake")
_Config = TypeVar("_Config", bound=Destination)


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of a probe: `problem` is "" if the destination accepts data, `next` the step that may help.

    If it is only `doubtful`, the destination was reached, but refused an empty request.
    """

    name: str
    where: str
    problem: str = ""
    next: str = ""
    doubtful: bool = False


def probes(settings: Settings) -> Iterator[Probe]:
    """Ask every destination that is set, in the order of the settings."""
    for name, config in settings.forward.items():
        yield from _guarded(f"forward.{name}", config.endpoint, _forward, config)
    if settings.loki.endpoint is not None:
        where = f"{settings.loki.protocol} {settings.loki.endpoint}"
        yield from _guarded(_LOKI, where, lambda name, config: [_loki(name, config, where)], settings.loki)


def _guarded(name: str, where: str, ask: Callable[[str, _Config], list[Probe]], config: _Config) -> Iterator[Probe]:
    """Yield what is found of one; wrong certificates of one hide nothing of the next."""
    try:
        yield from ask(name, config.model_copy(update={"timeout": min(config.timeout, _SECONDS)}))
    except ConfigurationError as error:
        yield Probe(name, where, f"{error.key}: {error.problem}", error.hint)


def _forward(name: str, config: ForwardSettings) -> list[Probe]:
    sink = ForwardSink(name, config, name)
    found: dict[tuple[str, str, bool], list[str]] = {}
    try:
        for signal in config.signals:
            found.setdefault(_asked(lambda signal=signal: sink.deliver(signal, [b""]), name), []).append(signal)  # type: ignore[misc]  # called at once
    finally:
        sink.close()
    where = f"{config.protocol} {config.endpoint}"
    return [Probe(name, f"{where} ({', '.join(signals)})", *outcome) for outcome, signals in found.items()]


def _loki(name: str, config: LokiSettings, where: str) -> Probe:
    client = LineClient(config, name)
    try:
        return Probe(name, where, *_asked(client.probe, name))
    finally:
        client.close()


def _asked(ask: Callable[[], object], name: str) -> tuple[str, str, bool]:
    """Return what is wrong, the next step, and whether it is only doubtful."""
    try:
        ask()
    except StoreUnavailable as error:
        return str(error), _next(str(error), name), False
    except DeliveryRefused as error:
        hint = f"it was reached; see its own log if it refuses telemetry too, or {name}.endpoint and headers"
        return error.detail, hint, not error.doubtful
    return "", "", False


def _next(problem: str, name: str) -> str:
    """Return the next step for a problem."""
    _, _, hint = problem.rpartition("; ")
    if hint.startswith(("check ", "set ")) and hint != problem:
        return f"{hint} ({name}.headers, .endpoint, .protocol, .signals)"
    if any(word in problem.lower() for word in _TLS):
        return f"https:// or http:// in {name}.endpoint as it is there; {name}.ca_file, where its authority is your own"
    return f"start it, or correct {name}.endpoint and {name}.protocol; until then what it should get waits in the spool"

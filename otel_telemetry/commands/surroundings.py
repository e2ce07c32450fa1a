"""What an app would find in this environment: instrumentations, their packages, and where telemetry would go."""

import difflib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from opentelemetry.instrumentation import bootstrap_gen
from opentelemetry.instrumentation.dependencies import get_dist_dependency_conflicts
from opentelemetry.util._importlib_metadata import entry_points
from packaging.requirements import Requirement
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from otel_telemetry import assemble
from otel_telemetry.app import config_file
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.operate import report_unseen
from otel_telemetry.settings import Settings, variable

_CONNECT_SECONDS: Final = 2.0
_MOST_HOSTS: Final = 5
NAME_HOSTS: Final = "name those that speak like OpenAI's API in instrument.llm_hosts; report the others as an issue"
SIGNALS: Final = ("traces", "logs", "metrics")
PINS: Final = {"distro": "OTEL_PYTHON_DISTRO", "configurator": "OTEL_PYTHON_CONFIGURATOR"}
_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
_PORTS: Final = {"grpc": 4317, "http/protobuf": 4318}
_PROTOCOL_OF: Final = {"otlp_proto_grpc": "grpc", "otlp_proto_http": "http/protobuf"}
_PREFIX: Final = "opentelemetry-instrumentation-"
#: Whose instrumentations make requests: servers, and those that work off queues.
_TAKE_REQUESTS: Final = frozenset(
    """aio-pika aiohttp-server aiokafka boto3sqs celery confluent-kafka django falcon fastapi flask kafka-python pika
    pyramid remoulade starlette tornado""".split()  # noqa: SIM905 - names alone
)
#: Ours: the setting that switches each off, and the libraries of which one must be there.
_OURS: Final = {
    assemble.LLM_HTTP: ("instrument.llm_http", ("httpx", "httpx2", "urllib3", "aiohttp")),
    assemble.REDIS_CACHE: ("instrument.redis_cache", ("redis",)),
    assemble.THREADS: ("instrument.threads", ()),
}


@dataclass(frozen=True, slots=True)
class Instrumentation:
    """One instrumentation that is installed here; `why` is the library's version, or why it does not start."""

    name: str
    starts: bool
    why: str


@dataclass(frozen=True, slots=True)
class Loader:
    """Who starts the SDK: the distro or configurator that wins here, and the others that are installed."""

    kind: str
    wins: str | None
    others: tuple[str, ...]

    @property
    def is_ours(self) -> bool:
        """Return whether it is ours."""
        return self.wins == assemble.NAME


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a signal goes: the name of an exporter, and an address where it has one."""

    signal: str
    exporter: str
    where: str = ""


def unseen_by_sampler(settings: Settings, found: Sequence[Destination]) -> str:
    """Return the share of requests without a row because of the sampler, as a sentence; "" if all have one."""
    sampler = os.environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if config_file.named() or sampler.removeprefix("parentbased_") in ("", "always_on"):
        return ""
    if settings.request_log.unsampled and writes_rows(found):
        return ""
    share = _share(sampler, os.environ.get("OTEL_TRACES_SAMPLER_ARG", ""))
    seen = "no request" if share == 0 else f"{share:.4g} % of requests" if share is not None else "some requests"
    return f"OTEL_TRACES_SAMPLER={sampler}: rows and costs show {seen} only"


def _share(sampler: str, argument: str) -> float | None:
    if sampler.endswith("always_off"):
        return 0.0
    try:
        return float(argument or 1) * 100 if sampler.endswith("traceidratio") else None
    except ValueError:
        return None


def instrumentations(settings: Settings) -> list[Instrumentation]:
    """Return every instrumentation that is installed, as `opentelemetry-instrument` would treat it."""
    disabled = assemble.disabled_instrumentations()
    found = []
    for entry_point in entry_points(group=assemble.INSTRUMENTORS):
        name = entry_point.name
        if name in disabled or "*" in disabled:
            why = f"switched off by {assemble.DISABLED_INSTRUMENTATIONS}"
            found.append(Instrumentation(name, starts=False, why=why))
        elif not assemble.instrumented(settings, name):
            found.append(Instrumentation(name, starts=False, why=f"switched off by {_OURS[name][0]}"))
        else:
            found.append(_judged(name, entry_point.dist))
    return sorted(found, key=lambda each: (not each.starts, each.name))


def _judged(name: str, dist: Any) -> Instrumentation:
    libraries: Sequence[str] = _OURS[name][1] if name in _OURS else _instrumented_by(dist)
    if name in libraries:  # a package with one instrumentation for each of several libraries
        libraries = (name,)
    versions = [f"{library} {version}" for library in libraries if (version := _version(library))]
    conflict = None if name in _OURS else get_dist_dependency_conflicts(dist)
    if libraries and not versions:
        return Instrumentation(name, starts=False, why=f"{' or '.join(libraries)} is not installed")
    if conflict is not None:
        return Instrumentation(name, starts=False, why=str(conflict))
    return Instrumentation(name, starts=True, why=", ".join(versions))


def _instrumented_by(dist: Any) -> tuple[str, ...]:
    """Return the libraries that an instrumentation's package is for: its extras `instruments` and `instruments-any`."""
    wanted = (Requirement(text) for text in dist.requires or () if "instruments" in text)
    return tuple(requirement.name for requirement in wanted)


def uninstrumented() -> dict[str, str]:
    """Return what takes requests here and is not seen: each library with the package that mends it."""
    found = {}
    for known in bootstrap_gen.libraries:
        library, package = (Requirement(known[part]).name for part in ("library", "instrumentation"))
        if package.removeprefix(_PREFIX) in _TAKE_REQUESTS and _version(library) and not _version(package):
            found[library] = package
    if _version("fastapi"):
        found.pop("starlette", None)  # FastAPI is made of it, and is seen as itself
    return dict(sorted(found.items()))


def unheard(found: Iterable[Destination]) -> list[str]:
    """Return the addresses that telemetry would be sent to, and where nobody listens, each with the reason."""
    addresses = dict.fromkeys(destination.where for destination in found if destination.where)
    return [f"{masked(address)}{problem}" for address in addresses if (problem := unreachable(address))]


def unreachable(address: str) -> str:
    """Return why nobody listens at an address, or "" where somebody does."""
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "localhost", port), _CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        return f": {getattr(error, 'strerror', None) or error}"
    return ""


def loaders() -> list[Loader]:
    """Return which distro and which configurator `opentelemetry-instrument` would load here."""
    distro = _loader("distro", os.environ.get(PINS["distro"]))
    pinned = os.environ.get(PINS["configurator"]) or (assemble.NAME if distro.is_ours else None)
    return [distro, _loader("configurator", pinned)]


def _loader(kind: str, pinned: str | None) -> Loader:
    names = [entry_point.name for entry_point in entry_points(group=f"opentelemetry_{kind}")]
    wins = next((name for name in names if pinned in (None, name)), None)
    return Loader(kind, wins, tuple(name for name in names if name != wins))


def destinations() -> list[Destination]:
    """Return where each signal goes; raises ConfigurationError naming the variable that cannot be used."""
    path = config_file.named()
    if path is not None:
        return list(_of_file(config_file.check(path)))
    return [each for signal in SIGNALS for each in _of_environment(signal)]


def _of_environment(signal: str) -> Iterator[Destination]:
    key = f"OTEL_{signal.upper()}_EXPORTER"
    names = [name.strip() for name in os.environ.get(key, "none").split(",") if name.strip()]
    for name in [name for name in names if name.lower() != "none"]:
        _require(key, name, f"opentelemetry_{signal}_exporter")
        yield Destination(signal, name, endpoint(signal, name) if name.startswith("otlp") else "")


def _require(key: str, name: str, group: str) -> None:
    known = [entry_point.name for entry_point in entry_points(group=group)]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"here there are {', '.join(sorted({*known, 'none'}))}"
        raise ConfigurationError(key, f"there is no exporter {name}", hint)


def endpoint(signal: str, exporter: str) -> str:
    """Return the address that an OTLP exporter sends to, as the OTEL_EXPORTER_OTLP_* variables say."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_"
    key = f"{own}PROTOCOL" if os.environ.get(f"{own}PROTOCOL") else _PROTOCOL
    protocol = _PROTOCOL_OF.get(exporter) or os.environ.get(key, "").strip() or "grpc"
    if protocol not in _PORTS:
        raise ConfigurationError(key, f"{protocol} is not supported", f"use one of {', '.join(_PORTS)}")
    return (
        os.environ.get(f"{own}ENDPOINT")
        or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or f"http://localhost:{_PORTS[protocol]}"
    )


def _of_file(config: Any) -> Iterator[Destination]:
    """Yield the exporters that a configuration file names."""
    parts = {
        "traces": (config.tracer_provider, "processors"),
        "logs": (config.logger_provider, "processors"),
        "metrics": (config.meter_provider, "readers"),
    }
    for signal, (provider, many) in parts.items():
        for part in getattr(provider, many, None) or ():
            for kind in ("batch", "simple", "periodic", "pull"):
                exporter = getattr(getattr(part, kind, None), "exporter", None)
                if exporter is not None:
                    yield from _exporters_of(signal, exporter)


def _exporters_of(signal: str, exporter: Any) -> Iterator[Destination]:
    for name in exporter.additional_properties or ():
        _require(config_file.VARIABLE, name, f"opentelemetry_{signal}_exporter")
        yield Destination(signal, name)
    for name, given in vars(exporter).items():
        if given is not None and name != "additional_properties":
            yield Destination(signal, name, getattr(given, "endpoint", None) or "")


def unseen_calls(url: str) -> dict[str, int]:
    """Return the hosts of requests that looked like model calls and were not recognised, from the rows."""
    try:
        engine = database.reader(url)
    except ConfigurationError:
        return {}
    try:
        with engine.connect() as connection:
            return report_unseen.unseen(connection)
    except DBAPIError:
        return {}
    finally:
        engine.dispose()


def counted(hosts: Mapping[str, int]) -> str:
    """Return hosts and their counts on a line, no more of them than fit there."""
    shown = [f"{host} ({count})" for host, count in hosts.items()]
    more = f" and {len(shown) - _MOST_HOSTS} more" if len(shown) > _MOST_HOSTS else ""
    return ", ".join(shown[:_MOST_HOSTS]) + more


def writes_rows(found: Iterable[Destination]) -> bool:
    """Return whether the app itself writes to the database of request_log.url."""
    return any(destination.exporter == assemble.REQUEST_LOG for destination in found)


def masked(url: str) -> str:
    """Return an address without its password, and without its query, which may hold another."""
    parts = urlsplit(url)
    if not parts.netloc:
        return url.partition("?")[0]
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return urlunsplit((parts.scheme, f"{name}{':***' if colon else ''}{at}{host}", parts.path, "", ""))


def masked_database(url: str) -> str:
    """Return a database URL in the same way; raises ConfigurationError where it is none."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        hint = f"set it in otel-telemetry.toml or as {variable('request_log.url')}"
        raise ConfigurationError("request_log.url", "not a database URL", hint) from None
    return parsed.set(query={}).render_as_string(hide_password=True)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

"""Checks everything on which telemetry depends in this environment; nothing is written or started.

Only empty requests are sent, to the gateway's destinations, and a record with a made-up value to providers that are
already registered here (registered.py). Each part is checked by itself, so that a broken one does not hide the next.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from packaging.requirements import Requirement

from otel_telemetry import assemble
from otel_telemetry import settings as settings_module
from otel_telemetry.app import config_file
from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable, TelemetryError
from otel_telemetry.commands import registered, surroundings
from otel_telemetry.commands.probes import probes
from otel_telemetry.exporters.request_log.db import database, schema, sqlite
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.kafka import topics
from otel_telemetry.gateway.opening import open_reader
from otel_telemetry.gateway.spool.reader import SpoolStatus
from otel_telemetry.gateway.spool.spool_file import FILE_NAME
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.settings import Settings

#: What a clock may be off before rows get into the wrong order and lags become negative.
_CLOCK_SECONDS: Final = 5.0


class State(StrEnum):
    """What was found; only a problem means that something does not work."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `next` is the next step where there is one."""

    name: str
    state: State
    detail: str
    next: str = ""


def checkup() -> list[Check]:
    """Look at everything, in the order in which it would matter to an app that starts here."""
    found = [*_guarded("versions", _versions), *_guarded("loader", _loaders)]
    if assemble.switched_off():
        return [*found, Check("settings", State.NOTE, "OTEL_SDK_DISABLED switches everything off", "unset it")]
    try:
        settings = settings_module.load()
    except ConfigurationError as error:
        return [*found, _problem("settings", error)]
    if not settings.enabled:
        return [*found, Check("settings", State.NOTE, "enabled is off: nothing is recorded", "set it to true")]
    found.append(Check("settings", State.OK, "every key and value can be used"))
    assemble.default_environment(settings)
    for name, look in _LOOKS.items():
        found += _guarded(name, lambda look=look: look(settings))  # type: ignore[misc]  # bound now, not later
    return found


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield what a look finds; what it raises is found too."""
    try:
        yield from look()
    except TelemetryError as error:
        yield _problem(name, error)
    except Exception as error:  # noqa: BLE001  # a checkup goes on to the next part, whatever is broken
        yield Check(name, State.PROBLEM, f"{type(error).__name__}: {error}")


def _problem(name: str, error: TelemetryError) -> Check:
    if isinstance(error, ConfigurationError):
        return Check(name, State.PROBLEM, f"{error.key}: {error.problem}", error.hint)
    return Check(name, State.PROBLEM, str(error))


def _versions() -> Iterator[Check]:
    wrong = []
    for text in metadata.requires("otel-telemetry") or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        version = _version(wanted.name)
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name}{wanted.specifier} (here: {version or 'none'})")
    shown = ("otel-telemetry", "opentelemetry-sdk", "opentelemetry-instrumentation", "hyperscan")
    detail = ", ".join(f"{name} {_version(name) or 'none'}" for name in shown)
    yield Check("versions", State.OK, detail)
    if wrong:
        hint = "pip install --upgrade otel-telemetry, which brings what it needs"
        yield Check("versions", State.PROBLEM, f"not as needed: {', '.join(wrong)}", hint)


def _loaders() -> Iterator[Check]:
    for loader in surroundings.loaders():
        pin = f"set {surroundings.PINS[loader.kind]}={assemble.NAME}, or start with `otel-telemetry run`"
        beside = f", beside {', '.join(loader.others)}" if loader.others else ""
        if loader.is_ours:
            yield Check(loader.kind, State.OK, f"ours{beside}")
        else:
            lost = (
                "redaction is put in front of it" if loader.kind == "configurator" else "our defaults are not applied"
            )
            yield Check(loader.kind, State.NOTE, f"{loader.wins or 'none'} is loaded, not ours: {lost}", pin)


def _redaction(settings: Settings) -> Iterator[Check]:
    redactor = Redactor(settings.redaction)
    yield from _providers(redactor)
    policy = settings.redaction.policy or "built-in policy"
    yield Check("redaction", State.OK, f"engine {redactor.engine}, {policy}")
    if redactor.engine == "re" and settings.redaction.engine == "auto":
        detail = "neither hyperscan nor google-re2 is installed: the same findings, slower"
        yield Check("redaction", State.NOTE, detail, "pip install hyperscan, or google-re2 where that has no wheel")
    if settings.redaction.pseudonyms.secret is None:
        name = settings_module.variable("redaction.pseudonyms.secret")
        detail = "no secret: addresses, user and session ids are redacted in full, rows cannot tell people apart"
        yield Check("pseudonyms", State.NOTE, detail, f"set {name} to a random text of 16 characters or more")
    else:
        yield Check("pseudonyms", State.OK, f"HMAC, key {settings.redaction.pseudonyms.key_id}")


def _providers(redactor: Redactor) -> Iterator[Check]:
    refused = registered.unreached(redactor)
    for error in refused:
        yield Check("providers", State.PROBLEM, error.problem, error.hint)
    if not refused:
        yield Check("providers", State.OK, "none is registered that redaction cannot reach")


def _instrumentations(settings: Settings) -> Iterator[Check]:
    found = surroundings.instrumentations(settings)
    starting = ", ".join(each.name for each in found if each.starts)
    yield Check("instruments", State.OK if starting else State.NOTE, starting or "nothing")
    for each in found:
        if not each.starts:
            yield Check("instruments", State.NOTE, f"not {each.name}: {each.why}")
    if missing := surroundings.uninstrumented():
        yield Check("not seen", State.NOTE, ", ".join(missing), f"pip install {' '.join(missing.values())}")


def _destinations(settings: Settings) -> Iterator[Check]:
    places = surroundings.destinations()
    if unseen := surroundings.unseen_by_sampler(settings, places):
        yield Check(
            "sampler", State.NOTE, unseen, "unset it, or write rows in the app: OTEL_TRACES_EXPORTER=request_log"
        )
    if not places:
        yield Check("exporters", State.NOTE, "there are none: nothing leaves", "set OTEL_TRACES_EXPORTER")
    for destination in places:
        where = surroundings.masked(destination.where)
        problem = surroundings.unreachable(destination.where) if destination.where else ""
        hint = "start it (`otel-telemetry serve`), or correct OTEL_EXPORTER_OTLP_ENDPOINT" if problem else ""
        state = State.PROBLEM if problem else State.OK
        yield Check(destination.signal, state, f"{destination.exporter} {where}{problem}".strip(), hint)


def _database(settings: Settings) -> Iterator[Check]:
    url = settings.request_log.url
    shown = surroundings.masked_database(url)
    parsed = database.parse(url)
    if parsed.get_backend_name() == "sqlite" and not (path := sqlite.file_of(parsed)).exists():
        yield _absent(shown, path)
        return
    try:
        count, newest = _counted(url)
    except sa.exc.DBAPIError as error:
        problem = " ".join(str(error.orig).split())
        yield Check("request_log", State.PROBLEM, f"{shown}: {problem}", "is it there, and ours? see request_log.url")
        return
    yield Check("request_log", State.OK, f"{shown}: {count} requests")
    if hosts := surroundings.unseen_calls(url):
        detail = f"what looks like model calls was not understood: {surroundings.counted(hosts)}"
        yield Check("unseen calls", State.NOTE, detail, surroundings.NAME_HOSTS)
    ahead = newest.replace(tzinfo=newest.tzinfo or UTC) - datetime.now(UTC) if newest else None
    if ahead is not None and ahead.total_seconds() > _CLOCK_SECONDS:
        yield Check("clock", State.PROBLEM, f"the newest row is {ahead.total_seconds():.0f} s ahead of it", _SET_CLOCK)


def _counted(url: str) -> tuple[int, datetime | None]:
    """Return how many requests a database has, and when the newest of them began."""
    engine = database.reader(url)
    try:
        with engine.connect() as connection:
            of_all = (sa.func.count(), sa.func.max(schema.request_log.c.ts))
            count, newest = connection.execute(sa.select(*of_all).select_from(schema.request_log)).one()
            return int(count), newest
    finally:
        engine.dispose()


def _absent(shown: str, path: Path) -> Check:
    """Return whether a missing file could be created, as apps of this environment would have to."""
    folder = next(each for each in path.absolute().parents if each.exists())
    wanted = not config_file.named() and surroundings.writes_rows(surroundings.destinations())
    if not wanted or (folder.is_dir() and os.access(folder, os.W_OK)):
        return Check("request_log", State.OK, f"{shown}: not there yet, made with the first row")
    hint = "choose another folder in request_log.url, or change its owner"
    return Check("request_log", State.PROBLEM, f"{shown}: {folder} cannot be written", hint)


def _spool(settings: Settings) -> Iterator[Check]:
    gateway = settings.gateway
    if gateway.transport == "kafka":
        yield from _topics(gateway)
        return
    if not (gateway.spool_dir / FILE_NAME).exists():
        yield Check("spool", State.OK, f"{gateway.spool_dir}: none, no gateway has used this folder")
        return
    with open_reader(gateway) as spool:
        status = spool.status()
    size = f"{(status.bytes or 0) / 1e6:.1f} MB"
    yield Check("spool", State.OK, f"{gateway.spool_dir}: {status.batches} batches, {size}")
    yield from _behind(status)


def _topics(gateway: GatewaySettings) -> Iterator[Check]:
    """Look at the topics of Kafka that are in the spool's place."""
    where = f"topics {gateway.kafka.topic_prefix}* of Kafka at {gateway.kafka.brokers}"
    try:
        topics.check(gateway.kafka)
        with open_reader(gateway) as spool:
            status = spool.status()
    except ConfigurationError as error:
        yield Check("spool", State.PROBLEM, f"{where}: {error.problem}", error.hint)
    except StoreUnavailable as error:
        yield Check("spool", State.PROBLEM, str(error), "start the brokers, or correct gateway.kafka")
    else:
        yield Check("spool", State.OK, f"{where}: {status.batches} batches")
        yield from _behind(status)


def _behind(status: SpoolStatus) -> Iterator[Check]:
    for sink, lag in status.lag.items():
        if lag.seconds > _BEHIND_SECONDS:
            left = f"{lag.batches} batches" if lag.items is None else f"{lag.items} items"
            detail = f"{sink} is {lag.seconds:.0f} s behind, {left}"
            yield Check("spool", State.PROBLEM, detail, "see what the gateway says; is its database there?")
    if status.dead_letters:
        detail = f"{status.dead_letters} dead letters: kept, and not delivered"
        yield Check("spool", State.PROBLEM, detail, "otel-telemetry spool status")


def _deliveries(settings: Settings) -> Iterator[Check]:
    for probe in probes(settings):
        state = State.OK if not probe.problem else State.NOTE if probe.doubtful else State.PROBLEM
        yield Check(probe.name, state, f"{probe.where}: {probe.problem or 'takes what it is sent'}", probe.next)


def _clock(settings: Settings) -> Iterator[Check]:
    del settings
    behind = Path(__file__).stat().st_mtime - time.time()
    if behind > _CLOCK_SECONDS:
        yield Check("clock", State.PROBLEM, f"{behind:.0f} s before this package was installed", _SET_CLOCK)
    else:
        yield Check("clock", State.OK, datetime.now(UTC).isoformat(timespec="seconds"))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


#: The alert on the spool says the same.
_BEHIND_SECONDS: Final = 300.0
_SET_CLOCK: Final = "set the clock (NTP): times of rows and lags are wrong until then"
_LOOKS: Final = {
    "redaction": _redaction,
    "instruments": _instrumentations,
    "exporters": _destinations,
    "request_log": _database,
    "spool": _spool,
    "forward": _deliveries,
    "clock": _clock,
}

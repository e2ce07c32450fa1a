"""Checks all series of a database, and reports each unusual change once, at its root, as text.

The root is the service if the service as a whole is outside its range, else the route, else the model; of the measures,
the first of requests, errors, latency, cost, tokens, cache. Other changes at the same time are part of the same report.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from otel_telemetry.base.foreign_text import plain
from otel_telemetry.exporters.request_log.anomalies import series
from otel_telemetry.exporters.request_log.anomalies.config import AnomalySettings
from otel_telemetry.exporters.request_log.anomalies.judge import (
    DAY,
    WEEK,
    WEEKS,
    Hour,
    Incident,
    Judge,
    Verdict,
    threshold,
)
from otel_telemetry.exporters.request_log.anomalies.series import MEASURES, Key, Measure, Table
from otel_telemetry.exporters.request_log.kpis.definitions import Kpi

_HOUR: Final = timedelta(hours=1)
_LEVELS: Final = ("service", "route", "model")
_ORDER: Final = {name: rank for rank, name in enumerate(MEASURES)}
_SUNDAY: Final = 6
_DAYS: Final = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_NAME: Final = 60
_NOTABLE_CHANGE: Final = 0.15


@dataclass(slots=True)
class Anomaly:
    """An incident as it is reported. `end` is None while it is open; `ratio` is None if nothing was expected."""

    service: str
    level: str
    name: str
    measure: str
    up: bool
    since: datetime
    end: datetime | None
    ratio: float | None
    text: str
    also: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """What a look at a database found; `learning` are series with less than a week of history, `notes` what was odd."""

    anomalies: list[Anomaly]
    judged: int = 0
    learning: list[str] = field(default_factory=list)
    sparse: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _One:
    """One series, judged."""

    key: Key
    name: str
    measure: Measure
    hours: list[Hour | None]
    verdict: Verdict


def look(
    connection: sa.Connection, config: AnomalySettings, since: datetime, now: datetime, kpis: Sequence[Kpi] = ()
) -> Found:
    """Judge the full hours from `since` to `now` against the weeks before; of `kpis` those that name services, too."""
    until = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    begin = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    history = min(begin, until - _HOUR) - timedelta(hours=WEEK * (WEEKS + 1))
    table = series.read(connection, history, until, kpis)
    return judged(table, config, max(0, int((begin - history) / _HOUR)))


def judged(table: Table, config: AnomalySettings, since: int) -> Found:
    """Judge all series of a table from an hour on."""
    slots = _slots(table, config)
    measures = {**MEASURES, **{name: series.of_kpi(name) for name in table.kpis}}
    asked = [
        (key, name)
        for key in sorted(table.of)
        for name, one in measures.items()
        if (one.models or key.level != "model") and (name in MEASURES or key.level == "service")
    ]
    chance = threshold(len(asked))
    found = Found([], len(asked))
    all_series: list[_One] = []
    for key, name in asked:
        hours = series.hours(table, key, measures[name])
        verdict = Judge(measures[name].kind, hours, slots, chance).run(since)
        all_series.append(_One(key, name, measures[name], hours, verdict))
        if name == "requests":
            _remark(found, key, verdict, since)
        found.notes += [f"{_named(key)}, {name}: {note}" for note in verdict.notes]
    found.anomalies = _roots(all_series, table, config)
    return found


def _remark(found: Found, key: Key, verdict: Verdict, since: int) -> None:
    hours = verdict.hours[since:]
    if hours and all(hour.why == "learning" for hour in hours):
        found.learning.append(_named(key))
    elif hours and all(hour.why in {"few", "learning", "missing"} for hour in hours):
        found.sparse.append(_named(key))


def _slots(table: Table, config: AnomalySettings) -> list[int]:
    """Return each hour's place in the week of the people; holidays are Sundays."""
    zone, holidays = ZoneInfo(config.timezone), frozenset(config.holidays)
    found = []
    for at in range(table.count):
        local = (table.since + at * _HOUR).astimezone(zone)
        found.append(_weekday(local.date(), holidays) * DAY + local.hour)
    return found


def _weekday(day: date, holidays: frozenset[date]) -> int:
    return _SUNDAY if day in holidays else day.weekday()


def _roots(all_series: Sequence[_One], table: Table, config: AnomalySettings) -> list[Anomaly]:
    """Return one anomaly for each service and stretch of time: by its root, with what happened beside it."""
    pending = [(one, incident) for one in all_series for incident in one.verdict.incidents]
    pending.sort(key=lambda each: _rank(*each))
    reported: list[tuple[_One, Incident, Anomaly]] = []
    for one, incident in pending:
        root = next(
            (each for each in reported if each[0].key.service == one.key.service and _meet(each[1], incident)), None
        )
        if root is not None:
            root[2].also.append(_short(one, incident))
            continue
        anomaly = _anomaly(one, incident, all_series, table, config)
        reported.append((one, incident, anomaly))
    return sorted((each[2] for each in reported), key=lambda each: each.since)


def _rank(one: _One, incident: Incident) -> tuple[int, int, float]:
    return _LEVELS.index(one.key.level), _ORDER.get(one.name, len(_ORDER)), incident.chance


def _meet(one: Incident, other: Incident) -> bool:
    """Return whether two incidents have hours in common, or all but touch."""
    first, second = (one, other) if one.first <= other.first else (other, one)
    return first.end is None or second.first <= first.end + 1


def _anomaly(
    one: _One, incident: Incident, all_series: Sequence[_One], table: Table, config: AnomalySettings
) -> Anomaly:
    end = None if incident.end is None else table.since + incident.end * _HOUR
    ratio = _ratio(one, incident)
    text = _sentence(one, incident, ratio, table, config)
    reasons = [] if one.name != "cost" else _reasons(one.key, incident, all_series)
    if incident.became_normal:
        reasons.append("it has been so for seven days, and is what is expected from now on")
    return Anomaly(
        one.key.service, one.key.level, one.key.name, one.name, incident.up,
        table.since + incident.first * _HOUR, end, ratio, ": ".join([text, *filter(None, [", ".join(reasons)])]),
    )  # fmt: skip


def _sentence(one: _One, incident: Incident, ratio: float | None, table: Table, config: AnomalySettings) -> str:
    local = (table.since + incident.worst * _HOUR).astimezone(ZoneInfo(config.timezone))
    when = f"{_DAYS[_weekday(local.date(), frozenset(config.holidays))]} at {local:%H}:00"
    words = one.measure.words
    what = f"{words} of {_named(one.key)}"
    if ratio is None:
        return f"{what} was not to be expected on {when}"
    if one.name == "requests" and ratio == 0:
        return f"{what} stopped: none, where {when} have {_expected(one, incident):,.0f} an hour"
    return f"{what} is {_times(ratio)} what {when} have"


def _reasons(key: Key, incident: Incident, all_series: Sequence[_One]) -> list[str]:
    """Return the causes of a changed cost: the number of calls, the tokens in each, and the price of a token."""
    own = {one.name: one for one in all_series if one.key == key}
    found = []
    factors = {name: _ratio(own[name], incident) for name in ("requests", "tokens", "cost") if name in own}
    calls, tokens, cost = (factors.get(name) for name in ("requests", "tokens", "cost"))
    if calls and abs(calls - 1) > _NOTABLE_CHANGE:
        found.append(f"{_times(calls)} the calls")
    if tokens and abs(tokens - 1) > _NOTABLE_CHANGE:
        found.append(f"{_times(tokens)} the tokens in each")
    if cost and calls and tokens and abs(cost / (calls * tokens) - 1) > _NOTABLE_CHANGE:
        found.append(f"{_times(cost / (calls * tokens))} the price of a token")
    return found


def _ratio(one: _One, incident: Incident) -> float | None:
    """Return by how much the hours of an incident differ from what was expected."""
    kind = one.measure.kind
    got = wanted = 0.0
    for at in range(incident.first, incident.end or len(one.hours)):
        hour, expected = one.hours[at], one.verdict.hours[at].expected
        if hour is None or expected is None:
            continue
        weight = 1.0 if kind == "count" else hour.of
        value = hour.value if kind != "share" or not hour.of else hour.value / hour.of
        got, wanted = got + weight * value, wanted + weight * expected
    return got / wanted if wanted > 0 and math.isfinite(got / wanted) else None


def _expected(one: _One, incident: Incident) -> float:
    return one.verdict.hours[incident.worst].expected or 0.0


def _short(one: _One, incident: Incident) -> str:
    ratio = _ratio(one, incident)
    what = f"{one.measure.words} of {_named(one.key)}"
    return f"{what} {_times(ratio)} as usual" if ratio is not None else what


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio >= 0.95 else f"{ratio:.2f} times"  # noqa: PLR2004 - of small ones two digits


def _named(key: Key) -> str:
    """Return what a series is called; names come from outside, and are cut and shown as they can be."""
    name = plain(key.service if key.level == "service" else key.name)[:_NAME] or "unknown"
    if key.level == "service":
        return f"service {name}"
    return f"{key.level} {name} of {plain(key.service)[:_NAME] or 'unknown'}"

"""Anomalies: planted faults in rows are reported once, in words; quiet weeks, gaps and odd values raise nothing."""

import json
import math
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.metrics import CallbackOptions
from typer.testing import CliRunner

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.anomalies.chances import count_tails, share_tails
from otel_telemetry.exporters.request_log.anomalies.config import AnomalySettings
from otel_telemetry.exporters.request_log.anomalies.incidents import judged
from otel_telemetry.exporters.request_log.anomalies.judge import WEEK, Hour, Judge, threshold
from otel_telemetry.exporters.request_log.anomalies.series import Key, Sums, Table
from otel_telemetry.exporters.request_log.anomalies.watch import Watch
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.exporters.request_log.kpis import definitions
from otel_telemetry.settings import load

MONDAY = datetime(2026, 8, 31, tzinfo=UTC)
HOUR = timedelta(hours=1)
WEEKS = 6
ALL = ("count", "failed", "hits", "cost", "tokens", "latency", "timed")
NOW = 5 * WEEK + 3 * 24 + 10  # a Thursday at 10:00


def poisson(mean: float) -> list[float]:
    found, term = [], math.exp(-mean)
    for count in range(400):
        found.append(term)
        term *= mean / (count + 1)
    return found


def test_tails_are_those_of_the_sums() -> None:
    exact = poisson(30)
    for count in (0, 10, 30, 55):
        few, many = count_tails(count, 30, 1.0)
        assert few == pytest.approx(sum(exact[: count + 1]), rel=0.3, abs=1e-9)
        assert many == pytest.approx(sum(exact[count:]), rel=0.3, abs=1e-9)
    chance = random.Random(5)  # noqa: S311  # no secret
    drawn = [sum(chance.random() < 0.1 for _ in range(200)) for _ in range(4_000)]
    for hits in (10, 20, 30):
        few, many = share_tails(hits, 200, 0.1, 1.0)
        assert few == pytest.approx(sum(each <= hits for each in drawn) / 4_000, abs=0.03)
        assert many == pytest.approx(sum(each >= hits for each in drawn) / 4_000, abs=0.03)
    assert count_tails(90, 30, 1.0)[1] < 1e-12


def counts(change: Callable[[int, float], float | None] = lambda _, value: value) -> list[Hour | None]:
    chance = random.Random(3)  # noqa: S311  # no secret
    found: list[Hour | None] = []
    for at in range(WEEKS * WEEK):
        mean = 100 * (1.5 if 8 <= at % 24 < 18 and at // 24 % 7 < 5 else 0.6)
        value = change(at, max(0.0, round(chance.gauss(mean, math.sqrt(mean)))))
        found.append(None if value is None else Hour(value, value))
    return found


def run(hours: list[Hour | None], since: int = 5 * WEEK) -> Any:
    slots = [at % WEEK for at in range(len(hours))]
    return Judge("count", hours, slots, threshold(50)).run(since)


def test_quiet_weeks_raise_nothing_and_a_spike_opens_and_closes_once() -> None:
    assert run(counts()).incidents == []
    (spike,) = run(counts(lambda at, value: value * 3 if NOW <= at < NOW + 3 else value)).incidents
    assert (spike.first, spike.end, spike.up) == (NOW, NOW + 3, True)
    (stop,) = run(counts(lambda at, value: 0 if at >= NOW else value)).incidents
    assert (stop.first, stop.up) == (NOW, False)


def test_a_mean_that_drops_to_zero_opens_and_a_first_event_after_none_does_not() -> None:
    chance = random.Random(4)  # noqa: S311  # no secret
    slots = [at % WEEK for at in range(WEEKS * WEEK)]

    def redactions(change: Callable[[int], float | None]) -> list[Hour | None]:
        found: list[Hour | None] = []
        for at in range(WEEKS * WEEK):
            of, given = 80 + chance.randrange(40), change(at)
            number = max(0, round(chance.gauss(of * 0.5, math.sqrt(of * 0.5)))) if given is None else given
            found.append(Hour(number / of, of))
        return found

    (stop,) = Judge("mean", redactions(lambda at: 0.0 if at >= NOW else None), slots, threshold(50)).run(NOW).incidents
    assert (stop.first, stop.up) == (NOW, False)
    rare = redactions(lambda at: 1.0 if at % 97 == 0 or at in {NOW, NOW + 1} else 0.0)
    assert Judge("mean", rare, slots, threshold(50)).run(NOW).incidents == []


def test_one_hour_alone_is_no_incident_and_flapping_hours_are_one() -> None:
    assert run(counts(lambda at, value: value * 3 if at == NOW else value)).incidents == []
    flapping = counts(lambda at, value: value * 3 if NOW <= at < NOW + 12 and at % 2 == 0 else value)
    assert len(run(flapping).incidents) == 1


def test_gaps_and_odd_values_are_left_out_and_said() -> None:
    odd = {NOW: math.nan, NOW + 1: -5.0, NOW + 2: math.inf, NOW + 3: None}
    verdict = run(counts(odd.get))
    assert verdict.incidents == []
    assert verdict.notes == ["3 hours with values below zero or without end were left out", "1 hours are missing"]


def test_a_week_of_history_is_learning_and_a_level_that_stays_becomes_normal() -> None:
    assert {hour.why for hour in run(counts()[: WEEK - 5], 0).hours} == {"learning"}
    shifted = counts(lambda at, value: value * 3 if at >= 3 * WEEK else value)
    (shift,) = run(shifted, 3 * WEEK).incidents
    assert (shift.first, shift.end, shift.became_normal) == (3 * WEEK, 4 * WEEK, True)


def table(change: Callable[[str, int, Sums], None], services: tuple[str, ...] = ("shop",)) -> Table:
    made = Table(MONDAY, WEEKS * WEEK)
    chance = random.Random(7)  # noqa: S311  # no secret
    for service in services:
        for route in ("web", "direct"):
            for at in range(made.count):
                mean = 90.0 if 8 <= at % 24 < 18 else 40.0
                count = max(0, round(chance.gauss(mean, math.sqrt(mean))))
                own = Sums(count, round(count * 0.02), count // 2, count * 0.01, count * 500.0, count * 800.0, count)
                change(route, at, own)
                for key in (Key(service, "route", route), Key(service, "service", "")):
                    whole = made.of.setdefault(key, {}).setdefault(at, Sums())
                    whole.count, whole.failed = whole.count + own.count, whole.failed + own.failed
                    whole.hits, whole.cost = whole.hits + own.hits, whole.cost + own.cost
                    whole.tokens, whole.latency = whole.tokens + own.tokens, whole.latency + own.latency
                    whole.timed += own.timed
    return made


def is_on(route: str, at: int) -> bool:
    return route == "web" and NOW <= at < NOW + 3


def times(route: str, at: int, own: Sums, names: tuple[str, ...], factor: float) -> None:
    for name in names if is_on(route, at) else ():
        setattr(own, name, type(getattr(own, name))(getattr(own, name) * factor))


@pytest.mark.parametrize(
    ("names", "factor", "measure", "says"),
    [
        (
            ("count", "failed", "hits", "cost", "tokens", "latency", "timed"),
            4.0,
            "requests",
            "traffic of service shop is",
        ),
        (("failed",), 20.0, "errors", "error rate of service shop is"),
        (("latency",), 5.0, "latency", "latency of service shop is"),
        (("cost",), 6.0, "cost", "times the price of a token"),
        (("tokens",), 0.0, "tokens", "tokens per request of service shop is"),
        (("hits",), 0.0, "cache", "cache hit rate of service shop is"),
    ],
)
def test_each_measure_is_told_once_by_its_root(names: tuple[str, ...], factor: float, measure: str, says: str) -> None:
    made = table(lambda route, at, own: times(route, at, own, names, factor))
    found = judged(made, AnomalySettings(), 5 * WEEK).anomalies
    assert [one.measure for one in found] == [measure], [one.text for one in found]
    assert says in found[0].text
    assert "Thursdays at 1" in found[0].text
    assert found[0].since == MONDAY + NOW * HOUR
    assert found[0].end is not None


def test_a_quiet_installation_says_nothing_and_a_route_of_its_own_is_the_root() -> None:
    assert judged(table(lambda *_: None), AnomalySettings(), 5 * WEEK).anomalies == []

    def swap(route: str, at: int, own: Sums) -> None:
        if NOW <= at < NOW + 3:
            factor = 1.9 if route == "web" else 0.1
            own.count = own.timed = round(own.count * factor)
            own.failed, own.hits = round(own.count * 0.02), own.count // 2
            own.cost, own.tokens, own.latency = own.count * 0.01, own.count * 500.0, own.count * 800.0

    (found,) = judged(table(swap), AnomalySettings(), 5 * WEEK).anomalies
    assert (found.level, found.measure) == ("route", "requests")


def test_holidays_are_sundays_and_zones_move_hours() -> None:
    day = (MONDAY + NOW * HOUR).date()

    def closed(route: str, at: int, own: Sums) -> None:
        del route
        low = at // 24 % 7 == 6 or (MONDAY + at * HOUR).date() == day
        if low:
            for name in ALL:
                setattr(own, name, type(getattr(own, name))(getattr(own, name) * 0.5))

    assert judged(table(closed), AnomalySettings(), 5 * WEEK).anomalies
    assert judged(table(closed), AnomalySettings(holidays=(day,)), 5 * WEEK).anomalies == []
    with pytest.raises(ConfigurationError, match="is no time zone"):
        load(anomalies={"timezone": "Mars/Olympus"})
    assert load(anomalies={"holidays": ["2026-12-25"]}).anomalies.holidays == (date(2026, 12, 25),)


def row(ts: datetime, name: str, service: str) -> dict[str, Any]:
    flags = ("escalated", "fallback_fired", "cache_hit", "ceiling_hit", "per_user_cap_hit", "rate_limited")
    return {
        **dict.fromkeys(flags, False),
        "id": name,
        "ts": ts,
        "trace_id": f"{hash(name):032x}"[-32:],
        "span_id": "1" * 16,
        "service": service,
        "route": "web",
        "llm_calls": 0,
        "retries": 0,
        "ok": True,
        "cost_usd": 0.01,
        "latency_ms": 100.0,
    }


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request: pytest.FixtureRequest, with_tables: Callable[[str], str]) -> str:
    return with_tables(request.param)


def test_the_command_reads_rows_and_hostile_names_stay_in_their_sentence(url: str) -> None:
    service = "shop\n[red]\x1b[31m{{ $labels }}\u202e"
    engine = database.connect(url)
    rows = [
        row(MONDAY + at * HOUR + timedelta(seconds=number), f"{at}-{number}", service)
        for at in range(2 * WEEK, NOW + 3)
        for number in range(90 if at >= NOW else 30)
    ]  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.insert(schema.request_log), rows)
    engine.dispose()
    at = (MONDAY + (NOW + 3) * HOUR).isoformat()
    asked = ["anomalies", "--db", url, "--at", at, "--since", (MONDAY + 5 * WEEK * HOUR).isoformat()]
    done = CliRunner().invoke(app, [*asked, "--json", "--check"], catch_exceptions=False)
    assert done.exit_code == 1, done.output
    (found,) = json.loads(done.stdout)
    assert (found["measure"], found["until"]) == ("requests", None)
    assert found["ratio"] == pytest.approx(3, abs=0.2)
    shown = CliRunner().invoke(app, asked, catch_exceptions=False).stdout
    assert "is 3.0 times what Thursdays at 1" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_figures_of_ones_own_are_judged_per_request_and_the_gateway_shows_what_is_open(url: str) -> None:
    kpi = {"redactions": {"source": "spans", "kind": "counter", "value": "redacted",
                          "labels": {"service": {"path": "service", "most": 5}}}}  # fmt: skip
    kpis = definitions.compiled(load(kpi=kpi).kpi)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    engine = database.connect(url)
    hours = range(2 * WEEK, 0, -1)
    with engine.begin() as connection:
        connection.execute(sa.insert(schema.request_log), [
            row(now - back * HOUR + timedelta(seconds=number), f"{back}-{number}", "shop")
            for back in hours for number in range(25)
        ])  # fmt: skip
        connection.execute(sa.insert(schema.kpi_value), [
            {"kpi": "redactions", "id": f"{back}", "ts": now - back * HOUR, "trace_id": None, "labels": ["shop"],
             "value": 500.0 if back <= 3 else 50.0 + back % 3}
            for back in hours
        ])  # fmt: skip
    engine.dispose()
    watch = Watch(RequestLogSettings(url=url), AnomalySettings(), kpis)
    watch.look()
    watch._not_before = math.inf  # it has just looked
    (seen,) = watch._observe(CallbackOptions())  # what the SDK calls
    assert seen.attributes == {"service": "shop", "name": "", "level": "service", "measure": "redactions"}
    assert [one.value for one in watch._count(CallbackOptions())] == [1]  # likewise

"""Rollups come to what the rows do, whatever happens to the rows; figures from them are those of the rows."""

import contextlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random as Chance
from typing import Any

import pytest
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, rollups, schema
from otel_telemetry.exporters.request_log.operate import browse, figures, limits, listing, report_groups, report_sums
from otel_telemetry.exporters.request_log.operate.browse import Filters
from otel_telemetry.exporters.request_log.operate.erase import Eraser
from otel_telemetry.exporters.request_log.operate.erase_search import Person
from otel_telemetry.exporters.request_log.operate.report_groups import CALLS, REQUESTS, Period
from otel_telemetry.exporters.request_log.operate.reprice import Repricing
from otel_telemetry.exporters.request_log.rollup import bins, build, cells, reading
from otel_telemetry.exporters.request_log.rollup.build import Builder
from otel_telemetry.exporters.request_log.rollup.rows import TooMany
from otel_telemetry.exporters.request_log.rollup.thread import Rollups
from otel_telemetry.exporters.request_log.store.retention import Retention
from otel_telemetry.exporters.request_log.store.store import Store

START = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)  # of make_span
NOW = START + timedelta(days=4)


@pytest.fixture(autouse=True)
def _only_when_asked(monkeypatch):
    monkeypatch.setattr(Rollups, "written", lambda _: None)


def traces(span, numbers, chance):
    """Return requests with one call each, spread over three days."""
    found = []
    for n in numbers:
        trace, at = f"{n:032x}", chance.uniform(0, 3 * 86_400)
        attributes: dict[str, Any] = {"request_log.route": f"route {n % 3}", "request_log.user_id": f"k1_{n % 5:012x}"}
        if n % 7 == 0:
            attributes["request_log.degraded"] = chance.choice(["media", "web_failed"])
        if n % 4 == 0:
            attributes |= {"request_log.cache_hit": True, "cache.saved": 1, "request_log.cache_saved_usd": n / 1_000}
        model = {"gen_ai.request.model": chance.choice(["gpt-4o", "o3", "unheard-of"]), "gen_ai.usage.input_tokens": n}
        call = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.usage.output_tokens": 7}
        status = {"status": "ERROR"} if n % 9 == 0 else {}
        length = chance.choice([0.0004, 0.2, 3.0, 80.0])
        found.append(span(1, None, attributes, trace_id=trace, kind="SERVER", start=at, seconds=length, **status))
        if n % 6:
            found.append(span(2, 1, call | model, trace_id=trace, kind="CLIENT", start=at, seconds=length / 2))
        if n % 5 == 0:  # before it, and across midnight: of a model that is not the request's
            other = {"gen_ai.request.model": "router", "gen_ai.usage.input_tokens": 1, "request_log.stage": "router"}
            found.append(span(3, 1, call | other, trace_id=trace, kind="CLIENT", start=at, seconds=length / 4))
    return found


def make(url):
    with Builder(url, NOW.timestamp) as builder:
        return list(builder.steps())


def wrong(url):
    engine = database.reader(url)
    with engine.connect() as connection:
        found = list(build.wrong(connection))
        done = connection.execute(sa.select(sa.func.count()).select_from(rollups.rollup_done)).scalar_one()
    engine.dispose()
    return found, done


def test_sums_that_are_too_large_for_a_column_do_not_stop_those_of_other_days(url, open_url, span, caplog):
    absurd = {"request_log.cache_hit": True, "request_log.cache_saved_usd": 9e8}
    days = [
        span(
            1,
            None,
            absurd if day else {"request_log.route": "a"},
            trace_id=f"{day * 100 + n + 1:032x}",
            start=day * 86_400.0 + n,
        )
        for day in (0, 1)
        for n in range(12)
    ]
    open_url(url).write(days)
    make(url)
    assert wrong(url)[0] == []
    engine = database.reader(url)
    with engine.connect() as connection:
        done = set(
            connection.execute(
                sa.select(rollups.rollup_done.c.start).where(rollups.rollup_done.c.token == "")
            ).scalars()
        )
    engine.dispose()
    first = rollups.start_of(START, rollups.DAY)
    assert first in done
    assert first + 86_400 not in done
    assert f"no rollups of {START.date() + timedelta(days=1)}" in caplog.text


PLAIN = ("requests", "ok", "degraded_requests", "cache_hits", "llm_calls", "prompt_tokens", "unpriced", "cost_usd")


def alike(url, monkeypatch, filters):
    """Tell that figures from rollups are those of the rows, percentiles within their bins."""
    monkeypatch.setattr(figures, "FEW", 0)
    monkeypatch.setattr(reading.Plan, "row_count", lambda *_: 0)
    period = Period(START - timedelta(days=1, minutes=7), NOW + timedelta(minutes=11))
    engine = limits.reader(url, 30)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        rolled, plain = figures.of(connection, filters, period), figures.FromRows(connection, filters, period)
        assert rolled.approximate
        pairs = [(rolled.total(), plain.total())]
        for name in ("route", "degraded", "user"):
            found = rolled.by(name)
            assert [row[name] for row in found] == [row[name] for row in plain.by(name)] or (name, bool(filters)) == (
                "user",
                True,
            )
            pairs += zip(found, plain.by(name), strict=False)
        assert rolled.cache() == plain.cache()
        first, last = (each.replace(hour=0, minute=0, second=0) for each in (START, NOW))
        whole = Period(first, last)
        days = [
            Period(first - timedelta(days=1) + of_zone, last + of_zone)
            for of_zone in (timedelta(hours=5, minutes=30), timedelta(hours=18, minutes=15))
        ]
        for aligned, step in (
            (whole, timedelta(days=1)),
            (whole, timedelta(hours=1)),
            (whole, timedelta(hours=36)),
            *((of_zone, step) for of_zone in days for step in (timedelta(days=1), timedelta(hours=6))),
        ):
            steps = figures.of(connection, filters, aligned).series(step)
            wanted = figures.FromRows(connection, filters, aligned).series(step)
            assert steps.keys() == wanted.keys()
            pairs += [(steps[n], wanted[n]) for n in steps]
        if not filters:
            assert rolled.models()[0] == "llm_calls"
            pairs += [(one, two) for one, two in zip(rolled.models()[1], plain.models()[1], strict=True)]
    for one, exact in pairs:
        assert [one.get(name) for name in PLAIN] == [exact.get(name) for name in PLAIN]
        for name in ("latency_p50_ms", "latency_p95_ms", "ttfb_p99_ms"):
            if one.get(name) is not None and exact[name] > 1:
                assert one[name] == pytest.approx(exact[name], rel=0.008)


def test_rollups_are_what_the_rows_come_to_whatever_happens(url, span, monkeypatch):
    chance = Chance(7)  # noqa: S311
    store = Store(RequestLogSettings(url=url))
    first = traces(span, range(60), chance)
    store.write(first)
    assert make(url)
    assert wrong(url)[0] == []
    for filters in (
        Filters(),
        Filters(route="route 1"),
        Filters(outcome="failed"),
        Filters(absent=("model",)),
        *_MODELS,
    ):
        alike(url, monkeypatch, filters)

    before = wrong(url)[1]
    store.write(first)  # once more: nothing changes, so nothing is forgotten
    assert wrong(url) == ([], before)
    store.write(traces(span, range(60, 90), chance))  # late
    assert wrong(url)[0] == []
    assert wrong(url)[1] < before
    alike(url, monkeypatch, Filters())
    make(url)

    monkeypatch.setattr("otel_telemetry.exporters.request_log.operate.reprice.recharge", _dearer)
    with Repricing(url, Period(), dry_run=False) as repricing:
        list(repricing.steps())
    assert wrong(url)[0] == []
    alike(url, monkeypatch, Filters())
    make(url)

    with Eraser(url, Person("user", ("k1_000000000002",), "k1_000000000002")) as eraser:
        assert eraser.erase(eraser.find()).rows["request_log"]
    assert wrong(url)[0] == []
    engine = database.reader(url)
    with engine.connect() as connection:
        people = connection.execute(sa.select(rollups.rollup.c.user_id).distinct()).scalars().all()
        assert "k1_000000000002" not in people
    engine.dispose()
    make(url)

    engine = database.connect(url)
    list(Retention(engine, START + timedelta(days=1, hours=3), None).steps())
    engine.dispose()
    assert wrong(url)[0] == []
    make(url)
    assert wrong(url)[0] == []
    alike(url, monkeypatch, Filters())
    store.close()


_MODELS = Filters(model="router"), Filters(model="o3"), Filters(model="router", outcome="failed", route="route 0")


def test_filters_that_rollups_do_not_have_read_the_rows_once(url, span, monkeypatch):
    store = Store(RequestLogSettings(url=url))
    store.write(traces(span, range(40), Chance(7)))  # noqa: S311
    store.close()
    for filters in (Filters(min_ms=100.0), Filters(outcome="unpriced")):
        alike(url, monkeypatch, filters)
    monkeypatch.setattr(figures, "MOST", 2)
    with pytest.raises(TooMany):
        alike(url, monkeypatch, Filters(max_usd=Decimal(1)))


_REPORTS = [
    *((REQUESTS, by) for by in (["route"], ["day"], ["hour"], ["degraded", "service"], ["day", "route"], ["region"])),
    *((CALLS, by) for by in (["model"], ["day", "model"], ["provider", "service"], ["hour", "model"])),
]


def test_a_report_from_rollups_is_that_of_the_rows(url, span, monkeypatch):
    monkeypatch.setattr(figures, "FEW", 0)
    monkeypatch.setattr(reading.Plan, "row_count", lambda *_: 0)
    store = Store(RequestLogSettings(url=url))
    store.write(traces(span, range(60), Chance(11)))  # noqa: S311
    store.close()
    make(url)
    engine = limits.reader(url, 30)
    with engine.connect() as connection:
        for subject, by in _REPORTS:
            for period in (Period(), Period(START + timedelta(hours=5), START + timedelta(days=2))):
                rows, approximate = report_sums.groups(connection, subject, by, period, exact=False)
                assert approximate == (len(by) == 1 and by[0] in subject.ordered)
                exact = report_groups.groups(connection, subject, by, period)
                assert [list(row) for row in rows] == [list(row) for row in exact]
                for row, wanted in zip(rows, exact, strict=True):
                    assert {k: v for k, v in row.items() if k[-3:] != "_ms"} == {
                        k: v for k, v in wanted.items() if k[-3:] != "_ms"
                    }
                    for name in (name for name in row if name.endswith("_ms") and row[name] is not None):
                        assert row[name] == pytest.approx(wanted[name], rel=0.008) or wanted[name] < 1
                assert report_sums.groups(connection, subject, by, period)[0] == exact
    engine.dispose()


def walked(page, connection, filters, period, order):
    """Return the ids of all pages."""
    found, after = [], None
    while rows := page(connection, filters, period, order=order, after=after, size=7):
        found += [row["id"] for row in rows]
        after = browse.mark(rows[-1], order)
    return found


def test_lists_that_rollups_guide_are_those_of_the_rows(url, span, monkeypatch):
    monkeypatch.setattr(listing, "_QUARTERS", (2, 9))
    store = Store(RequestLogSettings(url=url))
    chance = Chance(3)  # noqa: S311
    store.write(traces(span, range(50), chance))
    make(url)
    store.write(traces(span, range(50, 53), chance))  # their days are summed up no more
    store.close()
    engine = limits.reader(url, 30)
    asked = [Filters(), Filters(route="route 2"), Filters(route="none"), *_MODELS[:1]]
    with engine.connect() as connection:
        for period in (Period(START + timedelta(hours=7), NOW), Period()):
            for filters in asked:
                for order in ("time", "latency", "cost"):
                    rows = walked(browse.page, connection, filters, period, order)
                    assert walked(listing.page, connection, filters, period, order) == rows
                assert listing.count(connection, filters, period) == browse.count(connection, filters, period)
    engine.dispose()


def _dearer(row):
    return {**row, "cost_usd": Decimal("0.25"), "cost_source": "computed"} if row["cost_source"] == "computed" else None


def test_rows_that_change_while_they_are_summed_up_are_not_believed(url, span, monkeypatch):
    store = Store(RequestLogSettings(url=url))
    store.write(traces(span, range(20), Chance(1)))  # noqa: S311
    summed = build.summed

    def late(connection, start, minutes):
        found = list(summed(connection, start, minutes))
        monkeypatch.setattr(build, "summed", summed)
        store.write(traces(span, range(20, 60), Chance(2)))  # noqa: S311
        return found

    monkeypatch.setattr(build, "summed", late)
    make(url)
    assert wrong(url)[0] == []
    make(url)
    found, done = wrong(url)
    assert (found, done) == ([], done)
    assert done >= 3 * 97
    store.close()


def test_what_was_never_summed_up_is_read_as_rows(url, span):
    store = Store(RequestLogSettings(url=url))
    store.write(traces(span, range(20), Chance(1)))  # noqa: S311
    store.close()
    engine = limits.reader(url, 30)
    with engine.connect() as connection:
        found = figures.of(connection, Filters(), Period(START - timedelta(days=1), NOW))
        assert not found.approximate
        assert found.total()["requests"] == 20
        assert browse.count(connection, Filters(), Period()) == 20
    engine.dispose()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 1.7, 999.0, 1000.0, 86_400_000.0, 1e300, float("nan")])
def test_the_middle_of_a_bin_is_near_what_is_in_it(value):
    found = bins.middle(bins.bin_of(value))
    if 1 <= value < 1e12:
        assert found == pytest.approx(value, rel=1 / 128)
    assert bins.load(bins.dump({bins.bin_of(value): 3})) == {bins.bin_of(value): 3}


def test_percentiles_are_of_the_nearest_rank():
    counts: dict[int, int] = {}
    for value in range(1, 101):
        bins.add(counts, {bins.bin_of(value): 1})
    assert bins.percentiles(counts, (50, 95, 99)) == pytest.approx([50, 95, 99], rel=0.008)
    assert bins.percentiles({}, (50, 95)) == [None, None]
    twice = {number: 2 * count for number, count in counts.items()}
    assert bins.merged([counts, {}], [bins.dump(counts), bins.dump({}), ""]) == twice


@pytest.mark.parametrize("text", ["0.000000000001", "0.1", "999.999999999999", "123456.789012", "0"])
def test_money_is_whole_numbers_from_either_database(text):
    amount = Decimal(text)
    assert cells.pico(amount) == cells.pico(float(amount)) == int(amount.scaleb(12))


def test_a_table_of_rollups_is_of_the_schema():
    assert rollups.rollup.metadata is schema.metadata
    assert set(cells.KINDS) == set(rollups.KINDS)

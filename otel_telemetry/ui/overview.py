"""The overview: figures, charts and groups of a period, each compared with the one before, each leading to its rows."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.kpis.measures import active
from otel_telemetry.exporters.request_log.operate import figures, limits, report_kpis
from otel_telemetry.exporters.request_log.operate.report_groups import Period, Row
from otel_telemetry.exporters.request_log.operate.report_ranks import PERCENTS
from otel_telemetry.ui import words
from otel_telemetry.ui.asked import View
from otel_telemetry.ui.charts import Chart, bars
from otel_telemetry.ui.reading import Reading

_MOST: Final = 12
#: Rows that a figure of one's own is made of on the page; the report reads all.
_NEWEST: Final = 20_000


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure, what stands below it, and where it leads; `change` is by how much it differs from the period before."""

    name: str
    value: str
    note: str
    href: str
    change: str = ""
    tone: str = ""

    def moved(self, now: Any, before: Any, *, less_is_better: bool = False) -> "Tile":
        """Return the figure with how it has changed, and whether that is good."""
        change = words.change(now, before)
        tone = (
            ("good" if change.startswith("-") else "bad") if less_is_better and change not in {"", "+0%", "-0%"} else ""
        )
        return replace(self, change=change, tone=tone)


def summary(
    reading: Reading, connection: sa.Connection, view: View, found: figures.Figures, own: sa.Connection | None = None
) -> dict[str, Any]:
    """Return what `/api/summary` and the overview show; `own` has what is no request and no model call.

    Who asked most takes the database longest: it is looked up on a connection of its own, while the rest is added up,
    where that is another process. SQLite works in this one, and would only be in the way of the rest.
    """
    if connection.dialect.name == "sqlite":
        return _summary(connection, view, found, own) | {"by_user": found.by("user", _MOST)}
    with ThreadPoolExecutor(1) as beside:
        users = beside.submit(_users, reading, view)
        return _summary(connection, view, found, own) | {"by_user": users.result()}


def _users(reading: Reading, view: View) -> list[Row]:
    with reading.connection() as connection:
        return figures.of(connection, view.filters, view.period).by("user", _MOST)


def _summary(
    connection: sa.Connection, view: View, found: figures.Figures, own: sa.Connection | None
) -> dict[str, Any]:
    counted, models = found.models()
    return {
        "since": view.since,
        "until": view.until,
        "total": found.total(),
        "before": figures.of(connection, view.filters, view.before).total(),
        "approximate": found.approximate,
        "cache": found.cache(),
        "by_route": found.by("route", _MOST),
        "by_model": models[:_MOST],
        "models_count": counted,
        "by_degraded": [row for row in found.by("degraded") if row["degraded"] is not None][:_MOST],
        "kpis": _kpis((connection, own or connection), view.period),
    }


def _kpis(connections: Sequence[sa.Connection], period: Period) -> list[Row]:
    """Return users' own figures of a period, each of its newest rows, from the first database that has these."""
    rows = []
    for kpi in active.kpis:
        having = next((each for each in connections if limits.has(each, report_kpis.table_of(kpi))), None)
        found = report_kpis.total(having, [kpi], period, _NEWEST) if having is not None else {}
        number, note = report_kpis.main(kpi, found) if having is not None else (None, "not in this database")
        about = kpi.settings.description
        rows.append({"name": kpi.name, "value": number, "unit": kpi.settings.unit, "note": note, "about": about})
    return rows


def charts(view: View, found: figures.Figures) -> dict[str, Chart]:
    """Return requests, cost and latency along time."""
    series = found.series(view.step)
    return {
        "requests": bars(view, series, _outcomes, words.short, "requests"),
        "cost": bars(view, series, _one("cost_usd"), _dollars, "of model calls"),
        "latency": bars(view, series, _one("latency_p95_ms"), words.ms, "at p95"),
    }


def _outcomes(row: Row) -> list[tuple[str, float]]:
    return [("ok", float(row["ok"])), ("failed", float(row["requests"] - row["ok"]))]


def _one(name: str) -> Callable[[Row], list[tuple[str, float]]]:
    return lambda row: [("one", float(row[name] or 0))]


def _dollars(value: float) -> str:
    return f"${value:.3g}"


def tiles(found: dict[str, Any], view: View) -> list[Tile]:
    """Return the figures at the top."""
    now, before, cache = found["total"], found["before"], found["cache"]
    count, failed, was_failed = now["requests"], now["requests"] - now["ok"], before["requests"] - before["ok"]
    read, cached, degraded = now["prompt_tokens"], now["cached_tokens"], now["degraded_requests"]
    unpriced = f"{words.count(now['unpriced'])} without a price" if now["unpriced"] else "all priced"
    return [
        _tile(view, "Requests", words.count(count), f"{words.count(now['llm_calls'])} model calls", {}).moved(
            count, before["requests"]
        ),
        _tile(view, "Failed", words.count(failed), f"{_part(failed, count)} of requests", {"outcome": "failed"}).moved(
            failed, was_failed, less_is_better=True
        ),
        _tile(
            view, "Degraded", words.count(degraded), f"{_part(degraded, count)} of requests", {"outcome": "degraded"}
        ).moved(degraded, before["degraded_requests"], less_is_better=True),
        _times(view, "Latency", "latency", now, before),
        _times(view, "First byte", "ttfb", now, before),
        _tile(view, "Cost", words.usd(now["cost_usd"]), unpriced, {"sort": "cost"}).moved(
            now["cost_usd"], before["cost_usd"], less_is_better=True
        ),
        _tile(view, "Prompt tokens", words.count(read), f"of which {_part(cached, read)} cached", {}).moved(
            read, before["prompt_tokens"]
        ),
        _tile(view, "Cache hits", words.count(cache["hits"]), _saved(cache), {"outcome": "cached"}),
    ]


def _tile(view: View, name: str, value: str, note: str, to: dict[str, str]) -> Tile:
    return Tile(name, value, note, view.query(**to))


def _times(view: View, name: str, key: str, now: Row, before: Row) -> Tile:
    p50, p95, p99 = (now[f"{key}_p{percent}_ms"] for percent in PERCENTS)
    note = f"p50 {words.ms(p50)} · p99 {words.ms(p99)}"
    tile = _tile(view, f"{name} p95", words.ms(p95), note, {"sort": "latency"})
    return tile.moved(p95, before[f"{key}_p95_ms"], less_is_better=True)


def _part(value: int | None, whole: int | None) -> str:
    return words.share(value / whole if whole and value is not None else None)


def _saved(cache: Row) -> str:
    if not cache["hits"]:
        return "nothing answered from the cache"
    return f"{words.usd(cache['saved_usd'])} and {words.ms(cache['saved_ms'])} saved"

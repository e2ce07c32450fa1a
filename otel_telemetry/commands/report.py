"""`otel-telemetry report`: sums and rows as tables, JSON or CSV."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Final

import typer
from rich.table import Table
from sqlalchemy.exc import DatabaseError

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Readable, Since, Until, load, moment, readable
from otel_telemetry.commands.tables import PERCENT, Column
from otel_telemetry.exporters.request_log.kpis.definitions import Kpi, compiled
from otel_telemetry.exporters.request_log.operate import report as reports
from otel_telemetry.exporters.request_log.operate import report_kpis
from otel_telemetry.exporters.request_log.operate.report import ReportQueries
from otel_telemetry.exporters.request_log.operate.report_groups import BUCKETS, Period

Rows = Sequence[tables.Row]

_TOKENS: Final[tuple[Column, ...]] = (
    ("prompt", "prompt_tokens", 0),
    ("cached", "cached_tokens", 0),
    ("out", "completion_tokens", 0),
)
_TIMES: Final[tuple[Column, ...]] = (
    ("p50 ms", "latency_p50_ms", 0),
    ("p95 ms", "latency_p95_ms", 0),
    ("p99 ms", "latency_p99_ms", 0),
    ("p50 ttfb", "ttfb_p50_ms", 0),
    ("p95 ttfb", "ttfb_p95_ms", 0),
)
_COST: Final[tuple[Column, ...]] = (("USD", "cost_usd", 6), ("unpriced", "unpriced", 0))
#: Columns of each question, behind those by which it is asked.
_COLUMNS: Final[Mapping[str, tuple[Column, ...]]] = {
    "requests": (
        ("requests", "requests", 0),
        ("ok", "ok", 0),
        ("calls", "llm_calls", 0),
        ("share", "share", PERCENT),
        ("degraded", "degraded_requests", 0),
        *_TOKENS,
        *_TIMES,
        *_COST,
    ),
    "calls": (("calls", "llm_calls", 0), ("ok", "ok", 0), ("share", "share", PERCENT), *_TOKENS, *_TIMES, *_COST),
    "cache": (
        ("requests", "requests", 0),
        ("hits", "cache_hits", 0),
        ("hit rate", "hit_rate", PERCENT),
        ("saved ms", "saved_ms", 0),
        ("saved USD", "saved_usd", 6),
        ("unpriced", "unpriced", 0),
    ),
    "feedback": (("feedback", "feedback", 0), ("up", "up", 0), ("down", "down", 0), ("up share", "up_share", PERCENT)),
    "request": (
        ("time", "ts", None),
        ("service", "service", None),
        ("route", "route", None),
        ("model", "model", None),
        ("calls", "llm_calls", 0),
        *_TOKENS,
        ("ms", "latency_ms", 0),
        ("ttfb ms", "ttfb_ms", 0),
        ("USD", "cost_usd", 6),
        ("degraded", "degraded", None),
        ("error", "error", None),
    ),
}
_HINT: Final = "correct the path, or --db; a database of an older version is upgraded by the next that writes to it"
_BINS: Final = "≈ percentiles from bins of 1.6 %; --exact sorts all values"
#: What goes first where the window is narrow.
_SPARE: Final = (
    *("service", "latency_p99_ms", "ttfb_p95_ms", "degraded_requests", "latency_p95_ms", "cached_tokens", "ttfb_ms"),
    *("ttfb_p50_ms", "share", "llm_calls", "completion_tokens", "prompt_tokens", "error", "model", "unpriced"),
    *("latency_ms", "latency_p50_ms", "degraded"),
)
#: Words of --by that are questions of their own: by what they can be asked, and are where nothing is said.
_QUESTIONS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "cache": (reports.CACHE_BY, ("route",)),
    "feedback": (reports.FEEDBACK_BY, ("route", "model")),
    "request": ((), ()),
}


def report(
    *,
    by: Annotated[
        str | None,
        typer.Option(
            help="Sum up by route, endpoint, day, hour, model, provider, service, region, user or degraded, or by "
            "several: day,model. cache and feedback show what the cache saved and what people said, also cache,day or "
            "feedback,model. request shows the latest requests.",
            metavar="WHAT",
            show_default="route; the labels of --kpi",
        ),
    ] = None,
    kpi: Annotated[
        str | None,
        typer.Option(
            help="Show figures of your own (settings kpi.NAME): one, several with commas, or all. --by then takes day, "
            "hour, or labels that they have in common.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Show no more rows than this.", min=1, show_default="all; 20 of --by request"),
    ] = None,
    db: Readable = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with all columns.")] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Sort all values for percentiles. Otherwise, over many requests, a table has them from bins of 1.6 %, "
            "which is faster; JSON and CSV always have the exact ones.",
        ),
    ] = False,
) -> None:
    """Show cost, tokens, latency and outcome: by route, by day, by model, of the cache, of feedback.

    [bold]Try it:[/] otel-telemetry report --since 24h

    Cost per day and model:     otel-telemetry report --by day,model --since 7d
    Why answers were degraded:  otel-telemetry report --by degraded
    What the cache saved:       otel-telemetry report --by cache,day
    For a spreadsheet:          otel-telemetry report --by day,route --csv > cost.csv
    A figure of your own:       otel-telemetry report --kpi answer_words --by day

    Costs sum up what is known; `unpriced` counts what has no known price. Percentiles come with a report by route, day,
    hour or model alone. JSON and CSV have all columns; a table those that fit into the window.
    """
    period = Period(moment(since, "--since"), moment(until, "--until"))
    figures = _kpis(kpi, db)
    question, names = ("kpi", _kpis_by(by, figures)) if figures else _asked(by or "route")
    with ReportQueries(readable(db)) as answers:
        try:
            rows = (
                answers.kpis(figures, names, period)[:limit]
                if figures
                else _answer(answers, question, names, period, limit, exact=exact or as_json or as_csv)
            )
        except DatabaseError as error:
            raise ConfigurationError(
                "request_log.url", f"cannot be read as a request_log: {error.orig}", _HINT
            ) from None
    own = [(key, key, 0 if key.endswith("_values") else 3) for key in (rows[0] if rows else ()) if key not in names]
    columns = [*((name, name, None) for name in names), *(own if figures else _COLUMNS[question])]
    if as_json:
        tables.as_json(rows)
    elif as_csv:
        tables.as_csv(rows, [key for _, key, _ in columns])
    else:
        title = f"latest {len(rows)} requests" if question == "request" else f"by {by or ', '.join(names)}"
        table = _table(title, columns, rows, tables.window())
        table.caption = _BINS if answers.approximate else None
        tables.show(table if rows else _nothing(question))


def _kpis(names: str | None, db: str | None) -> list[Kpi]:
    """Return the figures that are named; none where none is asked for."""
    if names is None:
        return []
    known = {one.name: one for one in compiled(load(db).kpi)}
    if not known:
        hint = "docs/kpis.md shows how; otel-telemetry.toml is read in the working directory"
        raise ConfigurationError("kpi", "no figure is defined", hint)
    wanted = list(known) if names == "all" else [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise typer.BadParameter(f"there is no {name}: defined are {', '.join(known)}", param_hint="--kpi")
    return [known[name] for name in dict.fromkeys(wanted)]


def _kpis_by(by: str | None, figures: Sequence[Kpi]) -> tuple[str, ...]:
    allowed = report_kpis.choices(figures)
    if by is None:
        return tuple(name for name in allowed if name not in BUCKETS)
    names = tuple(dict.fromkeys(filter(None, (word.strip().lower() for word in by.split(",")))))
    return _checked(names, allowed, "these figures can be shown")


def _asked(by: str) -> tuple[str, tuple[str, ...]]:
    """Return the question, and by what it is asked."""
    words = tuple(dict.fromkeys(filter(None, (word.strip().lower() for word in by.split(",")))))
    questions = [word for word in words if word in _QUESTIONS]
    names = tuple(word for word in words if word not in _QUESTIONS)
    if len(questions) > 1 or not words:
        raise typer.BadParameter(f"{by!r} asks for {len(questions)} things at once", param_hint="--by")
    if questions:
        allowed, default = _QUESTIONS[questions[0]]
        return questions[0], _checked(names, allowed, f"{questions[0]} can be shown") or default
    if "model" in names or "provider" in names:
        return "calls", _checked(names, reports.CALLS_BY, "models are those of calls, which can be summed up")
    return "requests", _checked(names, (*reports.REQUESTS_BY, "model", "provider"), "there are reports")


def _checked(names: tuple[str, ...], allowed: Sequence[str], what: str) -> tuple[str, ...]:
    for name in names:
        if name not in allowed:
            known = f"{what} by {', '.join(allowed)}" if allowed else f"{what} as it is only"
            raise typer.BadParameter(f"not by {name}: {known}", param_hint="--by")
    return names


def _answer(
    answers: ReportQueries, question: str, names: Sequence[str], period: Period, limit: int | None, *, exact: bool
) -> Rows:
    if question == "request":
        return [dataclasses.asdict(row) for row in answers.latest(limit or 20, period)]
    queries: dict[str, Callable[[Sequence[str], Period], Rows]] = {
        "requests": partial(answers.requests, exact=exact),
        "calls": partial(answers.calls, exact=exact),
        "cache": answers.cache,
        "feedback": answers.feedback,
    }
    return queries[question](names, period)[:limit]


def _nothing(question: str) -> str:
    return {"feedback": "no feedback yet", "kpi": "no values of that yet"}.get(question, "no requests yet")


def _table(title: str, columns: Sequence[Column], rows: Rows, width: int) -> Table:
    known = [column for column in columns if any(column[1] in row for row in rows)]
    return tables.table(title, known, rows, width, _SPARE)


def routes(rows: Rows, width: int) -> Table:
    """Return cost and latency by route as a table for a window of that width."""
    return _table("by route", [("route", "route", None), *_COLUMNS["requests"]], rows, width)

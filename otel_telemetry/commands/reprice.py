"""`otel-telemetry reprice`: compute anew what stored model calls cost, by the price table that is installed now."""

from typing import Annotated, Any

import typer
from rich.console import Console

from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Database, Until, moment, progress, request_log
from otel_telemetry.exporters.request_log.operate.report_groups import Period
from otel_telemetry.exporters.request_log.operate.reprice import Outcome, Repricing
from otel_telemetry.exporters.request_log.price import cost

_COLUMNS: tuple[tables.Column, ...] = (
    ("model", "model", None),
    ("calls", "calls", 0),
    ("changed", "changed", 0),
    ("newly priced", "newly_priced", 0),
    ("unpriced", "unpriced", 0),
    ("USD before", "before_usd", 6),
    ("USD after", "after_usd", 6),
    ("change", "change_usd", 6),
)
_SPARE = ("unpriced", "newly_priced", "calls")


def reprice(
    *,
    since: Annotated[str, typer.Option(help="From when on: 30d, 12h, 4w, or a date like 2026-11-01.")],
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Compute anew what model calls cost, by the genai-prices that is installed, and their requests' costs with them.

    [bold]Try it:[/] otel-telemetry reprice --since 30d --dry-run

    For prices that came late or were corrected: pip install --upgrade genai-prices, then this. Each call gets the price
    of its day. Costs that a producer gave stay, with the computed one beside; a call without a price now keeps the one
    it had. It works in small transactions beside running writers, and may be stopped and started again.
    """
    period = Period(moment(since, "--since"), moment(until, "--until"))
    with Repricing(request_log(db).url, period, dry_run=dry_run) as repricing, progress() as bar:
        task = bar.add_task("pricing model calls", total=repricing.size())
        for count in repricing.steps():
            bar.advance(task, count)
    rows = _rows(repricing.outcome)
    if as_json:
        tables.as_json(rows)
        return
    title = f"{'would be' if dry_run else ''} repriced by {cost.price_version()}".lstrip()
    tables.show(tables.table(title, _COLUMNS, rows, tables.window(), _SPARE) if rows else "no model calls in that time")
    _show(repricing.outcome, dry_run=dry_run)


def _rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Return a row for each model, the largest change first, and one for all."""
    rows: list[dict[str, Any]] = [
        {
            "model": model or None,
            "calls": tally.calls,
            "changed": tally.changed,
            "newly_priced": tally.newly_priced,
            "unpriced": tally.without_price,
            "before_usd": tally.before,
            "after_usd": tally.after,
            "change_usd": tally.after - tally.before,
        }
        for model, tally in outcome.models.items()
    ]
    rows.sort(key=lambda row: (-abs(row["change_usd"]), str(row["model"])))
    if len(rows) > 1:
        rows.append({"model": "all", **{name: sum(row[name] for row in rows) for name in list(rows[0])[1:]}})
    return rows


def _show(outcome: Outcome, *, dry_run: bool) -> None:
    console = Console(stderr=True)
    if outcome.requests:
        console.print(f"{outcome.requests:,} requests {'would get' if dry_run else 'have'} new costs with that")
    if outcome.forgotten:
        console.print(f"{outcome.forgotten:,} calls stay as they are: their spans are forgotten (retention)")

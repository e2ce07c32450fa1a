"""`otel-telemetry show`: one request as a tree: stages, model calls, costs, and texts where they are stored."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree
from sqlalchemy.exc import DatabaseError

from otel_telemetry.base import records
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.base.foreign_text import plain
from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Readable, readable
from otel_telemetry.exporters.request_log.operate import report_one
from otel_telemetry.exporters.request_log.operate.report import ReportQueries

_LONGEST: Final = 400
_HINT: Final = "correct the path, or --db; a database of an older version is upgraded by the next that writes to it"


def show(
    wanted: Annotated[
        str,
        typer.Argument(
            help="Id of a request, the beginning of one, or the id of a trace or of a model call.",
            metavar="ID",
            show_default=False,
        ),
    ],
    *,
    full: Annotated[bool, typer.Option("--full", help="Show stored texts whole.")] = False,
    db: Readable = None,
    as_json: AsJson = False,
) -> None:
    """Show one request: its stages, each model call with tokens, time and cost, what went wrong, and its texts.

    [bold]Try it:[/] otel-telemetry show $(otel-telemetry report --by request --limit 1 --json | jq -r '.[0].id')

    Texts are there only where request_log.store_text was on. A trace may hold several requests.
    """
    with ReportQueries(readable(db)) as answers:
        try:
            found = [(request, answers.calls_of(request.id)) for request in answers.find(wanted)]
        except DatabaseError as error:
            raise ConfigurationError(
                "request_log.url", f"cannot be read as a request_log: {error.orig}", _HINT
            ) from None
    if not found:
        raise ConfigurationError("ID", f"no request is {wanted}", "otel-telemetry report --by request --json has ids")
    if as_json:
        rows = [
            {**dataclasses.asdict(row), "calls": [dataclasses.asdict(call) for call in calls]} for row, calls in found
        ]
        tables.as_json(rows)
        return
    console = Console(highlight=False, width=tables.window())
    for request, calls in found:
        console.print(_tree(request, calls, None if full else _LONGEST), soft_wrap=True)
    if len(found) == report_one.MOST:
        console.print(f"[dim]the first {report_one.MOST}; give more of the id[/]")


def _tree(request: records.Request, calls: Sequence[records.LlmCall], longest: int | None) -> Tree:
    tree = Tree(_of_request(request), guide_style="dim")
    for line in _about(request):
        tree.add(line)
    _add_text(tree, "asked", request.query_text, longest)
    staged: dict[str, list[records.LlmCall]] = {name: [] for name in request.stage_ms or {}}
    for call in calls:
        staged.setdefault(_stage_of(call), []).append(call)
    for name in sorted((each for each in staged if each), key=lambda name: _begin(staged[name])):
        stage = tree.add(Text.assemble((plain(name), "bold"), f"  {_ms((request.stage_ms or {}).get(name))}"))
        _add_calls(stage, staged[name], longest)
    _add_calls(tree, staged.get("", ()), longest)
    _add_text(tree, "answered", request.answer_text, longest)
    return tree


def _begin(calls: Sequence[records.LlmCall]) -> tuple[bool, str]:
    """Return the sort key of a stage: in order of its first call; those without calls come last."""
    return (not calls, calls[0].ts.isoformat() if calls else "")


def _stage_of(call: records.LlmCall) -> str:
    stage = (call.meta or {}).get("stage")
    return stage if isinstance(stage, str) else ""


def _of_request(row: records.Request) -> Text:
    line = Text.assemble((plain(row.route or "request"), "bold"), f"  {row.ts:%Y-%m-%d %H:%M:%S}  ")
    line.append(f"{_ms(row.latency_ms)}  ")
    if row.ttfb_ms is not None:
        line.append(f"first byte {_ms(row.ttfb_ms)}  ", "dim")
    line.append(_tokens(row))
    line.append(f"  {_cost(row.cost_usd, row.cost_source)}")
    line.append("  ok" if row.ok else "  failed", "green" if row.ok else "red")
    return line


def _about(row: records.Request) -> Iterator[Text]:
    """Yield what is known beside the figures, a line for each kind."""
    yield Text(f"id {plain(row.id)}  trace {plain(row.trace_id)}", "dim")
    whose = ("service", "environment", "region", "user_id", "session_id", "conversation_id", "ip_hash")
    known = [f"{name} {plain(value)}" for name in whose if (value := getattr(row, name))]
    if known:
        yield Text("  ".join(known), "dim")
    if row.error:
        yield Text(f"error: {plain(row.error)}", "red")
    if row.degraded:
        yield Text(f"degraded: {plain(row.degraded)}", "yellow")
    flags = [name for name in ("cache_hit", "rate_limited", "escalated", "fallback_fired") if getattr(row, name)]
    flags += [f"{row.retries} retries"] if row.retries else []
    if flags:
        yield Text("  ".join(flags), "yellow")


def _add_calls(tree: Tree, calls: Sequence[records.LlmCall], longest: int | None) -> None:
    for call in calls:
        branch = tree.add(_of_call(call))
        if call.error:
            branch.add(Text(f"error: {plain(call.error)}", "red"))
        if why := _why_unpriced(call.meta):
            branch.add(Text(f"no price: {plain(why)}", "yellow"))
        _add_text(branch, "asked", _shown(call.chat_request), longest)
        _add_text(branch, "answered", _shown(call.chat_response), longest)


def _of_call(row: records.LlmCall) -> Text:
    line = Text.assemble((plain(row.model or "?"), "cyan"))
    line.append(f"  {plain(row.provider or '-')} {plain(row.operation or '-')}  ", "dim")
    line.append(_ms(row.total_latency_ms))
    if row.ttfb_ms is not None:
        line.append(f", first {_ms(row.ttfb_ms)}", "dim")
    line.append(f"  {_tokens(row)}  {_cost(row.cost_usd, row.cost_source)}")
    if row.finish_reason:
        line.append(f"  {plain(row.finish_reason)}", "dim")
    if row.retries:
        line.append(f"  try {row.retries + 1}", "yellow")
    return line


def _why_unpriced(meta: Mapping[str, Any] | None) -> str | None:
    why = (meta or {}).get("unpriced")
    return why if isinstance(why, str) else None


def _ms(value: float | None) -> str:
    return "- ms" if value is None else f"{value:,.0f} ms"


def _tokens(row: records.Request | records.LlmCall) -> str:
    """Return tokens as `in (cached) > out (reasoning)`; what is not known is a dash."""
    went, came = (_count(value) for value in (row.prompt_tokens, row.completion_tokens))
    cached = f" ({row.cached_tokens:,} cached)" if row.cached_tokens else ""
    reasoned = f" ({row.reasoning_tokens:,} reasoning)" if row.reasoning_tokens else ""
    return f"{went}{cached} > {came}{reasoned} tokens"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _cost(amount: Decimal | None, source: str | None) -> str:
    shown = "- USD" if amount is None else f"{amount:.6f} USD"
    return f"{shown} ({plain(source)})" if source else shown


def _shown(value: Any) -> str | None:
    """Return messages as the text of their JSON, or a text as it is."""
    if value is None or isinstance(value, str):
        return value
    return tables.json_text(value)


def _add_text(tree: Tree, what: str, text: str | None, longest: int | None) -> None:
    if text:
        cut = text if longest is None or len(text) <= longest else f"{text[:longest]}… (--full shows all)"
        tree.add(Text.assemble((f"{what}: ", "dim"), plain(cut)))

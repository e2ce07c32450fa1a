"""Runs of workflows, newest first, and the steps of one as a tree."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate.browse import PageMark
from otel_telemetry.exporters.request_log.operate.report_groups import Period, Row

_run: Final = schema.workflow_run.c
_step: Final = schema.workflow_step.c
_event: Final = schema.workflow_event.c
_call: Final = schema.llm_call.c
_LISTED: Final = ("id", "name", "application", "environment", "status", "trace_id", "created_at", "updated_at")
_TEXTS: Final = ("input", "output")
_STEP: Final = ("id", "parent_step", "type", "name", "status", "start_time", "end_time")
#: Steps and events of one run that are shown.
MOST: Final = 1_000
_MOST_EVENTS: Final = 200
_DEEPEST: Final = 30
_AROUND: Final = timedelta(hours=1)


@dataclass(slots=True)
class Node:
    """A step with those below it; `depth` is how far it stands in."""

    row: Row
    below: list["Node"] = field(default_factory=list)


def runs(
    connection: sa.Connection,
    period: Period,
    *,
    status: str | None,
    name: str | None,
    after: PageMark | None,
    size: int,
) -> list[Row]:
    """Return runs that began in the period, newest first."""
    query = sa.select(*(_run[column] for column in _LISTED)).where(period.of(_run.created_at))
    if status is not None:
        query = query.where(_run.status == status)
    if name is not None:
        query = query.where(_run.name == name)
    if after is not None:
        bound = sa.literal(after.value, _run.created_at.type)
        query = query.where(sa.tuple_(_run.created_at, _run.id) < sa.tuple_(bound, sa.literal(after.id)))
    rows = connection.execute(query.order_by(_run.created_at.desc(), _run.id.desc()).limit(size)).mappings()
    return [dict(row) for row in rows]


def run(connection: sa.Connection, wanted: str, *, texts: bool) -> Row | None:
    """Return a run; its input and output only where texts may be seen."""
    columns = [column for column in schema.workflow_run.c if texts or column.name not in _TEXTS]
    row = connection.execute(sa.select(*columns).where(_run.id == wanted)).mappings().first()
    return None if row is None else dict(row)


def steps(connection: sa.Connection, wanted: str, *, texts: bool) -> list[tuple[int, Row]]:
    """Return the steps of a run from the top of the tree down, each with its depth."""
    names = (*_STEP, *(_TEXTS if texts else ()))
    query = sa.select(*(_step[name] for name in names)).where(_step.run_id == wanted)
    rows = connection.execute(query.order_by(_step.start_time, _step.id).limit(MOST)).mappings()
    nodes = {row["id"]: Node(dict(row)) for row in rows}
    roots = []
    for node in nodes.values():
        above = nodes.get(node.row["parent_step"] or "")
        if above is None or _goes_round(node, nodes):
            roots.append(node)
        else:
            above.below.append(node)
    found: list[tuple[int, Row]] = []
    waiting = [(0, node) for node in reversed(roots)]
    while waiting:
        depth, node = waiting.pop()
        found.append((min(depth, _DEEPEST), node.row))
        waiting += [(depth + 1, below) for below in reversed(node.below)]
    return found


def _goes_round(node: Node, nodes: dict[str, Node]) -> bool:
    """Return whether a step is its own ancestor, by the parents that its sender gave."""
    seen = set()
    at: Node | None = node
    while at is not None and at.row["id"] not in seen:
        seen.add(at.row["id"])
        at = nodes.get(at.row["parent_step"] or "")
    return at is node


def calls_of(connection: sa.Connection, of_run: Row) -> dict[str, Row]:
    """Return how many model calls each step of a run made, and what they cost; looked for around the run's time."""
    around = Period(of_run["created_at"] - _AROUND, of_run["updated_at"] + _AROUND).of(_call.ts)
    sums = sa.func.count().label("calls"), sa.func.sum(_call.cost_usd).label("cost_usd")
    query = sa.select(_call.step_id, *sums).where(around, _call.run_id == of_run["id"], _call.step_id.is_not(None))
    return {row["step_id"]: dict(row) for row in connection.execute(query.group_by(_call.step_id)).mappings()}


def events_of(connection: sa.Connection, wanted: str) -> list[Row]:
    """Return the other events of a run, in order."""
    columns = [_event[name] for name in ("id", "ts", "type", "step_id")]
    query = sa.select(*columns).where(_event.run_id == wanted).order_by(_event.ts, _event.id).limit(_MOST_EVENTS)
    return [dict(row) for row in connection.execute(query).mappings()]


def took(begin: datetime | None, end: datetime | None) -> float | None:
    """Return how many milliseconds lie between two moments, where both are known."""
    return None if begin is None or end is None else (end - begin).total_seconds() * 1e3


__all__ = ["MOST", "calls_of", "events_of", "run", "runs", "steps", "took"]

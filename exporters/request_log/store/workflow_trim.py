"""Retention of runs and steps: both go, or lose their texts, by the time at which an event last spoke of them.

`workflow_state` knows that time, so a run or step and its state go in one transaction: with one of them missing, a late
event would be merged wrongly.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db.schema import workflow_run, workflow_state, workflow_step

Statements = Sequence[tuple[sa.Table, sa.Executable]]

_state = workflow_state.c
_KEY = (_state.run_id, _state.step_id)
_TEXTS = {"input": sa.null(), "output": sa.null()}


def delete(before: datetime, chunk: int) -> Statements:
    """Return the statements that delete at most `chunk` runs and steps without events since then."""
    oldest = sa.select(*_KEY).where(_state.ts < before).order_by(_state.ts, *_KEY).limit(chunk)
    return (
        *((table, sa.delete(table).where(_of(table, oldest))) for table in (workflow_run, workflow_step)),
        (workflow_state, sa.delete(workflow_state).where(_of(workflow_state, oldest))),
    )


def clear(before: datetime, chunk: int) -> Statements:
    """Return the statements that remove the texts of at most `chunk` runs and steps."""
    oldest = sa.select(*_KEY).where(_state.ts < before, _state.has_text).order_by(_state.ts, *_KEY).limit(chunk)
    return (
        *(
            (table, sa.update(table).where(_of(table, oldest)).values(_TEXTS))
            for table in (workflow_run, workflow_step)
        ),
        (workflow_state, sa.update(workflow_state).where(_of(workflow_state, oldest)).values(has_text=sa.false())),
    )


def rows(before: datetime) -> Iterator[tuple[sa.Table, sa.ColumnElement[bool]]]:
    """Yield which rows `delete` would delete."""
    old = sa.select(*_KEY).where(_state.ts < before)
    for table in (workflow_run, workflow_step, workflow_state):
        yield table, _of(table, old)


def texts(before: datetime, rows_before: datetime | None) -> Iterator[tuple[sa.Table, sa.ColumnElement[bool]]]:
    """Yield which rows `clear` would clear, without those that `delete` takes."""
    has_row = _state.ts >= rows_before if rows_before is not None else sa.true()
    old = sa.select(*_KEY).where(_state.ts < before, _state.has_text, has_row)
    for table in (workflow_run, workflow_step):
        yield table, _of(table, old)


def _of(table: sa.Table, keys: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """Return the condition of being what one of these states is about; a run's has an empty step id."""
    if table is workflow_run:
        return sa.tuple_(table.c.id, sa.literal_column("''")).in_(keys)
    own = (table.c.run_id, table.c.id) if table is workflow_step else (table.c.run_id, table.c.step_id)
    return sa.tuple_(*own).in_(keys)

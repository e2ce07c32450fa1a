"""Runs and steps of workflows, merged from their events in whatever order these come, and however often.

What an event changes is in workflow_subject.py. `workflow_state` remembers by which event each column was set.
`workflow_seen` has the ids of merged events: one that is sent again later, without a time of its own, is not taken for
a newer one.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from otel_telemetry.exporters.request_log.db import coerce
from otel_telemetry.exporters.request_log.db.schema import workflow_run, workflow_seen, workflow_state, workflow_step
from otel_telemetry.exporters.request_log.events.workflow_subject import Change, Key, Subject, packed, unpacked

_AT_ONCE: Final = 500
_INSERT: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def merge(connection: sa.Connection, changes: Sequence[Change]) -> dict[str, int]:
    """Merge events into runs and steps; return how many rows of each table were written."""
    new = _unseen(connection, changes)
    if not new:
        return {}
    subjects = _load(connection, {change.key for change in new})
    for change in new:
        if change.key not in subjects:
            subjects[change.key] = Subject(_identity(change.key))
        subjects[change.key].apply(change)
    runs = [subject.row for (_, step), subject in subjects.items() if not step]
    steps = [subject.row for (_, step), subject in subjects.items() if step]
    _upsert(connection, workflow_run, runs)
    _upsert(connection, workflow_step, steps)
    _upsert(connection, workflow_state, [_state(key, subject) for key, subject in subjects.items()])
    return {table.name: len(rows) for table, rows in ((workflow_run, runs), (workflow_step, steps)) if rows}


def _parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield items as lists that fit into one statement."""
    all_of_them = list(items)
    for start in range(0, len(all_of_them), _AT_ONCE):
        yield all_of_them[start : start + _AT_ONCE]


def _unseen(connection: sa.Connection, changes: Sequence[Change]) -> list[Change]:
    """Return the events that were not merged before, each once, and remember them."""
    by_id = {change.event_id: change for change in reversed(changes)}
    known: set[str] = set()
    for ids in _parts(by_id):
        query = sa.select(workflow_seen.c.id).where(workflow_seen.c.id.in_(ids))
        known.update(connection.execute(query).scalars())
    new = [change for event_id, change in by_id.items() if event_id not in known]
    if new:
        rows = [{"id": change.event_id, "ts": coerce.moment(change.stamp.time_ns)} for change in new]
        connection.execute(sa.insert(workflow_seen), rows)
    return new


def _identity(key: Key) -> dict[str, Any]:
    run_id, step_id = key
    table = workflow_step if step_id else workflow_run
    row = dict.fromkeys(table.c.keys())
    return {**row, "id": step_id, "run_id": run_id} if step_id else {**row, "id": run_id}


def _load(connection: sa.Connection, keys: set[Key]) -> dict[Key, Subject]:
    found: dict[Key, Subject] = {}
    packed_stamps: dict[Key, dict[str, list[str]]] = {}
    for some in _parts(sorted(keys)):
        states = sa.select(workflow_state).where(_among(workflow_state.c.run_id, workflow_state.c.step_id, some))
        for state in connection.execute(states).mappings():
            key = (state["run_id"], state["step_id"])
            found[key] = Subject(_identity(key), {}, state["ts"], state["has_text"])
            packed_stamps[key] = state["stamps"]
        for key, row in _rows(connection, some):
            if key in found:
                found[key].row = row
    for key, subject in found.items():
        subject.stamps = unpacked(packed_stamps[key], subject.row)
    return found


def _rows(connection: sa.Connection, keys: Sequence[Key]) -> Iterator[tuple[Key, dict[str, Any]]]:
    runs = [run for run, step in keys if not step]
    for row in connection.execute(sa.select(workflow_run).where(workflow_run.c.id.in_(runs))).mappings():
        yield (row["id"], ""), dict(row)
    steps = [key for key in keys if key[1]]
    if steps:
        query = sa.select(workflow_step).where(_among(workflow_step.c.run_id, workflow_step.c.id, steps))
        for row in connection.execute(query).mappings():
            yield (row["run_id"], row["id"]), dict(row)


def _among(one: sa.Column[str], other: sa.Column[str], keys: Sequence[Key]) -> sa.ColumnElement[bool]:
    return sa.tuple_(one, other).in_(keys)


def _upsert(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    insert = _INSERT[connection.dialect.name](table)
    keys = [column.name for column in table.primary_key.columns]
    others = {name: insert.excluded[name] for name in table.c.keys() if name not in keys}  # noqa: SIM118  # a collection
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=others), rows)


def _state(key: Key, subject: Subject) -> dict[str, Any]:
    has_text = subject.has_text and (subject.row.get("input") is not None or subject.row.get("output") is not None)
    stamps = packed(subject.stamps)
    return {"run_id": key[0], "step_id": key[1], "ts": subject.ts, "stamps": stamps, "has_text": has_text}

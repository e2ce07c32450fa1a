"""Runs and steps of workflows, merged from their events in whatever order these come, and however often.

Each column takes the word of the newest event that says it; of two at the same time, of the one whose id is greater.
`info` is merged key by key in that way. A status goes by its place in a life first: that of a start never replaces
another, and what ends a run or step is only replaced by what ends it, too. `created_at` and `start_time` are the
earliest, `updated_at` and `end_time` the latest that were told. All of these are the greatest (or least) of what was
said, so the order of events, their batches and their repetition make no difference.

`workflow_state` remembers by which event each column was set. `workflow_seen` has the ids of merged events: one that is
sent again later, without a time of its own, is not taken for a newer one.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from otel_telemetry.exporters.request_log import coerce
from otel_telemetry.exporters.request_log.schema import workflow_run, workflow_seen, workflow_state, workflow_step

Key = tuple[str, str]
Stamp = tuple[int, str]

_AT_ONCE: Final = 500
_STATUS: Final = "status"
_INFO: Final = "info."
_INSERT: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_MOST_INFO: Final = 256


@dataclass(slots=True)
class Change:
    """What one event says of a run (`step_id` is empty) or of a step. `rank` is the place of its status in a life."""

    run_id: str
    step_id: str
    event_id: str
    time_ns: int
    said: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    status: str | None = None
    rank: int = 0
    starts: bool = False
    ends: bool = False
    has_text: bool = False

    @property
    def key(self) -> Key:
        """What it is about."""
        return self.run_id, self.step_id

    def say(self, column: str, value: Any) -> None:
        """Say a column, unless something better was said of it."""
        if value is not None:
            self.said.setdefault(column, value)


@dataclass(slots=True)
class _Subject:
    """A run or a step under way: its row, and by which event each column was set."""

    row: dict[str, Any]
    stamps: dict[str, Stamp] = field(default_factory=dict)
    ts: datetime | None = None
    has_text: bool = False

    def apply(self, change: Change) -> None:
        """Let an event say what it says."""
        stamp = (change.time_ns, change.event_id)
        for column, value in change.said.items():
            if self._wins(column, stamp):
                self.row[column] = value
        self._inform(change.info, stamp)
        if change.status is not None and self._outranks(change.rank, stamp):
            self.row[_STATUS] = change.status
        self._date(change)
        self.has_text = self.has_text or change.has_text

    def _inform(self, told: dict[str, Any], stamp: Stamp) -> None:
        """Merge what else is told, key by key; of too many keys the first in their order stay, whichever came first."""
        new = {name: value for name, value in told.items() if self._wins(_INFO + name, stamp)}
        if not new:
            return
        info = {**(self.row.get("info") or {}), **new}
        for name in sorted(info)[_MOST_INFO:]:
            del info[name], self.stamps[_INFO + name]
        self.row["info"] = info

    def _wins(self, name: str, stamp: Stamp) -> bool:
        if name in self.stamps and self.stamps[name] >= stamp:
            return False
        self.stamps[name] = stamp
        return True

    def _outranks(self, rank: int, stamp: Stamp) -> bool:
        """Tell whether a status counts more than the one that is there."""
        there = next((name for name in self.stamps if name.startswith(_STATUS)), None)
        if there is not None and (int(there[-1]), self.stamps[there]) >= (rank, stamp):
            return False
        self.stamps.pop(there or "", None)
        self.stamps[f"{_STATUS}/{rank}"] = stamp
        return True

    def _date(self, change: Change) -> None:
        ts = coerce.moment(change.time_ns)
        self.ts = ts if self.ts is None else max(self.ts, ts)
        earliest, latest = ("start_time", "end_time") if change.step_id else ("created_at", "updated_at")
        if change.starts or not change.step_id:
            self.row[earliest] = min(self.row.get(earliest) or ts, ts)
        if change.ends or not change.step_id:
            self.row[latest] = max(self.row.get(latest) or ts, ts)


def merge(connection: sa.Connection, changes: Sequence[Change]) -> dict[str, int]:
    """Merge events into runs and steps; return how many rows of each table were written."""
    new = _unseen(connection, changes)
    if not new:
        return {}
    subjects = _load(connection, {change.key for change in new})
    for change in new:
        if change.key not in subjects:
            subjects[change.key] = _Subject(_identity(change.key))
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
        rows = [{"id": change.event_id, "ts": coerce.moment(change.time_ns)} for change in new]
        connection.execute(sa.insert(workflow_seen), rows)
    return new


def _identity(key: Key) -> dict[str, Any]:
    run_id, step_id = key
    table = workflow_step if step_id else workflow_run
    row = dict.fromkeys(table.c.keys())
    return {**row, "id": step_id, "run_id": run_id} if step_id else {**row, "id": run_id}


def _load(connection: sa.Connection, keys: set[Key]) -> dict[Key, _Subject]:
    found = {}
    for some in _parts(sorted(keys)):
        states = sa.select(workflow_state).where(_among(workflow_state.c.run_id, workflow_state.c.step_id, some))
        for state in connection.execute(states).mappings():
            key = (state["run_id"], state["step_id"])
            found[key] = _Subject(_identity(key), _unpacked(state["stamps"]), state["ts"], state["has_text"])
        for key, row in _rows(connection, some):
            if key in found:
                found[key].row = row
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


def _state(key: Key, subject: _Subject) -> dict[str, Any]:
    packed: dict[str, list[str]] = {}
    for name, (time_ns, event_id) in subject.stamps.items():
        packed.setdefault(f"{time_ns} {event_id}", []).append(name)
    for names in packed.values():
        names.sort()
    has_text = subject.has_text and (subject.row.get("input") is not None or subject.row.get("output") is not None)
    return {"run_id": key[0], "step_id": key[1], "ts": subject.ts, "stamps": packed, "has_text": has_text}


def _unpacked(packed: dict[str, list[str]]) -> dict[str, Stamp]:
    """Return the stamp of each column: stored is which columns each event set, which is shorter."""
    found = {}
    for said, names in packed.items():
        time_ns, _, event_id = said.partition(" ")
        found.update(dict.fromkeys(names, (int(time_ns), event_id)))
    return found

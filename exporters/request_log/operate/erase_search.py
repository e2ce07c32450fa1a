"""Finds every row about one person: rows that name the person, and rows that belong to those.

A row names a person if one of their pseudonyms is anywhere in it, in a column or in JSON; or if a column or a key for
such ids (`user_id`, `session_id`, `ip_hash`, `user.id` ...) contains the given value itself. These rows belong to it:

- of a request that names the person, or one of whose model calls does: all its calls, spans, dead letters and feedback,
  and so its texts. If all requests of a trace are the person's, the whole trace;
- if a user was given: requests without a user, feedback and browser events of sessions that no other user has;
- of a workflow that names the person, or is of such a trace: its run, steps and events. If its events name others too,
  only the rows that name the person.

Every table is read once for the names, whatever its size; the rest are look-ups by key. A `quick` search, for previews,
only looks up columns that have an index, and so finds a part. The facts of a trace
(`trace_facts`) are searched and counted span by span. derive/trace.py decides which request a span belongs to.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

import sqlalchemy as sa

from otel_telemetry.base import conventions
from otel_telemetry.exporters.request_log.db import column_types, rollups, schema
from otel_telemetry.exporters.request_log.db.given import is_one_of
from otel_telemetry.exporters.request_log.db.redactions import redaction_count
from otel_telemetry.exporters.request_log.derive import chunks
from otel_telemetry.exporters.request_log.derive.calls import row_id
from otel_telemetry.exporters.request_log.derive.facts import Fact
from otel_telemetry.exporters.request_log.derive.trace import Trace
from otel_telemetry.exporters.request_log.store.claims import claim_of
from otel_telemetry.exporters.request_log.store.facts_table import PAGE, FactsTable

Kind = Literal["user", "ip", "session"]
#: The key of a row.
Key = tuple[Any, ...]
Row = Mapping[str, Any]
#: Told of each table that is being read.
Progress = Callable[[str], None]

_CHUNK: Final = 500
#: Columns, and keys within JSON, that hold such an id.
_COLUMNS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "user": ("user_id", "request_user_id"),
    "session": ("session_id",),
    "ip": ("ip_hash",),
}
KEYS: Final[Mapping[Kind, frozenset[str]]] = {
    "user": frozenset({*_COLUMNS["user"], *conventions.USER_ID_KEYS, "request_log.user_id"}),
    "session": frozenset({*_COLUMNS["session"], *conventions.SESSION_ID_KEYS, "request_log.session_id"}),
    "ip": frozenset({*_COLUMNS["ip"], *conventions.CLIENT_ADDRESS_KEYS, "request_log.ip_hash"}),
}
#: Hexadecimal, and of telemetry alone: a pseudonym stands there by chance only.
_NO_NAMES: Final = frozenset({"trace_id", "span_id", "parent_span_id"})


@dataclass(frozen=True, slots=True)
class Person:
    """The person to search for: `names` are pseudonyms, matched anywhere; `value` is the given value itself."""

    kind: Kind
    names: tuple[str, ...]
    value: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that hold such ids."""
        return _COLUMNS[self.kind]

    @property
    def quoted(self) -> str:
        """What was given, as it stands in JSON."""
        return column_types.encode(self.value)

    def is_named(self, row: Row) -> bool:
        """Return whether a row names them."""
        return any(row.get(name) == self.value for name in self.columns) or any(map(self._is_in, row.values()))

    def _is_in(self, value: Any) -> bool:
        stack = [value]
        while stack:
            item = stack.pop()
            if isinstance(item, str):
                if any(name in item for name in self.names):
                    return True
            elif isinstance(item, dict):
                if any(key in KEYS[self.kind] and member == self.value for key, member in item.items()):
                    return True
                stack += [*item, *item.values()]
            elif isinstance(item, list):
                stack += item
        return False


@dataclass(slots=True)
class Found:
    """The rows to delete: their keys by table, each with the trace that it goes with, or None.

    `traces` are those of which nothing stays; `mixed` those that hold requests of others too.
    """

    rows: dict[str, dict[Key, str | None]] = field(default_factory=dict)
    traces: set[str] = field(default_factory=set)
    mixed: set[str] = field(default_factory=set)

    def add(self, table: sa.Table, row: Row, trace: str | None = None) -> None:
        """Note a row."""
        self.rows.setdefault(table.name, {})[tuple(row[name] for name in key_of(table))] = trace

    def counts(self) -> dict[str, int]:
        """Return how many rows of each table these are."""
        return {table: len(keys) for table, keys in sorted(self.rows.items()) if keys}


def key_of(table: sa.Table) -> tuple[str, ...]:
    """Return the columns of a table's key; of partitioned ones with the time, which is part of it there.

    What is known of a span has trace and span id as its key, whichever row holds it.
    """
    if table is schema.trace_facts:
        return ("trace_id", "span_id")
    return ("id", "ts") if table in (schema.request_log, schema.llm_call) else tuple(table.primary_key.columns.keys())


class Search:
    """Looks for one person. `run` returns what is theirs; nothing is changed."""

    def __init__(
        self, connection: sa.Connection, person: Person, progress: Progress = lambda _: None, *, quick: bool = False
    ) -> None:
        self._quick = quick
        self._connection = connection
        self._person = person
        self._progress = progress
        self._found = Found()
        self._requests: dict[str, Row] = {}  # by id
        self._runs: set[str] = set()
        self._sessions: set[str] = set()

    def run(self) -> Found:
        """Look through all tables."""
        named = self._named()
        if self._person.kind == "session":
            self._sessions = {self._person.value, *self._person.names}
        self._find_requests(named)
        if self._person.kind == "user":
            self._follow_sessions()
        self._sort_traces(named)
        self._take_traces()
        for name, rows in named.items():
            for row in rows if name != schema.request_log.name else ():
                self._take(schema.metadata.tables[name], row)
        self._take_other_rows()
        self._take_workflows(named)
        return self._found

    def _named(self) -> dict[str, list[Row]]:
        """Return the rows that name the person, by table."""
        named: dict[str, list[Row]] = {table.name: [] for table in (schema.trace_facts, *_ROWS)}
        if self._quick:
            given = (*self._person.names, self._person.value)
            for table in _ROWS:
                for name in self._person.columns:
                    if name in _indexed(table):
                        named[table.name] += map(dict, self._select(_few(table), table.c[name], given))
            return named
        named[schema.trace_facts.name] += self._naming_facts()
        for table in _ROWS:
            named[table.name] += self._naming(table)
        return named

    def _naming(self, table: sa.Table) -> Iterator[Row]:
        """Yield the rows of a table that name the person."""
        self._progress(table.name)
        person = self._person
        given = (*person.names, person.value)
        dialect = self._connection.dialect.name
        conditions = self._mentions(_everything(table, dialect), _in_everything(person.quoted, dialect))
        conditions += [table.c[name].in_(given) for name in person.columns if name in table.c]
        query = sa.select(table).where(sa.or_(*conditions)).execution_options(yield_per=_CHUNK)
        for row in map(dict, self._connection.execute(query).mappings()):
            if person.is_named(row):
                yield row

    def _naming_facts(self) -> Iterator[Row]:
        """Yield what is known of spans that names the person."""
        table = schema.trace_facts
        self._progress(table.name)
        query = sa.select(table.c.body).where(sa.or_(*self._mentions(table.c.body, self._person.quoted)))
        for body in self._connection.execute(query.execution_options(yield_per=PAGE)).scalars():
            for fact in chunks.load(body):
                if self._person.is_named(_content(fact)):
                    yield {"trace_id": fact.trace_id, "span_id": fact.span_id}

    def _mentions(self, text: sa.ColumnElement[Any], quoted: str) -> list[sa.ColumnElement[bool]]:
        """Return conditions, one of which a text meets that names the person: by a name, or by the value as quoted."""
        return [_contains(self._connection.dialect.name, text, part) for part in (*self._person.names, quoted)]

    def _select(
        self, columns: Sequence[Any], column: sa.Column[Any], values: Iterable[Any], *more: Any
    ) -> Iterator[Any]:
        """Yield rows in which a column has one of these values, a chunk of values at a time."""
        for chunk in _chunks({value for value in values if value}):
            found = is_one_of(self._connection.dialect.name, column, chunk)
            yield from self._connection.execute(sa.select(*columns).where(found, *more)).mappings()

    def _find_requests(self, named: Mapping[str, list[Row]]) -> None:
        log = schema.request_log
        ids = {row["request_id"] for row in named["llm_call"]}
        naming = {(row["trace_id"], row["span_id"]) for row in named["trace_facts"]}
        spans = set(naming)
        for fact in self._derived({trace for trace, _ in naming}):
            if (fact.trace_id, fact.span_id) in naming:
                spans |= {(fact.trace_id, each.span_id) for each in (fact.asked_in, fact.outermost) if each is not None}
        for row in (*named["request_log"], *self._select(_LOGGED, log.c.id, ids)):
            self._requests[row["id"]] = row
        for row in self._select(_LOGGED, log.c.trace_id, {trace for trace, _ in spans}):
            if (row["trace_id"], row["span_id"]) in spans:
                self._requests[row["id"]] = row

    def _follow_sessions(self) -> None:
        """Add what a user did in their sessions before the app knew who it was."""
        log, names = schema.request_log, (*self._person.names, self._person.value)
        sessions = {row["session_id"] for row in self._requests.values()} - {None}
        others = log.c.user_id.is_not(None), log.c.user_id.not_in(names)
        shared = {row["session_id"] for row in self._select([log.c.session_id], log.c.session_id, sessions, *others)}
        self._sessions = sessions - shared
        for row in self._select(_LOGGED, log.c.session_id, self._sessions):
            self._requests[row["id"]] = row

    def _sort_traces(self, named: Mapping[str, list[Row]]) -> None:
        rows = (*self._requests.values(), *named["llm_call"], *named["trace_facts"], *named["request_claim"])
        traces = {row["trace_id"] for row in rows}
        for row in self._select(_LOGGED, schema.request_log.c.trace_id, traces):
            if row["id"] not in self._requests:
                self._found.mixed.add(row["trace_id"])
        self._found.traces = traces - self._found.mixed

    def _take_traces(self) -> None:
        """Take whole traces, and of mixed ones the requests that are the person's, with all that is known of them."""
        own = {(row["trace_id"], row["span_id"]) for row in self._requests.values()}
        for row in self._requests.values():
            self._take(schema.request_log, row)
        ids, claimed = set(), set()
        for fact in self._derived({*self._found.traces, *self._found.mixed}):
            key = (fact.trace_id, fact.span_id)
            owner = (fact.trace_id, fact.asked_in.span_id) if fact.asked_in is not None else key
            if fact.trace_id in self._found.traces or key in own or owner in own:
                self._take(schema.trace_facts, {"trace_id": fact.trace_id, "span_id": fact.span_id})
                ids |= {row_id(*key)} if fact.call is not None else set()
                claimed |= {claim_of(fact)} - {None}
        for row in self._select(list(schema.request_claim.c), schema.request_claim.c.claimed_id, claimed):
            if row["trace_id"] in self._found.traces or (row["trace_id"], row["span_id"]) in own:
                self._take(schema.request_claim, row)
        calls = schema.llm_call
        for row in (
            *self._select(_CALLED, calls.c.id, ids),
            *self._select(_CALLED, calls.c.request_id, self._requests),
        ):
            self._take(calls, row)

    def _derived(self, traces: Collection[str]) -> Iterator[Fact]:
        """Yield what is known of the spans of traces, and what follows from it."""
        for chunk in _chunks(traces, PAGE):
            for facts in FactsTable(self._connection).of(set(chunk)).values():
                Trace().add(facts)
                yield from facts

    def _take_other_rows(self) -> None:
        """Take values of figures, dead letters, feedback and browser events of the requests, traces and sessions."""
        letters, feedback, events = schema.dead_letter, schema.feedback, schema.browser_event
        for row in self._select(_VALUED, schema.kpi_value.c.trace_id, self._found.traces):
            self._take(schema.kpi_value, row)
        if self._quick:
            for column, values in ((feedback.c.request_id, self._requests), (feedback.c.session_id, self._sessions)):
                for row in self._select([feedback.c.id], column, values):
                    self._take(feedback, row)
            return
        for row in self._all(letters, "id", "trace_id"):
            if row["trace_id"] in self._found.traces:
                self._take(letters, row)
        for row in self._all(feedback, "id", "request_id", "trace_id", "session_id"):
            if self._is_theirs(row):
                self._take(feedback, row)
        for row in self._select([events.c.id], events.c.session_id, self._sessions):
            self._take(events, row)

    def _take_workflows(self, named: Mapping[str, list[Row]]) -> None:
        runs, steps, events = schema.workflow_run, schema.workflow_step, schema.workflow_event
        for table in (runs, steps, events, schema.workflow_state):
            self._runs |= {row["id"] if table is runs else row["run_id"] for row in named[table.name]}
        for row in () if self._quick else self._all(runs, "id", "trace_id"):
            if row["trace_id"] in self._found.traces:
                self._runs.add(row["id"])
        for row in () if self._quick else self._all(events, "id", "run_id", "request_id", "trace_id", "session_id"):
            if self._is_theirs(row):
                self._take(events, row)
                self._runs.add(row["run_id"])
        whole = self._runs - {None} - self._of_others()
        for table, column in ((runs, "id"), (steps, "run_id"), (events, "run_id"), (schema.workflow_state, "run_id")):
            keys = [table.c[name] for name in key_of(table)]
            for row in self._select(keys, table.c[column], whole):
                self._take(table, row)

    def _of_others(self) -> set[str]:
        """Return the runs whose events name somebody else too."""
        events, names = schema.workflow_event.c, {*self._person.names, self._person.value}
        column = {"user": events.user_id, "session": events.session_id}.get(self._person.kind)
        if column is None:
            return set()
        rows = self._select([events.run_id, column.label("who")], events.run_id, self._runs, column.is_not(None))
        return {row["run_id"] for row in rows if row["who"] not in names}

    def _is_theirs(self, row: Row) -> bool:
        return (
            row["request_id"] in self._requests
            or row["trace_id"] in self._found.traces
            or row["session_id"] in self._sessions
        )

    def _all(self, table: sa.Table, *names: str) -> Iterator[Row]:
        query = sa.select(*(table.c[name] for name in names)).execution_options(yield_per=_CHUNK)
        for row in self._connection.execute(query).mappings():
            yield dict(row)

    def _take(self, table: sa.Table, row: Row) -> None:
        self._found.add(table, row, row.get("trace_id"))


#: Tables that hold sums of many.
_OF_NOBODY: Final = {rollups.rollup, rollups.rollup_done, redaction_count}
#: Tables whose rows are looked at as they are.
_ROWS: Final = sorted(
    {*schema.metadata.sorted_tables} - _OF_NOBODY - {schema.trace_facts} - schema.AUDIT,
    key=lambda table: table.name,
)
_LOGGED: Final = [schema.request_log.c[name] for name in ("id", "ts", "trace_id", "span_id", "session_id")]
_VALUED: Final = [schema.kpi_value.c[name] for name in ("kpi", "id", "trace_id")]
_CALLED: Final = [schema.llm_call.c[name] for name in ("id", "ts", "trace_id")]
_OF_CALL: Final = tuple(column.name for column in schema.llm_call.c if column.name not in _NO_NAMES)


def _indexed(table: sa.Table) -> set[str]:
    """Return the columns by which rows are found at once."""
    return {index.columns[0].name for index in table.indexes}


def _few(table: sa.Table) -> list[sa.Column[Any]]:
    """Return the columns of a table by which rows belong to others."""
    names = {*key_of(table), "ts", "trace_id", "span_id", "session_id", "request_id", "run_id"}
    return [column for column in table.c if column.name in names]


def _content(fact: Fact) -> Row:
    """Return the values of a span that can name a person."""
    call = fact.call
    of_call = {} if call is None else {name: getattr(call, name) for name in _OF_CALL}
    return {
        "service": fact.service,
        "stage": fact.stage,
        "request_fields": fact.request_fields,
        "caller": fact.caller,
        **of_call,
    }


def _everything(table: sa.Table, dialect: str) -> sa.ColumnElement[Any]:
    """Return all texts of a row as one."""
    if dialect == "postgresql":
        return sa.literal_column(f"{table.name}::text", sa.Text)
    texts = [
        sa.func.coalesce(sa.type_coerce(column, sa.Text), "")
        for column in table.c
        if isinstance(column.type, sa.Text | column_types.Json) and column.name not in _NO_NAMES
    ]
    joined: sa.ColumnElement[Any] = texts[0]
    for text in texts[1:]:
        joined = joined.concat(sa.literal_column("char(10)")).concat(text)
    return joined


def _in_everything(text: str, dialect: str) -> str:
    """Return a text as it stands there: PostgreSQL doubles the quotes and backslashes of a row's values."""
    return text.replace("\\", "\\\\").replace('"', '""') if dialect == "postgresql" else text


def _contains(dialect: str, text: sa.ColumnElement[Any], part: str) -> sa.ColumnElement[bool]:
    find = sa.func.strpos if dialect == "postgresql" else sa.func.instr
    return find(text, part) > 0


def _chunks(values: Collection[Any], size: int = _CHUNK) -> Iterator[list[Any]]:
    ordered = iter(sorted(values))
    while chunk := list(islice(ordered, size)):
        yield chunk

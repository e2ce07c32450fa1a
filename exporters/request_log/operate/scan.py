"""Checks stored rows again: redacts every text of every table, also inside JSON, with the current rules.

Findings are counted by table, column and type, and never stored. With `fix`, rows are rewritten a page at a time, each
page in one transaction, beside running writers.

A value is checked under the name that it had as an attribute, so that the policy's rules for names apply here too. JSON
whose keys are such names is checked entry by entry. The facts of a trace (`trace_facts`) are checked and counted span
by span, like the rows made from them, and rewritten like them: a late span makes the same row as before. If something
is found in the id that an app gave to a request, the id that the request would have without it replaces it. Other keys
cannot be rewritten: findings in them are counted as left.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple, Protocol, Self

import sqlalchemy as sa

from otel_telemetry.base import conventions
from otel_telemetry.exporters.request_log.audit import trail
from otel_telemetry.exporters.request_log.db import bulk, column_types, database, outbox, rollups, schema
from otel_telemetry.exporters.request_log.derive import chunks
from otel_telemetry.exporters.request_log.derive.calls import row_id
from otel_telemetry.exporters.request_log.derive.facts import Fact
from otel_telemetry.exporters.request_log.operate.erase import reclaim
from otel_telemetry.exporters.request_log.operate.erase_search import key_of
from otel_telemetry.exporters.request_log.store.claims import claim_of
from otel_telemetry.exporters.request_log.store.facts_table import PAGE, FactsTable

_PAGE: Final = 500
#: Looked at in this order, before all others: requests go before what refers to them by an id that they may lose.
_FIRST: Final = (schema.trace_facts, schema.request_log)
#: What follows from other tables: claims, and sums of rows, which are forgotten where a row is rewritten.
_DERIVED: Final = (schema.request_claim, rollups.rollup, rollups.rollup_done)
#: All that is looked at. The ids that apps gave to requests stand among what is known of these: claims follow them.
_TABLES: Final = (
    *_FIRST,
    *(table for table in schema.metadata.sorted_tables if table not in {*_FIRST, *_DERIVED}),
)
_PREFIX: Final = conventions.REQUEST_LOG
_NEVER_NULL: Final = "[REDACTED_VALUE]"
#: Hexadecimal, or words of ours.
_OURS: Final = frozenset(
    {
        *("trace_id", "span_id", "parent_span_id"),
        *("cost_source", "price_version", "token_basis", "dialect", "event_type", "signal", "verdict"),
    }
)
#: The attributes that columns come from, where they are not `request_log.<column>`.
_ATTRIBUTES: Final[Mapping[str, str]] = {
    "model": conventions.RESPONSE_MODEL,
    "model_requested": conventions.REQUEST_MODEL,
    "provider": conventions.PROVIDER_NAME,
    "provider_request_id": conventions.RESPONSE_ID,
    "operation": conventions.OPERATION_NAME,
    "finish_reason": conventions.RESPONSE_FINISH_REASONS,
    "conversation_id": conventions.CONVERSATION_ID,
    "service": conventions.SERVICE_NAME,
    "application": conventions.SERVICE_NAME,
    "environment": conventions.DEPLOYMENT_ENVIRONMENT,
    "region": conventions.CLOUD_REGION,
    "ip_hash": conventions.CLIENT_ADDRESS,
}
#: Columns that no attribute names: judged as plain text.
_PLAIN: Final = frozenset({"error", "reason", "name", "user_agent", "id", "request_id", "claimed_id"})
#: Columns of ids, and what ids drawn at random look like: the digits in them may look like those of a card by chance.
_IDS: Final = frozenset({"id", "request_id", "claimed_id", "run_id", "step_id"})
_DRAWN: Final = re.compile(r"(?=[0-9-]*[a-f])[0-9a-f-]{16,}")
#: JSON whose keys are names of attributes, and what those names begin with.
_MAPS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("item", "chat_request", "response_meta"), ""),
    **dict.fromkeys(("request_fields", "caller"), _PREFIX),
}
#: JSON that holds sums of ours beside what was told: only its texts are looked at, no number.
_SUMS: Final = frozenset({"stamps"})
#: What is known of a span, in the form of a row: as a call's columns are judged, so is what is known of it.
_IMPLIED: Final = frozenset({"id", "request_id", "ts", "application"})
_FACT: Final = sa.Table(
    schema.trace_facts.name,
    sa.MetaData(),
    sa.Column("trace_id", sa.Text, primary_key=True),
    sa.Column("span_id", sa.Text, primary_key=True),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("stage", sa.Text),
    sa.Column("request_fields", column_types.Json),
    sa.Column("caller", column_types.Json),
    *(
        sa.Column(column.name, column.type)
        for column in schema.llm_call.c
        if column.name not in {*_IMPLIED, "trace_id", "span_id"}
    ),
)


class Cleaner(Protocol):
    """The redactor, as far as a scan needs it."""

    def suspects(self, texts: Sequence[str]) -> Collection[int]:
        """Return the indexes of the texts, names among them, that `clean` may change: never too few."""

    def clean(self, service: str, name: str, value: Any) -> tuple[str, Any, list[str]]:
        """Return name and value redacted, and the types of what was found; a value that has to go is None.

        The same objects where nothing was found. `name` is that of an attribute, or "" for a value that is none.
        """


#: A row, and the table that it is of.
Row = tuple[sa.Table, Mapping[str, Any]]


class Change(NamedTuple):
    """A row in which something was found: the types, by column, and the columns that have to change."""

    table: sa.Table
    row: Mapping[str, Any]
    found: dict[str, list[str]]
    new: dict[str, Any]


class Scan:
    """Goes through one database. `found` counts by (table, column, type), `rows` by (table, column)."""

    def __init__(self, url: str, cleaner: Cleaner, *, fix: bool) -> None:
        self.found: Counter[tuple[str, str, str]] = Counter()
        self.rows: Counter[tuple[str, str]] = Counter()
        self.left = 0
        self._cleaner = cleaner
        self._fix = fix
        self._rewritten: set[str] = set()  # traces of which all that is known was looked at again
        self._reader = database.reader(url)  # first: a database that is not there is not made
        self._engine = database.connect(url) if fix else self._reader

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.dispose()
        self._engine.dispose()

    def size(self) -> int:
        """Return how many rows there are."""
        with self._reader.connect() as connection:
            counts = [sa.select(sa.func.count()).select_from(table) for table in _TABLES]
            return sum(int(connection.execute(count).scalar_one()) for count in counts)

    def steps(self) -> Iterator[tuple[str, int]]:
        """Go through all tables a page at a time; yields the table and how many rows of it were looked at."""
        for table in _TABLES:
            after: tuple[Any, ...] | None = None
            newest = self._newest_facts() if table is schema.trace_facts else None
            while rows := self._page(table, after, newest):
                if table is schema.trace_facts:
                    self._look_into([fact for row in rows for fact in chunks.load(row["body"])])
                else:
                    self._look([(table, row) for row in rows])
                yield table.name, len(rows)
                after = tuple(rows[-1][name] for name in _order_of(table))

    def _newest_facts(self) -> int:
        """Return the newest row there is: what is rewritten comes behind it."""
        with self._reader.connect() as connection:
            return int(connection.execute(sa.select(sa.func.max(schema.trace_facts.c.id))).scalar() or 0)

    def reclaim(self) -> None:
        """Make sure that what was rewritten is not in the file any more; see erase.py for what it raises."""
        if self._fix and self.rows:
            reclaim(self._engine, sorted({table for table, _ in self.rows}))

    def _page(
        self, table: sa.Table, after: tuple[Any, ...] | None, newest: int | None = None
    ) -> list[Mapping[str, Any]]:
        keys = [table.c[name] for name in _order_of(table)]
        later = sa.true() if after is None else sa.tuple_(*keys) > sa.tuple_(*after, types=[key.type for key in keys])
        until = sa.true() if newest is None else keys[0] <= newest
        columns = {column.name: column for column in (*keys, *_texts(table))}
        for name in ("trace_id", "span_id"):
            if name in table.c:
                columns[name] = table.c[name]
        most = min(_PAGE, PAGE) if table is schema.trace_facts else _PAGE
        query = sa.select(*columns.values()).where(later, until).order_by(*keys).limit(most)
        with self._reader.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _look(self, rows: Sequence[Row]) -> None:
        """Look at a page, and rewrite it where it has to be."""
        changes = self._judge(rows)
        if self._fix and any(change.new for change in changes):
            with self._engine.begin() as connection:
                self._write(connection, changes)
        self._count(changes)

    def _look_into(self, facts: Sequence[Fact]) -> None:
        """Look at what is known of spans; of traces in which something has to change, all is written anew."""
        facts = [fact for fact in facts if fact.trace_id not in self._rewritten]
        changes = self._judge([(_FACT, _row(fact)) for fact in facts])
        traces = {change.row["trace_id"] for change in changes if change.new and self._fix}
        self._count(change for change in changes if change.row["trace_id"] not in traces)
        if traces:
            with self._engine.begin() as connection:
                changes = self._rewrite(connection, traces)
            self._count(changes)
            self._rewritten |= traces

    def _rewrite(self, connection: sa.Connection, traces: set[str]) -> list[Change]:
        """Write what is known of these traces anew; it may be more by now."""
        table = FactsTable(connection)
        known = table.of(traces)
        facts = {(fact.trace_id, fact.span_id): fact for of_trace in known.values() for fact in of_trace}
        changes = self._judge([(_FACT, _row(fact)) for fact in facts.values()])
        for _, row, _, new in changes:
            fact = facts[row["trace_id"], row["span_id"]]
            claim = claim_of(fact)
            _put(fact, new)
            if claim is not None and claim_of(fact) != claim:
                _withdraw_claim(connection, fact, claim)
        table.replace(traces, list(known.values()))
        return changes

    def _judge(self, rows: Sequence[Row]) -> list[Change]:
        """Look at all texts of these rows as one block, then closely at the rows in which something may be."""
        texts: list[str] = []
        ends: list[int] = []
        for table, row in rows:
            for column in _texts(table):
                if row[column.name] is not None:
                    texts.append(_name(column.name))
                    _gather(row[column.name], _MAPS.get(column.name, ""), texts)
            ends.append(len(texts))
        suspects = sorted(self._cleaner.suspects(texts))
        changes: list[Change] = []
        at = 0
        for (table, row), end in zip(rows, ends, strict=True):
            first = at
            while at < len(suspects) and suspects[at] < end:
                at += 1
            if at > first and (change := self._changed(table, row)).found:
                changes.append(change)
        return changes

    def _changed(self, table: sa.Table, row: Mapping[str, Any]) -> Change:
        """Return what is found in a row, and the columns that have to change, with their new values."""
        service = row.get("service") or row.get("application") or ""
        change = Change(table, row, {}, {})
        for column in _texts(table):
            old = row[column.name]
            if old in (None, "", _NEVER_NULL):
                continue
            new, types = self._cleaned(service, column.name, old)
            if types:
                change.found[column.name] = types
            if new is not old and new != old:
                change.new[column.name] = _NEVER_NULL if new is None and not column.nullable else new
        return change

    def _count(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for column, types in change.found.items():
                self.found.update((change.table.name, column, kind) for kind in types)
                self.rows[change.table.name, column] += 1

    def _cleaned(self, service: str, column: str, value: Any) -> tuple[Any, list[str]]:
        if column in _IDS and _DRAWN.fullmatch(value):
            return value, []
        if column in _SUMS:
            return self._sums(service, value)
        if isinstance(value, dict) and column in _MAPS:
            return self._map(service, _MAPS[column], value)
        if column == "meta" and isinstance(value, dict):
            return self._map(service, "", value)
        _, new, types = self._cleaner.clean(service, _name(column), value)
        return new, types

    def _map(self, service: str, prefix: str, value: dict[str, Any]) -> tuple[Any, list[str]]:
        """Judge a map of attributes entry by entry; what the policy drops is left out."""
        cleaned: dict[str, Any] = {}
        found: list[str] = []
        for key, old in value.items():
            attribute = _ATTRIBUTES.get(key, prefix + key) if prefix else key
            plain = attribute if not prefix or key not in _PLAIN else ""
            if prefix and key == "meta" and isinstance(old, dict):
                new, types = self._map(service, "", old)
                name = plain
            else:
                name, new, types = self._cleaner.clean(service, plain, old)
            found += types
            if new is not None or old is None:
                cleaned[key if name == plain else name] = new
        return (cleaned if found else value), found

    def _sums(self, service: str, value: Any) -> tuple[Any, list[str]]:
        """Judge the texts beside sums of ours; numbers are left alone."""
        found: list[str] = []

        def walk(item: Any, name: str) -> Any:
            if item == _NEVER_NULL:
                return item
            if isinstance(item, str):
                _, new, types = self._cleaner.clean(service, name, item)
                found.extend(types)
                return _NEVER_NULL if new is None else new
            if isinstance(item, list):
                return [walk(member, name) for member in item]
            if isinstance(item, dict):
                return {walk(key, ""): walk(member, name) for key, member in item.items()}
            return item

        if not isinstance(value, dict):
            return value, []
        new = {walk(part, ""): walk(content, "") for part, content in value.items()}
        return (new if found else value), found

    def _write(self, connection: sa.Connection, changes: Sequence[Change]) -> None:
        """Rewrite rows."""
        by_columns: dict[tuple[sa.Table, tuple[str, ...]], list[list[Any]]] = {}
        renamed: list[Mapping[str, Any]] = []
        for table, row, _, new in changes:
            keys = key_of(table)
            changed = new.keys() & set(keys)
            if table is not schema.request_log:
                self.left += len(changed)
            elif changed:
                renamed.append(row)
            names = tuple(sorted(new.keys() - changed))
            values = [*(row[key] for key in keys), *(new[name] for name in names)]
            by_columns.setdefault((table, names), []).append(values)
        rolled = (schema.request_log, schema.llm_call)
        rollups.forget(connection, [change.row["ts"] for change in changes if change.new and change.table in rolled])
        writer = bulk.bulk(connection)
        for (table, names), rows in by_columns.items():
            if names:
                writer.update(table, key_of(table), names, rows)
        for row in renamed:
            _rename(connection, row)
        for table in rolled:
            outbox.note_rows(connection, table, [change.row["id"] for change in changes if change.table is table])
        outbox.note_renamed(connection, [row_id(row["trace_id"], row["span_id"]) for row in renamed])
        if trail.exists(connection):
            own = (row for table, row, _, _ in changes if table is schema.request_log)
            trail.follow(connection, [(row["trace_id"], row["span_id"]) for row in own])
            trail.act(connection, "scan", {"rows": len(changes)})


def _rename(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    """Give a request the id that it has without the app's, wherever it stands."""
    old, new = row["id"], row_id(row["trace_id"], row["span_id"])
    for table, column in (
        (schema.request_log, "id"),
        *((table, "request_id") for table in schema.metadata.sorted_tables if "request_id" in table.c),
    ):
        connection.execute(sa.update(table).where(table.c[column] == old).values({column: new}))
    facts = FactsTable(connection)
    known = facts.of({row["trace_id"]})
    for fact in (each for of_trace in known.values() for each in of_trace if each.span_id == row["span_id"]):
        _withdraw_claim(connection, fact, old)
    facts.replace({row["trace_id"]}, list(known.values()))


def _withdraw_claim(connection: sa.Connection, fact: Fact, claim: str) -> None:
    """Forget the id that the app gave to a request."""
    fact.request_fields = {name: value for name, value in (fact.request_fields or {}).items() if name != "id"} or None
    key = [(claim, fact.trace_id, fact.span_id)]
    bulk.bulk(connection).delete(schema.request_claim, ("claimed_id", "trace_id", "span_id"), key)


def _order_of(table: sa.Table) -> tuple[str, ...]:
    """Return the columns by which a table is gone through: a key, in the order of its index."""
    return ("id",) if table is schema.trace_facts else key_of(table)


def _row(fact: Fact) -> dict[str, Any]:
    """Return what is known of a span in the form of a row."""
    found: dict[str, Any] = {name: getattr(fact, name) for name in _OF_FACT}
    for name in (column.name for column in _FACT.c):
        if name not in found:
            found[name] = getattr(fact.call, name) if fact.call is not None else None
    return found


def _put(fact: Fact, new: Mapping[str, Any]) -> None:
    """Set what has to change of what is known of a span."""
    for name, value in new.items():
        if name in _OF_FACT:
            setattr(fact, name, value)
        elif fact.call is not None:
            setattr(fact.call, name, value)


_OF_FACT: Final = ("trace_id", "span_id", "service", "stage", "request_fields", "caller")


@cache
def _texts(table: sa.Table) -> tuple[sa.Column[Any], ...]:
    """Return the columns that hold texts or JSON."""
    texts = (c for c in table.c if isinstance(c.type, sa.Text | column_types.Json) and c.computed is None)
    return tuple(column for column in texts if column.name not in _OURS)


def _name(column: str) -> str:
    """Return the name of the attribute that a column comes from, "" for none."""
    return "" if column in _PLAIN else _ATTRIBUTES.get(column, _PREFIX + column)


def _gather(value: Any, prefix: str, into: list[str]) -> None:
    """Append every text of a value, keys and long numbers included."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            into.append(item)
        elif isinstance(item, dict):
            into += item
            into += [prefix + key for key in item] if prefix else []
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, int) and not isinstance(item, bool):
            into.append(str(item))

"""A second look at stored rows: every text of every table, JSON inside included, goes through a redactor again.

What is found is counted by table, column and type, and never kept. With `fix`, rows are rewritten a page at a time,
each page in one transaction, beside running writers. A value is judged under the name that it had as an attribute, so
that what the policy says of names holds here too; JSON whose keys are such names is judged entry by entry.

What spans told of requests (`span_node`) is rewritten like the rows that follow from it: a late span makes the same row
as before. A trace that is packed (packed.py) is looked at, and counted, as the rows of `span_node` and `span_waiting`
that it stands for; where they have to change, it becomes these rows. The id that an app gave to a request, where
something is found in it, gives way to the id that the request would have without. Other keys cannot be rewritten: what
is found in them is counted as left.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple, Protocol, Self

import sqlalchemy as sa

from otel_telemetry import conventions
from otel_telemetry.exporters.request_log import bulk, database, schema
from otel_telemetry.exporters.request_log.calls import row_id
from otel_telemetry.exporters.request_log.erase import reclaim
from otel_telemetry.exporters.request_log.erase_search import key_of
from otel_telemetry.exporters.request_log.packed import PAGE, Pack, Packed, unpacked

_PAGE: Final = 500
#: Looked at in this order, before all others. A writer moves what spans told from packs and from those that wait to
#: `span_node`: what moves while the scan runs comes where it still has to look. Requests go before what refers to them
#: by an id that they may lose.
_FIRST: Final = (schema.span_packed, schema.request_log, schema.span_waiting)
_SAID: Final = conventions.REQUEST_LOG
_NEVER_NULL: Final = "[REDACTED_VALUE]"
#: Hexadecimal, or words of ours.
_OURS: Final = frozenset(
    {
        *("trace_id", "span_id", "parent_span_id", "request_span_id", "calls_above", "top", "root", "owner"),
        *("cost_source", "price_version", "token_basis", "dialect", "event_type", "signal", "verdict"),
    }
)
#: The attributes that columns come from, where they are not `request_log.<column>`.
_ATTRIBUTES: Final[Mapping[str, str]] = {
    "model": conventions.RESPONSE_MODEL,
    "model_requested": conventions.REQUEST_MODEL,
    "provider": conventions.PROVIDER_NAME,
    "provider_request_id": conventions.RESPONSE_ID,
    "response_id": conventions.RESPONSE_ID,
    "operation": conventions.OPERATION_NAME,
    "finish_reason": conventions.RESPONSE_FINISH_REASONS,
    "conversation_id": conventions.CONVERSATION_ID,
    "service": conventions.SERVICE_NAME,
    "application": conventions.SERVICE_NAME,
    "environment": conventions.DEPLOYMENT_ENVIRONMENT,
    "ip_hash": conventions.CLIENT_ADDRESS,
}
#: Columns that no attribute names: judged as plain text.
_PLAIN: Final = frozenset({"error", "reason", "name", "user_agent", "id", "request_id", "log_id", "claimed_id"})
#: Columns of ids, and what ids drawn at random look like: the digits in them may look like those of a card by chance.
_IDS: Final = frozenset({"id", "request_id", "log_id", "claimed_id", "run_id", "step_id"})
_DRAWN: Final = re.compile(r"(?=[0-9-]*[a-f])[0-9a-f-]{16,}")
#: JSON whose keys are names of attributes, and what those names begin with.
_MAPS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("item", "chat_request", "response_meta"), ""),
    **dict.fromkeys(("facts", "told"), _SAID),
}
#: JSON that holds sums of ours beside what was told: only its texts are looked at, no number.
_SUMS: Final = frozenset({"part", "rollup", "stamps"})


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
        self._moved: Counter[str] = Counter()  # rows that were looked at in packs, and will be seen again
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
            counts = [sa.select(sa.func.count()).select_from(table) for table in schema.metadata.sorted_tables]
            return sum(int(connection.execute(count).scalar_one()) for count in counts)

    def steps(self) -> Iterator[tuple[str, int]]:
        """Go through all tables a page at a time; yields the table and how many rows of it were looked at."""
        rest = [table for table in schema.metadata.sorted_tables if table not in _FIRST]
        for table in (*_FIRST, *rest):
            after: tuple[Any, ...] | None = None
            while rows := self._page(table, after):
                if table is schema.span_packed:
                    self._look_into([unpacked(row["id"], row["body"]) for row in rows])
                else:
                    self._look([(table, row) for row in rows])
                known = min(self._moved[table.name], len(rows))
                self._moved[table.name] -= known
                yield table.name, len(rows) - known
                after = tuple(rows[-1][name] for name in key_of(table))

    def reclaim(self) -> None:
        """Make sure that what was rewritten is not in the file any more; see erase.py for what it raises."""
        if self._fix and self.rows:
            # Packs too, whoever unpacked them.
            reclaim(self._engine, sorted({schema.span_packed.name, *(table for table, _ in self.rows)}))

    def _page(self, table: sa.Table, after: tuple[Any, ...] | None) -> list[Mapping[str, Any]]:
        keys = [table.c[name] for name in key_of(table)]
        later = sa.true() if after is None else sa.tuple_(*keys) > sa.tuple_(*after, types=[key.type for key in keys])
        columns = {column.name: column for column in (*keys, *_texts(table))}
        for name in ("trace_id", "span_id"):
            if name in table.c:
                columns[name] = table.c[name]
        most = min(_PAGE, PAGE) if table is schema.span_packed else _PAGE
        query = sa.select(*columns.values()).where(later).order_by(*keys).limit(most)
        with self._reader.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _look(self, rows: Sequence[Row]) -> None:
        """Look at a page, and rewrite it where it has to be."""
        changes = self._judge(rows)
        if self._fix and any(change.new for change in changes):
            with self._engine.begin() as connection:
                self._write(connection, changes)
        self._count(changes)

    def _look_into(self, packs: Sequence[Pack]) -> None:
        """Look at packed traces; of those that have to change, the rows take the place of the pack."""
        judged = {pack.trace_id: list(pack.rows()) for pack in packs}
        changes = self._judge([row for rows in judged.values() for row in rows])
        traces = {change.row["trace_id"] for change in changes if change.new and self._fix}
        self._count(change for change in changes if change.row["trace_id"] not in traces)
        if not traces:
            return
        with self._engine.begin() as connection:
            packed = Packed(connection)
            there = packed.of(traces)
            same = {pack.trace_id: pack for pack in there if list(pack.rows()) == judged[pack.trace_id]}
            packed.unpack(list(same.values()))
            changes = [change for change in changes if change.row["trace_id"] in same]
            self._write(connection, changes)
        self._count(changes)
        self._moved.update(table.name for trace_id in same for table, _ in judged[trace_id])
        # Others were written to meanwhile. Those that are no packs any more are rows, which are looked at later.
        self._look_into([pack for pack in there if pack.trace_id not in same])

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
        kept: dict[str, Any] = {}
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
                kept[key if name == plain else name] = new
        return (kept if found else value), found

    def _sums(self, service: str, value: Any) -> tuple[Any, list[str]]:
        """Judge the texts in a sum, and what calls told by the name of its column; numbers and ids are left alone."""
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

        def said(kept: dict[str, list[Any]], *, told: bool) -> dict[str, list[Any]]:
            """Judge what spans said, which stands behind the time and the id of each (rollup.py)."""
            return {
                walk(slot, ""): [*source, walk(item, _name(slot) if told else "")]
                for slot, (*source, item) in kept.items()
            }

        if not isinstance(value, dict):
            return value, []
        new = {
            part: said(content, told=part == "told") if part in ("told", "last") else walk(content, "")
            for part, content in value.items()
        }
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
        writer = bulk.bulk(connection)
        for (table, names), rows in by_columns.items():
            if names:
                writer.update(table, key_of(table), names, rows)
        for row in renamed:
            _rename(connection, row)


def _rename(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    """Give a request the id that it has without the app's, wherever it stands."""
    old, new = row["id"], row_id(row["trace_id"], row["span_id"])
    for table, column in (
        (schema.request_log, "id"),
        *((table, "request_id") for table in schema.metadata.sorted_tables if "request_id" in table.c),
    ):
        connection.execute(sa.update(table).where(table.c[column] == old).values({column: new}))
    nodes = schema.span_node
    own = nodes.c.trace_id == row["trace_id"], nodes.c.span_id == row["span_id"]
    facts = connection.execute(sa.select(nodes.c.facts).where(*own)).scalar()
    kept = {key: value for key, value in (facts or {}).items() if key != "id"}
    connection.execute(sa.update(nodes).where(*own).values(log_id=new, claimed_id=None, facts=kept or None))


@cache
def _texts(table: sa.Table) -> tuple[sa.Column[Any], ...]:
    """Return the columns that hold texts or JSON."""
    texts = (column for column in table.c if isinstance(column.type, sa.Text | schema.Json))
    return tuple(column for column in texts if column.name not in _OURS)


def _name(column: str) -> str:
    """Return the name of the attribute that a column comes from, "" for none."""
    return "" if column in _PLAIN else _ATTRIBUTES.get(column, _SAID + column)


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

"""Whole rows out of many: ClickHouse reads each column that is asked for of each row that it looks at.

So it is asked for the keys of the rows first, in few columns, and then for what lies at these keys. The other databases
go by an index.
"""

from typing import Any, Final

import sqlalchemy as sa

#: Keys that are named one by one; of more, only their time is.
_NAMED: Final = 500


def narrowed(connection: sa.Connection, table: sa.Table, query: sa.Select[Any]) -> sa.Select[Any]:
    """Return a query of rows of a table as one that is answered from where they lie."""
    if connection.dialect.name != "clickhouse":
        return query
    own = table.c
    keys = connection.execute(query.with_only_columns(own.ts, own.trace_id)).all()
    if not keys:
        return query.where(sa.false())
    times, traces = [ts for ts, _ in keys], {trace for _, trace in keys}
    found = query.where(own.ts.between(min(times), max(times)))
    return found.where(own.trace_id.in_(sorted(traces))) if len(traces) <= _NAMED else found

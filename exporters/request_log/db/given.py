"""Many keys as one parameter of a query, which is compiled once: pairs as rows, or values that a column may have."""

from collections.abc import Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql


def _sqlite_pairs() -> sa.Subquery:
    item = sa.func.json_each(sa.bindparam("pairs")).table_valued("value").c.value
    pair = sa.func.json_extract(item, "$[0]").label("a"), sa.func.json_extract(item, "$[1]").label("b")
    return sa.select(*pair).subquery("given")


def _postgres_pairs() -> sa.Subquery:
    array = sa.cast(sa.bindparam("pairs", type_=sa.Text), postgresql.JSONB)
    item = sa.func.jsonb_array_elements(array).column_valued("item")
    text = sa.type_coerce(item, postgresql.JSONB)
    return sa.select(text[0].astext.label("a"), text[1].astext.label("b")).subquery("given")


#: Rows (a, b) from the parameter `pairs`, a JSON array of two-item arrays, by database.
GIVEN: Final = {"sqlite": _sqlite_pairs(), "postgresql": _postgres_pairs()}


def ask(connection: sa.Connection, query: sa.Executable, pairs: Sequence[Any]) -> Any:
    """Execute a query over pairs; without pairs return no rows, and ask nothing."""
    return connection.execute(query, {"pairs": orjson.dumps(pairs).decode()}) if pairs else ()


def is_one_of(dialect: str, column: sa.Column[Any], values: list[Any]) -> sa.ColumnElement[bool]:
    """Return the condition of having one of these values; only on PostgreSQL they are one parameter."""
    if dialect == "postgresql":
        return column == sa.any_(sa.literal(values, postgresql.ARRAY(column.type)))
    return column.in_(values)

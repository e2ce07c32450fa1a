r"""Rows in the text format of PostgreSQL's COPY, made one column at a time.

One row is a line, values are separated by tabs, `\N` is NULL, and a backslash escapes characters that would be mistaken
for one of these (https://www.postgresql.org/docs/current/sql-copy.html). One check covers all values of a column,
because a text nearly never needs it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.db import column_types

_NULL: Final = "\\N"
_SPECIAL: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_FLAGS: Final = {True: "t", False: "f", None: _NULL}


def lines(columns: Iterable[tuple[sa.Column[Any], Sequence[Any]]]) -> str:
    """Return rows as lines; each column with its values, JSON encoded already."""
    rows = map("\t".join, zip(*(_texts(*each) for each in columns), strict=True))
    return "\n".join((*rows, ""))


def _texts(column: sa.Column[Any], values: Sequence[Any]) -> Sequence[str]:
    kind = column.type
    if isinstance(kind, sa.Boolean):
        return [_FLAGS[value] for value in values]
    if isinstance(kind, (sa.Text, column_types.Json)):
        return _escaped(values)
    write = datetime.isoformat if isinstance(kind, column_types.UtcTime) else str
    if type(None) in set(map(type, values)):
        return [_NULL if value is None else write(value) for value in values]
    return list(map(write, values))


def _escaped(values: Sequence[str | None]) -> Sequence[str]:
    known = [value for value in values if value is not None]
    together = "".join(known)
    if any(character in together for character in "\\\n\r\t"):
        return [_NULL if value is None else value.translate(_SPECIAL) for value in values]
    return known if len(known) == len(values) else [_NULL if value is None else value for value in values]

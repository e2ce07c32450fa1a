"""Writes docs/tables.md from the schema, its descriptions, and the views that migrations make.

python -m tests.exporters.table_docs
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from otel_telemetry.exporters.request_log.db import database, descriptions, schema

PAGE: Final = Path(__file__).parents[2] / "docs" / "tables.md"
_DIALECTS: Final = (sqlite.dialect(), postgresql.dialect())  # type: ignore[no-untyped-call]
_HEAD: Final = """\
# Tables, views and columns

Made from `exporters/request_log/db/schema.py` and `descriptions.py` by `python -m tests.exporters.table_docs`; a test
holds it against databases of both kinds. How rows come about is in [request_log.md](request_log.md).

Columns may be NULL unless "not NULL" stands beside their type. Internal tables may change with any version.
"""


def page(views: Mapping[str, list[str]]) -> str:
    """Return the whole page; `views` are the columns of each view in order."""
    return "\n".join([_HEAD, *_tables(), *_views(views)])


def columns_of(engine: sa.Engine) -> dict[str, list[str]]:
    """Return the columns of each table and view that is in a database, in order; without Alembic's and partitions."""
    found = sa.inspect(engine)
    names = [name for name in found.get_table_names() if name in schema.metadata.tables] + found.get_view_names()
    return {name: [column["name"] for column in found.get_columns(name)] for name in names}


def _tables() -> Iterator[str]:
    for table in schema.metadata.tables.values():
        yield f"## {table.name}\n\n{descriptions.TABLES[table.name]}\n"
        yield "| column | SQLite | PostgreSQL | what it holds |\n|---|---|---|---|"
        for column in table.columns:
            own, other = (_kind(column, dialect) for dialect in _DIALECTS)
            yield f"| `{column.name}` | {own} | {other} | {_last_warning(table.name, column.name)} |"
        yield ""


def _views(views: Mapping[str, list[str]]) -> Iterator[str]:
    for view in descriptions.VIEWED:
        yield f"## {view}\n\n{descriptions.TABLES[view]}\n"
        yield "| column | what it holds |\n|---|---|"
        for name in views[view]:
            yield f"| `{name}` | {_last_warning(view, name)} |"
        yield ""


def _kind(column: sa.Column[object], dialect: sa.Dialect) -> str:
    name = column.type.compile(dialect).lower().replace("timestamp with time zone", "timestamptz")
    return name if column.nullable else f"{name}, not NULL"


def _last_warning(table: str, column: str) -> str:
    return descriptions.describe(table, column).replace("|", "\\|")


def main() -> None:
    """Write the page, with the views of a new SQLite database."""
    with TemporaryDirectory() as folder:
        engine = database.connect(f"sqlite:///{folder}/log.db")
        PAGE.write_text(page(columns_of(engine)), encoding="utf-8")
        engine.dispose()


if __name__ == "__main__":
    main()

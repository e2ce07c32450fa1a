"""ClickHouse's SQL as SQLAlchemy writes it: SELECT of the tables that rows are sent to, and nothing else."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from sqlalchemy.engine import default
from sqlalchemy.sql import compiler

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.clickhouse import dbapi, tables

#: The setting by which a database to be read is named.
READ_KEY: Final = "request_log.url"
_TRIFLE: Final = 1e-12
_THERE: Final = frozenset(table.name for table in tables.TABLES)


def _named(name: str) -> Callable[..., str]:
    """Return what writes a function of SQL under ClickHouse's name for it."""

    def write(self: compiler.SQLCompiler, func: Any, **options: Any) -> str:
        return f"{name}{self.function_argspec(func, **options)}"

    return write


class _Compiler(compiler.SQLCompiler):
    """Writes queries: aggregates of no rows are NULL, texts are cut by characters, LIKE is escaped by a backslash."""

    visit_sum_func = _named("sumOrNull")
    visit_min_func = _named("minOrNull")
    visit_max_func = _named("maxOrNull")
    visit_substr_func = _named("substringUTF8")

    def visit_nearest_ranks_func(self, func: Any, **options: Any) -> str:
        """Write percentiles, `nearest_ranks(column, share, ...)`: the values at the place ceil(share * count) - 1.

        `quantilesExact` takes those at floor(share * count), which is the same but for whole numbers. So the share is
        made smaller, by less than the hundredth of a place that others are apart from the next: up to 5 * 10**9 values.
        """
        column, *shares = func.clauses
        smaller = ", ".join(f"{float(self.process(share)) - _TRIFLE:.12f}" for share in shares)
        return f"quantilesExact({smaller})({self.process(column, **options)})"

    def visit_table(self, table: Any, *arguments: Any, **options: Any) -> str:
        """Raise NotThere for a table that ClickHouse does not have."""
        if table.name not in _THERE:
            raise NotThere(table.name)
        found: str = super().visit_table(table, *arguments, **options)  # type: ignore[no-untyped-call]
        return found

    def visit_ilike_case_insensitive_operand(self, element: Any, **options: Any) -> str:
        """Compare texts without case in any alphabet."""
        return f"lowerUTF8({element.element._compiler_dispatch(self, **options)})"  # noqa: SLF001 - as other dialects do

    def visit_like_op_binary(self, binary: Any, operator: Any, **options: Any) -> str:
        """Leave ESCAPE out: it is a backslash, in our queries as in ClickHouse."""
        del operator
        both = (each._compiler_dispatch(self, **options) for each in (binary.left, binary.right))  # noqa: SLF001
        return " LIKE ".join(both)


class Dialect(default.DefaultDialect):
    """ClickHouse over HTTP, read only; registered under a name of ours, beside drivers that others may install."""

    name = "clickhouse"
    driver = "otel_telemetry"
    statement_compiler = _Compiler
    default_paramstyle = "pyformat"
    supports_statement_cache = True
    supports_native_boolean = True
    supports_native_decimal = True

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """Return the driver."""
        return dbapi

    def initialize(self, connection: Any) -> None:
        """Ask nothing of the server."""


class NotThere(ConfigurationError):
    """Something was asked that ClickHouse does not have."""

    def __init__(self, table: str) -> None:
        hint = "ask the database that is written to, as --db sqlite:///... or postgresql://..."
        what = table.replace("_", " ")
        super().__init__(READ_KEY, f"ClickHouse has requests and model calls, but no {what}", hint)

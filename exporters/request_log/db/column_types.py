"""Types of columns, on SQLite and PostgreSQL.

Timestamps are UTC with microseconds: `timestamptz` on PostgreSQL; on SQLite text such as `2026-11-20
10:11:12.123456`, whose order is the order of time. Money is NUMERIC(20, 12). SQLite stores a NUMERIC as an 8-byte
float, which holds every decimal of up to 15 significant digits exactly: amounts below 1,000 USD come back digit for
digit, and `SUM(cost_usd)` works in plain SQL. JSON is `jsonb` on PostgreSQL and text on SQLite.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

#: Smallest part of a dollar that is kept.
PICO: Final = 12


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A moment in UTC, to the microsecond."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the value for SQLite in UTC without a zone, because SQLite has no zones."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Always an aware time."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class IsoTime(UtcTime):
    """A moment in UTC, on SQLite as text with a `T`, as the older module stored the times of `feedback`."""

    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Differs on SQLite only."""
        if dialect.name != "sqlite":
            return super().load_dialect_impl(dialect)
        iso: sa.types.TypeEngine[Any] = sqlite.DATETIME(  # type: ignore[no-untyped-call]
            storage_format=_ISO, regexp=_ISO_PARTS
        )
        return dialect.type_descriptor(iso)


_ISO: Final = "%(year)04d-%(month)02d-%(day)02dT%(hour)02d:%(minute)02d:%(second)02d.%(microsecond)06d"
_ISO_PARTS: Final = r"(\d+)-(\d+)-(\d+)[T ](\d+):(\d+):(\d+)(?:\.(\d+))?"


class Money(sa.types.TypeDecorator[Decimal]):
    """US dollars as NUMERIC(20, 12)."""

    impl = sa.Numeric(20, PICO)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """SQLite's driver takes floats for NUMERIC."""
        numeric: sa.types.TypeEngine[Any] = sa.Numeric(20, PICO)
        return dialect.type_descriptor(sa.Numeric(20, PICO, asdecimal=False) if dialect.name == "sqlite" else numeric)

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> Any:
        """Exact up to 15 significant digits on SQLite, always on PostgreSQL."""
        return float(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Decimal | None:
        """`repr` of a float is the shortest decimal that means it: the one that was written."""
        del dialect
        return None if value is None else Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


class Json(sa.types.TypeDecorator[Any]):
    """JSON; None is SQL NULL. Keys are sorted, so that equal values are equal text on SQLite."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """`jsonb` where there is one."""
        postgres = dialect.name == "postgresql"
        return dialect.type_descriptor(postgresql.JSONB(none_as_null=True) if postgres else sa.Text())

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        """Text for SQLite; the PostgreSQL driver encodes by itself."""
        if value is None or dialect.name == "postgresql":
            return value
        return encode(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """The value as it was."""
        return json.loads(value) if value is not None and dialect.name != "postgresql" else value


_plain = json.JSONEncoder(
    default=datetime.isoformat, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
)


def encode(value: Any, *, sort: bool = True) -> str:
    """Return JSON text; times as ISO 8601. Raises where PostgreSQL would: for text that is not UTF-8."""
    try:
        return orjson.dumps(value, option=_SORTED if sort else orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # it knows integers of 64 bits only, sums may be larger
        return _plain.encode(value)


_SORTED: Final = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS

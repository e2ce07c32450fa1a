"""Values of older rows, read by what their columns hold. Each raises ValueError that names the column."""

import math
from collections.abc import Mapping
from typing import Any, Final

from otel_telemetry.base import times
from otel_telemetry.older.source import parsed_json

_MOST_LATENCY_MS: Final = 1e12
_YES: Final = frozenset({"1", "true", "t", "yes"})
_NO: Final = frozenset({"0", "false", "f", "no"})

Row = Mapping[str, Any]


def moment(row: Row, *names: str) -> int:
    """Return a time that a row must have, in nanoseconds since 1970."""
    name = next((name for name in names if row.get(name) not in (None, "")), names[0])
    found = optional_moment(row, name)
    if found is None:
        raise ValueError(f"{name} is missing")
    return found


def optional_moment(row: Row, name: str) -> int | None:
    """Return a time, or None."""
    try:
        return times.nanoseconds(row.get(name))
    except (ValueError, OverflowError):
        raise ValueError(f"{name} is no time") from None


def text(row: Row, name: str) -> str | None:
    """Return text; ids that are numbers or UUIDs as text."""
    value = row.get(name)
    if isinstance(value, bytes):
        raise ValueError(f"{name} is not text")  # noqa: TRY004 - what a row holds, not what we were given
    return None if value is None else str(value)


def number(row: Row, name: str) -> float | None:
    """Return a number of at least 0, whole where it is."""
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is no number") from None
    if not math.isfinite(found) or not 0 <= found <= _MOST_LATENCY_MS:
        raise ValueError(f"{name} is no number that it can be")
    return int(found) if found.is_integer() else found


def flag(row: Row, name: str) -> bool | None:
    """Return true or false, however it is spelt."""
    value = row.get(name)
    if value is None or value == "":
        return None
    spelt = str(value).strip().lower()
    if spelt not in _YES | _NO:
        raise ValueError(f"{name} is neither true nor false")
    return spelt in _YES


def json(row: Row, name: str) -> Any:
    """Return the value of a column of JSON."""
    try:
        return parsed_json(row.get(name))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def lenient_json(row: Row, name: str) -> Any:
    """Return the value of a column that may hold JSON or plain text."""
    try:
        return parsed_json(row.get(name))
    except ValueError:
        return text(row, name)


def prefixed(prefix: str, values: Row) -> dict[str, Any]:
    """Return values under longer names, without those that are not known."""
    return {prefix + name: value for name, value in values.items() if value is not None}

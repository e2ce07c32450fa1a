"""Values from telemetry made fit for a column: the type it has, a bounded size, text that every database takes.

A value that does not fit is None and is noted: a bad value never costs its row. Notes end up in the row's
`meta["problems"]` as {key: what was wrong}; they never contain the value.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any, Final

#: Longest text of a column or a meta value, and of a stored question or answer, in characters.
TEXT_LIMIT: Final = 4_096
CONTENT_LIMIT: Final = 1_000_000
#: Longest id: a row's key is an index entry.
ID_LIMIT: Final = 200
#: Longest name that rows are grouped by (route, model, user): four of them fit into one entry of an index.
NAME_LIMIT: Final = 128
#: Integers above are no count of anything, and JSON readers lose their last digits.
LARGEST: Final = 2**53
#: Integers above are text in JSON, which so few readers know as numbers.
_LARGEST_JSON: Final = 2**64
_DEPTH: Final = 8
_ITEMS: Final = 256
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


class Notes(dict[str, str]):
    """What was wrong with which attribute."""

    def refuse(self, key: str, problem: str) -> None:
        """Note a problem; the first one of a key stays."""
        if len(self) < _ITEMS:
            self.setdefault(clean(key)[:ID_LIMIT], problem)


def clean(value: str) -> str:
    """Text that any database stores: no NUL characters (PostgreSQL refuses them), no lone surrogates (not UTF-8)."""
    if "\x00" in value:
        value = value.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode()
    return value


def text(value: Any, key: str, notes: Notes, limit: int = TEXT_LIMIT) -> str | None:
    """Return text of at most `limit` characters; empty text is None."""
    if type(value) is str and len(value) <= limit and value.isascii() and "\x00" not in value:
        return value or None  # nearly always
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, (int, float)):
        value = str(value)
    if not isinstance(value, str):
        if value is not None:
            notes.refuse(key, "not text")
        return None
    if len(value) > limit:
        notes.refuse(key, f"cut from {len(value)} characters")
        value = value[:limit]
    return clean(value) or None


def count(value: Any, key: str, notes: Notes) -> int | None:
    """Return a count from 0 to 2**53: an integer, or a float that is one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        if value is not None:
            notes.refuse(key, "not a whole number")
        return None
    if not 0 <= value <= LARGEST:
        notes.refuse(key, "negative" if value < 0 else "absurdly large")
        return None
    return value


def integer(value: Any, key: str, notes: Notes) -> int | None:
    """Return a count; digits in text will do."""
    if type(value) is int and 0 <= value <= LARGEST:
        return value  # nearly always
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(LARGEST)):
        value = int(value)
    return count(value, key, notes)


def real(value: Any, key: str, notes: Notes) -> float | None:
    """Return a finite number that is not negative; text that means one will do."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = value or None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if value is not None:
            notes.refuse(key, "not a number")
        return None
    if not 0 <= value <= LARGEST:  # NaN is in no range
        notes.refuse(key, "not a finite number" if not math.isfinite(value) else "out of range")
        return None
    return float(value)


def flag(value: Any, key: str, notes: Notes) -> bool | None:
    """Return a truth value; 1, 0 and the usual words will do."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, (str, int)) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    if value is not None:
        notes.refuse(key, "not true or false")
    return None


def money(value: Any, key: str, notes: Notes) -> Decimal | None:
    """Return US dollars, to the pico-dollar; below a million, as no request costs more."""
    try:
        amount = Decimal(str(value)) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or not 0 <= amount < LARGEST_AMOUNT:
        if value is not None:
            notes.refuse(key, "not an amount of money")
        return None
    return amount.quantize(SMALLEST_AMOUNT)


LARGEST_AMOUNT: Final = Decimal(1_000_000)
SMALLEST_AMOUNT: Final = Decimal("1e-12")


def structure(value: Any, key: str, notes: Notes, limit: int = TEXT_LIMIT, depth: int = _DEPTH) -> Any:
    """Return a value that JSON can hold: bounded in depth, in items (256 a level) and in the length of its texts."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value, key, notes, limit) or ""
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST_JSON else str(value)[:ID_LIMIT]
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        notes.refuse(key, "not a finite number")
        return None
    if depth == 0 or isinstance(value, (bytes, bytearray)):
        notes.refuse(key, "nested too deep" if depth == 0 else "bytes left out")
        return None
    if isinstance(value, (Mapping, Sequence)):
        if len(value) > _ITEMS:
            notes.refuse(key, f"cut from {len(value)} items")
        return _inside(value, key, notes, limit, depth - 1)
    notes.refuse(key, f"a {type(value).__name__}")
    return None


def _inside(value: Mapping[Any, Any] | Sequence[Any], key: str, notes: Notes, limit: int, depth: int) -> Any:
    if isinstance(value, Mapping):
        pairs = islice(value.items(), _ITEMS)
        return {clean(str(name))[:ID_LIMIT]: structure(item, key, notes, limit, depth) for name, item in pairs}
    return [structure(item, key, notes, limit, depth) for item in islice(value, _ITEMS)]


def keep(target: dict[str, Any], key: str, value: Any, notes: Notes) -> None:
    """Put a value into a JSON object of at most 256 keys."""
    if len(target) < _ITEMS:
        target[clean(key)[:ID_LIMIT]] = structure(value, key, notes)
    else:
        notes.refuse("meta", f"more than {_ITEMS} keys")


def parsed(value: Any, key: str, notes: Notes, limit: int = TEXT_LIMIT) -> Any:
    """Return a structure that may have come as JSON text."""
    if isinstance(value, str) and value[:1] in ("{", "[") and len(value) <= CONTENT_LIMIT:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            notes.refuse(key, "not valid JSON")
    return structure(value, key, notes, limit)


def moment(nanoseconds: int) -> datetime:
    """Return the UTC time of a Unix time. OTLP's 64 bits end in the year 2554, so that there always is one."""
    seconds, microseconds = divmod(nanoseconds // 1_000, 1_000_000)
    return _EPOCH + timedelta(0, seconds, microseconds)  # by name, and undivided, it takes twice as long


def nanoseconds(ts: datetime) -> int:
    """Return the Unix time of a moment; inverse of `moment`."""
    past = ts - _EPOCH
    return ((past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds) * 1_000


def known_time(start_ns: int, end_ns: int) -> int:
    """Return the time of a span: its start, else its end, else now. OTLP's 0 means unknown."""
    return start_ns or end_ns or time.time_ns()


def milliseconds(start_ns: int, end_ns: int, key: str, notes: Notes) -> float | None:
    """Return a duration, or None where one of the times is not known or the clock ran backwards, which is noted."""
    if not start_ns or not end_ns:
        return None
    if end_ns < start_ns:
        notes.refuse(key, "ends before it starts")
        return None
    return (end_ns - start_ns) / 1e6

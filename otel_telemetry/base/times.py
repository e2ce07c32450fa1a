"""Moments as senders write them, as nanoseconds since 1970."""

import math
from datetime import UTC, datetime
from typing import Any, Final

_SECOND: Final = 1_000_000_000
_LATEST: Final = (1 << 63) - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Numbers from here on are nanoseconds, microseconds, milliseconds; below, seconds.
_UNITS: Final = ((10**17, 1), (10**14, 1_000), (10**11, 1_000_000), (-math.inf, _SECOND))


def nanoseconds(value: Any) -> int | None:
    """Return the time of a datetime, of ISO 8601 text (UTC where it has no zone), or of a number.

    None for None and for empty text; raises ValueError for what is no time after 1970 and before 2262.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    if isinstance(value, datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH
        found = (since.days * 86_400 + since.seconds) * _SECOND + since.microseconds * 1_000
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a time")
    else:
        found = next(round(value * unit) for least, unit in _UNITS if value >= least)
    if not 0 < found <= _LATEST:
        raise ValueError("not a time after 1970")
    return found

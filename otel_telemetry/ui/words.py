"""Values as people read them; what is not known is a dash, never 0. Templates use these as filters."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from otel_telemetry.base.foreign_text import plain, plain_lines

DASH: Final = "\N{EN DASH}"
_SECOND: Final = 1_000
_MINUTE: Final = 60_000
_CENT: Final = Decimal("0.01")
_SMALL: Final = Decimal("0.000001")


def count(value: float | Decimal | None) -> str:
    """Return a whole number with separators."""
    return DASH if value is None else f"{value:,.0f}"


def short(value: float | Decimal | None) -> str:
    """Return a number of no more than four characters, as axes have it."""
    if value is None:
        return DASH
    number = float(value)
    for bound, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= bound:
            return f"{number / bound:.3g}{unit}"
    return f"{number:.3g}"


def ms(value: float | None) -> str:
    """Return a duration in the unit that reads best."""
    if value is None:
        return DASH
    if value >= _MINUTE:
        return f"{int(value // _MINUTE)} min {value % _MINUTE / _SECOND:.0f} s"
    if value >= _SECOND:
        return f"{value / _SECOND:,.2f} s"
    return f"{value:,.0f} ms" if value >= 1 or value == 0 else f"{value:.2f} ms"


def usd(value: Decimal | None) -> str:
    """Return an amount of money, with the digits that matter: cents of large ones, millionths of small ones."""
    if value is None:
        return DASH
    amount = Decimal(value)
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}"
    if amount < _SMALL:
        return f"${amount:.2e}"
    return f"${amount:.4f}" if amount >= _CENT else f"${amount:.6f}"


def share(value: float | None) -> str:
    """Return a share of 1 in percent."""
    if value is None:
        return DASH
    return f"{value:.1%}"


def change(now: Any, before: Any) -> str:
    """Return by how much a figure differs from the period before; empty where there is nothing to compare with."""
    if now is None or not before:
        return ""
    ratio = float(now) / float(before) - 1
    return f"{ratio:+.0%}" if abs(ratio) < _FOLD else f"{ratio + 1:.0f}\N{MULTIPLICATION SIGN}"


_FOLD: Final = 10


def text(value: Any) -> str:
    """Return a text of somebody else's on one line."""
    return DASH if value is None or value == "" else plain(str(value))


def lines(value: Any) -> str:
    """Return a text of somebody else's with its lines, JSON with indents."""
    if value is None:
        return DASH
    return plain_lines(
        value if isinstance(value, str) else json.dumps(value, indent=2, default=str, ensure_ascii=False)
    )


def moment(value: datetime | None, zone: Any, *, seconds: bool = True) -> str:
    """Return a time in a zone."""
    if value is None:
        return DASH
    return value.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def iso(value: datetime | None) -> str:
    """Return the exact time in UTC."""
    return "" if value is None else value.isoformat()


FILTERS: Final = {
    "count": count,
    "short": short,
    "ms": ms,
    "usd": usd,
    "share": share,
    "change": change,
    "text": text,
    "lines": lines,
    "moment": moment,
    "iso": iso,
}

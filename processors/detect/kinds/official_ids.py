"""Validators for official documents: national ids by python-stdnum, passports by the check digits of their own zone.

python-stdnum is the extra `ids`, imported only where a rule names one of its modules (`validator = "stdnum.gb.nhs"`).
"""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span, span_of

STDNUM: Final = "stdnum."
_MODULE: Final = re.compile(r"stdnum(?:\.[a-z][a-z0-9_]{0,30}){1,2}")
#: Of the second line of a passport: what is checked by the digit behind it, and by the last digit of all (ICAO 9303-4).
_CHECKED: Final = ((0, 9), (13, 19), (21, 27))
_MRZ_LINE: Final = 44
_WEIGHTS: Final = (7, 3, 1)


@dataclass(frozen=True)
class Stdnum:
    """A validator of rules that asks one module of python-stdnum. Raises ImportError and ValueError when made."""

    name: str

    def __post_init__(self) -> None:
        _check_of(self.name)

    def __call__(self, text: str, match: re.Match[str]) -> Span | None:
        """Accept a number with the right length, ranges and check digits."""
        span = span_of(match)
        value = text[span.start : span.end]
        return span if value.isascii() and self._is_valid(value) else None

    def _is_valid(self, value: str) -> bool:
        """Validate with the library; a value on which it fails (KeyError for an unnamed county) counts as valid."""
        try:
            return _check_of(self.name)(value)
        except Exception:  # noqa: BLE001  # whatever it is, the value must not leave, nor the record be lost
            return True


@cache
def _check_of(name: str) -> Callable[[str], bool]:
    if not _MODULE.fullmatch(name):
        raise ValueError(name)
    check: Callable[[str], bool] = importlib.import_module(name).is_valid
    return check


def passport_zone(text: str, match: re.Match[str]) -> Span | None:
    """Accept the two lines that machines read of a passport, where all check digits are right."""
    del text
    line = match["second"]
    parts = [line[start : end + 1] for start, end in _CHECKED]
    whole = "".join((line[0:10], line[13:20], line[21:43]))
    right = all(_digit(part[:-1]) == part[-1] for part in parts) and _digit(whole) == line[_MRZ_LINE - 1]
    return span_of(match) if right else None


def _digit(part: str) -> str:
    """Return the check digit of ICAO 9303-3, section 4.9."""
    values = (0 if char == "<" else int(char, 36) for char in part)
    return str(sum(value * _WEIGHTS[at % 3] for at, value in enumerate(values)) % 10)

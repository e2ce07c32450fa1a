"""Characters that nobody sees: those that Unicode says are to be ignored in display, and controls."""

from collections.abc import Iterable
from itertools import chain
from typing import Final

#: First and last code points of Default_Ignorable_Code_Point (Unicode 16, DerivedCoreProperties.txt).
DEFAULT_IGNORABLE: Final = (
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)


def characters(*ranges: Iterable[tuple[int, int]]) -> str:
    """Return the characters of ranges of code points, of which first and last are given."""
    return "".join(chr(code) for first, last in chain(*ranges) for code in range(first, last + 1))


#: The controls of ASCII but for tab, line feed and carriage return.
CONTROLS: Final = characters(((0x00, 0x08), (0x0B, 0x0C), (0x0E, 0x1F), (0x7F, 0x7F)))
_CONTROL_BYTES: Final = CONTROLS.encode()


def has_controls(text: str) -> bool:
    """Return whether a text has one of them. It is at its fastest over bytes."""
    data = text.encode("utf-8", "surrogatepass")
    return len(data.translate(None, _CONTROL_BYTES)) != len(data)

"""Distinguishes random letters from words, by pairs of letters that words of the languages used here do not have.

Counted over identifiers and documentation of a few thousand files; a pair is rare if it makes up less than one in
12,000. Random letters have four such pairs in ten, words have one now and then.
"""

import re
from typing import Final

#: What seldom stands behind each letter.
_RARE: Final = {
    **dict(zip("abcde", ("q", "fghkmnpqvwxz", "bfgjnqvwxz", "hjqvwxz", "j"), strict=True)),
    **dict(
        zip(
            "fghij", ("bdghjkmnpqvwxz", "bcdjkpqvwxyz", "bcdfghjknpqvwxz", "hijwy", "bcdfghjklmnpqrtvwxyz"), strict=True
        )
    ),
    **dict(zip("klmno", ("bcdgjkmpqtvxyz", "hjqxz", "fghjkqrvwxz", "qwx", ""), strict=True)),
    **dict(zip("pqrst", ("bfgjkmnqvwxz", "bcdefghijklmnopqrstvwxyz", "hjqxz", "jxz", "gjkqv"), strict=True)),
    **dict(
        zip(
            "uvwxy",
            ("hjkquvwxyz", "bcdfghjklmnpqrstuvwxyz", "bcdfgjklmpqtuvxyz", "bdfghjklmnoqrsuvwxyz", "bchjkqvxyz"),
            strict=True,
        )
    ),
    "z": "bcdfgjklmnopqrstuvwxyz",
}
_PAIRS: Final = frozenset(first + second for first, behind in _RARE.items() for second in behind)
_LETTERS: Final = re.compile(r"[A-Za-z]+")
_SHORTEST: Final = 16
_VARIETY: Final = 9
_LEAST: Final = 3
_PER_PAIR: Final = 8


def is_drawn(value: str) -> bool:
    """Return whether a value of at least 16 letters, and nothing else, looks drawn at random."""
    if len(value) < _SHORTEST or _LETTERS.fullmatch(value) is None:
        return False
    small = value.lower()
    if len(set(small)) < _VARIETY or small in _ALPHABET:
        return False
    rare = sum(small[at : at + 2] in _PAIRS for at in range(len(small) - 1))
    return rare >= max(_LEAST, len(small) // _PER_PAIR)


_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz" * 2

"""What engines look for in a text before it is folded: the bytes of all that folding.py takes away or decodes."""

from collections.abc import Iterable
from typing import Final

from otel_telemetry.processors.detect.text.folding import (
    ALIKE,
    BMP,
    DASHES,
    ESCAPED_CONTROLS,
    INVISIBLE,
    LINE_ENDS,
    MARKS,
    PLAIN,
    SPACES,
)

#: Encoded bytes that can take part in a value: those beside a digit, and encoded quotes, separators, digits and
#: letters, which nobody encodes without need (`%40` the rule for e-mail addresses knows itself). A plus matters only
#: between groups of digits, or in an IBAN; elsewhere it is an operator as often as a space, and before `02:00` it is
#: the offset of a time.
_ENCODED_TRIGGERS: Final = (
    "[0-9]%2[0-9A-Fa-f]",
    "%2[0-9A-Fa-f][0-9]",
    "%22",
    "%3[0-9AaDd]",
    "%4[1-9A-Fa-f]",
    "%6[0-9A-Fa-f]",
    "%[57][0-9Aa]",
    "[0-9]{2}\\+[0-9A-Z]{2}[^:]",
)
_FORMAT_TRIGGERS: Final = (
    "%25[2-7][0-9A-Fa-f]",
    "\\\\x[2-7][0-9A-Fa-f]",
    "%25[c-fC-F][0-9A-Fa-f]%25",
    "\\\\x(?:[cC]2|[dD][9bB]|[eE][0-2fF]|[fF]0)\\\\",
    "[0-9A-Za-z\\\\]\\\\x[aA][0dD]",
    "\\\\3(?:02|31|33|4[0-2]|57|60)\\\\",
    "\\\\u\\{[0-9A-Fa-f]",
    "\\\\U000[01]",
    "&#[4-6][0-9];",
    "&#32;",
    "&#0",
    "&#[xX]0",
    "&#160;",
    "&#820[0-9];",
    "&#[xX]2[0BDEFbdef];",
    "&#[xX][3-7A]",
    "&amp;#[0-9xX]",
    "&commat;",
    "&amp;commat;",
    *(f"[0-9]&{name};" for name in ("nbsp", "ensp", "emsp", "thinsp", "ndash", "mdash", "minus", "hyphen", "Tab")),
    *(f"&{name};" for name in ("shy", "zwj", "zwnj", "lrm", "rlm", "#173", "#[xX][aA][dD]", "#[xX]20(?:0[b-fB-F]|60)")),
    *(f"&{name};" for name in ("period", "lowbar", "plus", "colon")),
    "[0-9A-Za-z_]=40[A-Za-z]{2}",
    "[0-9]{3}=2[0DEF][0-9]{2}",
    "[a-z]=3D[0-9A-Za-z]",
)
_NEAR: Final = "[0-9A-Za-z@._:+=\"'-]"
#: What may stand before an invisible character if what follows may belong to a value, or is one more such character.
_APART: Final = r"[\t\n -,/;-?\[-`{-~]"
_GOES_ON: Final = r"[0-9A-Za-z+@(=:\"'\xc2\xcd\xe1-\xe3\xef\xf0\xf3]"
_GOES_ON_ESCAPED: Final = r"[0-9A-Za-z+@(=:\\]"
#: A control in a value. Not one of those that OTLP has between its texts, tags and lengths: to look for them, too,
#: would take a sixth of the redaction of a span.
_CONTROL_TRIGGER: Final = (
    r"[ 0-9A-Za-z@._:+-][\x00\x01\x08\x0b\x0c\x0e\x0f\x13-\x17\x19\x1b-\x1f\x7f][ 0-9A-Za-z@._:+=-]{2}"
)
#: What stands in bytes, never in a text as UTF-8: text in UTF-16, and what gzip has packed.
_BYTES_TRIGGERS: Final = (r"[0-9A-Za-z@.]\x00[0-9A-Za-z@.]\x00", r"\x1f\x8b\x08")
#: A selector of an emoji's look is no mark in a value where it and U+20E3 make a key of a digit.
_SELECTOR_TRIGGERS: Final = (
    *(_NEAR + rf"\xef\xb8[\x80-\x8f]{other}" for other in (r"[^\xe2]", r"\xe2[^\x83]")),
    _APART + r"\xef\xb8[\x80-\x8f][0-9A-Za-z+@(=:]",
)
#: Keys of digits in a row are a number, one alone is an emoji.
_KEYS_TRIGGERS: Final = (r"[0-9]\xe2\x83\xa3[0-9]", r"[0-9]\xef\xb8\x8f\xe2\x83\xa3[0-9]")
#: The first half of an ignorable character as a pair of JSON's escapes.
_ESCAPED_HALVES: Final = (r"\\u[dD][bB]4[0-3]", r"\\u[dD]834", r"\\u[dD]82[fF]")


def _encoded_triggers() -> list[str]:
    """Return what the bytes of folded characters look like in URLs."""
    digits = [char for char, meant in PLAIN.items() if meant.isalnum() or meant in ("@", ".")]
    hidden = [chr(code) for code in (0xAD, 0xA0, *range(0x200B, 0x2016), 0x202F, 0x2060, 0xFEFF)]
    tails: dict[tuple[str, bytes], list[int]] = {}
    for before, chars in (("", digits), ("[0-9A-Za-z@.]", hidden)):
        for char in chars:
            *first, last = char.encode()
            tails.setdefault((before, bytes(first)), []).append(last)
    return [
        before + "".join(map(_percent, first)) + "%(?:" + "|".join(map(_either_case, last)) + ")"
        for (before, first), last in tails.items()
    ]


def _percent(byte: int) -> str:
    return "%" + _either_case(byte)


def _either_case(byte: int) -> str:
    return "".join(f"[{char}{char.upper()}]" if char.isalpha() else char for char in f"{byte:02x}")


def _escape(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _triggers() -> list[str]:
    """Return what the bytes of folded characters look like: letters and digits alone, the rest beside plain text.

    Dashes and spaces matter only in numbers: prose is full of them. So are the letters of other alphabets, which hide
    something only beside Latin ones, or before a number.
    """
    alone = [char for char, meant in PLAIN.items() if meant.isalnum() or meant in ("@", ".", "+")]
    invisible = _classes((*(char for char in INVISIBLE if not "\ufe00" <= char <= "\ufe0f"), *LINE_ENDS))
    hidden = [both for each in invisible for both in (_NEAR + each, _APART + each + _GOES_ON)]
    mixed = [
        both
        for trigger in _classes(ALIKE)
        for both in ("[A-Za-z]" + trigger, trigger + "[A-Za-z]", trigger + "[0-9]{2}")
    ]
    return [
        *_classes(alone),
        *hidden,
        *mixed,
        _CONTROL_TRIGGER,
        *_SELECTOR_TRIGGERS,
        *_KEYS_TRIGGERS,
        *_BYTES_TRIGGERS,
        *("[0-9)]" + trigger for trigger in _classes(DASHES + SPACES)),
    ]


def _classes(characters: Iterable[str]) -> list[str]:
    groups: dict[bytes, set[int]] = {}
    for char in characters:
        data = char.encode()
        groups.setdefault(data[:-1], set()).add(data[-1])
    alike: dict[tuple[bytes, bytes], list[int]] = {}
    for head, tails in groups.items():
        alike.setdefault((head[:-1], bytes(sorted(tails))), []).append(head[-1])
    both = ((first, bytes(sorted(seconds)), tails) for (first, tails), seconds in alike.items())
    return [f"{_escape(first)}[{_escape(seconds)}][{_escape(tails)}]" for first, seconds, tails in both]


def _escaped_triggers() -> list[str]:
    """Return what the same characters look like as JSON's escapes, and those of ASCII that nobody escapes without need.

    A digit or letter before an escape may be the last of another one: there it counts where it is no digit of those.
    """
    alone = [char for char, meant in PLAIN.items() if meant.isalnum() or meant in ("@", ".")]
    ascii_ = [chr(code) for code in range(128) if chr(code).isalnum() or chr(code) in MARKS]
    alike = _escaped_classes(ALIKE)
    hidden = _escaped_classes(INVISIBLE + LINE_ENDS + ESCAPED_CONTROLS)
    return [
        *_escaped_classes([*alone, *ascii_]),
        *(both for each in (*hidden, *_ESCAPED_HALVES) for both in (_NEAR + each, _APART + each + _GOES_ON_ESCAPED)),
        *("[0-9)]" + trigger for trigger in _escaped_classes(DASHES + SPACES)),
        *(both for trigger in alike for both in ("[G-Zg-z]" + trigger, trigger + "[A-Za-z]", trigger + "[0-9]{2}")),
    ]


def _escaped_classes(characters: Iterable[str]) -> list[str]:
    groups: dict[str, set[str]] = {}
    for char in characters:
        code = f"{ord(char):04x}"
        if char <= BMP:
            groups.setdefault(code[:3], set()).update((code[3], code[3].upper()))
    heads = {head: "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in head) for head in groups}
    return [f"\\\\u{heads[head]}[{''.join(sorted(last))}]" for head, last in groups.items()]


FOLD_TRIGGERS: Final = [*_triggers(), *_ENCODED_TRIGGERS, *_FORMAT_TRIGGERS, *_escaped_triggers(), *_encoded_triggers()]

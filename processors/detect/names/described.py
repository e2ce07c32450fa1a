"""Values whose name is itself a value or a tag: `{"name": "password", "value": ...}`, `<password>...</password>`.

Read from the text around the name. Text that is JSON as a whole is also read by its structure (neighbours.py).
"""

import re
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span
from otel_telemetry.processors.detect.names import looks, quotes

NAME_MEMBERS: Final = (
    "name key header param parameter field variable var attribute attr property option setting parameterkey"
    " parametername headername fieldname".split()
)
VALUE_MEMBERS: Final = "value val values default defaultvalue parametervalue stringvalue string_value".split()

_REACH: Final = 300
_SHORT: Final = 24
_NAMES: Final = "|".join(NAME_MEMBERS)
_VALUES: Final = "|".join(VALUE_MEMBERS)
#: Before a name that is the value of a member, an attribute or a line of YAML.
_IS_NAME: Final = re.compile(
    rf"(?i)(?<![a-z0-9])(?:{_NAMES})(?:{quotes.MARK})?\s{{0,4}}(?:=>?|:)\s{{0,4}}(?:{quotes.MARK})?$"
)
_QUOTES: Final = "\\\"'`"
_MEMBERS: Final = tuple(NAME_MEMBERS)
#: What such a text ends in, but for quotes and spaces: its sign, or an entity that is a quote.
_ENDS_NAME: Final = ("=", ":", ">", ";")
_VALUE_BEHIND: Final = re.compile(
    rf"(?i)(?:{quotes.MARK})?\s{{0,4}},?[^{{}}\[\]<>]{{0,{_REACH}}}?(?<![a-z0-9])(?:{_VALUES})(?:{quotes.MARK})?\s{{0,4}}(?:=>?|:)\s{{0,4}}"
)
_VALUE_BEFORE: Final = re.compile(
    rf"(?i)(?<![a-z0-9])(?:{_VALUES})(?P<q>{quotes.MARK})?\s{{0,4}}(?:=|:)\s{{0,4}}(?P<mark>{quotes.MARK})(?P<v>[^\"'\\<>]{{1,256}})"
    rf"(?P=mark)\s{{0,4}},?[^{{}}\[\]<>]{{0,80}}$"
)
_BARE: Final = re.compile(r"(?:(?i:bearer|basic|token|digest) )?[^\s\"'`<>&;,)}\]\\]{1,4096}+")
#: Behind the name of a part of a multipart body: its other headers, an empty line, and its text (RFC 7578).
_FORM_PART: Final = re.compile(
    r"\\{0,15}\"[^\r\n]{0,80}\r? ?\n ?(?:Content-[^\r\n]{1,120}\r? ?\n ?){0,3}\r? ?\n ?(?P<v>[^\r\n]{1,4096}+)"
)
#: Behind a name that is a tag: its attributes, and where it closes.
_TAG: Final = re.compile(r"(?:\s[^<>]{0,200})?>\s{0,64}(?:<!\[CDATA\[)?(?P<v>[^<>]{1,4096}?)\s{0,64}(?:\]\]>)?</")
#: The same where the markup stands escaped in other markup.
_ESCAPED_TAG: Final = re.compile(r"(?:\s[^<>]{0,200}?)?&gt;\s{0,64}(?P<v>[^<>&]{1,4096}?)\s{0,64}&lt;/")
_ESCAPED_OPENING: Final = "&lt;"
_TAG_VALUE: Final = re.compile(
    r"(?i)\s[^<>]{0,200}?(?<![a-z0-9])(?:value|val)\s?=\s?(?P<mark>\\{0,15}[\"'])(?P<v>[^\"'<>\\]{1,4096})"
)
_META: Final = re.compile(r"(?i)(?P<m>\\{0,15}[\"']) content=(?P=m)(?P<v>[^\"'<>\\]{3,4096})(?=(?P=m))")
_ATTRIBUTE_TEXT: Final = re.compile(
    r"\\{0,15}[\"'](?:\s[^<>]{0,200})?>\s{0,64}(?:<[Vv]alue>)?(?P<v>[^<>]{1,4096}?)\s{0,64}</"
)

_INPUT: Final = re.compile(r"(?i)<input\s[^<>]{0,400}$")
_INPUT_VALUE: Final = re.compile(
    r"(?i)(?<![\w-])value\s?=\s?(?:(?P<mark>\\{0,15}[\"'])(?P<quoted>[^\"'<>\\]{3,4096})(?P=mark)|(?P<v>[^\s\"'<>\\]{3,4096}))"
)
_TAG_REACH: Final = 400


def password_input(text: str, match: re.Match[str]) -> Span | None:
    """Accept the value of a field of a form whose type is password."""
    opened = _INPUT.search(text, max(0, match.start() - _TAG_REACH), match.start())
    if opened is None:
        return None
    closed = text.find(">", match.end(), match.end() + _TAG_REACH)
    found = _INPUT_VALUE.search(text, opened.start(), closed if closed >= 0 else match.end() + _TAG_REACH)
    if found is None:
        return None
    group = "quoted" if found["quoted"] else "v"
    wrong = looks.stands_in(found[group]) or looks.is_marked(found[group]) or looks.is_template(found[group])
    return None if wrong else Span(*found.span(group))


def value_of(text: str, name: tuple[int, int]) -> tuple[int, int] | None:
    """Return where the value stands that a name at these characters describes, or None."""
    start, end = name
    if text.endswith(_ESCAPED_OPENING, 0, start):
        found = _ESCAPED_TAG.match(text, end)
        return found.span("v") if found else None
    if (
        text[end : end + 1] in ("", ",", ".", " ")
        and text[start - 1 : start] not in ("<", ":")
        and not _near(text, start)
    ):
        return None
    before = text[start - 1 : start]
    if before == "<" or (before == ":" and _in_tag(text, start)):
        return _tag(text, end)
    if not _near(text, start):
        return None
    return _behind(text, end) or _before(text, start)


def _near(text: str, start: int) -> bool:
    """Return whether the name before which `start` stands is a value itself; asked of every name, so cheaply first."""
    low = max(0, start - _SHORT)
    before = text[low:start].rstrip(_QUOTES).rstrip()
    if before[-1:] not in _ENDS_NAME:
        return False
    name = before.rstrip("=:>").rstrip().rstrip(_QUOTES)
    may_be = name[-1:] == ";" or name.lower().endswith(_MEMBERS)
    return may_be and _IS_NAME.search(text, low, start) is not None


def _in_tag(text: str, start: int) -> bool:
    """Return whether a name stands behind the prefix of a namespace: `<wsse:Password`."""
    opened = text.rfind("<", max(0, start - _SHORT), start)
    return opened >= 0 and text[opened + 1 : start - 1].replace("-", "").isalnum()


def _tag(text: str, end: int) -> tuple[int, int] | None:
    found = _TAG.match(text, end) or _TAG_VALUE.match(text, end)
    return found.span("v") if found else None


def _behind(text: str, end: int) -> tuple[int, int] | None:
    part = _FORM_PART.match(text, end) if "form-data" in text[max(0, end - _REACH) : end] else None
    if part:
        return part.span("v")
    meta = _META.match(text, end) if "<meta" in text[max(0, end - _TAG_REACH) : end] else None
    if meta:
        return meta.span("v")
    found = _VALUE_BEHIND.match(text, end) if _names_value(text[end : end + _REACH + 2 * _SHORT]) else None
    if found is None:
        inside = _ATTRIBUTE_TEXT.match(text, end)
        return inside.span("v") if inside else None
    quote = quotes.opening(text, found.end())
    if quote:
        return quote.end, quotes.closing(text, quote)
    bare = _BARE.match(text, found.end())
    return bare.span() if bare else None


def _names_value(text: str) -> bool:
    """Return whether the name of a value may be in a text: each of `VALUE_MEMBERS` holds one of these."""
    small = text.lower()
    return "val" in small or "default" in small


def _before(text: str, start: int) -> tuple[int, int] | None:
    low = max(0, start - _REACH)
    head = _IS_NAME.search(text, max(0, start - _SHORT), start)
    found = _VALUE_BEFORE.search(text, low, head.start()) if head and _names_value(text[low:start]) else None
    return found.span("v") if found else None

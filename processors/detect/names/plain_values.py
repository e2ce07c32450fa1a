"""The commonest assignments, judged with one look: `"api_key":"dd5350a4"`, `API_KEY=dd5350a4`, `api_key: dd5350a4`.

A value of letters and digits is no placeholder, variable or expression, so a strong name decides wherever both stand.
The general way (assignments.py) comes to the same result in many more steps; it judges what this module leaves open.
"""

import re
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span, made
from otel_telemetry.processors.detect.names import keys, looks, places, remarks

#: Letters, digits, the marks of base64 and some that passwords have: a digit, and something else.
_SIGNS: Final = r"A-Za-z\u00c0-\u024f_+/\-.*!@^~%$#"
_VALUE: Final = (
    rf"(?P<v>(?!(?i:lambda|filtered)|[*^~](?i:oauth|saml))(?=\d*+[{_SIGNS}])(?=[{_SIGNS}]*+\d)"
    rf"(?:[A-Za-z0-9\u00c0-\u024f]|[*^~](?=[A-Za-z0-9]))[0-9{_SIGNS}]{{7,2000}}+={{0,2}}+)"
)
#: Ends a text in quotes, but for what Terraform prints of a change: that has two values.
_CLOSED: Final = '"(?! ->)'
#: Behind a name in quotes; and behind one without, where the value ends in what ends any such value.
_MEMBER: Final = re.compile(rf'" ?: ?"{_VALUE}{_CLOSED}')
_BARE: Final = re.compile(rf"(?P<sep>=|: ?| = ){_VALUE}(?=[\s\"'`<>&;\\]|$)")
_QUOTED: Final = re.compile(rf"(?:=|: ?| = )(?P<q>[\"']){_VALUE}(?P=q)(?! ->)")
#: Before a name in a query, whose values end otherwise.
_IN_QUERY: Final = ("?", "&")
_AN_ADDRESS: Final = r"(?P<v>(?!(?i:filtered))[A-Za-z0-9][A-Za-z0-9._+\-]{0,63}+@[A-Za-z0-9.\-]{1,200}+)"
_ADDRESS_MEMBER: Final = re.compile(rf'" ?: ?"{_AN_ADDRESS}{_CLOSED}')
_ADDRESS: Final = re.compile(rf"={_AN_ADDRESS}(?=[\s\"'`<>&\\]|$)")
_NUMBER_MEMBER: Final = re.compile(rf'" ?: ?"(?P<v>\d[\d ./\-]{{2,40}}+){_CLOSED}')
#: Digits in groups; a number without groups may be any other.
_NUMBER: Final = re.compile(r"(?:=|: ?)(?P<v>\d{1,6}+[.\-]\d(?:[.\-]?\d){1,14}+)(?![ .\-]?\d)")
_DIGITS: Final = re.compile(r"=(?P<v>\d{4,21}+)(?![ .\-]?\d)")
_NUMBER_QUOTED: Final = re.compile(r"=(?P<q>[\"'])(?P<v>\d[\d ./\-]{2,40}+)(?P=q)(?! ->)")
#: A header with the scheme and the token of its credentials, also as a member.
_CREDENTIALS: Final = (
    r"(?i:bearer|basic|token) (?P<v>(?!(?i:lambda|filtered|aws4|google4))(?=[A-Za-z._~+/\-]*+\d)"
    r"[A-Za-z0-9][A-Za-z0-9._~+/\-]{15,8000}+={0,2}+)"
)
_HEADER: Final = re.compile(rf": ?{_CREDENTIALS}(?=[\s\"'`]|$)")
_HEADER_MEMBER: Final = re.compile(rf'" ?: ?"{_CREDENTIALS}{_CLOSED}')
#: Types whose values may be any text.
_FREE: Final = frozenset({keys.PASSWORD, keys.SECRET, keys.API_KEY, keys.PRIVATE_KEY})


def plain_value(text: str, key: str, kind: str, end: int) -> Span | None:
    """Return the value of the name `key` that ends at `end`; None where another look is needed."""
    found = None
    quoted = text[end : end + 1] == '"'
    if kind in _FREE:
        found = _member(text, kind, end) if quoted else _given(text, key, kind, end)
    elif kind == keys.AUTHORIZATION:
        found = _HEADER_MEMBER.match(text, end) if quoted else _HEADER.match(text, end)
        if found and not quoted and _is_path(key, found["v"]):
            return None
    elif kind == keys.EMAIL:
        found = _ADDRESS_MEMBER.match(text, end) if quoted else _ADDRESS.match(text, end)
        if found and not quoted and places.in_call(text, end - len(key)):
            return None
    elif kind in (keys.CREDIT_CARD, keys.SSN):
        found = _NUMBER_MEMBER.match(text, end) if quoted else _number(text, end - len(key), end)
    return made(Span, (*found.span("v"), kind, ())) if found and looks.strong(kind, found["v"]) else None


def _number(text: str, start: int, end: int) -> re.Match[str] | None:
    """Return the number of a name without quotes, which in source code may be anything."""
    found = _NUMBER.match(text, end)
    if found:
        return found
    found = _DIGITS.match(text, end)
    if found:
        return None if places.in_call(text, start) else found
    found = _NUMBER_QUOTED.match(text, end)
    if not found or text.endswith(found["q"], 0, start) or places.is_source(text, start, found.end("v")):
        return None
    return None if places.in_call(text, start) else found


def _is_path(key: str, value: str) -> bool:
    """Return whether what stands behind a scheme may be the path of a file or of a module, or the name again."""
    return ("." in value and ("/" in value or looks.is_code(value))) or looks.is_its_name(key, value)


def _member(text: str, kind: str, end: int) -> re.Match[str] | None:
    """Return the value of a name in quotes, if it is one as it stands, and no template."""
    found = _MEMBER.match(text, end)
    if found and kind != keys.PASSWORD and ("%" in found["v"] or "$" in found["v"]):
        return None
    return found


def _given(text: str, key: str, kind: str, end: int) -> re.Match[str] | None:
    """Return the value of a name without quotes, with quotes or without."""
    found = _BARE.match(text, end)
    if found:
        return found if _is_given(text, key, kind, found) else None
    found = _QUOTED.match(text, end)
    return found if found and _is_set(text, key, found) else None


def _is_set(text: str, key: str, found: re.Match[str]) -> bool:
    """Return whether a value in quotes is one in any place: no template, no path, no name of something in code."""
    quote, value = found.group("q", "v")
    if "%" in value or "$" in value or "/" in value or ("_" in value and looks.is_snake_case(value)):
        return False
    before = found.start() - len(key)
    return not looks.is_its_name(key, value) and not text.endswith(quote, 0, before)


def _is_given(text: str, key: str, kind: str, found: re.Match[str]) -> bool:
    """Return whether a value without quotes is one in any place: not its name again, and no word that describes it."""
    separator, value = found.group("sep", "v")
    ends_otherwise = "#" in value or text.startswith(";", found.end())
    if ends_otherwise and text[max(0, found.start() - len(key) - 1)] in _IN_QUERY:
        return False
    if looks.is_its_name(key, value) or ("_" in value and looks.is_snake_case(value)):
        return False
    if "." in value and looks.is_code(value):
        return False
    if separator == " = ":
        return not looks.is_named_as(key, value)
    return kind != keys.PASSWORD or separator == "=" or remarks.ELSEWHERE.match(value) is None

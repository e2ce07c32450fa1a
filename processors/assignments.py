"""Secrets that a name gives away: key=value in JSON, YAML, logfmt, SQL, shell, headers, query strings and code.

The rule's regex has matched the name and what stands between name and value; here the value is delimited by the rules of
its quotes, and judged: placeholders, variables and expressions are not secrets.
"""

import re
from typing import Final

from otel_telemetry.processors import keys
from otel_telemetry.processors.validators import Span, entropy

_QUOTE: Final = re.compile(r"(\\{0,15})([\"'`])")
_PLAIN_QUOTED: Final = {
    '"': re.compile(r'(?:[^"\\\n]|\\.){0,8192}+'),
    "'": re.compile(r"(?:[^'\\\n]|\\.){0,8192}+"),
    "`": re.compile(r"(?:[^`\\\n]|\\.){0,8192}+"),
}
_UNQUOTED: Final = re.compile(r"[^\s\"'`<>&;,)}\]\\]{1,4096}+")
_SCHEME: Final = re.compile(r"(?:bearer|basic|token|digest|negotiate|apikey)[ ]+(?=\S)", re.IGNORECASE)
_HEADER_VALUE: Final = re.compile(r"[^\r\n\"'`]{1,8192}+")
_MARKER: Final = re.compile(r"\[REDACTED_[A-Z0-9_]{1,40}\]|\*{4,}[\w@.-]{0,64}")
_PLACEHOLDERS: Final = frozenset(
    [
        "null",
        "none",
        "nil",
        "true",
        "false",
        "undefined",
        "nan",
        "str",
        "string",
        "int",
        "integer",
        "bool",
        "boolean",
        "bytes",
        "float",
        "any",
        "object",
        "number",
        "type",
        "optional",
        "required",
        "changeme",
        "redacted",
        "masked",
        "hidden",
        "removed",
        "omitted",
        "empty",
        "unset",
        "n/a",
        "na",
        "tbd",
        "password",
        "secret",
        "token",
        "key",
        "value",
        "default",
        "unknown",
        "example",
        "todo",
        "self",
        "yes",
        "no",
        "on",
        "off",
    ]
)
_REFERENCE: Final = re.compile(
    r"\$\{?[\w.]|\$\(|\{\{|<[\w -]{1,40}>$|%[sdvq(]|@\w|\*{3,}|x{4,}$|\.{3}|:[A-Za-z_]\w*$|\?$|#\{|\{[\w.!:]*\}$",
    re.IGNORECASE,
)
_CODE: Final = re.compile(r"[A-Za-z_][\w.]*[\[(]|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$|self\.|os\.|process\.env|lambda")
_WORD: Final = re.compile(r"[A-Za-z_]+")


def assignment(text: str, match: re.Match[str]) -> Span | None:
    """Return the value's span and the type that its name tells, or None where it is no secret."""
    kind = keys.classify(match["key"])
    if not kind or match["key"].startswith("REDACTED_"):
        return None
    start = match.end()
    quote = _QUOTE.match(text, start)
    if quote:
        value_start = quote.end()
        end = _closing(text, quote, value_start)
    else:
        value_start = start
        end = _bare_end(text, start, kind, match)
    value = text[value_start:end]
    if not value or _MARKER.match(text, value_start):
        return None
    if not judge(kind, value, quoted=quote is not None, spaced=match["sep"] != "="):
        return None
    return Span(value_start, end, keys.SECRET if kind == keys.WEAK else kind)


def _closing(text: str, quote: re.Match[str], start: int) -> int:
    slashes, mark = quote.groups()
    if slashes:
        end = text.find(slashes + mark, start, start + 8192)
        return end if end >= 0 else min(len(text), start + 8192)
    found = _PLAIN_QUOTED[mark].match(text, start)
    return found.end() if found else start


def _bare_end(text: str, start: int, kind: str, match: re.Match[str]) -> int:
    if kind in (keys.AUTHORIZATION, keys.COOKIE) and ":" in match["sep"]:
        found = _HEADER_VALUE.match(text, start)
        return found.end() if found else start
    scheme = _SCHEME.match(text, start)
    found = _UNQUOTED.match(text, scheme.end() if scheme else start)
    return found.end() if found else start


def judge(kind: str, value: str, *, quoted: bool, spaced: bool) -> bool:
    """Tell whether a value is a secret of its kind rather than a placeholder, a variable or an expression."""
    if value.lower().strip("<>[](){}") in _PLACEHOLDERS or _REFERENCE.match(value):
        return False
    if kind == keys.WEAK:
        return _generic_secret(value)
    if kind in (keys.AUTHORIZATION, keys.COOKIE):
        return len(value) >= 4
    if kind in (keys.USER_ID, keys.SESSION_ID):
        return (quoted or not spaced) and len(value) >= 2 and " " not in value
    if kind == keys.SSN:
        return sum(c.isdigit() for c in value) >= 4
    if quoted:
        return _quoted_secret(kind, value)
    if _CODE.match(value):
        return False
    if kind == keys.PASSWORD:
        return len(value) >= 3 and not (spaced and _WORD.fullmatch(value))
    return len(value) >= 6 and not (_WORD.fullmatch(value) and len(value) < 20) and not value.isdigit()


def _quoted_secret(kind: str, value: str) -> bool:
    if kind == keys.PASSWORD:
        return len(value) >= 3 and value.count(" ") < 4
    return len(value) >= 6 and " " not in value and not value.isdigit()


def _generic_secret(value: str) -> bool:
    if not 16 <= len(value) <= 512 or " " in value or "/" in value[:1]:
        return False
    kinds = any(c.isdigit() for c in value) + any(c.isupper() for c in value) + any(c.islower() for c in value)
    return kinds >= 2 and any(c.isdigit() for c in value) and entropy(value) >= 3.5

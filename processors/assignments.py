"""Secrets that a name gives away: key=value in JSON, YAML, logfmt, SQL, shell, headers, query strings and code.

The rule's regex has matched the name and what stands between name and value; here the value is delimited by the rules
of its quotes, and judged: placeholders, variables and expressions are not secrets.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from otel_telemetry.processors import keys
from otel_telemetry.processors.validators import Span, varied

_COMMAND: Final = 160
_CLIENT: Final = re.compile(r"(?:mysql|mariadb|sshpass|redis-cli)[\w-]{0,20}[^|;&\n]{0,140}$")
#: Words in a passphrase (BIP 39 has 24 at most), less one.
_MAX_WORDS: Final = 24
_MAX_VALUE: Final = 8192
_QUOTE: Final = re.compile(r"(\\{0,15})([\"'`])")
_PLAIN_QUOTED: Final = {
    '"': re.compile(r'(?:[^"\\\n]|\\.){0,8192}+'),
    "'": re.compile(r"(?:[^'\\\n]|\\.){0,8192}+"),
    "`": re.compile(r"(?:[^`\\\n]|\\.){0,8192}+"),
}
_UNQUOTED: Final = re.compile(r"[^\s\"'`<>&;,)}\]\\]{1,4096}+")
_SCHEME: Final = re.compile(r"(?:bearer|basic|token|digest|negotiate|apikey)[ ]+(?=\S)", re.IGNORECASE)
_HEADER_VALUE: Final = re.compile(r"[^\r\n\"'`]{1,8192}+")
_DIGEST_VALUE: Final = re.compile(r"[^\r\n'`]{1,8192}+")
_MARKER: Final = re.compile(r"\[REDACTED_[A-Z0-9_]{1,40}\]|\*{4,}[\w@.-]{0,64}")
_MARKS: Final = ("[", "*")
#: With what may stand around it.
_LONGEST_PLACEHOLDER: Final = 64
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
_NAME: Final = r"(?:[a-z_]+\d?|[A-Z_]+\d?|[a-z]+(?:[A-Z][a-z]+){1,6}|(?:[A-Z][a-z]+){1,6})"
_CODE: Final = re.compile(
    rf"[A-Za-z_][\w.]{{0,80}}+[\[(]|{_NAME}(?:\.{_NAME}){{1,8}}$|self\.|os\.|process\.env|lambda\b"
)
_WORD: Final = re.compile(r"[A-Za-z_]+")
_DIGIT: Final = re.compile(r"\d")
_LETTER: Final = re.compile("[A-Za-z]")
_LETTERS: Final = re.compile(r"(?:[^A-Za-z]*+[A-Za-z]){4}")
_SYMBOL: Final = re.compile(r"[!@#$%^&*+=?~]")
#: Words joined as people write them: test_api_key, my-secret-name, someVariableName.
_HUMPS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NATURAL: Final = re.compile(r"[A-Za-z]{1,40}+(?:[_.\-:/][A-Za-z]{1,40}+){0,20}")
#: Readable joins of words and numbers: us-east-1-backup-2024, v2/users/list.
_WORDS_AND_NUMBERS: Final = re.compile(r"[A-Za-z]{0,20}+\d{0,4}(?:[_.\-/+](?:[A-Za-z]{1,20}+\d{0,3}|\d{1,4})){0,20}")
_SAMPLE: Final = re.compile(
    r"(?:<|\[|\{)?(?:your|my|insert|example|enter|replace|put|some|fake|dummy|sample|placeholder|redacted|change|not[_-])"
    r"[ _-]?[a-z _-]{0,40}[>\]}]?$|filtered|secret[_-]?(?:key|name)$",
    re.IGNORECASE,
)
#: With what those two start; everything else need not be tried.
_REFERENCE_STARTS: Final = frozenset("${<%@*xX.:?#")
_SAMPLE_STARTS: Final = frozenset("<[{yYmMiIeErRpPsSfFdDcCnN\u017f\u0130\u0131")
_AFTER_STRING: Final = re.compile(r"\s{0,8}(?:[:,}\]]|$)")
_PAIR: Final = re.compile(r"[(\[{]\s{0,3}\\{0,3}[\"']$")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def assignment(text: str, match: re.Match[str]) -> Span | None:
    """Return the value's span and the type that its name tells, or None where it is no secret."""
    key = match["key"]
    kind = keys.classify(key)
    if not kind or key.startswith("REDACTED_"):
        return None
    between, key_quote = match["sep"], match["kq"]
    separator = between.strip(" \t\r\n[")
    quote = _QUOTE.match(text, match.end())
    if separator == ">" and text[max(0, match.start() - 1) : match.start()] not in ("<", ":", "/"):
        return None
    if quote and not key_quote and _closes(text, quote, match.start()):
        return None
    if not quote and separator != ">" and "\n" in between:
        return None
    if separator == "," and not (quote and _opens_pair(text, match.start())):
        return None
    start = quote.end() if quote else match.end()
    if kind in (keys.AUTHORIZATION, keys.COOKIE) or (quote and kind == keys.SECRET):
        scheme = _SCHEME.match(text, start)
        start = scheme.end() if scheme else start
    end = _closing(text, quote, start) if quote else _bare_end(text, start, kind, separator, key_quote)
    value = text[start:end]
    if not quote and value[:1] in ("[", "{"):
        return None
    if not value or _is_marked(text, start) or (not quote and _is_its_name(key, value)):
        return None
    form = Form(quoted=quote is not None, spaced=between != "=", separator=separator)
    return (
        Span(start, end, keys.SECRET if kind in (keys.WEAK, keys.VENDOR) else kind)
        if judge(kind, value, form)
        else None
    )


class Form(NamedTuple):
    """How an assignment is written."""

    quoted: bool
    spaced: bool
    separator: str


def _closes(text: str, quote: re.Match[str], key_start: int) -> bool:
    """Tell whether the quote behind `password=` closes a string that ends in it, rather than opening the value."""
    if text.endswith(quote[0], 0, key_start):
        return True
    inside = text.count(quote[0], max(0, key_start - _MAX_VALUE), key_start) % 2 == 1
    return inside and quote[2] == '"' and _AFTER_STRING.match(text, quote.end()) is not None


def _opens_pair(text: str, key_start: int) -> bool:
    """Tell whether a name opens a pair, `("password", "x")`: it is quoted, and a bracket stands before it."""
    before = text[max(0, key_start - 8) : key_start]
    return _PAIR.search(before) is not None


def _closing(text: str, quote: re.Match[str], start: int) -> int:
    slashes, mark = quote.groups()
    if slashes:
        return _escaped_closing(text, len(slashes), mark, start)
    found = _PLAIN_QUOTED[mark].match(text, start)
    return found.end() if found else start


def _escaped_closing(text: str, level: int, mark: str, start: int) -> int:
    """Return where a value ends whose opening quote has `level` backslashes: JSON text inside JSON text.

    There, one backslash of the value takes level + 1 of them. A quote closes the value where an even number of the
    value's own backslashes stand before its escape; one with fewer backslashes closes what the value stands in.
    """
    limit = min(len(text), start + _MAX_VALUE)
    at = text.find(mark, start, limit)
    while at >= 0:
        before = at
        while before > start and text[before - 1] == "\\":
            before -= 1
        run = at - before
        if run < level:
            return before
        if (run - level) % (2 * (level + 1)) == 0:
            return at - level
        at = text.find(mark, at + 1, limit)
    return limit


def _bare_end(text: str, start: int, kind: str, separator: str, key_quote: str | None) -> int:
    header = kind in (keys.AUTHORIZATION, keys.COOKIE) and separator == ":" and not key_quote
    pattern = _HEADER_VALUE if header else _UNQUOTED
    if header and text[start - 7 : start - 1].lower() == "digest":
        pattern = _DIGEST_VALUE
    found = pattern.match(text, start)
    return found.end() if found else start


def judge(kind: str, value: str, form: Form) -> bool:
    """Tell whether a value is a secret of its kind rather than a placeholder, a variable or an expression."""
    if _is_placeholder(value) or _is_reference(value) or _is_sample(value):
        return False
    if form.separator in (",", "==", "!=") and not (len(value) >= 8 and _DIGIT.search(value)):
        return False
    if not form.quoted and (_CODE.match(value) or (form.spaced and form.separator != ":" and _WORD.fullmatch(value))):
        return False
    return _JUDGES.get(kind, _secret)(value, form)


def _is_marked(text: str, start: int = 0) -> bool:
    """Tell whether a marker or mask of ours begins here."""
    return text[start : start + 1] in _MARKS and _MARKER.match(text, start) is not None


def _is_its_name(key: str, value: str) -> bool:
    return len(value) <= len(key) and key.lower().endswith(value.lower())


def _is_placeholder(value: str) -> bool:
    return len(value) <= _LONGEST_PLACEHOLDER and value.lower().strip("<>[](){}*.-_ ") in _PLACEHOLDERS


def _is_reference(value: str) -> bool:
    return value[:1] in _REFERENCE_STARTS and _REFERENCE.match(value) is not None


def _is_sample(value: str) -> bool:
    return value[:1] in _SAMPLE_STARTS and _SAMPLE.match(value) is not None


def keyword_token(text: str, match: re.Match[str]) -> Span | None:
    """Accept a random-looking value right behind a word such as secret or token, with next to nothing between them."""
    start, end = match.span("v")
    while text[end - 1] in ".-_":
        end -= 1
    value, last = text[start:end], match["key"].lower()
    owner = keys.classify(match["key"].replace(" ", "_"))
    if not owner and last in ("access", "private") and not match["key"].isupper():
        return None
    if len(value) < 16 or (not owner and last.endswith(("key", "token"))) or _is_ordinary(value):
        return None
    if _NATURAL.fullmatch(value) or not _DIGIT.search(value) or not varied(value, 2.8) or _is_sample(value):
        return None
    return Span(start, end) if _LETTERS.match(value) and _WORDS_AND_NUMBERS.fullmatch(value) is None else None


def _is_ordinary(value: str) -> bool:
    return value.startswith(("http", "arn:", "sha256")) or "//" in value


def login_and_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept `login:password` as a command takes it, if the password is no variable, placeholder or number."""
    del text
    value = match["v"].partition(":")[2].rstrip("]>")
    if _is_reference(value) or value.isdigit() or value.lower() in _PLACEHOLDERS or _is_marked(value):
        return None
    return Span(match.start("v"), match.end("v"))


def flag(text: str, match: re.Match[str]) -> Span | None:
    """Accept the value of a command-line option whose name says that it is secret."""
    del text
    kind, value = keys.classify(match["key"]), match["v"]
    form = Form(quoted=match["q"] != "", spaced=False, separator=" ")
    if kind in ("", keys.WEAK, keys.VENDOR) or not judge(kind, value, form) or _is_marked(value):
        return None
    return Span(match.start("v"), match.end("v"), kind)


def client_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept `-pPASSWORD` and the like of the database clients that take it."""
    before = text[max(0, match.start() - _COMMAND) : match.start()]
    client = _CLIENT.search(before)
    if client is None or (match[0][3:4] == " ") == client[0].startswith(("mysql", "maria")):
        return None
    return plain_password(text, match)


def plain_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept what stands where a password stands, if it is no variable or placeholder."""
    start, end = (match.start("v"), match.end("v")) if match["v"] else (match.end() - 1, match.end() - 1)
    if start == end:
        start = text.index('"', match.start()) + 1
    value = text[start:end]
    if _is_reference(value) or value.lower() in _PLACEHOLDERS or _is_marked(value) or _WORD.fullmatch(value):
        return None
    return Span(start, end)


def mixed_password(text: str, match: re.Match[str]) -> Span | None:
    """Accept a word behind `password` in a sentence only if it mixes letters and digits as no plain word does."""
    end = match.end("v")
    while text[end - 1] in ".?!" and end - match.start("v") > 6:
        end -= 1
    value = text[match.start("v") : end]
    digits = sum(char.isdigit() for char in value)
    if not digits or digits == len(value) or _is_marked(value) or _is_reference(value) or "/" in value:
        return None
    return Span(match.start("v"), end)


def _password(value: str, form: Form) -> bool:
    if form.quoted:
        return len(value) >= 3 and value.count(" ") < _MAX_WORDS
    return len(value) >= 3 and not (form.spaced and _WORD.fullmatch(value))


def _secret(value: str, form: Form) -> bool:
    if len(value) < 6 or " " in value or (value.isdigit() and len(value) < 15):
        return False
    if _DIGIT.search(value):
        return True
    if _SYMBOL.search(value) and form.quoted:
        return len(value) >= 8
    if len(value) >= 12 and form.quoted and len(value) < 3 * len(_HUMPS.findall(value)):
        return True
    return len(value) >= 16 and varied(value, 3.4) and not _NATURAL.fullmatch(value)


def _header(value: str, form: Form) -> bool:
    del form
    return len(value) >= 4 and not _WORD.fullmatch(value)


def _person(value: str, form: Form) -> bool:
    """Accept the id of a user or session; a bare UUID tells nothing about anybody and stays."""
    if not (form.quoted or not form.spaced) or len(value) < 2 or " " in value or _UUID.fullmatch(value):
        return False
    return form.quoted or _DIGIT.search(value) is not None


def _social_security(value: str, form: Form) -> bool:
    del form
    return sum(c.isdigit() for c in value) >= 4


def _generic_secret(value: str, form: Form) -> bool:
    """Accept what a vague name such as `cache_key` holds only where it looks drawn at random."""
    if (
        not 16 <= len(value) <= 512
        or " " in value
        or value[:1] == "/"
        or _UUID.fullmatch(value)
        or form.separator == ","
    ):
        return False
    mixed = _LETTER.search(value) is not None and _DIGIT.search(value) is not None
    return mixed and varied(value, 3.0 if len(value) >= 32 else 3.5)


def _vendor_key(value: str, form: Form) -> bool:
    """Accept what a vendor's key such as `acme_key` holds; in a code listing only between quotes."""
    if not form.quoted and form.separator not in ("=", ":", ":=", "=>"):
        return False
    if not 16 <= len(value) <= 512 or not _DIGIT.search(value) or not re.fullmatch(r"[\w+/=.~-]+", value):
        return False
    return varied(value, 2.8) and not _WORDS_AND_NUMBERS.fullmatch(value) and not value.replace(".", "").isdigit()


_JUDGES: Final[Mapping[str, Callable[[str, Form], bool]]] = {
    keys.PASSWORD: _password,
    keys.AUTHORIZATION: _header,
    keys.COOKIE: _header,
    keys.USER_ID: _person,
    keys.SESSION_ID: _person,
    keys.SSN: _social_security,
    keys.WEAK: _generic_secret,
    keys.VENDOR: _vendor_key,
}

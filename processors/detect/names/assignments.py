"""Secrets that a name gives away: key=value in JSON, YAML, logfmt, SQL, shell, headers, query strings and code.

The rule's regex has matched a name; here it is classified, what stands between it and its value is read, the value is
delimited by the rules of its quotes, and the place decides (places.py): in data a strong name is enough; a weak one, or
one in source code or in a sentence, needs a value that looks like a secret (looks.py).
"""

import re
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span
from otel_telemetry.processors.detect.names import (
    bracketed,
    commands,
    described,
    keys,
    looks,
    no_values,
    places,
    quotes,
    remarks,
    separators,
)
from otel_telemetry.processors.detect.names.looks import Form
from otel_telemetry.processors.detect.names.plain_values import plain_value
from otel_telemetry.processors.detect.names.quotes import Quote
from otel_telemetry.processors.detect.text.letters import is_drawn

_UNQUOTED: Final = re.compile(r"[^\s\"'`<>&;,)}\]\\|]{1,4096}+")
_QUERY_VALUE: Final = re.compile(r"[^\s\"'`<>&\\#]{1,4096}+")
_HEADER_VALUE: Final = re.compile(r"[^\r\n\"'`]{1,8192}+")
_DIGEST_VALUE: Final = re.compile(r"[^\r\n'`]{1,8192}+")
#: The one pair that matters in Set-Cookie; its attributes (`Path`, `HttpOnly`) are nobody's.
_SET_COOKIE: Final = re.compile(r"[\w!#$%&*+.^|~-]{1,128}=(?P<v>[^;\r\n\"'`]{1,8192}+)")
_COOKIE_PAIR: Final = re.compile(r"[\w!#$%&*+.^|~-]{1,128}=")
_AFTER_STRING: Final = re.compile(r"\s{0,8}(?:[:,}\]]|$)")
_PAIR_ENDS: Final = re.compile(r"\\{0,15}[\"']\s{0,3}[)\]}]")
_LITERAL: Final = re.compile(r"-?\d[\d.eE+-]*")
#: A value of letters, digits and signs, alone on the line below its name.
_ALONE: Final = re.compile(r"(?=[^\s]{0,60}\d)(?=[^\s]{0,60}[A-Za-z])[^\s:=({<>]{6,128}(?=[ \t]*(?:$|[\r\n]))")
#: Schemes whose credentials have parts.
_PARTED: Final = re.compile(r"(?i:digest|aws4-hmac-sha256|oauth|signature|hawk|mac|google4-rsa-sha256) ")
_LINE_END: Final = re.compile(r"[ \t]*(?:$|[\r\n])")
_PERSON_VALUE: Final = re.compile(r"[^\r\n,;|&\"'<>={}\[\]()]{2,64}")
_EMAIL_VALUE: Final = re.compile(r"[^\s\"'`<>,;&|\\]{1,320}+")
#: Values that have spaces or brackets in them, written without quotes.
_VALUES: Final = {
    keys.EMAIL: _EMAIL_VALUE,
    **dict.fromkeys((keys.SSN, keys.CREDIT_CARD), re.compile(r"\d(?:[ .-]?\d){2,20}+|" + _UNQUOTED.pattern)),
}
_BEFORE_QUERY: Final = ("?", "&", "-")
_COMPARED: Final = ("==", "===", "!=", "!==")
#: What stands before a value that is taken where there is none: `process.env.PASSWORD || "x"`.
_INSTEAD: Final = ("||", "??")
#: Behind an item of a list, the next one; and what a value becomes.
_NEXT_ITEM: Final = re.compile(
    r"(?P<m>\\{0,15}[\"'])\s{0,8},\s{0,8}(?P=m)(?P<v>[^\"'\\\r\n]{3,400})(?=(?P=m)\s{0,8}[,\])])"
)
_BECOMES: Final = re.compile(r"(?P<m>\\{0,15}\") -> (?P=m)(?P<v>[^\"\\\r\n]{3,400})(?=(?P=m))")
#: Where something is pinned to.
_POSITION: Final = re.compile(
    r"(?:top|bottom|left|right|cent(?:er|re)|start|end|middle|none|both)(?:-(?:left|right|cent(?:er|re)|start|end))?"
)
_MOST_ITEMS: Final = 50
#: Before the first text of one of several pairs: `[('a', 'b'), ('password', 'x')]`, `VALUES ('password', 'x')`.
_AMONG_PAIRS: Final = re.compile(r"(?:[\[({]|\),|(?i:values))\s{0,8}\(\s{0,3}[bru]?\\{0,15}[\"']$")
_CLOSES_TUPLE: Final = re.compile(r"\\{0,15}[\"']\}")
#: Before a name among pairs with arrows: `Map(user -> jane, password -> x)`.
_ARROWS: Final = re.compile(r"[(,{\[] ?[\w.-]{1,40} -> [^\s,;(){}]{1,80}, $|(?:Map|\{)\($")
_ARROW_REACH: Final = 160
#: What a value looks like is decided by so many characters of it: more than any rule for looks allows.
_LOOKED_AT: Final = 600
_HEADERS: Final = frozenset({keys.AUTHORIZATION, keys.COOKIE})
_IDS: Final = frozenset({keys.USER_ID, keys.SESSION_ID})
#: Behind an option of a command: a word, or a text in quotes.
_OPTION_VALUE: Final = re.compile(
    r" {1,4}(?P<q>\\{0,15}[\"']|)(?P<v>(?<=[\"'])[^\"'\\\r\n]{3,200}|[^\s\"'-][^\s\"'\\]{2,200})"
)
#: The values of a header as Go prints them: `Authorization:[Bearer x]`.
_LISTED: Final = re.compile(r"\[(?i:(?:bearer|basic|token|digest) )?(?P<v>[^\[\]\r\n\"']{3,8192})\]")
_QUOTED_MARKER: Final = ('"[', "'[")
_PASSPHRASE: Final = 3
_PASSWORD_OF_WORDS: Final = 4


def assignment(text: str, match: re.Match[str]) -> Span | None:
    """Return the value's span and the type that its name gives, or None if it is no secret."""
    key = match["key"]
    kind = keys.classify(key)
    if not kind or key.startswith("REDACTED_"):
        return None
    name = match.span("key")
    if kind in no_values.TOO_LITTLE and no_values.TOO_LITTLE[kind].match(text, name[1]):
        return None
    if key[0] != "-" and (plain := plain_value(text, key, kind, name[1])):
        return plain
    found = None
    if not no_values.follow(text, key, kind, name):
        found = separators.ASSIGNED.match(text, separators.behind_visibility(text, name[1]))
    if found and _is_redacted(text, found.end()):
        found = None
    span = _Assignment(text, key, kind, name, found).span() if found else None
    if key[0] == "-" and (value := _OPTION_VALUE.match(text, name[1])):
        return commands.option(key, value)
    if span is None and (kind not in keys.WEAK_KINDS or text[name[0] - 1 : name[0]] in ("<", '"')):
        place = described.value_of(text, name)
        span = place and _accepted(text, key, kind, place)
    return span


def _is_redacted(text: str, at: int) -> bool:
    """Return whether a marker in quotes stands here, as it does behind most names in a second scan."""
    return text.startswith(_QUOTED_MARKER, at) and looks.is_marked(text, at + 1)


def _accepted(text: str, key: str, kind: str, place: tuple[int, int]) -> Span | None:
    """Accept the value of a member or tag that names it: `{"name": "password", "value": ...}`, `<password>`."""
    value = text[place[0] : place[1]]
    quoted = text[place[0] - 1 : place[0]] in ('"', "'", ">", "\n")
    wrong = looks.stands_in(value) or looks.is_marked(value) or looks.is_its_name(key, value)
    wrong = wrong or (not quoted and looks.is_code(value))
    if kind in keys.WEAK_KINDS:
        weak = looks.weak(kind, value, Form(quoted=True, spaced=False, separator=":")) and not wrong
        return Span(*place, keys.found_as(key)) if weak else None
    return Span(*place, kind) if looks.strong(kind, value) and not wrong else None


class _Assignment:
    """One name with a separator behind it, on its way to a verdict."""

    def __init__(self, text: str, key: str, kind: str, name: tuple[int, int], found: re.Match[str]) -> None:
        self._text, self._key, self._kind, self._name = text, key, kind, name
        self._key_quote, self._between = found.group("kq", "sep")
        if found.start() > name[1] and text[name[1]] == '"':  # what PHP prints stands between the quote and the sign
            self._key_quote = '"'
        self._separator = self._between.strip(" \t\r\n[")
        start = separators.behind_wrapping(text, found.end(), self._separator)
        self._quote = quotes.opening(text, start)
        self._start = self._quote.end if self._quote else start
        self._end = self._start
        self._schemed = False
        self._listed = self._between.endswith(("[", "("))

    def span(self) -> Span | None:
        """Return what is to go."""
        if not self._is_written():
            return None
        self._delimit()
        value = self._text[self._start : self._end]
        if not value or looks.is_marked(self._text, self._start) or looks.stands_in(value):
            return None
        if not self._quote and value[0] in "[{":
            plain = self._between == "=" and not self._key_quote and self._kind not in keys.WEAK_KINDS
            return bracketed.value(self._text, self._start, self._key, self._kind, self._name[0]) if plain else None
        if not self._quote and looks.is_its_name(self._key, value):
            return None
        if self._kind in _IDS and looks.is_uuid(value):  # tells nothing about anybody where it stands alone
            return None
        if self._is_something_else(value):
            return None
        if not self._decides(value[:_LOOKED_AT]):
            return None
        kind = keys.found_as(self._key) if self._kind in keys.WEAK_KINDS else self._kind
        return Span(self._start, self._end, kind, self._further(kind))

    def _is_something_else(self, value: str) -> bool:
        """Return whether a value is where something is pinned, the file of credentials, or the next key of a Go map."""
        name = self._key.lower()
        if name.endswith("pin"):
            return _POSITION.fullmatch(value) is not None
        if name.endswith(("credential", "credentials")):
            return looks.is_file(value)
        return value[-1] == ":" and not self._quote and value[:-1].isidentifier() and not is_drawn(value[:-1])

    @property
    def _form(self) -> Form:
        """How the assignment is written."""
        return Form(self._quote is not None, self._between != "=", self._separator)

    def _further(self, kind: str) -> tuple[Span, ...]:
        """Return the further texts: of a list, `"passwords": ["x", "y"]`, or what a value becomes in Terraform."""
        spans: list[Span] = []
        if self._quote and (later := _BECOMES.match(self._text, self._end)):
            return (Span(*later.span("v"), kind),)
        if not self._listed:
            return ()
        at = self._end
        while len(spans) < _MOST_ITEMS and (item := _NEXT_ITEM.match(self._text, at)):
            spans.append(Span(*item.span("v"), kind))
            at = item.end("v")
        return tuple(spans)

    def _is_written(self) -> bool:
        """Return whether name, separator and quotes make an assignment at all."""
        text, start = self._text, self._name[0]
        if self._quote and not self._key_quote and _closes(text, self._quote, start):
            return False
        if not self._quote and "\n" in self._between:
            return self._separator == ":" and _ALONE.match(text, self._start) is not None
        return self._separator != "," or (self._quote is not None and self._opens_pair())

    def _opens_pair(self) -> bool:
        """Return whether the name opens a pair, `("password", "x")`, or is an option among the words of a command."""
        start = self._name[0]
        if self._key.startswith("--") or (self._text[start - 1 : start] == "{" and not self._key_quote):
            return True
        return no_values.PAIR.search(self._text, max(0, start - 24), start) is not None

    def _delimit(self) -> None:
        text, start = self._text, self._start
        if self._kind in _HEADERS or (self._quote and self._kind in (keys.SECRET, keys.API_KEY)):
            scheme = separators.scheme(text, start, any_scheme=self._kind in _HEADERS)
            start = scheme.end() if scheme else start
            self._schemed = scheme is not None
        if self._kind == keys.COOKIE and keys.sets_cookie(self._key) and (pair := _SET_COOKIE.match(text, start)):
            self._start, self._end = pair.span("v")
            return
        if self._kind in _HEADERS and not self._quote and (inside := _LISTED.match(text, start)):
            self._start, self._end = inside.span("v")
            return
        self._start = start
        self._end = quotes.closing(text, self._quote) if self._quote else self._bare_end(start)

    def _bare_end(self, start: int) -> int:
        text = self._text
        pattern = _UNQUOTED
        if text[max(0, self._name[0] - 1) : self._name[0]] in ("?", "&") and self._separator == "=":
            pattern = _QUERY_VALUE
        elif self._separator == ":" and not self._key_quote:
            if self._kind in _HEADERS:
                parted = _PARTED.search(text, max(0, start - 20), start) or _PARTED.match(text, start)
                pattern = _DIGEST_VALUE if parted else _HEADER_VALUE
            elif self._kind == keys.PERSON:
                pattern = _PERSON_VALUE
        pattern = _VALUES.get(self._kind, pattern)
        found = pattern.match(text, start)
        return found.end() if found else start

    def _decides(self, value: str) -> bool:
        kind, quoted = self._kind, self._quote is not None
        if kind in keys.WEAK_KINDS:
            if self._separator in (",", *_COMPARED) and not (quoted and looks.is_token(value)):
                return False
            return (quoted or not looks.is_code(value)) and looks.weak(kind, value, self._form)
        if self._separator in _COMPARED or self._separator in _INSTEAD:
            return quoted and self._is_compared_with(value)
        if quoted:
            return self._decides_quoted(value)
        if self._key_quote:
            return bool(_LITERAL.fullmatch(value)) and keys.gives_numbers(self._key) and looks.strong(kind, value)
        return self._decides_bare(value)

    def _is_compared_with(self, value: str) -> bool:
        """Return whether code compares a secret with this text, or takes it where there is none: no kind, no state."""
        chosen = self._kind == keys.PASSWORD or not looks.WORD.fullmatch(value)
        return looks.weak(keys.LIKELY, value, self._form) or (chosen and looks.is_literal(self._kind, value))

    def _decides_quoted(self, value: str) -> bool:
        text, (start, _) = self._text, self._name
        if self._separator == ",":
            return self._decides_pair(value)
        if self._key_quote and self._key_quote[-1] != "`":
            filled_in = self._kind != keys.PASSWORD and looks.is_template(value)
            return looks.strong(self._kind, value) and not filled_in
        if looks.is_its_name(self._key, value) or looks.is_template(value):
            return False
        if places.is_source(text, start, self._end) or places.in_call(text, start):
            return self._looks_like_it(value) or looks.is_literal(self._kind, value)
        return looks.strong(self._kind, value)

    def _decides_pair(self, value: str) -> bool:
        """A pair of quoted texts is an option and its value, a header, or two of a list of names."""
        if value[0] == "-" or keys.classify(value) or looks.is_template(value):
            return False
        in_tuple = not self._key_quote and _CLOSES_TUPLE.match(self._text, self._end) is not None
        if self._key.startswith("--") or in_tuple:
            return looks.strong(self._kind, value)
        header = self._kind in (keys.AUTHORIZATION, keys.COOKIE, keys.API_KEY) and not looks.WORD.fullmatch(value)
        in_bytes = self._text[self._name[0] - 2 : self._name[0] - 1] == "b"  # as servers keep their headers
        header = header or self._schemed or in_bytes
        if self._kind == keys.COOKIE and "=" not in value and not in_bytes:
            return False
        if header and _PAIR_ENDS.match(self._text, self._end):
            return looks.strong(self._kind, value)
        start = self._name[0]
        paired = _PAIR_ENDS.match(self._text, self._end) and _AMONG_PAIRS.search(self._text, max(0, start - 24), start)
        if (paired or places.is_set_by_call(self._text, start)) and looks.is_literal(self._kind, value):
            return True
        return self._looks_like_it(value)

    def _decides_bare(self, value: str) -> bool:
        text, (start, _) = self._text, self._name
        option = text[max(0, start - 1) : start] in _BEFORE_QUERY or self._key.startswith("-")
        dotted = not option and self._kind not in looks.PERSONAL
        if self._kind != keys.EMAIL and looks.is_code(value, dotted=dotted):
            return False
        if self._separator == ":":
            return self._decides_behind_colon(value)
        if self._is_alone_on_line() or self._is_behind_arrow(value):
            return looks.strong(self._kind, value) and (self._separator != "" or self._looks_like_it(value))
        if self._separator == "=>" and text[start - 1 : start] == "[":
            return looks.strong(self._kind, value)
        if self._separator == "=>" and places.in_pairs(text, start, self._end):
            return looks.strong(self._kind, value) and not looks.is_named_as(self._key, value)
        if self._between != self._separator and not self._is_placed():
            return (not looks.WORD.fullmatch(value) or is_drawn(value)) and self._looks_like_it(value)
        if self._between != self._separator and looks.is_named_as(self._key, value):
            return False
        if not option and places.in_call(text, start) and not places.in_string_of_call(text, start):
            printed = (
                looks.strong(self._kind, value) and not looks.is_named_as(self._key, value) and looks.is_word(value)
            )
            return self._looks_like_it(value) or (printed and places.in_printed_object(text, start, self._end))
        return looks.strong(self._kind, value)

    def _is_alone_on_line(self) -> bool:
        """Return whether a line is a name and a value of LDIF in base64 (RFC 2849), or two columns behind a tab."""
        text, start = self._text, self._name[0]
        if self._separator not in ("::", ""):
            return False
        return places.starts_line(text, start) and _LINE_END.match(text, self._end) is not None

    def _is_behind_arrow(self, value: str) -> bool:
        """Return whether a value is one of several behind arrows, as Scala prints its maps."""
        if self._separator != "->" or looks.is_named_as(self._key, value):
            return False
        start = self._name[0]
        return _ARROWS.search(self._text, max(0, start - _ARROW_REACH), start) is not None

    def _is_placed(self) -> bool:
        """Return whether an assignment with spaces is one of a file of settings, or of a row of such."""
        text, start, end = self._text, self._name[0], self._end
        if self._separator in (":=", "?="):
            return self._key.isupper() and places.starts_line(text, start)
        return (
            places.in_section(text, start)
            or places.in_record(text, start, end)
            or places.in_pairs(text, start, end)
            or places.is_setting(text, start, end)
        )

    def _decides_behind_colon(self, value: str) -> bool:
        """Return whether it is a header, a line of YAML or of a log, and not a sentence or a declared type."""
        text, end = self._text, self._end
        if self._kind in _HEADERS:
            return self._decides_header(value)
        if self._is_option():
            return looks.strong(self._kind, value)
        if not places.is_complete(text, end, spaced=self._between != ":"):
            return self._is_passphrase() or self._looks_like_it(value)
        if looks.is_class(value) or (self._kind == keys.PASSWORD and remarks.ELSEWHERE.match(value)):
            return False
        spaced = self._between[-1:].isspace()
        if spaced and text[end : end + 1] in (",", ")") and places.in_call(text, self._name[0]):
            return self._looks_like_it(value)
        return looks.strong(self._kind, value)

    def _decides_header(self, value: str) -> bool:
        """A header has one token behind its scheme, or cookies; a sentence has words."""
        first = value.split(maxsplit=1)[0] if value.strip() else ""
        if self._kind == keys.COOKIE and _COOKIE_PAIR.match(value):
            return True
        if _PARTED.match(value) or "=" in first.rstrip("="):  # the parts of a digest or of a signature
            return looks.strong(self._kind, value) and not places.in_call(self._text, self._name[0])
        self._end = self._start + len(first)
        if self._is_option() and not looks.stands_in(first):
            return looks.strong(self._kind, first) and not places.is_prose_word(first)
        spaced = self._between != ":"
        alone = _LINE_END.match(self._text, self._end) or places.is_complete(self._text, self._end, spaced=spaced)
        if alone and not looks.is_class(first) and not looks.stands_in(first):
            return looks.strong(self._kind, first)
        return looks.weak(keys.LIKELY, first, self._form)

    def _is_option(self) -> bool:
        """Return whether the header stands behind an option of a command: `-H Authorization: ...`."""
        start = self._name[0]
        return self._key.startswith("-H") or places.is_header_option(self._text, start)

    def _is_passphrase(self) -> bool:
        """Take the whole line where it is a row of words that make no sentence."""
        phrase = self._key.lower().endswith(("phrase", "mnemonic"))
        if self._kind != keys.PASSWORD and not phrase:
            return False
        if not phrase and not places.starts_line(self._text, self._name[0]):
            return False
        end = places.passphrase_end(self._text, self._start, _PASSPHRASE if phrase else _PASSWORD_OF_WORDS)
        self._end = end or self._end
        return end > 0

    def _looks_like_it(self, value: str) -> bool:
        if looks.is_snake_case(value):
            return False
        kind = self._kind if self._kind in (keys.EMAIL, keys.PERSON) else keys.LIKELY
        return looks.weak(kind, value, self._form)


def _closes(text: str, quote: Quote, key_start: int) -> bool:
    """Return whether the quote behind `password=` closes a string that ends in it, rather than opening the value."""
    if text.endswith(quote.mark, 0, key_start):
        return True
    inside = text.count(quote.mark, max(0, key_start - quotes.MAX_VALUE), key_start) % 2 == 1
    return inside and quote.mark[-1] == '"' and _AFTER_STRING.match(text, quote.end) is not None

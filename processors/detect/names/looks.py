"""Classifies a value by its look: a placeholder, a variable, an expression, an ordinary word, or something invented.

Under a strong name this separates real values from placeholders; under a weak name it decides whether the value counts.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from otel_telemetry.processors.detect.kinds.validators import varied
from otel_telemetry.processors.detect.names import keys, remarks
from otel_telemetry.processors.detect.text.letters import is_drawn

#: Words in a passphrase (BIP 39 has 24 at most), less one.
_MAX_WORDS: Final = 24
_SHORTEST: Final = 3
_MARKER: Final = re.compile(r"\[REDACTED_[A-Z0-9_]{1,40}\]|\*{4,}[\w@.-]{0,64}")
_MARKS: Final = ("[", "*")
#: With what may stand around it.
_LONGEST_PLACEHOLDER: Final = 64
#: What is written where a value is meant: types, examples, and what is said of a value instead of it.
PLACEHOLDERS: Final = frozenset(
    "null none nil true false undefined nan str string int integer bool boolean bytes float any object number type"
    " optional required changeme redacted masked hidden removed omitted empty unset n/a na tbd password secret token"
    " key value default unknown example todo self yes no on off text varchar char secretstr uuid char(255) incorrect"
    " invalid wrong missing expired changed updated disabled enabled forgotten rejected accepted failed ok provided"
    " present absent denied protected encrypted hashed generated prompt ask file env stdin filtered secure sensitive"
    " same-origin include username user passwd pwd pass pw credentials email bearer basic digest oauth"
    " negotiate inherit oauth1 oauth2 saml2".split()
)
_REFERENCE: Final = re.compile(
    r"\$\{?[\w.]|\$\(|\{\{|<[\w -]{1,40}>$|%[sdvq(]|@\w|\*{3,}|x{3,}$|\.{3}|:[A-Za-z_]\w*$|\?$|#\{|\{[\w.!:]*\}$",
    re.IGNORECASE,
)
_NAME: Final = r"(?:[a-z_]+\d?|[A-Z_]+\d?|[a-z]+(?:[A-Z][a-z]+){1,6}|(?:[A-Z][a-z]+){1,6})"
_CALL: Final = re.compile(r"[A-Za-z_][\w.]{0,80}+[\[(]|self\.|os\.|process\.env|lambda\b")
_DOTTED: Final = re.compile(rf"{_NAME}(?:\.{_NAME}){{1,8}}$")
WORD: Final = re.compile(r"[A-Za-z_]+")
#: The name of a class, which stands behind a colon where types are declared: HTTPBasicCredentials, SecretStr.
_CLASS: Final = re.compile(r"[A-Z]{0,8}(?:[A-Z][a-z]{2,20}){2,6}")
_HUMP: Final = re.compile(r"[A-Z][a-z]+")
_VOWEL: Final = re.compile(r"[AEIOUYaeiouy]")
#: What is chosen by people, and stands in source code as a word.
_CHOSEN: Final = frozenset({keys.PASSWORD, keys.SECRET, keys.API_KEY})
_SHORTEST_LITERAL: Final = 5
#: A word, or words joined by dashes or dots as in `moonlit-sunflower`.
_LITERAL: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z][A-Za-z]*[a-z][A-Za-z]*|[a-z]+(?:[.-][a-z]+){1,5}")
#: Words that say what a text of source code is for.
_OF_CODE: Final = re.compile(
    r"(?i)passw|passphrase|passwd|pwd|secret|token|key|user|name|login|field|input|label|hash|auth|cred|text|type|value|form"
    r"|config|setting|param|option|error|valid|default|none|null|true|false|string|bytes|random|salt|crypt|env|test|fake|mock"
    r"|dummy|example|sample|session|cookie|header|bearer|basic|query|body|hidden|visible|change|reset|new|old|empty|plain|clear"
    r"|require|code|data|\.(?:com|org|net|io|json|ya?ml|txt|py|js|ini|conf|pem|crt)$"
)
_LONG_REST: Final = 8
_SHORT_PART: Final = 4
#: What is left of words of code beside the short ones: `apikey`, `userpass`, `adminuser`.
_AFFIXES: Final = frozenset(
    " s es ed er ing id ids no my your the some any foo bar is has get set to in on for with pass pw db sql api app"
    " admin root ssl tls ssh rsa aes jwt hmac sha md sso oauth aws gcp git github http url uri file path access private"
    " public client server service system web site page id uuid guid".split(" ")
)
_BETWEEN_STRINGS: Final = re.compile(r"\s*[%+,;)\]}](?:\s|$)")
_TEMPLATE: Final = re.compile(r"%[sdr]|%\(\w|\{\}|\{[A-Za-z_][\w.\[\]()'\"]{0,60}\}|\$\{|\{\{|<%")
_LONG_REST_OF_TEMPLATE: Final = 20
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*")
_DIGIT: Final = re.compile(r"\d")
_COLOUR: Final = re.compile(r"#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")
#: What a value is called in source code, whatever it is; and the last word of a name.
_VARIABLES: Final = frozenset(
    "data x input args settings row field config arg opts params y other result param".split()
)
_NAME_END: Final = re.compile(r"[A-Za-z][a-z]{2,}$|[A-Z]{3,}$")
_LETTER: Final = re.compile("[A-Za-z]")
_LETTERS: Final = re.compile(r"(?:[^A-Za-z]*+[A-Za-z]){4}")
_SYMBOL: Final = re.compile(r"[!@#$%^&*+=?~]")
#: Words joined as people write them: test_api_key, my-secret-name, someVariableName.
_HUMPS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
#: What tests write for a key: `testkey`, `fake_api_key`.
_TRIAL: Final = re.compile(
    r"(?i)(?:test|fake|dummy|mock|sample|example|demo|my|your|foo|bar|some|any|placeholder)"
    r"(?:[ _-]?(?:api|access|secret|client|auth|app|user|service|refresh|id|key|token|secret|value)s?){0,4}\d?"
)
MADE: Final = frozenset({keys.API_KEY, keys.SECRET})
_NATURAL: Final = re.compile(r"[A-Za-z]{1,40}+(?:[_.\-:/][A-Za-z]{1,40}+){0,20}")
#: Readable joins of words and numbers: us-east-1-backup-2024, v2/users/list.
WORDS_AND_NUMBERS: Final = re.compile(r"[A-Za-z]{0,20}+\d{0,4}(?:[_.\-/+](?:[A-Za-z]{1,20}+\d{0,3}|\d{1,4})){0,20}")
_FILE: Final = re.compile(r"(?:~|\.{1,2})?/[\w./-]+|[\w./-]*/[\w.-]+\.[a-z0-9]{2,4}")
#: Examples: your-api-key, mypassword, <insert token>. Joined letters are one only where all of them are such words.
_SAMPLE: Final = re.compile(
    r"(?:<|\[|\{)?(?:your|my|insert|example|enter|replace|put|some|fake|dummy|sample|placeholder|redacted|change|not[_-])"
    r"(?:[ _-][a-z _-]{0,40}|(?:api|access|secret|client|auth|app|user|service|refresh|id|key|token|password|passwd"
    r"|pass|value|name|here|with|the|your|own|this|that|me|it|in|real|actual|string|text|goes|db|login|s){0,6})[>\]}]?$"
    r"|filtered|secret[_-]?(?:key|name)$",
    re.IGNORECASE,
)
#: With what these start; everything else need not be tried.
_REFERENCE_STARTS: Final = frozenset("${<%@*xX.:?#")
_SAMPLE_STARTS: Final = frozenset("yo my in ex en re pu so fa du sa pl ch no fi se".split())
_SAMPLE_OPENS: Final = frozenset("<[{")
_TRIAL_STARTS: Final = frozenset("te fa du mo sa ex de my yo fo ba so an pl".split())
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_UUID_LENGTH: Final = 36
_AT: Final = re.compile(r"[(\[{ ]at[)\]} ]", re.IGNORECASE)


class Form(NamedTuple):
    """How an assignment is written."""

    quoted: bool
    spaced: bool
    separator: str


def is_marked(text: str, start: int = 0) -> bool:
    """Return whether a marker or mask of ours begins here."""
    return text[start : start + 1] in _MARKS and _MARKER.match(text, start) is not None


def is_placeholder(value: str) -> bool:
    """Return whether a value is a word that is written where a value is meant."""
    if len(value) > _LONGEST_PLACEHOLDER:
        return False
    word = value.partition("|")[0]  # rules of a form: `required|min:8`
    return word.lower().strip("<>[](){}*.-_ ") in PLACEHOLDERS


def is_reference(value: str) -> bool:
    """Return whether a value is a variable or a template."""
    return value[:1] in _REFERENCE_STARTS and _REFERENCE.match(value) is not None


def is_sample(value: str) -> bool:
    """Return whether a value says that it is an example: `your-api-key`."""
    may_be = _starts(value, _SAMPLE_STARTS) or value[:1] in _SAMPLE_OPENS
    return may_be and _SAMPLE.match(value) is not None


def _starts(value: str, letters: frozenset[str]) -> bool:
    """Return False where a value starts with none of these pairs of letters, in any case."""
    first = value[:2]
    return first.lower() in letters or not first.isascii()


def stands_in(value: str) -> bool:
    """Return whether a value only stands for one: a placeholder, a variable, an example."""
    return is_placeholder(value) or is_reference(value) or is_sample(value)


def is_code(value: str, *, dotted: bool = True) -> bool:
    """Return whether an unquoted value is an expression; `dotted`: names like `settings.password` count as one."""
    return _CALL.match(value) is not None or (dotted and "." in value and _DOTTED.match(value) is not None)


def is_template(value: str) -> bool:
    """Return whether a quoted value of source code is filled in when it runs, or is code between two strings."""
    filled_in = ("{" in value or "%" in value) and _TEMPLATE.search(value) is not None
    if filled_in:
        return not _is_drawn_beside(_TEMPLATE.sub("", value))
    return not value[:1].isalnum() and _BETWEEN_STRINGS.match(value) is not None


def _is_drawn_beside(rest: str) -> bool:
    """Return whether what a template leaves of a value is drawn at random: one that holds `%r` by chance."""
    if len(rest) < _LONG_REST_OF_TEMPLATE or " " in rest or "://" in rest:
        return False
    return len(_DIGIT.findall(rest)) > 1 and len(set(_SYMBOL.findall(rest))) > 3 and varied(rest, 3.8)


def is_uuid(value: str) -> bool:
    """Return whether a value is a UUID."""
    return len(value) == _UUID_LENGTH and _UUID.fullmatch(value) is not None


def is_class(value: str) -> bool:
    """Return whether a value is the name of a class or type, whose parts can be spoken."""
    value = value.strip("_")
    return _CLASS.fullmatch(value) is not None and not is_drawn(value) and all(map(_VOWEL.search, _HUMP.findall(value)))


def is_literal(kind: str, value: str) -> bool:
    """Return whether a text between quotes of source code may be a chosen secret: no label, name, path or message."""
    if kind not in _CHOSEN or len(value) < _SHORTEST_LITERAL or is_class(value):
        return False
    return _LITERAL.fullmatch(value) is not None and not _is_of_code(value) and not remarks.describes(value)


def _is_of_code(value: str) -> bool:
    """Return whether words that say what a text is for are most of it.

    Short ones are in many others (`marigold`, `monkey`, `platform`): what they leave of a word has to say as little.
    """
    if _OF_CODE.search(value) is None:
        return False
    rest = _OF_CODE.sub("", value)
    one_word = value.isalpha() and value[1:].islower()
    if one_word and all(len(part) <= _SHORT_PART for part in _OF_CODE.findall(value)):
        return rest.lower() in _AFFIXES
    return len(rest) < _LONG_REST or len(rest) * 4 < len(value) * 3


def is_file(value: str) -> bool:
    """Return whether a value is the path of a file."""
    return "/" in value and _FILE.fullmatch(value) is not None


def is_word(value: str) -> bool:
    """Return whether a value is letters and figures only."""
    return value.isascii() and value.isalnum()


def is_ordinary(value: str) -> bool:
    """Return whether a value is an address, a digest of a file or the like, which is no token."""
    return value.startswith(("http", "arn:", "sha256")) or "//" in value


def is_token(value: str) -> bool:
    """Return whether a value of 16 characters or more looks drawn at random, whatever stands around it."""
    if _NATURAL.fullmatch(value) or not _DIGIT.search(value) or not varied(value, 2.8) or is_sample(value):
        return False
    return _LETTERS.match(value) is not None and WORDS_AND_NUMBERS.fullmatch(value) is None


def is_trial(value: str) -> bool:
    """Return whether a value is what tests write for a key: `testkey`, `fake_api_key`."""
    return _starts(value, _TRIAL_STARTS) and _TRIAL.fullmatch(value) is not None


def strong(kind: str, value: str) -> bool:
    """Return whether a value can be what its strong name says: nearly everything can."""
    check = _STRONG.get(kind)
    if kind in MADE and is_trial(value):
        return False
    return len(value) >= _SHORTEST and value.count(" ") < _MAX_WORDS and (check is None or check(value))


def weak(kind: str, value: str, form: Form) -> bool:
    """Return whether a value under a weak name, or in source code, looks like what the name may hold."""
    value = value.strip()
    if value[:1] == "#" and _COLOUR.fullmatch(value):
        return False
    return _WEAK.get(kind, _likely)(value, form)


def _likely(value: str, form: Form) -> bool:
    """Accept what is neither word nor number: a digit among letters, symbols, letters in a random case."""
    if len(value) < 6 or " " in value or (value.isdigit() and len(value) < 15):
        return False
    if _DIGIT.search(value):
        return True
    if _SYMBOL.search(value) and form.quoted:
        return len(value) >= 8
    if len(value) >= 12 and len(value) < (3 if form.quoted else 2.5) * len(_HUMPS.findall(value)):
        return True
    return len(value) >= 16 and varied(value, 3.4) and (is_drawn(value) or not _NATURAL.fullmatch(value))


def is_identifier(value: str) -> bool:
    """Return whether a value is a name as source code has them."""
    return _IDENTIFIER.fullmatch(value) is not None


def is_its_name(key: str, value: str) -> bool:
    """Return whether a value is the end of its name again: `password=password`."""
    return len(value) <= len(key) and key.lower().replace("_", ".").endswith(value.lower().replace("_", "."))


def is_named_as(key: str, value: str) -> bool:
    """Return whether a value is named as its key is, as variables are: `password = new_password`."""
    own = _NAME_END.search(key)
    if value.lower() in _VARIABLES:
        return True
    return own is not None and own[0].lower() in value.lower() and is_identifier(value)


def is_snake_case(value: str) -> bool:
    """Return whether a value is words and numbers joined by underscores, as names in source code are."""
    return "_" in value and WORDS_AND_NUMBERS.fullmatch(value) is not None


def _token_alone(value: str, form: Form) -> bool:
    """Accept behind `token`, `auth` or `pass` what is likely, but no path, address or version."""
    return _likely(value, form) and not is_file(value)


def _never(value: str, form: Form) -> bool:
    del value, form
    return False


def _at_random(value: str, form: Form) -> bool:
    """Accept what a vague name such as `key` holds only where it looks drawn at random."""
    if not 16 <= len(value) <= 512 or " " in value or is_file(value) or form.separator == ",":
        return False
    if is_uuid(value):
        return False
    if WORDS_AND_NUMBERS.fullmatch(value) and not is_drawn(value):
        return False
    mixed = _LETTER.search(value) is not None and _DIGIT.search(value) is not None
    return is_drawn(value) or (mixed and varied(value, 3.0 if len(value) >= 32 else 3.5))


def _vendor_key(value: str, form: Form) -> bool:
    """Accept what a vendor's key such as `acme_key` holds; in a code listing only between quotes."""
    if not form.quoted and form.separator not in ("=", ":", ":=", "=>"):
        return False
    if is_drawn(value):
        return True
    if not 16 <= len(value) <= 512 or not _DIGIT.search(value) or not re.fullmatch(r"[\w+/=.~-]+", value):
        return False
    if is_file(value):
        return False
    return varied(value, 2.8) and not WORDS_AND_NUMBERS.fullmatch(value) and not value.replace(".", "").isdigit()


def _digits(least: int) -> Callable[[str], bool]:
    pattern = re.compile(rf"(?:\D*+\d){{{least}}}")
    return lambda value: pattern.match(value) is not None


def _is_address(value: str) -> bool:
    """Return whether a value may be an e-mail address: `jane@example.com`, `jane (at) example.com`."""
    return "@" in value or _AT.search(value) is not None


#: Types whose values in source code count by looks of their own.
PERSONAL: Final = frozenset({keys.USER_ID, keys.SESSION_ID, keys.EMAIL, keys.PERSON})
_STRONG: Final[Mapping[str, Callable[[str], bool]]] = {
    keys.SSN: _digits(4),
    keys.CREDIT_CARD: _digits(3),
    keys.DATE_OF_BIRTH: _digits(2),
    keys.EMAIL: _is_address,
    keys.PERSON: lambda value: "/" not in value,
}
_WEAK: Final[Mapping[str, Callable[[str, Form], bool]]] = {
    keys.LIKELY: _token_alone,
    keys.WEAK: _at_random,
    keys.VENDOR: _vendor_key,
    keys.EMAIL: _never,
    keys.PERSON: _never,
}

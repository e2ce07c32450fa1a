"""What a name says about its value: `password`, `dbPassword`, `X-Api-Key` and `http.request.header.cookie` alike.

The one classifier of names: for attribute keys, keys of nested maps and of JSON, names of headers, command-line options
and neighbours in lists, and the left side of assignments in text (assignments.py).
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

from otel_telemetry.processors.detect.names import key_words
from otel_telemetry.processors.detect.names.key_words import (
    API_KEY,
    AUTHORIZATION,
    COOKIE,
    CREDIT_CARD,
    DATE_OF_BIRTH,
    EMAIL,
    LIKELY,
    PASSWORD,
    PERSON,
    PRIVATE_KEY,
    SECRET,
    SESSION_ID,
    SSN,
    USER_ID,
    VENDOR,
    WEAK,
)
from otel_telemetry.processors.detect.text.folding import fold
from otel_telemetry.processors.detect.text.ignorable import has_controls

#: Every type that a key alone can give.
TYPES: Final = frozenset(
    {
        *(PASSWORD, SECRET, API_KEY, PRIVATE_KEY, AUTHORIZATION, COOKIE, USER_ID, SESSION_ID, SSN, CREDIT_CARD),
        *(EMAIL, PERSON, DATE_OF_BIRTH),
    }
)
#: What a weak name can hold: a value counts by its look.
WEAK_KINDS: Final = frozenset({LIKELY, WEAK, VENDOR})
_MEANINGLESS: Final = WEAK_KINDS | {""}
#: Types whose values are no numbers: a number under such a name counts or flags something.
_NEVER_NUMBERS: Final = frozenset({EMAIL, PERSON})

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BREAKS: Final = re.compile(r"[^A-Za-z0-9]+")
#: Marks above and below letters: `contraseña` is `contrasena`.
_MARKS: Final = dict.fromkeys(range(0x300, 0x370))
_VERSION: Final = re.compile(r"v?\d+|[a-z]")
_NUMBER_BEHIND: Final = re.compile(r"(?<=[a-z])v?\d+$")
_SHORTEST_VENDOR: Final = 3
_LONGEST_STEM: Final = max(map(len, key_words.STEMS))
#: Of a longer key its end counts: a cache of whole keys would hold what senders put there.
_LONGEST: Final = 128


class _Name:
    """A name taken apart: its words without versions and tails, singular; and whether the last one was a plural."""

    def __init__(self, key: str) -> None:
        name = key[-_LONGEST:]
        if not name.isascii() or has_controls(name):
            name = unicodedata.normalize("NFKD", name.replace("ł", "l")).translate(_MARKS)
            folded = fold(name)
            name = name if folded is None else folded.text
        words = [word for word in _BREAKS.split(_CAMEL.sub("_", name).lower()) if word]
        self.plural = False
        self.words = self._bare(words)
        self.joined = "".join(self.words)
        self.last = self.words[-1] if self.words else ""
        self.before = self.words[-2] if len(self.words) > 1 else ""

    def _bare(self, words: list[str]) -> list[str]:
        """Take off what leaves a name that of the value itself, from the end on."""
        while len(words) > 1 and (_VERSION.fullmatch(words[-1]) or words[-1] in key_words.TAILS):
            words.pop()
        if not words:
            return words
        last = words[-1]
        if last not in key_words.WORDS:
            last = _NUMBER_BEHIND.sub("", last)
        if last.endswith("s") and len(last) > 3 and last not in key_words.WORDS and not last.endswith(("ss", "us")):
            last, self.plural = last[:-1], True
        return [*words[:-1], last]

    @property
    def acts(self) -> bool:
        """Return whether the name is that of an act or a question: `reset_password`, `has_token`."""
        first = self.words[0] if len(self.words) > 1 else ""
        return first in key_words.ACTS or (first == "set" and self.last != "cookie") or self.joined == "nopasswd"


def classify(key: str) -> str:
    """Return the type of what `key` names (PASSWORD, COOKIE, ...), LIKELY, WEAK, VENDOR, or "" for an ordinary name."""
    return _classify(key[-_LONGEST:])


@lru_cache(maxsize=8192)
def _classify(key: str) -> str:
    if not key.isascii() and any(word in key.lower() for word in key_words.PASSWORDS):
        return PASSWORD
    name = _Name(key)
    if not name.words:
        return ""
    kind = _strong(name) or _by_last_word(name)
    return LIKELY if name.acts and kind not in _MEANINGLESS else kind


def names_phone(key: str) -> bool:
    """Return whether a key says that its value is a telephone number: the digits alone look like any other number."""
    return _names_phone(key[-_LONGEST:])


@lru_cache(maxsize=8192)
def _names_phone(key: str) -> bool:
    words = [word for word in _BREAKS.split(_CAMEL.sub("_", key).lower()) if word]
    while len(words) > 1 and words[-1] in key_words.NUMBER_WORDS:
        words.pop()
    return bool(words) and (words[-1] in key_words.PHONES or words[-1].endswith(("phone", "phonenumber")))


def is_strong(key: str) -> bool:
    """Return whether a key alone says that its value is a secret or personal, whatever the value looks like."""
    return classify(key) not in _MEANINGLESS


def gives_numbers(key: str) -> bool:
    """Return whether a number under a strong name is the value that the name says, not a count or a flag."""
    return _gives_numbers(key[-_LONGEST:])


@lru_cache(maxsize=8192)
def _gives_numbers(key: str) -> bool:
    name = _Name(key)
    counts = name.last == "token" and name.before not in _TOKEN_OWNERS
    return not name.plural and not counts and classify(key) not in _NEVER_NUMBERS


def found_as(key: str) -> str:
    """Return the type of a value found under a key: that of a strong name, or what a weak one holds if anything."""
    return _found_as(key[-_LONGEST:])


@lru_cache(maxsize=8192)
def _found_as(key: str) -> str:
    kind = classify(key)
    if kind not in _MEANINGLESS:
        return kind
    return PASSWORD if _Name(key).last in ("pass", "pw") else SECRET


def sets_cookie(key: str) -> bool:
    """Return whether a header's name is Set-Cookie, whose value has attributes behind the cookie."""
    return key.lower().replace("_", "-").endswith("set-cookie")


def _strong(name: _Name) -> str:
    found = key_words.EXACT.get(name.joined) or key_words.WORDS.get(name.last)
    found = found or key_words.PAIRS.get((name.before, name.last), "")
    if found:
        return "" if name.last == "cred" and name.plural else found
    for length in range(min(_LONGEST_STEM, len(name.joined)), 5, -1):
        kind = key_words.STEMS.get(name.joined[-length:])
        if kind:
            return kind
    return key_words.STEMS.get(name.joined[-5:], "")


def _by_last_word(name: _Name) -> str:
    last, before = name.last, name.before
    if last.endswith("token"):
        return _token(name, before or last.removesuffix("token"))
    if last.endswith("key") and last not in key_words.NO_KEYS:
        if name.plural and before not in key_words.KEY_OWNERS:
            return ""
        return _key(before) if last == "key" else "" if last[:-3] in key_words.PUBLIC_KEY_OWNERS else WEAK
    if last.endswith("pass") and last.removesuffix("pass") in key_words.PASS_OWNERS:
        return PASSWORD
    if last in ("pass", "pw"):
        return PASSWORD if before in key_words.PASS_OWNERS else LIKELY
    if last == "auth":
        return SECRET if before in ("basic", "proxy", "http") else LIKELY
    if last in ("api", "pat") and before and before not in key_words.PLAIN_KEY_OWNERS:
        return VENDOR if last == "pat" else WEAK
    return WEAK if last in ("signature", "sig", "salt") else ""


def _token(name: _Name, owner: str) -> str:
    if owner in key_words.PAGE_TOKENS or name.words[-3:-1] == ["public", "key"]:
        return ""
    if name.plural:
        return SECRET if owner in _TOKEN_OWNERS else ""
    if owner in key_words.COUNTED_TOKENS:
        return WEAK
    return SECRET if owner else LIKELY


#: Whose tokens in the plural are not those that a model counts.
_TOKEN_OWNERS: Final = frozenset("auth access refresh api bearer session id csrf bot".split())


def _key(owner: str) -> str:
    if owner in key_words.KEY_OWNERS:
        return PRIVATE_KEY if owner == "private" else API_KEY if owner in ("api", "access") else SECRET
    if owner in key_words.PUBLIC_KEY_OWNERS:
        return ""
    plain = owner in key_words.PLAIN_KEY_OWNERS or len(owner) < _SHORTEST_VENDOR
    return WEAK if plain else VENDOR


#: What each key with a meaning above holds, in raw bytes. Grouped by length: a trigger has one.
_ALONE: Final = (
    "passw passphrase passcode passkey pswd secret credential authorization cookie mnemonic apikey privatekey"
    " accesskey sessid sessionid userid codeverifier authcode clientassertion samlresponse samlassertion"
    " socialsecurity creditcard debitcard cardnum cardno ccnum securitycode dateofbirth birthdate birthday fullname"
    " maidenname seedphrase recoveryphrase smscode otpcode mfacode totpcode factorcode verificationcode onetimecode"
    " backupcode recoverycode pinnumber pincode cvvcode cvv2code cvccode cvc2code otpseed tokenhint"
    " devicecode snmpcommunity primaryaccount pasahitza nenosiri emailaddr useremail customeremail sessionprevious"
    " authtokens accesstokens kennwort wachtwoord contrase motdepasse salasana senord adgangskode kodeord jelsz lozinka"
    " refreshtokens apitokens bearertokens sessiontokens idtokens csrftokens bottokens cardverification signature"
).split()
_BROKEN: Final = (
    "pass-phrase pass-code api-key private-key access-key session-id user-id pseudo-id session-prev code-verifier"
    " auth-code"
    " client-assertion saml-response saml-assertion social-security credit-card debit-card card-num card-no cc-num"
    " security-code date-of birth-date birth-day full-name maiden-name seed-phrase recovery-phrase sms-code otp-code"
    " mfa-code totp-code factor-code verification-code one-time-code backup-code recovery-code pin-number email-addr"
    " device-code snmp-community primary-account"
    " user-name db-user database-user card-verification auth-tokens access-tokens refresh-tokens api-tokens"
    " bearer-tokens session-tokens id-tokens csrf-tokens bot-tokens mot-de-passe"
).split()
_SHORT: Final = (
    "token key keys auth pass pw pwd psk cred creds jwt pin otp totp ssn cvv cvv2 cvc cvc2 ccn dob email salt"
    " senha heslo haslo geslo parola parol sifre passord storepass keypass".split()
)
#: Those that say what a number is, and stand in sentences and markup more often: only at the end of a key.
_NUMBERED: Final = "phone phonenumber pan card sig".split()


def _by_length(texts: list[str]) -> list[str]:
    groups: dict[int, list[str]] = {}
    for text in texts:
        groups.setdefault(len(text), []).append(text.replace("-", "[^A-Za-z0-9]"))
    return [f"(?i)(?:{'|'.join(group)})" for group in groups.values()]


#: Words of a command line in a list, behind which a password may stand.
_WORDS: Final = ("--user", "sqlplus")
_OPTIONS: Final = ('["\\x00\\x02]-[uap]["\\x5c\\x00\\x0a]', "[\\x00\\x03-\\x1f]-p[!-~]")
#: An integer of 14 digits or more as OTLP has it, `int_value` of an AnyValue: it may be a card under any name.
_INTEGERS: Final = tuple(f"\\x18[\\x80-\\xff]{{{length}}}[\\x01-\\x7f]" for length in (6, 7, 8))
#: Triggers for keys in raw bytes: each key that means something holds one of these. `user-name` is looked for with its
#: capital too: `username` is no name of a person here.
KEY_TRIGGERS: Final = (
    *_by_length(_ALONE),
    *_by_length(_BROKEN),
    "[uU]serName",
    "dbUser",
    "DbUser",
    "pseudoId",
    "connect\\.sid",
    "laravel_session",
    '(?i)"sig["\\x5c]',
    *_WORDS,
    *_INTEGERS,
    *("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in ("asło", "şifre", *key_words.PASSWORDS)),
)
#: The same with one character behind the key, which only rules out longer words and is no part of the place. `J` is
#: the tag of a span attribute, which may stand behind a key that a sender wrote after its value.
KEY_TRIGGERS_AHEAD: Final = (
    "(?i)[a-z0-9][_.-](?:pat|api)[^A-IK-Z ,;!?')>]",
    *(f"(?i){word}[^A-IK-Z ,;!?')>]" for word in _SHORT),
    *(f"(?i){word}[^A-IK-Z ,.;:!?'\")>]" for word in (*_NUMBERED, *sorted(key_words.PHONES))),
    *_OPTIONS,
)

__all__ = [
    "API_KEY",
    "AUTHORIZATION",
    "COOKIE",
    "CREDIT_CARD",
    "DATE_OF_BIRTH",
    "EMAIL",
    "KEY_TRIGGERS",
    "KEY_TRIGGERS_AHEAD",
    "LIKELY",
    "PASSWORD",
    "PERSON",
    "PRIVATE_KEY",
    "SECRET",
    "SESSION_ID",
    "SSN",
    "TYPES",
    "USER_ID",
    "VENDOR",
    "WEAK",
    "WEAK_KINDS",
    "classify",
    "found_as",
    "gives_numbers",
    "is_strong",
    "names_phone",
    "sets_cookie",
]

"""Canaries in the forms that rules made of examples miss: secrets without a digit, and values without a border.

Secrets of letters only and passphrases, under names in any spelling, in JSON, assignments, options, argument lists and
headers; numbers under names of numbers; cards, IBANs, addresses and telephone numbers glued to letters of each script.
All values are drawn here, so that no rule's own example can make up for what it does not find.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from otel_telemetry.processors.detect.names.keys import (
    API_KEY,
    AUTHORIZATION,
    CREDIT_CARD,
    PASSWORD,
    PRIVATE_KEY,
    SECRET,
    SSN,
)
from otel_telemetry.processors.redact.policy import IP
from otel_telemetry.processors.verify.canaries import Canary

PLAIN: Final = "note"
"""The attribute that holds forms whose names stand in the value."""
_MIXED: Final = "ghijkmnopqrstuvwxyzGHJKLMNPQRSTUVWXYZ"
_SMALL: Final = "ghijkmnopqrstuvwxyz"
_LETTERS: Final = 24
_WORDS: Final = 4

Wrap = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which a value can stand: the attribute's key, its type, how it is drawn and what is around it."""

    key: str
    type: str
    draw: Callable[[Random], Any]
    wrap: Wrap = lambda value: value
    is_nested: bool = False


def _letters(random: Random) -> str:
    return "".join(random.choice(_MIXED) for _ in range(_LETTERS))


def _phrase(random: Random, between: str = " ") -> str:
    return between.join("".join(random.choice(_SMALL) for _ in range(6)) for _ in range(_WORDS))


def _digits(random: Random, count: int) -> str:
    return str(random.randint(10 ** (count - 1), 10**count - 1))


def _card(random: Random) -> str:
    """Return a number with Luhn's check digit (ISO/IEC 7812)."""
    digits = "4" + _digits(random, 14)
    doubled = [int(digit) * (2 if at % 2 == 0 else 1) for at, digit in enumerate(digits)]
    return digits + str(-sum(number // 10 + number % 10 for number in doubled) % 10)


def _iban(random: Random) -> str:
    """Return a German account with its check digits (ISO 13616)."""
    account = _digits(random, 18)
    return f"DE{98 - int(account + '131400') % 97:02}{account}"


def _address(random: Random) -> str:
    return f"81.{random.randint(100, 199)}.{random.randint(100, 199)}.{random.randint(100, 199)}"


def _phone(random: Random) -> str:
    return f"+4930{_digits(random, 8)}"


#: Types whose values are known by their look, each as it stands in prose without spaces.
GLUED: Final[dict[str, Callable[[Random], str]]] = {
    CREDIT_CARD: _card,
    "IBAN": _iban,
    IP: _address,
    "PHONE": _phone,
}
#: Words of scripts, some of which write no spaces: what stands before and behind a value.
SCRIPTS: Final = {
    "Han": ("号码是", "谢谢"),
    "Kana": ("ばんごう", "です"),
    "Hangul": ("번호는", "입니다"),
    "Thai": ("เลขที่", "ครับ"),
    "Arabic": ("الرقم", "شكرا"),
    "Hebrew": ("מספר", "תודה"),
    "Cyrillic": ("номер", "спасибо"),
    "Devanagari": ("संख्या", "धन्यवाद"),
    "Greek": ("αριθμός", "ευχαριστώ"),
}


def _pair(name: str, before: str = "") -> Wrap:
    return lambda value: {"headers": [{"name": name, "value": before + value}]}


#: Every form by what it is called in a report.
FORMS: Final[dict[str, Form]] = {
    "letters": Form("app.clientSecret", SECRET, _letters),
    "passphrase": Form("db.passphrase", PASSWORD, _phrase),
    "dashed phrase": Form("http.request.header.x-api-key", API_KEY, lambda random: _phrase(random, "-")),
    "camelCase name": Form("user.dbPassword", PASSWORD, _letters),
    "numbered name": Form("DB_PASSWORD_1", PASSWORD, _letters),
    "name of a format": Form("private_key_pem", PRIVATE_KEY, _letters),
    "card as an integer": Form("credit_card_number", CREDIT_CARD, lambda random: int(_card(random))),
    "long name": Form("user.socialSecurityNumber", SSN, lambda random: _digits(random, 9)),
    "letters in JSON": Form(PLAIN, SECRET, _letters, lambda value: json.dumps({"clientSecret": value})),
    "phrase in JSON": Form(PLAIN, PASSWORD, _phrase, lambda value: json.dumps({"a": [{"passPhrase": value}]})),
    "letters in an assignment": Form(PLAIN, API_KEY, _letters, lambda value: f"export API_KEY={value}"),
    "letters in an option": Form(PLAIN, API_KEY, _letters, lambda value: f"run --api-key={value} --verbose"),
    "letters in a header": Form(PLAIN, AUTHORIZATION, _letters, lambda value: f"Authorization: Bearer {value}"),
    "argument list": Form(PLAIN, PASSWORD, _letters, lambda value: ["run", "--password", value]),
    "list pair": Form(PLAIN, AUTHORIZATION, _letters, lambda value: ["authorization", f"Bearer {value}"]),
    "header pair": Form(PLAIN, AUTHORIZATION, _letters, _pair("Authorization", "Bearer "), is_nested=True),
    "named value": Form(PLAIN, API_KEY, _letters, _pair("X-Api-Key"), is_nested=True),
    **{f"glued to {script}": Form(PLAIN, "", _letters) for script in SCRIPTS},
}


def of_key(key: str) -> list[str]:
    """Return the forms that an attribute of a key can take; of a body too, where the key is `PLAIN`."""
    return [shape for shape, form in FORMS.items() if form.key == key]


class HardCanaries:
    """Draws values for the forms above, each once. Not thread-safe."""

    def __init__(self) -> None:
        self._drawn = 0

    def of(self, shape: str) -> Canary:
        """Return the next canary of a form; those glued to a script take turns by type and by side."""
        self._drawn += 1
        random = Random(f"hard:{self._drawn}")  # noqa: S311  # repeatable, not secret
        form = FORMS[shape]
        if form.type:
            value = form.draw(random)
            return Canary(form.type, "name", value, value)
        type_ = list(GLUED)[self._drawn % len(GLUED)]
        value = GLUED[type_](random)
        before, behind = SCRIPTS[shape.removeprefix("glued to ")]
        text = (f"{before}{value}", f"{value}{behind}", f"{before}{value}{behind}")[random.randrange(3)]
        return Canary(type_, "border", text, value)

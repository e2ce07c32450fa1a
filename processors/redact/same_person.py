"""One spelling for one person: what is hashed is not the text but the number or address that it writes.

A telephone number, card, SSN, IBAN or e-mail address has the same pseudonym with spaces, dashes, brackets or `0044`, in
figures of other scripts, percent-encoded, and as a number of JSON.
"""

import unicodedata
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

_AMERICAN: Final = 10
_LONGEST: Final = 256


def _figures(text: str) -> str:
    """Return the figures of a text, whatever script they are of."""
    return "".join(str(unicodedata.decimal(char)) for char in text if char.isdecimal())


def _phone(text: str) -> str:
    """Return a number as E.164 if its country is known: by + or 00, or by the ten digits of North America."""
    digits = _figures(text)
    shown = unicodedata.normalize("NFKC", text).lstrip(" (").removeprefix("tel:")
    if shown.startswith("+"):
        return _e164(shown, digits)
    if digits.startswith("00"):
        return _e164(f"+{digits[2:]}", digits[2:])
    if len(digits) == _AMERICAN and digits[0] not in "01":
        return f"+1{digits}"
    return f"+{digits}" if len(digits) == _AMERICAN + 1 and digits[0] == "1" else digits


def _e164(text: str, digits: str) -> str:
    import phonenumbers  # noqa: PLC0415  # its metadata costs start-up time, and most processes never meet a number

    try:
        number = phonenumbers.parse(text.replace("/", " "), None)
    except phonenumbers.NumberParseException:
        return f"+{digits}"
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text))).upper()


def _email(text: str) -> str:
    shown = unicodedata.normalize("NFKC", unquote(text)).strip().strip("<>").casefold()
    return shown.removeprefix("mailto:")


_FORMS: Final[Mapping[str, Callable[[str], str]]] = {
    "PHONE": _phone,
    "CREDIT_CARD": _figures,
    "SSN": _figures,
    "IBAN": _letters,
    "EMAIL": _email,
}


def normal_form(kind: str, text: str) -> str:
    """Return the one spelling of a value of a type; the text itself where the type has none, or nothing is left."""
    return _normal_form(kind, text) if kind in _FORMS and len(text) <= _LONGEST else text


@lru_cache(maxsize=4096)
def _normal_form(kind: str, text: str) -> str:
    return _FORMS[kind](text) or text


def normal_forms(text: str) -> list[str]:
    """Return the spellings that a text can have by its type, which is not known: the text itself comes first."""
    kinds = ["EMAIL"] if "@" in text or "%40" in text else [kind for kind in _FORMS if kind != "EMAIL"]
    if not any(char.isdecimal() for char in text):
        kinds = [kind for kind in kinds if kind == "EMAIL"]
    return list(dict.fromkeys([text, *(normal_form(kind, text) for kind in kinds)]))

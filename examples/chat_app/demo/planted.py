"""Personal values and credentials that the demo plants: made up per run, valid in form, and each remembered.

They pass the same checks as real ones (Luhn, IBAN mod 97, issued SSN ranges, dialable numbers), because that is what a
detector must find. A seed makes a run repeatable.
"""

import base64
import json
import string
import zlib
from dataclasses import dataclass
from random import Random
from typing import Final

import phonenumbers

_ALNUM: Final = string.ascii_letters + string.digits
_BASE32: Final = string.ascii_uppercase + "234567"
_FIRST: Final = ("ada", "bente", "carlos", "dmitri", "eniola", "fatima", "goran", "hanako", "ines", "jonas")
_LAST: Final = ("almeida", "berg", "cooper", "dahl", "eriksen", "fontaine", "garcia", "haddad", "ivanova", "jensen")
_GIVEN: Final = ("Annika", "Benedict", "Carmen", "Dominic", "Eleanor", "Francesca", "Gregory", "Harriet")
_FAMILY: Final = ("Whitfield", "Halvorsen", "Castellanos", "Nakamura", "Okafor", "Lindqvist", "Moreau", "Thornton")
_STREETS: Final = ("Maple Grove Avenue", "Kingfisher Lane", "Harbour Street", "Old Mill Road", "Sycamore Drive")
_TOWNS: Final = ("Columbus, OH", "Savannah, GA", "Portland, OR", "Madison, WI")


@dataclass(slots=True, frozen=True)
class Planted:
    """One value, what it is, and where it was put."""

    kind: str
    value: str


class Garden:
    """Makes values of each kind. `planted` is all that was made; what is made is meant to be sent."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - made-up people, no secrets of ours
        self.planted: list[Planted] = []

    def email(self) -> str:
        """Return an e-mail address."""
        name = f"{self._pick(_FIRST)}.{self._pick(_LAST)}{self._digits(3)}"
        return self._plant("email", f"{name}@{self._letters(8)}.com")

    def card(self) -> str:
        """Return a Visa number that passes Luhn, in groups of four."""
        body = "4" + self._digits(14)
        digits = body + _luhn(body)
        return self._plant("card", " ".join(digits[i : i + 4] for i in range(0, 16, 4)))

    def phone(self) -> str:
        """Return a number that can be dialled, in its international form."""
        while True:
            number = phonenumbers.parse(self._pick(("+1212", "+1415", "+4420")) + self._digits(7), None)
            digits = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
            if phonenumbers.is_valid_number(number):
                return self._plant("phone", digits)

    def ssn(self) -> str:
        """Return a US social security number from the issued ranges."""
        area = self._random.choice([n for n in range(100, 770) if n != 666])  # noqa: PLR2004 - never issued
        return self._plant("ssn", f"{area:03}-{self._random.randrange(10, 100)}-{self._random.randrange(1000, 10_000)}")

    def iban(self) -> str:
        """Return a German IBAN with right check digits, in groups of four."""
        account = self._digits(18)
        check = 98 - int(account + "131400") % 97  # D is 13, E is 14 (ISO 13616)
        whole = f"DE{check:02}{account}"
        return self._plant("iban", " ".join(whole[i : i + 4] for i in range(0, len(whole), 4)))

    def openai_key(self) -> str:
        """Return an API key in the form of OpenAI's."""
        return self._plant("api_key", f"sk-proj-{self._text(20)}T3BlbkFJ{self._text(20)}")

    def github_token(self) -> str:
        """Return a GitHub token, whose last six characters are its checksum."""
        body = self._text(30)
        return self._plant("api_key", f"ghp_{body}{_base62(zlib.crc32(body.encode())):0>6}")

    def aws_key(self) -> str:
        """Return an AWS access key id."""
        return self._plant("api_key", "AKIA" + "".join(self._random.choices(_BASE32, k=16)))

    def jwt(self) -> str:
        """Return a signed-looking JSON web token."""
        parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": self._text(12), "iat": 1_760_000_000}]
        head = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
        return self._plant("jwt", ".".join([*head, self._text(43)]))

    def secret(self) -> str:
        """Return a value that only its key (password, cookie, authorization) tells for a secret."""
        return self._plant("secret", f"{self._letters(6)}-{self._text(14)}")

    def user(self) -> str:
        """Return the id of a user."""
        return self._plant("user", f"{self._pick(_FIRST)}-{self._letters(5)}-{self._digits(4)}")

    def person(self) -> str:
        """Return the name of a person."""
        return self._plant("name", f"{self._pick(_GIVEN)} {self._pick(_FAMILY)}")

    def home(self) -> str:
        """Return a postal address."""
        street = f"{self._random.randrange(10, 10_000)} {self._pick(_STREETS)}"
        return self._plant("address", f"{street}, {self._pick(_TOWNS)} {self._random.randrange(10_000, 100_000)}")

    def ipv4(self) -> str:
        """Return a public IPv4 address."""
        return self._plant("ip", ".".join(["81", *(str(self._random.randrange(100, 256)) for _ in range(3))]))

    def ipv6(self) -> str:
        """Return a public IPv6 address."""
        groups = [f"{self._random.randrange(0x1000, 0x10000):x}" for _ in range(7)]
        return self._plant("ip", ":".join(["2a02", *groups]))

    def _plant(self, kind: str, value: str) -> str:
        self.planted.append(Planted(kind, value))
        return value

    def _pick(self, choices: tuple[str, ...]) -> str:
        return self._random.choice(choices)

    def _digits(self, count: int) -> str:
        return "".join(self._random.choices(string.digits, k=count))

    def _letters(self, count: int) -> str:
        return "".join(self._random.choices(string.ascii_lowercase, k=count))

    def _text(self, count: int) -> str:
        return "".join(self._random.choices(_ALNUM, k=count))


def _luhn(body: str) -> str:
    """Return the check digit that follows `body` (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (2 - position % 2) for position, digit in enumerate(reversed(body))]
    return str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)  # noqa: PLR2004 - two digits, summed


def _base62(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 62)
        digits = (string.digits + string.ascii_uppercase + string.ascii_lowercase)[rest] + digits
    return digits

"""What each sender sends: the name of its service, and made-up personal data, its own for each language.

The senders in `senders/` all do the same with it, so that one test judges them all:

- a trace of its own, "import orders";
- a request (SERVER) with a link to it, an event, and 11 attributes; in it a model call (CLIENT) and a charge; in the
  charge a payment (CLIENT) that fails with an exception;
- two log records of the request, a line and a structured one;
- a counter, a histogram and a gauge.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from examples.chat_app.demo.planted import Garden

LANGUAGES = ("python", "go", "node", "java")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one sender sends."""

    language: str
    planted: dict[str, str]

    @property
    def service(self) -> str:
        """Return service.name."""
        return f"shop-{self.language}"

    def write(self, folder: Path) -> Path:
        """Write it where its sender reads it."""
        file = folder / f"{self.language}.json"
        file.write_text(json.dumps({"service": self.service, "planted": self.planted}))
        return file


def scenario(language: str) -> Scenario:
    """Return a scenario with values that no other has."""
    garden = Garden(random.SystemRandom().getrandbits(64))
    planted = {
        "email": garden.email(),
        "card": garden.card(),
        "phone": garden.phone(),
        "ssn": garden.ssn(),
        "iban": garden.iban(),
        "openai_key": garden.openai_key(),
        "github_token": garden.github_token(),
        "aws_key": garden.aws_key(),
        "jwt": garden.jwt(),
        "secret": garden.secret(),
        "user": garden.user(),
        "session": garden.user(),
        "ipv4": garden.ipv4(),
        "ipv6": garden.ipv6(),
    }
    return Scenario(language, planted)

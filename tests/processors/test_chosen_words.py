"""Secrets that are words: what gives them away is the sentence, command, call or syntax in which they stand.

Each line of secrets_of_letters.txt is one such place. What looks like one and is none is in texts_without_secrets.txt.
"""

import json
from pathlib import Path
from typing import Final

import pytest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

REDACTOR: Final = Redactor(RedactionSettings())
TEXTS: Final = (Path(__file__).parent / "secrets_of_letters.txt").read_text(encoding="utf-8").splitlines()
#: A word, letters drawn at random, and what somebody may choose who was asked for a figure and a sign.
VALUES: Final = ("moonpetal", "TqxbLvzrKmwd", "Petal!77x")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("template", TEXTS)
def test_a_chosen_secret_goes_wherever_a_place_says_what_it_is(template: str, value: str) -> None:
    text = template.replace("\\n", "\n").replace("{v}", value)
    clean = REDACTOR.string(text)
    assert value not in clean
    assert REDACTOR.string(clean) == clean


@pytest.mark.parametrize("template", TEXTS)
def test_it_goes_from_json_too(template: str) -> None:
    text = json.dumps({"note": template.replace("\\n", "\n").replace("{v}", VALUES[0])})
    clean = REDACTOR.string(text)
    assert VALUES[0] not in clean
    assert json.loads(clean).keys() == {"note"}


#: Lines of source code; and words in which parts of code, or endings of adjectives, stand by chance.
LINES: Final = (
    *(
        'final String PASSWORD = "{v}";',
        'let dbPassword = "{v}";',
        "$password = '{v}';",
        'string clientSecret = "{v}";',
    ),
    *('const char *password = "{v}";', "self.password = '{v}'", "User(name='bob', password='{v}')"),
    'PlainLoginModule required username="a" password="{v}";',
)
CHANCE: Final = (
    "marigold",
    "platform",
    "monkey",
    "envelope",
    "tournament",
    "forest",
    "greatness",
    "author",
    "elephant",
)
SAID: Final = ("newpassword", "username", "passwordHash", "userpass", "required", "mandatory", "temporary", "oldkey")


@pytest.mark.parametrize("line", LINES)
def test_a_word_of_source_code_goes_unless_it_says_what_it_is_for(line: str) -> None:
    for value in CHANCE:
        assert value not in REDACTOR.string(line.replace("{v}", value)), value
    for value in SAID:
        assert value in REDACTOR.string(line.replace("{v}", value)), value

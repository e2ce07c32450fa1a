"""False positives on source code and documentation: ten projects as they are installed beside this one.

What is found there and is an example of a secret that its author meant as one (`scott:tiger@`), judged by hand, is
listed apart: redacting it is right. Addresses of e-mail and IP are real ones there, and count for nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Final

PROJECTS: Final = (
    "fastapi",
    "sqlalchemy",
    "pydantic",
    "httpx",
    "redis",
    "starlette",
    "typer",
    "rich",
    "cryptography",
    "pytest",
)
_SUFFIXES: Final = (".py", ".pyi", ".md", ".rst")
_REAL: Final = frozenset({"EMAIL", "IP"})
#: Values that stand for a secret in an example, judged by hand.
EXAMPLES: Final = frozenset(
    {
        *(
            "tiger",
            "tiger^5HHH",
            "pass",
            "password",
            "passphrase",
            "testing",
            "a%20secret",
            "password1",
            "deadbeef12346",
        ),
        *(
            "p",
            "(whatever",
            "top secret",
            "bar",
            "123,foo:bar@bar.com",
            "IAmSensitive",
            "IAmSensitiveBytes",
            "Wendy Smith",
        ),
        *("Jack Jones", "/home/gord/client-ssl/client-key.pem", "123"),
    }
)


def false_positives(detect: Callable[[str], list[tuple[int, int, str]]]) -> tuple[float, Counter[tuple[str, str, str]]]:
    """Return how much is found per 10,000 characters but examples; and each (project, type, value) with its number."""
    characters = 0
    found: Counter[tuple[str, str, str]] = Counter()
    for project in PROJECTS:
        for text in texts(project):
            characters += len(text)
            found.update((project, kind, text[a:b]) for a, b, kind in detect(text) if kind not in _REAL)
    wrong = Counter({each: number for each, number in found.items() if each[2] not in EXAMPLES})
    return wrong.total() / max(1, characters) * 10_000, wrong


def texts(project: str) -> Iterator[str]:
    """Yield the source files of an installed project, and its description, which is Markdown or reStructuredText."""
    for file in metadata.distribution(project).files or ():
        if file.suffix in _SUFFIXES or file.name == "METADATA":
            try:
                yield file.read_text()
            except (FileNotFoundError, UnicodeDecodeError):
                continue

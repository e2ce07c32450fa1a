"""Writes the list of ordinary words that `ner/gate.py` reads, with `python -m tests.processors.make_ordinary_words`.

Candidates are the words of the small model's vocabulary, of this project's pages and of the docstrings of Python's
library that are written in small letters. A word stays out if Faker has it as a given name or a surname in any country,
or if the model takes it for a name or a place in one of three sentences about a person or a town. Takes two minutes,
and the package `faker`.
"""

import ast
import importlib
import pkgutil
import re
import subprocess
import sysconfig
import textwrap
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from otel_telemetry.processors.ner import weights, words
from otel_telemetry.processors.ner.network import Labeller

_WORD: Final = re.compile(r"(?<![\w/.@#_-])[a-z]{3,}(?![\w/@_(=])")
_SENTENCES: Final = ("{} called me yesterday.", "I met {} yesterday.", "We moved to {} last year.")
#: How likely the model may take an ordinary word for a name or a place.
_MOST: Final = 0.05
#: In how many docstrings of Python's library a word has to be.
_DOCSTRINGS: Final = 3
_FILE: Final = Path(words.__file__).with_name("ordinary_words.txt")


def main() -> None:
    """Write the file anew, with the comment that it begins with."""
    labeller = Labeller(weights.load(), 0.0)
    candidates = {*_vocabulary(), *_pages(), *_docstrings()} - set(_names())
    ordinary = sorted(word for word in candidates if _likelihood(labeller, word) < _MOST)
    comment = [line for line in _FILE.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = textwrap.fill(" ".join(ordinary), 120)
    _FILE.write_text("\n".join([*comment, text, ""]), encoding="utf-8")


def _vocabulary() -> Iterator[str]:
    for line in (weights._folder() / "vocab.txt").read_text(encoding="utf-8").splitlines():
        if re.fullmatch("[a-z]{3,}", line.strip()):
            yield line.strip()


def _pages() -> Iterator[str]:
    listed = subprocess.run(["git", "ls-files", "*.md"], capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        yield from _WORD.findall(Path(name).read_text(encoding="utf-8"))


def _docstrings() -> Iterator[str]:
    found = Counter[str]()
    for path in Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"):
        if "site-packages" not in path.parts and "test" not in path.parts:
            for node in ast.walk(_tree(path)):
                if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
                    found.update(set(_WORD.findall(ast.get_docstring(node) or "")))
    yield from (word for word, number in found.items() if number >= _DOCSTRINGS)


def _tree(path: Path) -> ast.AST:
    try:
        return ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except SyntaxError:
        return ast.Module([], [])


def _names() -> Iterator[str]:
    """Yield the given names and surnames of all countries, in small letters."""
    people = importlib.import_module("faker.providers.person")
    for country in pkgutil.iter_modules(people.__path__):
        provider = importlib.import_module(f"{people.__name__}.{country.name}").Provider
        for attribute in dir(provider):
            if attribute.startswith(("first_names", "last_names")):
                names = getattr(provider, attribute)
                yield from map(str.lower, names if isinstance(names, Collection) else ())


def _likelihood(labeller: Labeller, word: str) -> float:
    return max(_score(labeller, sentence, word.capitalize()) for sentence in _SENTENCES)


def _score(labeller: Labeller, sentence: str, word: str) -> float:
    start = sentence.index("{}")
    tokens = labeller.label(sentence.format(word))
    return max((token.score for token in tokens if token.start < start + len(word) and token.end > start), default=0.0)


if __name__ == "__main__":
    main()

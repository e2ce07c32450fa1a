"""Names of people, addresses, places and dates of birth in natural language, found by a small model.

Only natural language goes to the model, sentence by sentence (`gate`). Its results for tokens become whole words: no
part of a name is left over. A text that was processed before is not processed again; the cache stores a digest and
positions of a text, no word.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from otel_telemetry.processors.detect.detector import Match
from otel_telemetry.processors.ner import gate, weights
from otel_telemetry.processors.ner.birth import dates_of_birth
from otel_telemetry.processors.ner.network import Labeller, Token
from otel_telemetry.processors.ner.postal import joined, written
from otel_telemetry.processors.ner.spans import ADDRESS, LOCATION, PERSON, Span, matches, readable
from otel_telemetry.processors.ner.words import COMMON_WORDS, NOBODY, PRODUCTS

#: How likely a word has to be part of a name or an address. The model misses more than it invents: what it takes for
#: possible is taken, if the word looks like a name too. Beside such a word, less will do.
_LIKELY: Final = 0.25
_LEAST: Final = 0.06
#: How likely it has to be where the word is common, or in small letters in a sentence that knows capital ones.
_CERTAIN: Final = 0.85
#: Letters of words in capitals that are rather abbreviations than names.
_SHORT: Final = 5
_CACHE_ENTRIES: Final = 4_096
_MOST_SPANS: Final = 64
#: How many names of one batch of texts are looked for in all of them.
_MOST_PEOPLE: Final = 1_000
_WORD: Final = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")  # noqa: RUF001
_POSSESSIVE: Final = re.compile(r"['’][sS]$")  # noqa: RUF001
_IDENTIFIER_BEFORE: Final = re.compile(r"[\w/\\@#=$&%+~:.-]$")
_IDENTIFIER_BEHIND: Final = re.compile(r"(?:[\w/\\@=$_]|[.:-][\w/])")
_BETWEEN: Final = re.compile(
    r"(?:\s|['’.-]|\s(?:[A-Z]\.?\s)?|\s(?:de|da|do|dos|del|della|di|du|la|le|van|von|der|den|ter|zu|bin|ibn|al|el|y|e)\s){1,3}"  # noqa: RUF001
)
#: Codes of states, but for abbreviations that prompts are full of.
_STATE: Final = re.compile(r"(?!AI|ML|UI)[A-Z]{2}")
_ABBREVIATIONS: Final = re.compile(r"[A-Z]{2,5}s")


class NameRecogniser:
    """Finds names of people, addresses, places and dates of birth with the small model. Thread-safe.

    Raises ConfigurationError at construction where the model is not there or cannot be loaded.
    """

    model: Final = "Rampart"

    def __init__(self, remembered: int = _CACHE_ENTRIES) -> None:
        """`remembered`: of how many texts, and of how many pieces of them, the results are kept."""
        self._labeller = Labeller(weights.load(), _LEAST)
        self._seen = _Seen(remembered)
        self._pieces = _Seen(remembered)

    def find(self, texts: Sequence[str]) -> list[list[Match]]:
        """Return what each text holds: in order, without overlaps, and never within what redaction wrote.

        A person's name that one text of these gives away is found in all of them.
        """
        found = [self._spans(text) for text in texts]
        people = _people(texts, found)
        if people:
            found = [_with_people(text, spans, people) for text, spans in zip(texts, found, strict=True)]
        return [matches(text, spans) for text, spans in zip(texts, found, strict=True)]

    def _spans(self, text: str) -> list[Span]:
        return self._seen.of(text, self._read)

    def _read(self, text: str) -> list[Span]:
        text = readable(text)
        spans: list[Span] = [*dates_of_birth(text), *written(text)]
        for start, end in gate.windows(text):
            found = self._pieces.of(text[start:end], self._read_piece)
            spans.extend((start + first, start + last, kind) for first, last, kind in found)
        return _apart(list(joined(text, _apart(spans))))

    def _read_piece(self, piece: str) -> list[Span]:
        return list(_names(piece, self._labeller.label(piece)))


class _Seen:
    """Where names stand in the texts that were read last, by digest. Thread-safe."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._spans: OrderedDict[bytes, list[Span]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, text: str, read: Callable[[str], list[Span]]) -> list[Span]:
        """Return what `read` returns for a text, from memory if the text is one of the last."""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            known = self._spans.get(digest)
            if known is not None:
                self._spans.move_to_end(digest)
                return known
        spans = read(text)
        if len(spans) <= _MOST_SPANS:
            self._keep(digest, spans)
        return spans

    def _keep(self, digest: bytes, spans: list[Span]) -> None:
        with self._lock:
            self._spans[digest] = spans
            if len(self._spans) > self._entries:
                self._spans.popitem(last=False)


class _Word(NamedTuple):
    start: int
    end: int
    type: str
    likely: bool


def _names(text: str, tokens: Sequence[Token]) -> Iterator[Span]:
    """Yield spans from the tokens of a piece of text: adjacent words of one type."""
    group: list[_Word] = []
    for word in _words(text, tokens):
        if group and _is_verb(text, group[-1], word):
            continue
        if group and not _belongs(text, group[-1], word):
            yield from _span(text, group)
            group = []
        group.append(word)
    yield from _span(text, group)


def _belongs(text: str, last: _Word, word: _Word) -> bool:
    return word.type == last.type and bool(_BETWEEN.fullmatch(text, last.end, word.start))


def _is_verb(text: str, last: _Word, word: _Word) -> bool:
    """Return whether a word in small letters follows a name with a capital letter: `Jane called`."""
    return (
        word.type == last.type == PERSON
        and text[last.start].isupper()
        and text[word.start].islower()
        and word.start - last.end <= 1
    )


def _span(text: str, group: Sequence[_Word]) -> Iterator[Span]:
    """Yield the span of words that belong together, if one of them is likely enough by itself."""
    if not any(word.likely for word in group):
        return
    start, end, kind = group[0].start, group[-1].end, group[0].type
    if kind != ADDRESS or gate.is_street(text[start:end]):
        yield start, end, kind


def _words(text: str, tokens: Sequence[Token]) -> Iterator[_Word]:
    """Yield each word with a token in it that looks like a name or a part of an address."""
    at = 0
    for found in _WORD.finditer(text):
        while at < len(tokens) and tokens[at].end <= found.start():
            at += 1
        inside = at
        best: Token | None = None
        while inside < len(tokens) and tokens[inside].start < found.end():
            best = max(best or tokens[inside], tokens[inside], key=lambda token: token.score)
            inside += 1
        if best is not None and _looks_like(text, found, best):
            end = found.start() + len(_POSSESSIVE.sub("", found[0]))
            yield _Word(found.start(), end, best.type, best.score >= _LIKELY)


def _looks_like(text: str, word: re.Match[str], token: Token) -> bool:
    """Return whether a word that the model takes for a name can be one, by how it is written."""
    start, end = word.span()
    if _IDENTIFIER_BEFORE.search(text[max(0, start - 1) : start]) or _IDENTIFIER_BEHIND.match(text, end):
        return False
    written, small = word[0], word[0].lower()
    if small in PRODUCTS:
        return False
    if written.isdigit() or token.type == ADDRESS:
        return True
    if token.type == LOCATION and len(written) <= 2:  # noqa: PLR2004  # codes of states
        return bool(_STATE.fullmatch(written))
    short = (written.isupper() and len(written) <= _SHORT) or _ABBREVIATIONS.fullmatch(written)
    doubtful = small in COMMON_WORDS or written == small or short
    return token.score >= _CERTAIN if doubtful else True


def _apart(spans: Sequence[Span]) -> list[Span]:
    """Return spans in order and without overlaps.

    Two that overlap become one: an address if one of them is, else what the earlier one is.
    """
    out: list[Span] = []
    for span in sorted(spans):
        if out and span[0] < out[-1][1]:
            kind = ADDRESS if ADDRESS in (out[-1][2], span[2]) else out[-1][2]
            out[-1] = (out[-1][0], max(out[-1][1], span[1]), kind)
        else:
            out.append(span)
    return out


def _people(texts: Sequence[str], found: Sequence[Sequence[Span]]) -> re.Pattern[str] | None:
    """Return what finds the names of all people again, whole and by their parts, or None where there are none."""
    names: set[str] = set()
    for text, spans in zip(texts, found, strict=True):
        for start, end, kind in spans:
            if kind == PERSON:
                whole = text[start:end]
                parts = _WORD.findall(whole)
                names.update(
                    [whole, *(part for part in parts if _is_distinctive(part))]
                    if len(parts) > 1
                    else filter(_is_distinctive, parts)
                )
    if not names:
        return None
    longest_first = sorted(names, key=lambda name: (-len(name), name))[:_MOST_PEOPLE]
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _is_distinctive(part: str) -> bool:
    """Return whether a part of a name identifies a person by itself, and is no common word."""
    return len(part) > 2 and part[:1].isupper() and part.lower() not in NOBODY  # noqa: PLR2004  # `Al`, `Jo`


def _with_people(text: str, spans: Sequence[Span], people: re.Pattern[str]) -> list[Span]:
    again = [(*match.span(), PERSON) for match in people.finditer(text)]
    return _apart([*spans, *again]) if again else list(spans)

"""Selects the sentences of a text that may contain a name or an address: a cheap test before the model runs.

A sentence goes to the model if it reads like natural language and contains a sign of a name or an address: a word with
a capital letter that is no ordinary word, a phrase with which people give their name or address, or a number before a
street. Code, SQL, stack traces, log lines of `key=value` and identifiers are not selected.
"""

import re
from collections.abc import Iterator
from typing import Final

from otel_telemetry.processors.ner.words import is_plain

#: The longest piece of text that goes to the model at once, in characters: what it was trained to read.
WINDOW: Final = 480
_LONGEST: Final = 400
_OVERLAP: Final = 60
#: The end of a sentence: behind a word of three small letters or more, so that `Dr. Roe` and `Apt. 4` stay whole.
_END: Final = re.compile(r"(?:(?<=[^\W\d_A-Z]{3})[.!?]+|(?<=[\d)\]'\"])[.!?]+|[.!?]{2,})(?=\s+\S)|[。！？]")  # noqa: RUF001
#: What is between hyphens and apostrophes, but for single letters: `It` of `It's`, `Connor` of `O'Connor`.
_PART: Final = re.compile(r"[^\W\d_]{2,}")
#: Letters of scripts in which the model has words.
_LATIN: Final = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_CODE_SIGNS: Final = re.compile(r"[{}\[\]<>=;|\\_$#@+~^`%&]|\":|\",\"")
#: What only programs write: `Mozilla/5.0`, `5.15.0-73`, `level=info`, `"key": `, and runs of 25 letters and digits.
_MACHINE: Final = re.compile(
    r"\b[A-Za-z]+/\d+\.|\d\.\d+\.\d+[-+]|\b[a-z_.]+=\S|\"[\w.-]+\"\s?:|(?=[A-Za-z]{0,40}\d)[A-Za-z\d]{25,}"
)
_MOST_SIGNS: Final = 0.06
_LEAST_LETTERS: Final = 0.55
#: How long a line is that is read because of the line beside it, and how many of them are.
_SHORT: Final = 40
_LINES: Final = 4
_CODE: Final = re.compile(
    r"\s*(?:at [\w$.<>]+\(|File \"|Traceback |Caused by: "
    r"|(?i:select|insert into|update|delete from|create|alter|drop)\s[^\n]*"
    r"\b(?i:from|into|values|set|table|index|view|where)\b"
    r"|(?:def|class|import|from|return|func|function|const|let|var|public|private|static|if|for|while|#include|package"
    r"|using|namespace)\s[^\n]*[({:;=]|(?:GET|POST|PUT|PATCH|DELETE|HEAD) /)"
)
#: By what people say who they are or where they live, in small letters too.
_ABOUT_PEOPLE: Final = re.compile(
    r"(?i)\b(?:names?|named|called|call me|i am|i[’']?m|this is|mrs?|ms|miss|dr|prof|dear|regards"  # noqa: RUF001
    r"|sincerely|signed|cheers"
    r"|live[sd]?|living|reside[sd]?|born|address|moved|ship(?:ped)? to|deliver(?:ed)? to|send (?:it )?to"
    r"|ich hei(?:ß|ss)e|mein name|wohne|je m[’']?appelle|mon nom|j[’']?habite|me llamo|mi nombre|vivo en|mi chiamo"  # noqa: RUF001
    r"|abito|me chamo|meu nome|moro)\b"
)
_STREET: Final = re.compile(
    r"(?i)\b\d{1,5}[a-z]?,?\s+(?:[^\W\d_]+\s+){0,3}(?:st|street|rd|road|ave|avenue|blvd|boulevard|ln|lane|dr|drive|way"
    r"|ct|court|pl|place|sq|square|hwy|highway|pkwy|terrace|close|crescent)\b"
    r"|(?:stra(?:ß|ss)e|str\.|weg|gasse|platz|allee|gade|vej|gatan|gata|vägen|straat|laan)\s+\d"
    r"|\b(?:apt|suite|unit|flat)\.?\s\d|\b(?:rue|avenue|calle|avenida|via|piazza|rua|ulica|ul\.)\s+\w"
)
#: Two words with capital letters behind a number: `221 Broad Walk`.
_NUMBERED: Final = re.compile(r"\b\d{1,5}[a-z]?,?\s(?:[A-Z][^\W\d_]+\s){1,3}[A-Z]")
_CAPITAL: Final = re.compile(r"\b[A-Z\u00c0-\u00de\u0100-\u024f][^\W\d_]{2}")


def windows(text: str) -> Iterator[tuple[int, int]]:
    """Yield the pieces of a text that the model should read: `(start, end)`, whole sentences, `WINDOW` long at most.

    Neighbouring sentences are read together, since one tells of the other, and so are the short lines beside a
    sentence that goes to the model: an address is often written line by line. A sentence that is too long is read in
    pieces that overlap.
    """
    begin = end = -1
    for start, stop in _chosen(text):
        if begin >= 0 and start <= end + 1 and stop - begin <= WINDOW:
            end = stop
            continue
        if begin >= 0:
            yield begin, end
        begin, end = start, stop
    if begin >= 0:
        yield begin, end


def _chosen(text: str) -> Iterator[tuple[int, int]]:
    """Yield the sentences that may hold a name, with the short ones around them."""
    short: list[tuple[int, int]] = []
    reach = 0
    for start, end in _sentences(text):
        if _may_name(text, start, end):
            yield from short[-_LINES:]
            yield start, end
            short, reach = [], _LINES
        elif end - start > _SHORT:
            short, reach = [], 0
        elif reach and text[start:end].strip():
            yield start, end
            reach -= 1
        else:
            short.append((start, end))


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield the sentences of all lines that read like natural language."""
    at = 0
    for line in text.splitlines(keepends=True):
        end = at + len(line)
        if is_natural(line):
            for found in _END.finditer(line):
                stop = end - len(line) + found.end()
                yield from _pieces(text, at, stop)
                at = stop
            yield from _pieces(text, at, end)
        at = end


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > _LONGEST:
        cut = text.rfind(" ", start + _LONGEST // 2, start + _LONGEST) + 1 or start + _LONGEST
        yield start, cut
        start = text.rfind(" ", cut - _OVERLAP, cut - _OVERLAP // 2) + 1 or cut
    if end > start:
        yield start, end


def _may_name(text: str, start: int, end: int) -> bool:
    sentence = text[start:end]
    if not _LATIN.search(sentence) or _letters(sentence) < _LEAST_LETTERS * len(sentence):
        return False
    for part in _PART.findall(sentence):
        small = part.lower()
        if small != part and not is_plain(small):
            return True
    return bool(_ABOUT_PEOPLE.search(sentence) or _STREET.search(sentence) or _NUMBERED.search(sentence))


def is_natural(line: str) -> bool:
    """Return whether a line reads like natural language, or like a part of an address: few signs, no code."""
    if not line.strip() or _CODE.match(line):
        return False
    signs = len(_CODE_SIGNS.findall(line))
    return signs <= max(1, _MOST_SIGNS * len(line)) and not _MACHINE.search(line)


def _letters(sentence: str) -> int:
    return sum(map(str.isalpha, sentence)) + sentence.count(" ")


def is_street(text: str) -> bool:
    """Return whether what may be an address has the name of a street in it, or a word for one: no mere number."""
    return bool(_CAPITAL.search(text) or _STREET.search(text))

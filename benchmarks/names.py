"""What the small model of names finds, and marks in vain, against its targets: `python benchmarks/names.py`.

Recall on sentences of our own and, where the labelled corpora stand beside the repository, on presidio_v2; marks on
traffic of model providers and on telemetry, with the gate that the product has. CPU time for 2 kB of texts that are
not known yet: of natural language as prompts and answers are, of whole requests and answers, and of the worst case, in
which every sentence has names in it. A span counts as found if some of it is marked, and as found whole if each of its
letters and digits is. Exit code 1: a target is missed.
"""

import gzip
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from benchmarks.names_text import ADDRESS, LOCATION, PERSON, Sentence, sentences
from benchmarks.pii_targets import CORPORA, Line
from otel_telemetry.processors.config import NerSettings, RedactionSettings
from otel_telemetry.processors.detect.detector import Match
from otel_telemetry.processors.ner import gate
from otel_telemetry.processors.ner.names import NameRecogniser
from otel_telemetry.processors.ner.spans import Recogniser
from otel_telemetry.processors.ner.text import NerRedactor
from otel_telemetry.processors.redact.redactor import Finding, Redactor

#: Labels of presidio_v2, and what they are here.
_LABELS: Final = {"PERSON": PERSON, "STREET_ADDRESS": ADDRESS, "GPE": LOCATION}
_BLOCK: Final = 2048
_SEED: Final = 20
#: Characters of a short sentence, and of a word with the space behind it: what is natural language in a body.
_SENTENCE: Final = 60
_LONG_WORD: Final = 12


def main() -> int:
    """Print a line for each figure."""
    missed = False
    for line in lines(NameRecogniser()):
        print(line, flush=True)
        missed = missed or not line.met
    return int(missed)


def lines(recogniser: Recogniser) -> Iterator[Line]:
    """Measure everything that can be measured here."""
    yield from _recalls("own sentences", recogniser, list(sentences(2_200, _SEED)))
    if not CORPORA.exists():
        print("The labelled corpora are not beside the repository: recall on own sentences alone was measured.")
        return
    labelled = [Sentence(item["text"], [*_labelled(item)]) for item in _corpus("presidio_v2")]
    yield from _recalls("presidio_v2", recogniser, labelled)
    marks = Marks(recogniser)
    traffic = [item["text"] for item in _corpus("llm_traffic")]
    yield Line("names, marks per 10k on LLM traffic, true ones too", _per_10k(marks, traffic), 1.0, most=True)
    telemetry = [item["text"] for item in _corpus("tele_neg")]
    yield Line("names, false marks per 10k on telemetry", _per_10k(marks, telemetry), 0.05, most=True)
    yield from _times(traffic)


def _times(traffic: Sequence[str]) -> Iterator[Line]:
    """Measure the time for texts of three kinds; what was read before is not kept."""
    marks = Marks(NameRecogniser(remembered=0))
    names = "\n".join(sentence.text for sentence in sentences(400, _SEED + 1))
    language = list(dict.fromkeys(text for body in traffic for text in _strings(body) if _is_language(text)))
    print(f"    natural language: {len(language)} different prompts and answers, {sum(map(len, language))} characters")
    for what, texts in (("natural language", language), ("requests and answers", traffic[:400])):
        yield Line(f"names, ms of CPU per 2 kB of {what}", _milliseconds(marks, texts), 30, most=True, unit="ms")
    worst = [names[at : at + _BLOCK] for at in range(0, len(names), _BLOCK)]
    print(f"    the worst case, a name or an address in every sentence: {_milliseconds(marks, worst):.0f} ms per 2 kB")


class Marks:
    """Counts what is marked in values, as the product looks at them."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._ner = NerRedactor(Redactor(RedactionSettings()), recogniser, NerSettings(max_length=500_000))

    def count(self, text: str) -> int:
        """Return how many marks a text gets."""
        findings: list[Finding] = []
        self._ner.value(text, self._ner.redactor_for(""), findings)
        return len(findings)


def _recalls(what: str, recogniser: Recogniser, texts: Sequence[Sentence]) -> Iterator[Line]:
    all_of, touched, whole = Counter[str](), Counter[str](), Counter[str]()
    false = 0
    for sentence in texts:
        (found,) = recogniser.find([sentence.text])
        covered = _covered(found)
        for start, end, kind in sentence.spans:
            letters = [index for index in range(start, end) if sentence.text[index].isalnum()]
            all_of[kind] += 1
            touched[kind] += any(index in covered for index in letters)
            whole[kind] += all(index in covered for index in letters)
        false += sum(not _touches(match, sentence.spans) for match in found)
    for kind, least in ((PERSON, 0.9), (ADDRESS, 0.9), (LOCATION, 0.75)):
        part = whole if kind == ADDRESS else touched
        yield Line(f"{what}, recall of {kind}{' whole' if kind == ADDRESS else ''}", part[kind] / all_of[kind], least)
        print(
            f"    of {all_of[kind]}: touched {touched[kind] / all_of[kind]:.3f}, whole {whole[kind] / all_of[kind]:.3f}"
        )
    characters = sum(len(sentence.text) for sentence in texts)
    print(f"    {what}: {false / characters * 10_000:.2f} marks per 10k beside what is labelled")


def _corpus(name: str) -> list[Any]:
    with gzip.open(CORPORA / "corpora" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _covered(found: Iterable[Match]) -> set[int]:
    return {index for match in found for index in range(match.start, match.end)}


def _touches(match: Match, spans: Iterable[tuple[int, int, str]]) -> bool:
    return any(match.start < end and start < match.end for start, end, _ in spans)


def _labelled(item: Any) -> Iterator[tuple[int, int, str]]:
    for span in item["spans"]:
        if span["raw"] in _LABELS:
            yield span["start"], span["end"], _LABELS[span["raw"]]


def _per_10k(marks: Marks, texts: Sequence[str]) -> float:
    return sum(map(marks.count, texts)) / sum(map(len, texts)) * 10_000


def _strings(value: Any) -> Iterator[str]:
    """Yield the strings of a body: of JSON, also of JSON within JSON, or of what a stream sends."""
    if isinstance(value, str):
        try:
            parsed = json.loads(value) if value.lstrip()[:1] in ("{", "[") else None
        except ValueError:
            parsed = None
        if parsed is None:
            yield value
        else:
            yield from _strings(parsed)
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _is_language(text: str) -> bool:
    """Return whether a string is words with spaces, as long as a sentence."""
    first = next(iter(text.strip().splitlines()), "")
    return len(text) >= _SENTENCE and text.count(" ") * _LONG_WORD >= len(text) and gate.is_natural(first)


def _milliseconds(marks: Marks, texts: Sequence[str]) -> float:
    """Return the CPU time of this process for 2 kB, in milliseconds."""
    begin = time.process_time()
    for text in texts:
        marks.count(text)
    return (time.process_time() - begin) / sum(map(len, texts)) * _BLOCK * 1000


if __name__ == "__main__":
    sys.exit(main())

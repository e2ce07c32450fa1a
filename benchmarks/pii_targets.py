"""The detector's figures against its targets, one line each: `python benchmarks/pii_targets.py`.

The labelled corpora, and the program that scores on them, are no part of this repository: they are looked for in
../shared/pii beside it. Without them nothing is measured, and this says so. Exit code 1: something is found, or covered
in vain, that misses its target; times are shown, and depend on what else the machine does.
"""

import importlib.util
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import pii_code
from benchmarks.pii_detector import make
from benchmarks.redaction import span_attributes
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

CORPORA: Final = Path(__file__).parents[2] / "shared" / "pii"
#: What is left of a masked value.
_X: Final = 10 * "x"
_PERSONAL: Final = ("EMAIL", "PHONE", "SSN", "CARD", "IBAN", "IP", "MAC")


class Line(NamedTuple):
    """One target: what was measured, and the most or the least that it may be."""

    what: str
    value: float
    target: float
    most: bool = False
    unit: str = ""

    @property
    def met(self) -> bool:
        """Tell whether the target is met."""
        return self.value <= self.target if self.most else self.value >= self.target

    def __str__(self) -> str:
        sign = "at most" if self.most else "at least"
        verdict = "met" if self.met else "MISSED"
        return f"{self.what:52}{self.value:12.4g}   {sign:>8} {self.target:<7g}{self.unit:4}{verdict}"


def lines(judge: Any, detect: Callable[[str], Any]) -> Iterator[Line]:
    """Measure everything; `judge` is the scoring program as a module."""
    yield from recalls(judge, detect)
    yield from false_positives(judge, detect)
    yield from speeds(judge, detect)


def recalls(judge: Any, detect: Callable[[str], Any]) -> Iterator[Line]:
    """What is found of what is labelled, and what is covered beside it."""
    types, _ = judge.score_pos(detect, judge.load("presidio_v2"))
    yield Line("presidio_v2, recall of personal data", _share(types, _PERSONAL, "full"), 0.96)
    for kind in (kind for kind in _PERSONAL if types[kind]["n"]):
        yield Line(f"presidio_v2, recall of {kind}", _share(types, [kind], "full"), 0.88 if kind == "PHONE" else 0.99)
    for corpus, least, field in (
        ("presidio_tests_pos", 0.97, "full"),
        ("gitleaks_pos", 0.97, "full"),
        ("kingfisher", 0.85, "touched"),
    ):
        types, _ = judge.score_pos(detect, judge.load(corpus))
        what = "recall" if field == "full" else field
        yield Line(f"{corpus}, {what}", _share(types, judge.PROMISED, field), least)
    records = judge.load("detect_secrets_pos")
    types, _ = judge.score_pos(detect, records)
    yield Line("detect_secrets_pos, recall", _share(types, judge.PROMISED, "full"), 0.80)
    types, _ = judge.score_pos(detect, _unmasked(records))
    yield Line("detect_secrets_pos, without values of x's", _share(types, judge.PROMISED, "full"), 0.90)
    types, sums = judge.score_pos(detect, judge.load("tele_dev"))
    for kind in (kind for kind in judge.PROMISED if types[kind]["n"]):
        yield Line(f"tele_dev, recall of {kind}", _share(types, [kind], "full"), 0.98)
    characters = sum(types[kind]["chars"] for kind in judge.PROMISED)
    leaked = sum(types[kind]["leak"] for kind in judge.PROMISED)
    yield Line("tele_dev, labelled characters left", leaked / characters * 100, 0.5, most=True, unit="%")
    yield Line("tele_dev, other characters covered", sums["collateral"] * 100, 1, most=True, unit="%")


def _unmasked(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records without the labels of values that are masked already: `AKCxxxxxxxxxx`."""
    return [
        {**one, "spans": [span for span in one["spans"] if _X not in one["text"][span["start"] : span["end"]]]}
        for one in records
    ]


def _share(types: Any, kinds: Any, field: str) -> float:
    number = sum(types[kind]["n"] for kind in kinds if kind in types)
    return float(sum(types[kind][field] for kind in kinds if kind in types) / number)


def false_positives(judge: Any, detect: Callable[[str], Any]) -> Iterator[Line]:
    """What is found where nothing is, per 10,000 characters."""
    for corpus, most in (("llm_traffic", 0.02), ("tele_neg", 0.05), ("stdlib_code", 0.02), ("sql", 0.0)):
        found = judge.score_neg(detect, judge.load(corpus))["fp_per_10k"]
        yield Line(f"{corpus}, false positives per 10,000 characters", found, most, most=True)
    found, _ = pii_code.false_positives(detect)
    yield Line("code and Markdown of ten projects, the same", found, 0.5, most=True)


def speeds(judge: Any, detect: Callable[[str], Any]) -> Iterator[Line]:
    """Time on this machine, as it is loaded now."""
    measured = judge.speed(detect)
    yield Line("2 kB, median", measured["us_2k_median"], 30, most=True, unit="us")
    yield Line("2 kB, 99th percentile", measured["us_2k_p99"], 150, most=True, unit="us")
    redactor = Redactor(RedactionSettings())
    texts = span_attributes(random.Random(7))  # noqa: S311  # the same span each time
    yield Line("a clean span of 20 attributes", _microseconds(lambda: redactor.dirty(texts)), 5, most=True, unit="us")


def _microseconds(work: Callable[[], object]) -> float:
    rounds = []
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(1000):
            work()
        rounds.append((time.perf_counter() - began) * 1000)
    return min(rounds)


def main() -> int:
    """Print the table; 0 where all targets are met, or nothing could be measured."""
    program = CORPORA / "evaluate.py"
    if not program.is_file():
        print(f"Nothing was measured: the labelled corpora are no part of this project, and {CORPORA} is not here.")
        return 0
    specification = importlib.util.spec_from_file_location("evaluate", program)
    if specification is None or specification.loader is None:
        raise ImportError(str(program))
    judge = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(judge)
    print(f"{'measured on the labelled corpora':52}{'figure':>12}   target")
    missed: list[Line] = []
    for line in lines(judge, make()):
        print(line, flush=True)
        if not line.met:
            missed.append(line)
    print(f"\n{len(missed)} missed" if missed else "\nall met")
    return 1 if any(line.unit != "us" for line in missed) else 0


if __name__ == "__main__":
    sys.exit(main())

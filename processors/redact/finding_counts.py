"""Findings become counters: type, rule and service, never a value."""

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from otel_telemetry.base import conventions, metrics
from otel_telemetry.base.label_bounds import MOST_SETS, OTHER, Label
from otel_telemetry.base.redaction_counts import Key, counts
from otel_telemetry.processors.redact.redactor import Finding, Redactor

#: Service name of the self-tests at start: their findings are not anybody's data, and are not counted.
SELF_TEST = "otel_telemetry.self_test"
#: Names of the counts in a span; anything else behind the prefix is somebody's text.
_SUMMARY: Final = re.compile(re.escape(conventions.REDACTED) + r"[a-z][a-z0-9_]{0,63}")
#: More than one item can have, and fewer than make a card's or a telephone number.
_MOST_FINDINGS: Final = 1_000_000
_thread = threading.local()
_LABELS: Final = ("type", "rule", "service")
_services: Final = Label()
_sets: Final[set[tuple[str, str, str]]] = set()


#: What the self-tests send; the policy may keep some of it.
_PLANTED = ("self.test@example.com", "4111 1111 1111 1111", "+1 415 555 0132", "203.0.113.9", "password=Gx7hunter2")


@contextmanager
def muted() -> Iterator[None]:
    """Count no findings of this thread: a self-test runs in the name of the app's own service."""
    _thread.muted = True
    try:
        yield
    finally:
        _thread.muted = False


def planted_for(redactor: Redactor, service: str = SELF_TEST) -> str | None:
    """Return a text that the redactor must change, as a name and as an attribute; None where its policy keeps all."""
    own = redactor.for_service(service)
    for text in _PLANTED:
        item = own.item("a", text)
        if text not in own.string(text) and (item is None or text not in str(item[1])):
            return text
    return None


def count(findings: Iterable[Finding], service: str) -> None:
    """Add findings to the `otel_telemetry.redactions` counter."""
    if service == SELF_TEST or getattr(_thread, "muted", False):
        return
    for (type_, rule), number in Counter((found.type, found.rule) for found in findings).items():
        labels = _labels(type_, rule, service)
        metrics.redactions.add(number, labels)
        counts.add(Key("finding", **labels), number)


def _labels(type_: str, rule: str, service: str) -> dict[str, str]:
    """Return the labels of a finding: beyond the bound first the service, then the rule is `other`; never the type."""
    for words in ((type_, rule, _services.word(service)), (type_, rule, OTHER)):
        if words in _sets or len(_sets) < MOST_SETS:
            _sets.add(words)
            return dict(zip(_LABELS, words, strict=True))
    return dict(zip(_LABELS, (type_, OTHER, OTHER), strict=True))


def summary(findings: Iterable[Finding]) -> dict[str, int]:
    """Return the findings as span attributes: `otel_telemetry.redacted.<type>` -> how many."""
    numbers = Counter(found.type for found in findings)
    return {f"{conventions.REDACTED}{type_.lower()}": number for type_, number in numbers.items()}


def is_summary(key: str, value: object) -> bool:
    """Return whether an attribute is one of our own counts, whose names (`...password`) end with a type.

    A number that is too large for a count is somebody's value under such a name.
    """
    counted = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_FINDINGS
    return counted and _SUMMARY.fullmatch(key) is not None


def unchecked() -> None:
    """Count a leak check that failed; the record itself was redacted as ever."""
    metrics.instrumentation_errors.add(1, {"component": "leak_check"})


def withheld(signal: str, items: int = 1) -> None:
    """Count records that were dropped because redacting them failed."""
    metrics.dropped.add(items, {"signal": signal, "reason": "redaction_failed"})

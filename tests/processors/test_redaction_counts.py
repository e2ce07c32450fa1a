"""What is counted of redactions is bounded, whatever services call themselves, and says the type to the last."""

from collections import Counter
from typing import Any

import pytest

from otel_telemetry.base import label_bounds, metrics
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.redactor import Finding


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()

    def add(number: int, labels: dict[str, Any]) -> None:
        found[tuple(labels.values())] += number

    monkeypatch.setattr(metrics.redactions, "add", add)
    monkeypatch.setattr(finding_counts, "_services", label_bounds.Label())
    monkeypatch.setattr(finding_counts, "_sets", set())
    return found


def test_services_without_number_end_as_other(counted: Counter[tuple[str, ...]]) -> None:
    for number in range(1_000):
        finding_counts.count([Finding("EMAIL", "email", 1)], f"service-{number}")
    assert len(counted) == label_bounds.MOST_VALUES + 1
    assert counted["EMAIL", "email", "other"] == 1_000 - label_bounds.MOST_VALUES


def test_beyond_the_bound_the_rule_is_lost_and_the_type_is_not(counted: Counter[tuple[str, ...]]) -> None:
    for number in range(label_bounds.MOST_SETS + 20):
        finding_counts.count([Finding("CUSTOM", f"rule-{number}", 1)], "shop")
    finding_counts.count([Finding("SSN", "ssn", 1), Finding("SSN", "ssn", 1), Finding("IBAN", "iban", 1)], "shop")
    assert counted["CUSTOM", "other", "other"] == 20
    assert counted["SSN", "other", "other"] == 2
    assert counted["IBAN", "other", "other"] == 1
    assert len(counted) == label_bounds.MOST_SETS + 3


def test_long_values_of_a_label_are_cut():
    label = label_bounds.Label()
    assert label.word("s" * 1_000_000) == label.word("s" * 300) == "s" * 200

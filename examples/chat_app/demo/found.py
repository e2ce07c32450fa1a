"""What a run left behind: the rows in the gateway's database, the model server's journal, the counters."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

Row = Mapping[str, Any]


@dataclass(slots=True, frozen=True)
class Counters:
    """The counters of one process, by name without `otel_telemetry_`, each with its labels."""

    samples: tuple[tuple[str, Mapping[str, str], float], ...]

    def total(self, name: str, label: str) -> Counter[str]:
        """Return the sums of a counter by one of its labels."""
        sums: Counter[str] = Counter()
        for sample, labels, value in self.samples:
            if sample == f"otel_telemetry_{name}_total":
                sums[labels.get(label, "")] += int(value)
        return sums


def scrape(url: str) -> Counters:
    """Return the counters that a Prometheus endpoint shows."""
    text = httpx.get(url, timeout=10).raise_for_status().text
    return Counters(
        tuple(
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        )
    )


@dataclass(slots=True, frozen=True)
class Found:
    """All of it. `served` is what the model server wrote down of each call that it answered."""

    requests: tuple[Row, ...]
    calls: tuple[Row, ...]
    served: tuple[Row, ...]
    app: Counters
    gateway: Counters

    def redactions(self) -> Counter[str]:
        """Return how many values were redacted, by type, in the app and in the gateway together."""
        return self.app.total("redactions", "type") + self.gateway.total("redactions", "type")

    def by_conversation(self, service: str) -> dict[str, Row]:
        """Return the requests of a service by their conversation."""
        return {row["conversation_id"]: row for row in self.requests if row["service"] == service}

    def calls_of(self, request_id: str) -> list[Row]:
        """Return the model calls of one request."""
        return [call for call in self.calls if call["request_id"] == request_id]


def journal(file: Path) -> tuple[Row, ...]:
    """Return the model server's journal."""
    return tuple(json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


def by(rows_: tuple[Row, ...], key: str) -> dict[Any, list[Row]]:
    """Return the rows grouped by a column."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows_:
        groups[row[key]].append(row)
    return dict(groups)

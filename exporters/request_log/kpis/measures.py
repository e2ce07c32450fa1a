"""Users' own figures as metrics. The list belongs to the process: `use` sets it once, at start.

Counts of rows follow the rows as the metrics of requests do (store/counts.py): a row counts when it is first committed.
If it changes, the counter is corrected; an excess is subtracted from what comes next.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry import metrics as api

from otel_telemetry.base import conventions, metrics
from otel_telemetry.base.label_bounds import MOST_SETS, OTHER
from otel_telemetry.exporters.request_log.kpis.config import LabelSettings
from otel_telemetry.exporters.request_log.kpis.definitions import Kpi, Value, of_map, of_record

_log = logging.getLogger("otel_telemetry.kpi")
_meter = api.get_meter(conventions.SCOPE_NAME)

_UNITS: Final = frozenset({"s", "ms", "By"})

Words = tuple[str, ...]
#: A row before a transaction and after it; None where there is none.
Change = tuple[Any, Any]


class _Label:
    """The values of a label: those that are named, or the first that come, and `other`."""

    def __init__(self, given: LabelSettings) -> None:
        self._known = set(given.values or ())
        self._most = given.most or 0

    def word(self, value: str | None) -> str:
        if value is None or value in self._known:
            return value or ""
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(value)
        return value


class Measure:
    """One figure as an instrument."""

    def __init__(self, kpi: Kpi) -> None:
        self.kpi = kpi
        self._labels = [(name, _Label(kpi.settings.labels[name])) for name, _ in kpi.labels]
        self._sets: set[Words] = set()
        self._deficit: dict[Words, float] = {}
        given = kpi.settings
        # Of other units Prometheus would make a part of the name.
        unit = given.unit if given.unit in _UNITS or not given.unit else f"{{{given.unit.strip('{}')}}}"
        options: dict[str, Any] = {"unit": unit, "description": given.description}
        if kpi.kind == "histogram":
            bounds = list(given.buckets or ())
            options["explicit_bucket_boundaries_advisory"] = bounds
            self._record = _meter.create_histogram(kpi.name, **options).record
        elif kpi.kind == "gauge":
            self._record = _meter.create_gauge(kpi.name, **options).set
        else:
            self._record = _meter.create_counter(kpi.name, **options).add
        if kpi.kind == "counter" and not kpi.labels:
            self._record(0, {})

    def take(self, value: Value | None) -> None:
        """Record a value, once."""
        if value is None:
            return
        if value.problem:
            metrics.kpi_skipped.add(1, {"kpi": self.kpi.name, "reason": value.problem})
            return
        self._record_number(self._words(value), value.number)

    def change(self, before: Value | None, after: Value | None) -> None:
        """Record what a row is now in place of what it was."""
        if before == after:
            return
        if self.kpi.kind != "counter":
            if before is None or before.problem or self.kpi.kind == "gauge":
                self.take(after)
            return
        if before is not None and not before.problem:
            words = self._words(before)
            self._deficit[words] = self._deficit.get(words, 0.0) + before.number
        self.take(after)

    def _record_number(self, words: Words, number: float) -> None:
        if self.kpi.kind == "counter":
            deficit = self._deficit.pop(words, 0.0)
            if deficit > number:
                self._deficit[words] = deficit - number
                return
            number -= deficit
        named = dict(zip((name for name, _ in self._labels), words, strict=True))
        self._record(number, named)

    def _words(self, value: Value) -> Words:
        words = tuple(label.word(word) for (_, label), word in zip(self._labels, value.words, strict=True))
        if words not in self._sets:
            if len(self._sets) >= MOST_SETS:
                return (OTHER,) * len(words)
            self._sets.add(words)
        return words


class Measures:
    """The figures of this process, by source."""

    def __init__(self) -> None:
        self.kpis: tuple[Kpi, ...] = ()
        self._of: dict[str, list[Measure]] = {}
        self._made: dict[str, Measure] = {}

    def use(self, kpis: tuple[Kpi, ...]) -> None:
        """Measure these from now on. Instruments that are there stay."""
        self.kpis = kpis
        self._of = {}
        for kpi in kpis:
            made = self._made.get(kpi.name)
            if made is None or made.kpi != kpi:
                made = self._made[kpi.name] = Measure(kpi)
            self._of.setdefault(kpi.source, []).append(made)

    def wants(self, *sources: str) -> bool:
        """Return whether there is any of one of these sources."""
        return any(source in self._of for source in sources)

    def changed(self, source: str, rows: Iterable[Change]) -> None:
        """Follow rows of requests or calls that were committed. Never raises."""
        for measure in self._of.get(source, ()):
            for before, after in rows:
                try:
                    of = measure.kpi.of
                    measure.change(before and of(of_record(before)), after and of(of_record(after)))
                except Exception:  # noqa: BLE001  # the rows are written, whatever an app's own instrument does
                    _failed(measure)

    def came(self, source: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count rows of a table to which rows are only added. Never raises."""
        for measure in self._of.get(source, ()):
            for row in rows:
                try:
                    measure.take(measure.kpi.of(of_map(row)))
                except Exception:  # noqa: BLE001  # as above
                    _failed(measure)

    def seen(self, name: str, value: Value) -> None:
        """Count what a span or a log record is in one of them. Never raises."""
        measure = self._made.get(name)
        try:
            if measure is not None:
                measure.take(value)
        except Exception:  # noqa: BLE001  # as above
            _failed(measure)


def _failed(measure: Measure | None) -> None:
    metrics.instrumentation_errors.add(1, {"component": "kpi"})
    _log.warning("kpi.%s could not be counted", measure.kpi.name if measure else "?", exc_info=True)


active: Final = Measures()
"""Those of this process."""

"""Attributes of a span that are redacted when they are first read, mostly by the thread that exports.

Finding triggers takes microseconds, checking and rewriting the matches takes tens of them: the app does not wait for
that. Nobody can read the raw values before: every way to read them redacts.
"""

import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.attributes import BoundedAttributes

from otel_telemetry.base.records import AnyValue
from otel_telemetry.processors.detect.sightings import Sightings
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.redactor import Findings
from otel_telemetry.processors.sdk.origin import Origin
from otel_telemetry.processors.sdk.parts import clean_attributes


class DeferredAttributes(BoundedAttributes):
    """Attributes in the SDK's own shape that are made when they are first read, whatever thread that is."""

    def __init__(self, old: Any, make: Callable[[], dict[str, AnyValue]]) -> None:
        """Take limits and drop count from the attributes that these replace. `make` must not raise."""
        self.maxlen = getattr(old, "maxlen", None)
        self.max_value_len = getattr(old, "max_value_len", None)
        self.dropped = getattr(old, "dropped", 0)
        self._extended_attributes = True  # what is in them was accepted before; opentelemetry-api 1.44 asks in copies
        self._lock = threading.Lock()
        self._immutable = True
        self._make_lock = threading.Lock()
        self._make: Callable[[], dict[str, AnyValue]] | None = make
        self._made: dict[str, AnyValue] = {}

    @property
    def _dict(self) -> dict[str, AnyValue]:  # type: ignore[override]  # where the SDK keeps and reads them
        if self._make is not None:
            with self._make_lock:
                if self._make is not None:
                    self._made = self._make()
                    self._make = None
        return self._made


def checked_later(attributes: Any, check: Callable[[Any], None]) -> Any:
    """Return the same attributes; `check` is called with them before they are first read. It must not raise."""

    def make() -> dict[str, AnyValue]:
        check(attributes)
        own: dict[str, AnyValue] = attributes._dict  # noqa: SLF001  # where the SDK keeps them
        return own

    return DeferredAttributes(attributes, make)


def redacted_later(attributes: Any, origin: Origin, seen: Sightings, event: str = "") -> Any:
    """Return attributes that are redacted when they are read; empty, and counted as dropped, where that fails.

    `event` names the span event that has them.
    """
    if not attributes:
        return attributes
    own = getattr(attributes, "_dict", attributes)  # the mapping around it is many times slower to read

    def make() -> dict[str, AnyValue]:
        findings = Findings(seen)
        try:
            cleaned = clean_attributes(origin.redactor, own, findings, event)
        except Exception:  # noqa: BLE001  # fail closed: whatever went wrong, these values must not leave
            finding_counts.withheld("traces")
            return {}
        finding_counts.count(findings, origin.service)
        return cleaned

    return DeferredAttributes(attributes, make)

"""What a ResponseCache is made of: its settings, what redacts its values, and what prices its misses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from otel_telemetry.cache.config import CacheSettings
from otel_telemetry.instrument.active import ModelUsage


class Redacts(Protocol):
    """What takes personal data out of a value (`otel_telemetry.processors.redact.redactor.Redactor` does)."""

    def value(self, value: Any, key: str = "") -> Any:
        """Return the value redacted; the same object where it is clean."""


class Rules:
    """Redacts by rules that can be exchanged while a cache is used."""

    def __init__(self, redactor: Redacts) -> None:
        self._redactor = redactor

    def use(self, redactor: Redacts) -> None:
        """Redact by these from the next value on."""
        self._redactor = redactor

    def value(self, value: Any, key: str = "") -> Any:
        """Return the value redacted; the same object where it is clean."""
        return self._redactor.value(value, key)


Price = Callable[[Sequence[ModelUsage]], Decimal | None]
"""What model calls cost together in US dollars, or None where that is not known."""


@dataclass(frozen=True)
class Parts:
    """What a ResponseCache is made of. `secret` keys the digests in its keys."""

    config: CacheSettings
    redactor: Redacts
    price: Price | None = None
    secret: bytes | None = None

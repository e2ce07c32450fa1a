"""Passes measurements from one process to another, which counts them.

In the first process, `Relay` is the MeterProvider: it stores the measurements of the instruments in metrics.py.
`replay` records them with the same instruments of the other process, whose metrics are scraped.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from opentelemetry.metrics import MeterProvider, NoOpMeter

from otel_telemetry.base import conventions, metrics

_PREFIX: Final = f"{conventions.SCOPE_NAME}."


class Measurement(NamedTuple):
    """One measurement of an instrument: its name, the method, the value and the attributes."""

    instrument: str
    method: str
    value: float
    attributes: dict[str, Any] | None


class Relay(MeterProvider):
    """Keeps all measurements until they are taken."""

    def __init__(self) -> None:
        self._measurements: list[Measurement] = []

    def get_meter(self, name: str, *_: Any, **__: Any) -> "_Meter":
        """Return a meter. Instruments that are not the suite's own are kept too, but `replay` knows none of them."""
        return _Meter(name, self._measurements)

    def take(self) -> list[Measurement]:
        """Return what was measured since the last time."""
        taken = list(self._measurements)
        del self._measurements[: len(taken)]
        return taken


class _Meter(NoOpMeter):
    def __init__(self, name: str, measurements: list[Measurement]) -> None:
        super().__init__(name)
        self._measurements = measurements

    def create_counter(self, name: str, *_: Any, **__: Any) -> Any:
        return _Instrument(name, self._measurements)

    create_histogram = create_gauge = create_up_down_counter = create_counter


class _Instrument:
    """Counter, histogram and gauge at once."""

    def __init__(self, name: str, measurements: list[Measurement]) -> None:
        self._name = name
        self._measurements = measurements

    def add(self, amount: float, attributes: dict[str, Any] | None = None, *_: Any, **__: Any) -> None:
        self._measurements.append(Measurement(self._name, "add", amount, attributes))

    def record(self, amount: float, attributes: dict[str, Any] | None = None, *_: Any, **__: Any) -> None:
        self._measurements.append(Measurement(self._name, "record", amount, attributes))

    def set(self, amount: float, attributes: dict[str, Any] | None = None, *_: Any, **__: Any) -> None:
        self._measurements.append(Measurement(self._name, "set", amount, attributes))


def replay(measurements: Iterable[Measurement]) -> None:
    """Record with the instruments of this process what was measured in another one."""
    for name, method, value, attributes in measurements:
        instrument = getattr(metrics, name.removeprefix(_PREFIX).replace(".", "_"), None)
        if instrument is not None:
            getattr(instrument, method)(value, attributes)

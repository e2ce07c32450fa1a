"""The client metrics of the GenAI conventions, with their units and advised buckets, and the two of the contract.

    tokens per second = (output tokens - 1) / (duration - time to first chunk)

of a streamed call with at least two tokens and no reasoning, as in the request_log.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter

from otel_telemetry.base import conventions
from otel_telemetry.instrument.output_rate import OutputRate

Attributes = Mapping[str, str | int]


class CallMeasurement(NamedTuple):
    """What was measured of one call; times in seconds, None is unknown."""

    seconds: float
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    first_chunk: float | None
    gaps: Sequence[float]
    error_type: str | None


class Measures:
    """The instruments of one meter."""

    def __init__(self, meter: Meter) -> None:
        self._tokens = _histogram(meter, conventions.TOKEN_USAGE_METRIC, "{token}", "Tokens used, by type.")
        self._duration = _histogram(meter, conventions.OPERATION_DURATION_METRIC, "s", "Duration of model calls.")
        self._first = _histogram(
            meter, conventions.TIME_TO_FIRST_CHUNK_METRIC, "s", "Time to the first chunk with content, if streamed."
        )
        self._chunk = _histogram(
            meter, conventions.TIME_PER_OUTPUT_CHUNK_METRIC, "s", "Time between chunks after the first, if streamed."
        )
        self._ttfb = meter.create_histogram(
            conventions.TTFB_METRIC,
            "s",
            "Time to the first chunk with content, if streamed.",
            explicit_bucket_boundaries_advisory=conventions.TTFB_BUCKETS,
        )
        self._rate = OutputRate(meter)

    def record(self, measurement: CallMeasurement, attributes: Attributes, context: Context) -> None:
        """Record one call; `context` is its span's, for exemplars."""
        failed = {conventions.ERROR_TYPE: measurement.error_type} if measurement.error_type else {}
        self._duration.record(measurement.seconds, {**attributes, **failed}, context)
        for kind, count in (("input", measurement.input_tokens), ("output", measurement.output_tokens)):
            if count is not None:
                self._tokens.record(count, {**attributes, conventions.TOKEN_TYPE: kind}, context)
        if measurement.first_chunk is not None:
            self._first.record(measurement.first_chunk, attributes, context)
            for gap in measurement.gaps:
                self._chunk.record(gap, attributes, context)
            self._ttfb.record(measurement.first_chunk, attributes, context)
            generating = measurement.seconds - measurement.first_chunk
            if (measurement.output_tokens or 0) > 1 and generating > 0 and not measurement.reasoning_tokens:
                self._rate.record((measurement.output_tokens or 0) - 1, generating, attributes, context)


def _histogram(meter: Meter, name: str, unit: str, description: str) -> Histogram:
    buckets = conventions.TOKEN_BUCKETS if unit == "{token}" else conventions.DURATION_BUCKETS
    return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)


class ChunkIntervals:
    """A sample of the times between chunks: every one of a short stream, evenly spread ones of a long one.

    Recording a histogram costs more than everything else we do for a chunk, so a stream gives at most 15 of them.
    """

    SIZE = 8  # the list is halved when it has twice as many
    __slots__ = ("_skipped", "_stride", "values")

    def __init__(self) -> None:
        self.values: list[float] = []
        self._stride = 1
        self._skipped = 0

    def add(self, gap: float) -> None:
        """Take the time since the last chunk, in seconds."""
        self._skipped += 1
        if self._skipped < self._stride:
            return
        self._skipped = 0
        self.values.append(gap)
        if len(self.values) == 2 * self.SIZE:
            del self.values[::2]
            self._stride *= 2

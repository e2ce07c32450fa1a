"""The gauge of tokens per second is the average of the last minute's calls, for each set of attributes."""

import math
import time
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_telemetry.base.label_bounds import MOST_SETS
from otel_telemetry.instrument.output_rate import OutputRate


class Shown:
    """A gauge, and what it shows, under a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._reader = InMemoryMetricReader()
        meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.rate = OutputRate(meters.get_meter("test"))

    def values(self) -> dict[str, float]:
        data: Any = self._reader.get_metrics_data()
        points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        return {point.attributes.get("model", ""): point.value for point in points}


@pytest.fixture(name="shown")
def shown_fixture(monkeypatch) -> Shown:
    found = Shown()
    monkeypatch.setattr(time, "monotonic", lambda: found.now)
    return found


def test_it_is_all_tokens_over_all_seconds_and_no_average_of_averages(shown):
    shown.rate.record(100, 1)
    shown.rate.record(100, 4)
    assert shown.values() == {"": 40.0}


def test_calls_of_more_than_a_minute_ago_count_no_more_and_the_value_stays_without_calls(shown):
    shown.rate.record(100, 1)
    shown.now += 30
    shown.rate.record(300, 1)
    assert shown.values() == {"": 200.0}
    shown.now += 30
    shown.rate.record(500, 1)
    assert shown.values() == {"": 400.0}
    shown.now += 3_600
    assert shown.values() == {"": 400.0}
    shown.rate.record(7, 1)
    assert shown.values() == {"": 7.0}


def test_each_set_of_attributes_has_its_own_and_no_more_are_known_than_a_metric_shows(shown):
    shown.rate.record(10, 1, {"model": "a"})
    shown.rate.record(20, 1, {"model": "b"})
    assert shown.values() == {"a": 10.0, "b": 20.0}
    for number in range(2 * MOST_SETS):
        shown.rate.record(1, 1, {"model": str(number)})
    assert len(shown.rate._sums) == MOST_SETS


@pytest.mark.parametrize(
    ("tokens", "seconds"), [(1e308, 1e-3), (math.nan, 1), (1, 5e-324), (1e300, 1e300), (math.inf, 1), (1, math.nan)]
)
def test_figures_of_no_model_do_not_stand_for_all(shown, tokens, seconds):
    shown.rate.record(100, 1)
    shown.rate.record(tokens, seconds)
    assert shown.values() == {"": 100.0}

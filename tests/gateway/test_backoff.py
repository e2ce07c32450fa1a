from hypothesis import given
from hypothesis import strategies as st

from otel_telemetry.base import backoff


def test_a_pause_doubles_up_to_the_longest() -> None:
    assert [backoff.pause(failures, 0.25, 3) for failures in range(7)] == [0.25, 0.25, 0.5, 1, 2, 3, 3]


@given(st.integers(min_value=0, max_value=10**30))
def test_no_number_of_failures_is_too_large(failures: int) -> None:
    assert 0.1 <= backoff.pause(failures, 0.1, 30) <= 30


@given(st.floats(min_value=0, max_value=1e6))
def test_a_spread_pause_is_at_least_half_and_never_longer(seconds: float) -> None:
    assert seconds / 2 <= backoff.spread(seconds) <= seconds

"""Alerts under what happens to series: failed scrapes, gaps, restarts, first samples. Each runs in promtool.

In calm there is a history that would alarm if it were news: half of all requests failed once, items were dropped, the
month's cost is far above the budget. In trouble every alert has its reason.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.deploy.test_alert_rules import RULES, promtool, rules

MINUTES: Final = 240
CYCLE: Final = 120
Value = float | None
#: What promtool is given where nothing was scraped, and where a scrape failed.
NOTHING, FAILED = "_", "stale"


@dataclass(frozen=True)
class Series:
    """A series: what it was before, and how much it grows a minute in calm and in trouble; a level does not restart."""

    name: str
    labels: str
    before: float = 0
    calm: float = 0
    trouble: float = 0
    level: bool = False

    def values(self, troubled: bool = False, restart: int | None = None) -> list[str]:
        """Return a value a minute; trouble begins at TURN."""
        found, now = [], self.before
        for minute in range(MINUTES):
            if minute == restart and not self.level:
                now = 0
            found.append(f"{now:g}")
            now += self.trouble if troubled and minute >= CYCLE else self.calm
        return found


def at(level: float, bad: float) -> Callable[[Series, bool], list[str]]:
    return lambda _, troubled: [f"{bad if troubled and minute >= CYCLE else level:g}" for minute in range(MINUTES)]


CALL = 'service="s",provider="openai",model="m"'
COUNTED = [
    Series("otel_telemetry_leaks_total", 'signal="traces",type="EMAIL"', 0, 0, 1),
    Series("otel_telemetry_dropped_total", 'signal="traces",reason="invalid"', 3, 0, 1),
    Series("otel_telemetry_rejected_total", 'exporter="a",signal="traces",reason="partial_success"', 3, 0, 1),
    Series("otel_telemetry_dead_lettered_total", 'exporter="a",reason="invalid"', 4, 0, 1),
    Series("otel_telemetry_spool_dead_letters", "", 4, 0, 1, level=True),
    Series("otel_telemetry_spool_missed_items_total", 'exporter="a",reason="dead_letters_full"', 3, 0, 1, level=True),
    Series("otel_telemetry_requests_total", 'service="s",route="r",model="",outcome="ok"', 500, 10, 10),
    Series("otel_telemetry_requests_total", 'service="s",route="r",model="",outcome="error"', 500, 0, 1),
    Series("otel_telemetry_llm_calls_total", f'{CALL},outcome="ok"', 500, 10, 10),
    Series("otel_telemetry_llm_calls_total", f'{CALL},outcome="error"', 500, 0, 1),
    Series("otel_telemetry_llm_call_ttfb_seconds_bucket", f'{CALL},outcome="ok",le="2"', 100, 10, 1),
    Series("otel_telemetry_llm_call_ttfb_seconds_bucket", f'{CALL},outcome="ok",le="5"', 900, 10, 10),
    Series("otel_telemetry_llm_call_ttfb_seconds_bucket", f'{CALL},outcome="ok",le="+Inf"', 900, 10, 10),
    Series("otel_telemetry_posted_total", 'event="step:end"', 500, 10, 10),
    Series("otel_telemetry_posted_total", 'event="step:error"', 500, 0, 1),
    Series("otel_telemetry_cost_usd_total", CALL, 900, 0.001, 0.5),
    Series("telemetry_cache_cache_hits_total", 'cache="response"', 500, 10, 1),
    Series("telemetry_cache_cache_misses_total", 'cache="response"', 500, 0, 9),
]
LEVELS: dict[Series, Callable[[Series, bool], list[str]]] = {
    Series("up", ""): at(1, 0),
    Series("otel_telemetry_circuit", 'exporter="a"'): at(0, 2),
    Series("otel_telemetry_spool_lag_seconds", 'exporter="a"'): at(10, 400),
    Series("otel_telemetry_spool_bytes", ""): at(10, 90),
    Series("otel_telemetry_spool_max_bytes", ""): at(100, 100),
    Series("otelcol_exporter_queue_size", 'exporter="otlp"'): at(10, 90),
    Series("otelcol_exporter_queue_capacity", 'exporter="otlp"'): at(100, 100),
    Series("otel_telemetry_cost_budget_per_day_usd", ""): at(5, 5),
    Series("otel_telemetry_anomaly", 'service="s",level="service",name="",measure="errors"'): at(0, 1),
}
ALL = {rule["alert"] for rule in rules()}

Given = dict[str, list[str]]


def given(*, troubled: bool = False, restart: int | None = None) -> Given:
    """Return every series of an installation, in calm or in trouble."""
    found = {full(each): each.values(troubled, restart) for each in COUNTED}
    return found | {full(each): values(each, troubled) for each, values in LEVELS.items()}


def full(series: Series) -> str:
    return f'{series.name}{{job="gateway",instance="g:4318"{"," if series.labels else ""}{series.labels}}}'


def without(series: Given, word: str, minutes: range) -> Given:
    """Return the series with nothing to be seen in these minutes; Prometheus' own `up` is 0 where a scrape failed."""
    found = {}
    for name, values in series.items():
        missing = "0" if name.startswith("up{") and word == FAILED else word
        found[name] = [missing if minute in minutes else value for minute, value in enumerate(values)]
    return found


def firing(folder: Path, series: Given, expected: dict[int, set[str]]) -> None:
    """Hold what fires at these minutes against what must."""
    asked = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"} or vector(0))',
            "eval_time": f"{minute}m",
            "exp_samples": [
                {"labels": "{}", "value": 1},
                *({"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)),
            ],
        }
        for minute, names in expected.items()
    ]
    inputs = [{"series": name, "values": " ".join(values)} for name, values in series.items()]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": asked}
    file = folder / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def silent(*minutes: int) -> dict[int, set[str]]:
    return {minute: set() for minute in minutes}


def test_a_failed_scrape_in_calm_is_no_news(tmp_path: Path) -> None:
    series = without(given(), FAILED, range(CYCLE, CYCLE + 1))
    firing(tmp_path, series, silent(0, 110, 120, 121, 125, 131, 137, 150, 239))


@pytest.mark.parametrize("minutes", [7, 12, 45])
def test_a_gap_in_calm_is_no_news(tmp_path: Path, minutes: int) -> None:
    series = without(given(), NOTHING, range(CYCLE, CYCLE + minutes))
    firing(tmp_path, series, silent(119, *(CYCLE + minutes + later for later in (0, 1, 5, 8, 12, 16, 35))))


def test_a_gateway_that_was_away_and_is_back_is_no_news_but_for_having_been_away(tmp_path: Path) -> None:
    series = without(given(), FAILED, range(CYCLE, CYCLE + 30))
    firing(tmp_path, series, {125: {"GatewayDown"}, **silent(150, 151, 155, 161, 166, 180)})


def test_a_restart_in_calm_is_no_news(tmp_path: Path) -> None:
    firing(tmp_path, given(restart=CYCLE), silent(119, 120, 121, 125, 131, 137, 239))


def test_what_happened_before_prometheus_looked_is_no_news(tmp_path: Path) -> None:
    series = without(given(), NOTHING, range(60))
    firing(tmp_path, series, silent(60, 61, 65, 66, 71, 76, 100, 200))


def test_every_alert_fires_in_trouble_and_none_before(tmp_path: Path) -> None:
    firing(tmp_path, given(troubled=True), {119: set(), 160: ALL})


def test_a_failed_scrape_in_trouble_ends_no_alert(tmp_path: Path) -> None:
    series = without(given(troubled=True), FAILED, range(160, 161))
    firing(tmp_path, series, {159: ALL, 160: ALL, 161: ALL, 165: ALL})


def test_a_restart_in_trouble_ends_no_alert_but_that_of_leaks(tmp_path: Path) -> None:
    rest = ALL - {"PersonalDataAfterRedaction"}  # one minute without a leak
    firing(tmp_path, given(troubled=True, restart=160), {159: ALL, 160: rest, 163: ALL, 175: ALL})


def labelled(name: str, labels: str, first: int) -> Iterator[tuple[str, list[str]]]:
    """Yield a series of labels that were never seen, which begins with its first event."""
    yield full(Series(name, labels)), [NOTHING] * first + ["1"] * (MINUTES - first)


def test_labels_that_were_never_seen_count_from_their_first_event(tmp_path: Path) -> None:
    series = given()
    for name, labels in (
        ("otel_telemetry_dropped_total", 'signal="logs",reason="queue_full"'),
        ("otel_telemetry_rejected_total", 'exporter="loki",signal="logs",reason="too_old"'),
        ("otel_telemetry_dead_lettered_total", 'exporter="loki",reason="too_old"'),
        ("otel_telemetry_spool_missed_items_total", 'exporter="b",reason="dead_letters_full"'),
    ):
        series |= labelled(name, labels, CYCLE)
    for number in range(80):
        failed = f'service="s",route="new-{number}",model="",outcome="error"'
        series |= labelled("otel_telemetry_requests_total", failed, CYCLE + number)
        call = f'service="s",provider="openai",model="new-{number}",outcome="error"'
        series |= labelled("otel_telemetry_llm_calls_total", call, CYCLE + number)
    cost = Series("otel_telemetry_cost_usd_total", 'service="s",provider="openai",model="dear"')
    series[full(cost)] = [NOTHING] * CYCLE + ["6"] * (MINUTES - CYCLE)
    expected = {"TelemetryDropped", "ItemsRejected", "DeadLettersGrow", "DeadLettersDropped"}
    expected |= {"RequestsFail", "ModelCallsFail", "CostAboveBudget"}
    firing(tmp_path, series, {119: set(), 128: expected, 239: {"CostAboveBudget"}})


def test_an_app_that_no_rows_are_counted_of_has_its_own_metrics_watched(tmp_path: Path) -> None:
    own = 'gen_ai_client_operation_duration_seconds_count{job="app",instance="1"'
    bucket = 'telemetry_cache_ttfb_seconds_bucket{job="app",instance="1",le='
    calm = Series("", "", 500, 10, 10)
    series = {
        f"{own}}}": calm.values(troubled=True),
        f'{own},error_type="500"}}': replace(calm, calm=0, trouble=1).values(troubled=True),
        f'{bucket}"2"}}': replace(calm, trouble=1).values(troubled=True),
        f'{bucket}"5"}}': calm.values(troubled=True),
        f'{bucket}"+Inf"}}': calm.values(troubled=True),
    }
    firing(tmp_path, series, {119: set(), 140: {"ModelCallsFail", "SlowFirstByte"}})


def test_a_cache_without_a_single_hit_is_one_that_hits_too_seldom(tmp_path: Path) -> None:
    misses = Series("telemetry_cache_cache_misses_total", 'cache="response"', 0, 5)
    firing(tmp_path, {full(misses): misses.values()}, {9: set(), 30: {"CacheHitRateLow"}})


def test_dead_letters_that_take_the_place_of_replayed_ones_are_news(tmp_path: Path) -> None:
    total = Series("otel_telemetry_spool_dead_letters", "")
    counted = Series("otel_telemetry_dead_lettered_total", 'exporter="a",reason="invalid"')
    series = {
        full(total): ["9"] * 115 + ["0"] * 10 + ["3"] * 115,
        full(counted): ["9"] * 125 + ["12"] * 115,
    }
    firing(tmp_path, series, {124: set(), 128: {"DeadLettersGrow"}, 150: set()})

"""A week of traffic, scraped each minute: what was planted fires on its day, and nothing else ever does."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import yaml

from tests.deploy.test_alert_rules import RULES, promtool

DAY: Final = 24 * 60
WEEK: Final = 7 * DAY
SEED: Final = 17
LABELS: Final = 'job="gateway",instance="g:4318"'
#: On which day (0 is Monday), from which minute of it, how long.
FAIL, DOWN, AWAY, COST, LEAK = (1, 600, 30), (2, 700, 10), (3, 300, 40), (4, 480, 60), (5, 900, 5)
EXPECTED: Final = {
    0: set(),
    1: {"RequestsFail", "ModelCallsFail"},
    2: {"GatewayDown"},
    3: {"DestinationAway", "SpoolBehind"},
    4: {"CostAboveBudget"},
    5: {"PersonalDataAfterRedaction", "CostAboveBudget"},  # a day's cost is over a day later
    6: set(),
}
RESTARTS: Final = (0 * DAY + 800, 2 * DAY + 710, 5 * DAY + 1_000)
Value = float | None


def within(minute: int, planted: tuple[int, int, int]) -> bool:
    day, start, length = planted
    return 0 <= minute - day * DAY - start < length


def traffic(minute: int) -> float:
    """Return how many requests a minute has: days, nights, and a quiet weekend."""
    daily = 1 + 0.8 * math.sin((minute % DAY - 480) / DAY * 2 * math.pi)
    return max(1.0, 60 * daily * (0.2 if minute // DAY > 4 else 1.0))


def counter(step: Callable[[int, random.Random], float], seed: int) -> list[Value]:
    """Return a counter that begins anew where the gateway was started again."""
    chance, total, found = random.Random(seed), 0.0, []  # noqa: S311  # no secret
    for minute in range(WEEK):
        total = 0.0 if minute in RESTARTS else total + step(minute, chance)
        found.append(round(total, 4))
    return found  # type: ignore[return-value]


def failed(share: float, planted: tuple[int, int, int]) -> Callable[[int, random.Random], float]:
    def step(minute: int, chance: random.Random) -> float:
        mean = traffic(minute) * (0.3 if within(minute, planted) else share)
        return float(sum(chance.random() < mean / 100 for _ in range(100)))

    return step


def fine(minute: int, chance: random.Random) -> float:
    return float(round(traffic(minute) * chance.uniform(0.8, 1.2)))


def series() -> dict[str, list[Value]]:
    """Return the series of a gateway."""
    request, call = 'service="s",route="r",model="m",degraded_reason=""', 'service="s",provider="p",model="m"'

    def level(normal: float, bad: float, planted: tuple[int, int, int]) -> list[Value]:
        return [bad if within(minute, planted) else normal for minute in range(WEEK)]

    found: dict[str, list[Value]] = {
        f'otel_telemetry_requests_total{{{LABELS},{request},outcome="ok"}}': counter(fine, 1),
        f'otel_telemetry_requests_total{{{LABELS},{request},outcome="error"}}': counter(failed(0.01, FAIL), 2),
        f'otel_telemetry_llm_calls_total{{{LABELS},{call},outcome="ok"}}': counter(fine, 3),
        f'otel_telemetry_llm_calls_total{{{LABELS},{call},outcome="error"}}': counter(failed(0.01, FAIL), 4),
        f"otel_telemetry_cost_usd_total{{{LABELS},{call}}}": counter(
            lambda minute, _: 1.0 if within(minute, COST) else traffic(minute) * 2e-4, 5
        ),
        f"otel_telemetry_cost_budget_per_day_usd{{{LABELS}}}": [40.0] * WEEK,
        f'otel_telemetry_leaks_total{{{LABELS},signal="logs",type="EMAIL"}}': counter(
            lambda minute, _: float(within(minute, LEAK)), 6
        ),
        f'otel_telemetry_dropped_total{{{LABELS},signal="traces",reason="invalid"}}': [0.0] * WEEK,
        f'otel_telemetry_circuit{{{LABELS},exporter="a"}}': level(0, 2, AWAY),
        f'otel_telemetry_spool_lag_seconds{{{LABELS},exporter="a"}}': level(3, 900, AWAY),
        f"otel_telemetry_spool_dead_letters{{{LABELS}}}": [2.0] * WEEK,
        f"otel_telemetry_spool_bytes{{{LABELS}}}": [5.0] * WEEK,
        f"otel_telemetry_spool_max_bytes{{{LABELS}}}": [100.0] * WEEK,
    }
    missed = set(random.Random(SEED).sample(range(WEEK), 60))  # noqa: S311  # no secret
    missed |= {minute for minute in range(WEEK) if within(minute, DOWN)}
    scraped = {name: [None if minute in missed else v for minute, v in enumerate(vs)] for name, vs in found.items()}
    return {f"up{{{LABELS}}}": [float(minute not in missed) for minute in range(WEEK)], **scraped}


def test_a_week_with_planted_faults_raises_exactly_the_planted_alerts(tmp_path: Path) -> None:
    inputs = [
        {"series": name, "values": " ".join("stale" if value is None else f"{value:g}" for value in values)}
        for name, values in series().items()
    ]
    asked = [
        {
            "expr": 'count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1d])) or vector(0)',
            "eval_time": f"{(day + 1) * DAY - 1}m",
            "exp_samples": [
                {"labels": "{}", "value": 0},
                *({"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)),
            ],
        }
        for day, names in EXPECTED.items()
    ]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": asked}
    file = tmp_path / "week.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": [test]}))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr

"""How often `otel-telemetry anomalies` is wrong, and what it finds: on generated weeks, beside plain rules.

    python benchmarks/anomalies.py [--seeds 6] [--choose]

Each installation has 50 series of requests an hour: office, night, flat and web shapes with a trend, hours that are
missing, a change of clocks, a holiday and a step up for good; negative binomial noise of a given Fano factor around a
rate that drifts by some percent from day to day. Eight weeks are known, two are judged. In half of the installations
faults are planted: one hour and three hours times 3, three hours at zero, six hours at half. Seeds 1000 and up are
those of the result; --choose takes 1 and up, by which parameters were chosen. An incident in hours without a fault
(and two hours after) is false. "sparse" are faults where some hour had fewer than 20 events a week before. Events are
scored, not hours: no point-adjusted F1.
"""

import argparse
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from otel_telemetry.exporters.request_log.anomalies.judge import WEEK, Hour, Incident, Judge, threshold

SERIES: Final = 50
KNOWN: Final = 8
JUDGED: Final = 2
Rule = Callable[[Sequence[Hour | None], Sequence[int]], list[Incident]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What was planted: a kind, and from which hour to which."""

    kind: str
    first: int
    end: int


def drawn(mean: float, fano: float, chance: random.Random) -> int:
    """Draw a count with that mean and Fano factor."""
    rate = chance.gammavariate(mean / (fano - 1), fano - 1) if fano > 1.01 else mean
    if rate > 500:
        return max(0, round(chance.gauss(rate, math.sqrt(rate))))
    limit, count, product = math.exp(-rate), 0, chance.random()
    while product > limit:
        count, product = count + 1, product * chance.random()
    return count


def shape(kind: int, slot: int) -> float:
    """Return how much an hour of the week has, around 1."""
    hour, day = slot % 24, slot // 24
    daily = 1 + 0.6 * math.sin((hour - 8) / 24 * 2 * math.pi)
    if kind == 0:
        return daily * (0.5 if day > 4 else 1.2)
    if kind == 1:
        return 1 + 0.5 * math.cos(hour / 24 * 2 * math.pi)
    return 1.0 if kind == 2 else daily


def installation(
    seed: int, fano: float, planted: bool
) -> tuple[list[tuple[list[Hour | None], list[Fault]]], list[int]]:
    """Return 50 series with what was planted in them, and each hour's place in the week."""
    chance = random.Random(seed)  # noqa: S311  # what is drawn is no secret
    total = (KNOWN + JUDGED) * WEEK
    clocks = (KNOWN - 1) * WEEK + 50  # they change here
    holiday = KNOWN * WEEK + 2 * 24
    slots = [(hour + (1 if hour >= clocks else 0)) % WEEK for hour in range(total)]
    true = list(slots)
    for hour in range(holiday, holiday + 24):
        true[hour] = slots[hour] = 6 * 24 + slots[hour] % 24
    found = []
    for number in range(SERIES):
        base = math.exp(chance.uniform(math.log(8), math.log(2_000)))
        kind, trend = number % 4, chance.uniform(-0.03, 0.05)
        step = chance.randrange(total) if number % 10 == 9 else total
        days = [math.exp(chance.gauss(0, 0.05)) for _ in range(total // 24 + 1)]
        means = [
            base * shape(kind, true[hour]) * (1 + trend) ** (hour / WEEK) * days[hour // 24]
            * (1.2 if hour >= step else 1.0)
            for hour in range(total)
        ]  # fmt: skip
        faults = _planted(means, chance) if planted else []
        hours: list[Hour | None] = [Hour(count, count) for count in (drawn(mean, fano, chance) for mean in means)]
        for fault in faults:
            if fault.kind == "zero":
                hours[fault.first : fault.end] = [Hour(0, 0)] * (fault.end - fault.first)
        for _ in range(6):
            hours[chance.randrange(total - 1)] = None
        found.append((hours, faults))
    return found, slots


def _planted(means: list[float], chance: random.Random) -> list[Fault]:
    """Change the means of the judged weeks; return what was planted."""
    faults = []
    for kind, length, place in (("three", 3, 0.1), ("one", 1, 0.3), ("zero", 3, 0.5), ("half", 6, 0.7)):
        first = KNOWN * WEEK + int(JUDGED * WEEK * place) + chance.randrange(24)
        faults.append(Fault(kind, first, first + length))
        for hour in range(first, first + length):
            means[hour] *= {"three": 3, "one": 3, "zero": 1, "half": 0.5}[kind]
    return faults


def ours(hours: Sequence[Hour | None], slots: Sequence[int]) -> list[Incident]:
    return Judge("count", hours, slots, threshold(SERIES)).run(KNOWN * WEEK).incidents


def never(hours: Sequence[Hour | None], slots: Sequence[int]) -> list[Incident]:
    del hours, slots
    return []


def three_sd(hours: Sequence[Hour | None], slots: Sequence[int]) -> list[Incident]:
    """Mean and standard deviation of the last 24 hours, as the usual PromQL has it."""
    del slots
    flags = []
    for now in range(KNOWN * WEEK, len(hours)):
        past = [hour.value for hour in hours[now - 24 : now] if hour]
        mean = sum(past) / len(past)
        sd = math.sqrt(sum((each - mean) ** 2 for each in past) / len(past))
        flags.append(_side(hours[now], mean - 3 * sd, mean + 3 * sd))
    return _runs(flags)


def seasonal_naive(hours: Sequence[Hour | None], slots: Sequence[int]) -> list[Incident]:
    """The same hour of four weeks before, with three of their standard deviations."""
    del slots
    flags = []
    for now in range(KNOWN * WEEK, len(hours)):
        past = [hour.value for week in range(1, 5) if (hour := hours[now - week * WEEK])]
        mean = sum(past) / len(past) if past else 0
        sd = math.sqrt(sum((each - mean) ** 2 for each in past) / max(1, len(past) - 1))
        flags.append(_side(hours[now], mean - 3 * sd, mean + 3 * sd) if past else 0)
    return _runs(flags)


def _side(hour: Hour | None, low: float, high: float) -> int:
    return 0 if hour is None else 1 if hour.value > high else -1 if hour.value < low else 0


def _runs(flags: Sequence[int]) -> list[Incident]:
    found: list[Incident] = []
    for at, side in enumerate(flags, KNOWN * WEEK):
        if side and found and found[-1].end == at and found[-1].up == (side > 0):
            found[-1].end = at + 1
        elif side:
            found.append(Incident(at, side > 0, at + 1))
    return found


def scored(rule: Rule, fano: float, seeds: Sequence[int]) -> dict[str, float]:
    """Return false incidents a week and installation, and the share of each kind of fault that was found."""
    false, weeks = 0, 0
    found: dict[str, list[int]] = {}
    for seed in seeds:
        for planted in (False, True):
            series, slots = installation(seed, fano, planted)
            weeks += JUDGED
            for hours, faults in series:
                incidents = rule(hours, slots)
                near = [
                    [f for f in faults if i.first < f.end + 3 and (i.end or len(hours)) > f.first] for i in incidents
                ]
                false += sum(not one for one in near)
                for fault in faults:
                    counts = [hours[at].value if hours[at] else 0 for at in range(fault.first - WEEK, fault.end - WEEK)]  # type: ignore[union-attr]
                    kind = fault.kind if min(counts) >= 20 else f"{fault.kind}, sparse"
                    found.setdefault(kind, []).append(any(fault in one for one in near))
    shares = {kind: sum(hits) / len(hits) for kind, hits in sorted(found.items())}
    return {"false a week": false / weeks, **shares}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--seeds", type=int, default=6)
    given.add_argument("--choose", action="store_true")
    given.add_argument("--ours", action="store_true", help="Leave the baselines out.")
    asked = given.parse_args()
    first = 1 if asked.choose else 1000
    seeds = range(first, first + asked.seeds)
    rules: dict[str, Rule] = {"ours": ours}
    if not asked.ours:
        rules |= {"never": never, "3 sd of 24 h": three_sd, "seasonal naive": seasonal_naive}
    for fano in (1.0, 1.5, 3.0):
        for name, rule in rules.items():
            shown = "  ".join(f"{kind} {value:.2f}" for kind, value in scored(rule, fano, seeds).items())
            print(f"Fano {fano}  {name:15}  {shown}", flush=True)


if __name__ == "__main__":
    main()

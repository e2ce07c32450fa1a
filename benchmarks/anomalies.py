"""How often `otel-telemetry anomalies` is wrong, and what it finds: on generated weeks, beside plain rules.

    python benchmarks/anomalies.py [--seeds 3] [--choose] [--docs]

Each installation has 50 series of one measure, hour by hour: office, night, flat and web shapes with a trend, hours
that are missing, a change of clocks, a holiday, a step up for good in every tenth series, and a level that drifts from
day to day. The noise has a given dispersion: the variance as a multiple of what independent events would give (for a
count its Fano factor). Eight weeks are known, four are judged. In half of the installations faults are planted: three
hours and one hour times 3, three hours at zero, six hours at half. A share cannot rise threefold where it is large:
there the other side of it rises threefold. Seeds 2000 and up are those of the result; --choose takes 1 and up, by which
parameters were chosen. An incident in hours without a fault (and three hours after) is false. "sparse" are faults in
which some hour is expected to have fewer than 20 events: requests; for a share, hits or misses, whichever are fewer;
for a mean, what it is a mean of, and of redactions the redactions. Faults are scored, not hours: no point-adjusted F1.
--docs puts the tables into docs/anomalies.md.
"""

import argparse
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Final

from otel_telemetry.exporters.request_log.anomalies.judge import WEEK, Hour, Incident, Judge, Kind, threshold

SERIES: Final = 50
KNOWN: Final = 8
JUDGED: Final = 4
TOTAL: Final = (KNOWN + JUDGED) * WEEK
CLOCKS: Final = (KNOWN - 1) * WEEK + 50
FANOS: Final = (1.0, 1.5, 3.0)
FAULTS: Final = ("3 times for 3 h", "zero for 3 h", "half for 6 h", "3 times for 1 h")
DOCS: Final = Path(__file__).parents[1] / "docs" / "anomalies.md"
BEGIN: Final = "<!-- made by: python benchmarks/anomalies.py --docs -->\n"
END: Final = "<!-- end of what it made -->\n"
Series = Sequence[Hour | None]
Rule = Callable[[Kind, Series, Sequence[int]], list[Incident]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What was planted: a kind, from which hour to which, and whether each of them has 20 events or more."""

    kind: str
    first: int
    end: int
    dense: bool


@dataclass(frozen=True, slots=True)
class Measure:
    """How hours of a measure come about: `level` draws what a series is around, `hour` draws an hour."""

    kind: Kind
    level: Callable[[random.Random], float]
    hour: Callable[[float, float, float, random.Random], Hour]
    events: Callable[[float, float], float]
    times: Callable[[float, float], float] = lambda level, factor: level * factor
    of_requests: bool = False


def drawn(mean: float, fano: float, chance: random.Random) -> int:
    """Draw a count with that mean and Fano factor."""
    rate = chance.gammavariate(mean / (fano - 1), fano - 1) if fano > 1.01 and mean > 0 else mean
    if rate > 500:
        return max(0, round(chance.gauss(rate, math.sqrt(rate))))
    limit, count, product = math.exp(-rate), 0, chance.random()
    while product > limit:
        count, product = count + 1, product * chance.random()
    return count


def counted(mean: float, _: float, fano: float, chance: random.Random) -> Hour:
    """Return an hour of requests."""
    count = drawn(mean, fano, chance)
    return Hour(count, count)


def priced(mean: float, level: float, fano: float, chance: random.Random) -> Hour:
    """Return an hour's cost, in what a request costs on average: requests of which each costs something else."""
    count = drawn(mean, max(1.0, fano - 0.3), chance)
    spread = 0.3 if fano > 1.01 else 0.02
    return Hour(level * chance.gammavariate(count / spread, spread) if count else 0.0, count)


def shared(mean: float, level: float, fano: float, chance: random.Random) -> Hour:
    """Return an hour's hits of its requests."""
    of = drawn(mean, 1.5, chance)
    few = min(level, 1 - level)
    hits = min(of, drawn(of * few, max(1.0, fano * (1 - few)), chance))
    return Hour(hits if level <= 0.5 else of - hits, of)


def averaged(squared: float) -> Callable[[float, float, float, random.Random], Hour]:
    """Return what draws the mean of an hour's requests, each of which has this squared coefficient of variation."""

    def hour(mean: float, level: float, fano: float, chance: random.Random) -> Hour:
        of = drawn(mean, 1.5, chance)
        size = of / (squared * fano)
        return Hour(level * chance.gammavariate(size, 1 / size) if of and level else 0.0, of)

    return hour


def redacted(mean: float, level: float, fano: float, chance: random.Random) -> Hour:
    """Return an hour's redactions per request."""
    of = drawn(mean, 1.5, chance)
    return Hour(drawn(of * level, fano, chance) / of if of else 0.0, of)


def of_share(level: float, factor: float) -> float:
    """Return a share that changed by a factor: its own, or that of the other side where it is large."""
    if factor <= 1 or level * factor <= 1:
        return level * factor
    return max(0.0, 1 - (1 - level) * factor)


def between(low: float, high: float) -> Callable[[random.Random], float]:
    return lambda chance: math.exp(chance.uniform(math.log(low), math.log(high)))


def fewer(mean: float, level: float) -> float:
    return mean * min(level, 1 - level)


MEASURES: Final = {
    "requests": Measure("count", lambda _: 1.0, counted, lambda mean, _: mean, of_requests=True),
    "error rate": Measure("share", between(0.01, 0.2), shared, fewer, of_share),
    "cache hit rate": Measure("share", lambda chance: chance.uniform(0.15, 0.85), shared, fewer, of_share),
    "cost": Measure("count", lambda _: 1.0, priced, lambda mean, _: mean),
    "latency": Measure("mean", between(200, 20_000), averaged(0.5), lambda mean, _: mean),
    "tokens per request": Measure("mean", between(200, 20_000), averaged(1.5), lambda mean, _: mean),
    "redactions per request": Measure("mean", between(0.05, 3), redacted, lambda mean, level: mean * level),
}


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
    name: str, seed: int, fano: float, planted: bool
) -> tuple[list[tuple[Series, list[Fault]]], list[int]]:
    """Return 50 series with what was planted in them, and each hour's place in the week."""
    chance = random.Random(f"{name} {seed}")  # noqa: S311  # what is drawn is no secret
    slots = [(hour + (1 if hour >= CLOCKS else 0)) % WEEK for hour in range(TOTAL)]
    holiday = KNOWN * WEEK + 2 * 24
    for hour in range(holiday, holiday + 24):
        slots[hour] = 6 * 24 + slots[hour] % 24
    return [one(MEASURES[name], number, slots, fano, chance, planted=planted) for number in range(SERIES)], slots


def one(
    measure: Measure, number: int, slots: Sequence[int], fano: float, chance: random.Random, *, planted: bool
) -> tuple[Series, list[Fault]]:
    """Return one series: its requests rise and fall with the week; a mean or share does so a little."""
    base, level = math.exp(chance.uniform(math.log(8), math.log(2_000))), measure.level(chance)
    trend, kind = chance.uniform(-0.03, 0.05), number % 4
    step = chance.randrange(TOTAL) if number % 10 == 9 else TOTAL
    own = measure.kind == "count"
    means, levels = [], []
    day = inner = 1.0
    for hour in range(TOTAL):
        if hour % 24 == 0:
            day, inner = math.exp(chance.gauss(0, 0.05)), math.exp(chance.gauss(0, 0.03))
        busy, rise = shape(kind, slots[hour]), 1.2 if hour >= step else 1.0
        means.append(base * busy * (1 + trend) ** (hour / WEEK) * day * (rise if own else 1.0))
        levels.append(level if own else _within(measure, level * inner * rise * (0.9 + 0.1 * busy)))
    faults = list(_plant(measure, means, levels, chance)) if planted else []
    hours: list[Hour | None] = [
        measure.hour(mean, level, fano, chance) for mean, level in zip(means, levels, strict=True)
    ]
    for _ in range(6):
        hours[chance.randrange(TOTAL - 1)] = None
    return hours, faults


def _within(measure: Measure, level: float) -> float:
    return min(level, 0.95) if measure.kind == "share" else level


def _plant(measure: Measure, means: list[float], levels: list[float], chance: random.Random) -> Iterator[Fault]:
    """Change the judged weeks; yield what was planted."""
    for kind, length, factor, part in zip(
        FAULTS, (3, 3, 6, 1), (3.0, 0.0, 0.5, 3.0), (0.1, 0.4, 0.6, 0.85), strict=True
    ):
        first = KNOWN * WEEK + int(JUDGED * WEEK * part) + chance.randrange(24)
        hours = range(first, first + length)
        yield Fault(kind, first, first + length, min(measure.events(means[at], levels[at]) for at in hours) >= 20)
        for at in hours:
            if measure.of_requests:
                means[at] *= factor
            else:
                levels[at] = measure.times(levels[at], factor)


def ours(kind: Kind, hours: Series, slots: Sequence[int]) -> list[Incident]:
    return Judge(kind, hours, slots, threshold(SERIES)).run(KNOWN * WEEK).incidents


def never(kind: Kind, hours: Series, slots: Sequence[int]) -> list[Incident]:
    del kind, hours, slots
    return []


def three_sd(kind: Kind, hours: Series, slots: Sequence[int]) -> list[Incident]:
    """Mean and standard deviation of the last 24 hours, as the usual PromQL has it."""
    del slots
    values = _values(kind, hours)
    return _runs([_outside(values[now - 24 : now], values[now], 0) for now in range(KNOWN * WEEK, len(hours))])


def seasonal_naive(kind: Kind, hours: Series, slots: Sequence[int]) -> list[Incident]:
    """The same hour of four weeks before, with three of their standard deviations."""
    del slots
    values = _values(kind, hours)
    return _runs(
        [
            _outside([values[now - week * WEEK] for week in range(1, 5)], values[now], 1)
            for now in range(KNOWN * WEEK, len(hours))
        ]
    )


def _values(kind: Kind, hours: Series) -> list[float | None]:
    """Return each hour as people draw it: a share as the quotient."""
    return [
        None if hour is None or (kind != "count" and not hour.of) else hour.value / (hour.of if kind == "share" else 1)
        for hour in hours
    ]


def _outside(past: Sequence[float | None], value: float | None, lost: int) -> int:
    known = [each for each in past if each is not None]
    if value is None or not known:
        return 0
    mean = sum(known) / len(known)
    sd = math.sqrt(sum((each - mean) ** 2 for each in known) / max(1, len(known) - lost))
    return 1 if value > mean + 3 * sd else -1 if value < mean - 3 * sd else 0


def _runs(flags: Sequence[int]) -> list[Incident]:
    found: list[Incident] = []
    for at, side in enumerate(flags, KNOWN * WEEK):
        if side and found and found[-1].end == at and found[-1].up == (side > 0):
            found[-1].end = at + 1
        elif side:
            found.append(Incident(at, side > 0, at + 1))
    return found


RULES: Final[dict[str, Rule]] = {
    "`anomalies`": ours,
    "never": never,
    "3 sd of 24 h": three_sd,
    "seasonal naive": seasonal_naive,
}


@dataclass(slots=True)
class Score:
    """What a rule made of a measure: false incidents, weeks, and of each kind of fault whether each was found."""

    false: int
    weeks: int
    found: dict[tuple[str, bool], list[bool]]

    def row(self, *, dense: bool) -> list[str]:
        """Return the share of each kind of fault that was found."""
        return [f"{sum(hits) / len(hits):.2f}" if (hits := self.found.get((kind, dense))) else "" for kind in FAULTS]


def scored(asked: tuple[str, float, Sequence[int], Sequence[str]]) -> dict[str, Score]:
    """Score rules on the installations of some seeds."""
    name, fano, seeds, rules = asked
    scores = {rule: Score(0, 0, {}) for rule in rules}
    for seed in seeds:
        for planted in (False, True):
            series, slots = installation(name, seed, fano, planted)
            for rule, own in scores.items():
                own.weeks += JUDGED
                for hours, faults in series:
                    _score(own, RULES[rule](MEASURES[name].kind, hours, slots), faults)
    return scores


def _score(own: Score, incidents: Sequence[Incident], faults: Sequence[Fault]) -> None:
    near = [[f for f in faults if i.first < f.end + 3 and (i.end or TOTAL) > f.first] for i in incidents]
    own.false += sum(not each for each in near)
    for fault in faults:
        own.found.setdefault((fault.kind, fault.dense), []).append(any(fault in each for each in near))


def tables(scores: dict[tuple[str, float], dict[str, Score]]) -> str:
    """Return the scores as Markdown: faults in hours with 20 events or more, and those in sparse hours."""
    head = f"| {' | '.join(FAULTS)} |\n"
    lines = [f"| measure | dispersion | rule | false alarms a week {head}", "|---" * 8 + "|\n"]
    sparse = [f"| measure | dispersion {head}", "|---" * 6 + "|\n"]
    for (name, fano), own in scores.items():
        for rule, score in own.items():
            cells = [name, f"{fano}", rule, f"{score.false / score.weeks:.2f}", *score.row(dense=True)]
            lines.append(f"| {' | '.join(cells)} |\n")
        sparse.append(f"| {name} | {fano} | {' | '.join(own['`anomalies`'].row(dense=False))} |\n")
    weeks = next(iter(next(iter(scores.values())).values())).weeks
    text = f"{weeks} weeks of 50 series for each line:\n\n"
    between = "\nThose are faults in hours with 20 events or more. In hours with fewer, `anomalies` finds:\n\n"
    return "\n" + text + "".join(lines) + between + "".join(sparse) + "\n"


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--seeds", type=int, default=3)
    given.add_argument("--choose", action="store_true")
    given.add_argument("--ours", action="store_true", help="Leave the baselines out.")
    given.add_argument("--docs", action="store_true", help="Put the tables into docs/anomalies.md.")
    given.add_argument("--only", help="One measure.")
    given.add_argument("--processes", type=int, default=1)
    asked = given.parse_args()
    first = 1 if asked.choose else 2000
    rules = list(RULES)[: 1 if asked.ours else None]
    cells = [(name, fano) for name in MEASURES if asked.only in {None, name} for fano in FANOS]
    with Pool(asked.processes) as pool:
        work = [(name, fano, range(first, first + asked.seeds), rules) for name, fano in cells]
        scores: dict[tuple[str, float], dict[str, Score]] = {}
        for cell, own in zip(cells, pool.imap(scored, work), strict=True):
            scores[cell] = own
            print(*cell, *(f"{one.false / one.weeks:.2f}" for one in own.values()), flush=True)
    made = tables(scores)
    print(made)
    if asked.docs:
        before, _, rest = DOCS.read_text().partition(BEGIN)
        DOCS.write_text(before + BEGIN + made + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()

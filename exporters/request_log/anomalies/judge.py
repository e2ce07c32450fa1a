"""One series of hours judged: what each hour was to be expected, whether it was outside, and incidents of that.

Expected is the level of the last seven days times the shape of the hour in weeks before: the mean of the same hour of
the week in up to eight weeks, the hours beside it with a smaller weight, the most extreme weeks left out. How much
hours scatter is one number for the whole series: four weeks cannot give one for each hour. Past incidents are in no
baseline.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from otel_telemetry.exporters.request_log.anomalies.chances import count_tails, share_tails

DAY: Final = 24
WEEK: Final = 168
WEEKS: Final = 8
#: Hours that are expected to have fewer events than this are not judged.
LEAST: Final = 20.0
_ENOUGH_WEEKS: Final = 3
_BESIDE: Final = ((0, 0.5), (-1, 0.25), (1, 0.25))
_OPENS, _OF, _CLOSES = 2, 3, 3
_FACTOR: Final = 1.3
_SCALE: Final = 1.4826
#: By how much a level may be wrong without being news.
_DRIFT: Final = 0.06
#: What rounding leaves of an empty sum.
_HARDLY: Final = 1e-6

Kind = Literal["count", "share", "mean"]


@dataclass(frozen=True, slots=True)
class Hour:
    """What an hour had: a count; or a part `value` of `of`, for a share; or the mean `value` of `of` numbers."""

    value: float
    of: float


@dataclass(slots=True)
class Judged:
    """What became of an hour. The chances are 1 where it differs too little to matter."""

    expected: float | None = None
    few: float = 1.0
    many: float = 1.0
    why: str = ""


@dataclass(slots=True)
class Incident:
    """Hours in a row that were outside: from `first` to before `end`; `end` is None while it is open."""

    first: int
    up: bool
    end: int | None = None
    worst: int = 0
    chance: float = 1.0
    became_normal: bool = False


@dataclass(slots=True)
class Verdict:
    """A series that was judged."""

    hours: list[Judged]
    incidents: list[Incident]
    notes: list[str] = field(default_factory=list)


def threshold(series: int) -> float:
    """Return how unlikely an hour has to be, so that all series together are wrong about once a week.

    An incident takes two of three hours, which chance alone brings about 3 p² times an hour.
    """
    return math.sqrt(1 / (3 * WEEK * max(series, 1))) / 8


class Judge:
    """Judges one series, hour by hour; `slots` gives each hour's place in the week (0 to 167) in local time."""

    def __init__(self, kind: Kind, hours: Sequence[Hour | None], slots: Sequence[int], chance: float) -> None:
        self._kind = kind
        self._slots = slots
        self._chance = chance
        self._hours: list[Hour | None] = []
        self._notes: list[str] = []
        bad = 0
        for hour in hours:
            usable = hour is None or (math.isfinite(hour.value) and hour.value >= 0 and math.isfinite(hour.of))
            bad += not usable
            self._hours.append(hour if usable else None)
        begun = next((at for at, hour in enumerate(hours) if hour is not None), len(hours))
        gaps = sum(hour is None for hour in hours[begun:])
        if bad:
            self._notes.append(f"{bad} hours with values below zero or without end were left out")
        if gaps:
            self._notes.append(f"{gaps} hours are missing")
        self._left_out = [hour is None for hour in self._hours]
        self._levels: list[float | None] = [None] * len(self._hours)
        self._by_slot: dict[int, list[int]] = {}
        for at, slot in enumerate(slots):
            self._by_slot.setdefault(slot, []).append(at)
        self._spread = 1.0
        #: How far each hour was from what was expected, and the window of the seven days before the hour that is next.
        self._scores: list[float | None] = [None] * len(self._hours)
        self._total = self._weight = 0.0
        #: In which a sum of means is counted: what one of them is on average.
        weights = [(hour.of, hour.of * hour.value) for hour in self._hours if hour is not None]
        of, total = sum(one for one, _ in weights), sum(one for _, one in weights)
        self._unit = total / of if of and total else 1.0

    def run(self, since: int) -> Verdict:
        """Judge the hours from `since` on."""
        found = [Judged() for _ in self._hours]
        incidents: list[Incident] = []
        outside = [0] * len(self._hours)
        for now in range(len(self._hours)):
            if now % DAY == 0 or now == since:
                self._spread = self._dispersion(now)
            found[now] = self._judge(now)
            outside[now] = self._side(found[now])
            self._count(now, 1)
            self._follow(incidents, outside, found, now)
            self._count(now - WEEK, -1)
        shown = [one for one in incidents if one.end is None or one.end > since]
        return Verdict(found, shown, self._notes)

    def _judge(self, now: int) -> Judged:
        expected, weeks = self._expected(now)
        hour = self._hours[now]
        if expected is None or weeks < 1:
            return Judged(why="learning")
        judged = Judged(expected)
        self._scores[now] = None if hour is None else self._score(hour, expected)
        if hour is None:
            judged.why = "missing"
        elif (expected if self._kind == "count" else hour.of) < LEAST or math.isinf(self._spread):
            judged.why = "few"
        else:
            # A young baseline is less sure of itself.
            spread = self._spread * (1 + 0.5 / weeks)
            ratio = _rate(self._kind, hour) / expected if expected > 0 else math.inf
            if ratio > _FACTOR:
                judged.many = self._tails(hour, expected * (1 + _DRIFT), spread)[1]
            elif ratio < 1 / _FACTOR:
                judged.few = self._tails(hour, expected * (1 - _DRIFT), spread)[0]
        return judged

    def _tails(self, hour: Hour, expected: float, spread: float) -> tuple[float, float]:
        if self._kind == "count":
            return count_tails(hour.value, expected, spread)
        if self._kind == "share":
            return share_tails(hour.value, hour.of, expected, spread)
        scale = hour.of / self._unit
        # Where nothing was seen before, half an event may have been: one is about as large as the dispersion.
        return count_tails(hour.value * scale, max(expected * scale, spread / 2), spread)

    def _side(self, judged: Judged) -> int:
        """Return -1 for an hour below what chance explains, 1 above, else 0."""
        return 1 if judged.many < self._chance else -1 if judged.few < self._chance else 0

    def _follow(self, incidents: list[Incident], outside: list[int], found: list[Judged], now: int) -> None:
        """Open after two of three hours outside on one side, close after three inside."""
        current = incidents[-1] if incidents and incidents[-1].end is None else None
        if outside[now]:
            self._leave(now)
        if current is None:
            for side in (1, -1):
                near = [at for at in range(max(0, now - _OF + 1), now + 1) if outside[at] == side]
                if len(near) >= _OPENS and near[-1] == now and (not incidents or (incidents[-1].end or 0) <= near[0]):
                    current = Incident(near[0], side > 0)
                    incidents.append(current)
                    for at in near:
                        _worst(current, found, at)
                    break
            return
        _worst(current, found, now)
        self._leave(now)
        if now - current.first >= WEEK:
            current.end, current.became_normal = now, True
            for at in range(current.first, now):
                self._take_back(at, now)
        elif not any(outside[now - _CLOSES + 1 : now + 1]):
            current.end = now - _CLOSES + 1
            for at in range(current.end, now + 1):
                self._take_back(at, now)

    # --- what is expected
    def _expected(self, now: int) -> tuple[float | None, int]:
        """Return what an hour is expected to be, and from how many weeks that is known."""
        level = self._levels[now] = self._level()
        if now < WEEK:
            return None, 0
        parts: list[float] = []
        for at in self._before(now):
            own = self._smoothed(at)
            of_week = self._levels[max(at, WEEK)]
            if own is not None and of_week:
                parts.append(own / of_week)
        if level is None or not parts:
            return None, 0
        weeks = len(parts)
        if weeks >= _ENOUGH_WEEKS:
            ordered = sorted(parts)
            parts = ordered[1:-1] if weeks > 3 else [ordered[1]]  # noqa: PLR2004 - the most extreme go, of three the middle
        return level * sum(parts) / len(parts), weeks

    def _before(self, now: int) -> list[int]:
        """Return the hours of the weeks before that have the same place in the week, the latest first."""
        same = self._by_slot[self._slots[now]]
        end = bisect_right(same, now - DAY)
        return [at for at in reversed(same[max(0, end - WEEKS) : end]) if at > 0]

    def _smoothed(self, at: int) -> float | None:
        total = weight = of = 0.0
        for beside, own in _BESIDE:
            if self._left_out[at + beside]:
                continue
            hour = self._hours[at + beside]
            if hour is None:
                continue
            if self._kind == "count":
                total, weight = total + own * hour.value, weight + own
            elif hour.of > 0:
                of = own * hour.of
                total, weight = total + of * _rate(self._kind, hour), weight + of
        return total / weight if weight else None

    def _level(self) -> float | None:
        """Return the level of the seven days before the hour that is next."""
        return self._total / self._weight if self._weight > _HARDLY and self._total > 0 else None

    def _count(self, at: int, sign: int) -> None:
        """Add an hour to the window of the level, or take it out."""
        hour = self._hours[at] if at >= 0 else None
        if hour is None or self._left_out[at]:
            return
        weight = 1.0 if self._kind == "count" else hour.of
        if weight > 0:
            self._total += sign * weight * _rate(self._kind, hour)
            self._weight += sign * weight

    def _leave(self, at: int) -> None:
        """Leave an hour of the window out of baselines."""
        self._count(at, -1)
        self._left_out[at] = True

    def _take_back(self, at: int, now: int) -> None:
        """Let an hour that was left out count again."""
        if self._left_out[at]:
            self._left_out[at] = self._hours[at] is None
            if at >= now - WEEK:
                self._count(at, 1)

    def _dispersion(self, now: int) -> float:
        """Return how much hours scatter around the expected value: one number for the series, robust against extremes.

        Of means it is infinite as long as nothing is known of it: it says how large an event is.
        """
        first = max(0, now - WEEKS * WEEK)
        known = zip(self._scores[first:now], self._left_out[first:now], strict=True)
        scores = sorted(score for score, left_out in known if score is not None and not left_out)
        if len(scores) < DAY:
            return math.inf if self._kind == "mean" else 2.0
        middle = scores[len(scores) // 2] / 0.455  # the median of a square of a standard normal number
        upper = scores[int(len(scores) * 0.95)] / 3.84  # and its 95th percentile
        return max(middle, upper, 1.0)

    def _score(self, hour: Hour, expected: float) -> float | None:
        if self._kind == "count":
            return (hour.value - expected) ** 2 / expected if expected >= 1 else None
        if self._kind == "share":
            variance = hour.of * expected * (1 - expected)
            return (hour.value - hour.of * expected) ** 2 / variance if variance > 0 and hour.of >= LEAST else None
        if expected <= 0 or hour.of < LEAST:
            return None
        return hour.of * (hour.value - expected) ** 2 / (expected * self._unit)


def _rate(kind: Kind, hour: Hour) -> float:
    return hour.value / hour.of if kind == "share" and hour.of else hour.value


def _worst(incident: Incident, found: list[Judged], at: int) -> None:
    chance = found[at].many if incident.up else found[at].few
    if chance <= incident.chance:
        incident.chance, incident.worst = chance, at

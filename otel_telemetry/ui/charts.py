"""Charts as geometry: bars along time, and the calls of one request. Templates draw them as SVG, without a script."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from otel_telemetry.base.records import LlmCall, Request
from otel_telemetry.exporters.request_log.operate.report_groups import Row
from otel_telemetry.ui import words
from otel_telemetry.ui.asked import View

WIDTH: Final = 440
HEIGHT: Final = 150
_GAP: Final = 0.18
_LEAST: Final = 1.5  # what is there is seen
_MOST_LABELS: Final = 5
_DAY: Final = timedelta(days=1)
_UNITS: Final = ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min"))


@dataclass(frozen=True, slots=True)
class Bar:
    """A step of time: what stands on what, and where a click leads."""

    x: float
    width: float
    parts: Sequence[tuple[str, float, float]]  # class, y, height
    title: str
    href: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars, with the labels of both axes."""

    bars: Sequence[Bar]
    xs: Sequence[tuple[float, str]]
    ys: Sequence[tuple[float, str]]
    per: str


Parts = Callable[[Row], Sequence[tuple[str, float]]]


def bars(view: View, series: Mapping[int, Row], parts: Parts, label: Callable[[float], str], title: str) -> Chart:
    """Return a chart of what `parts` makes of the rows of each step: classes and values, the lowest first."""
    steps = max(1, math.ceil(view.length / view.step))
    drawn = {n: parts(row) for n, row in series.items() if 0 <= n < steps}
    top = _round(max((sum(value for _, value in each) for each in drawn.values()), default=0.0))
    width = WIDTH / steps
    made = [
        Bar(
            x=round(n * width + width * _GAP / 2, 2),
            width=round(width * (1 - _GAP), 2),
            parts=_stacked(each, top),
            title=f"{_time(view, n)}: {_described(each, label, title)}",
            href=view.query(range=None, since=_iso(view, n), until=_iso(view, n + 1)),
        )
        for n, each in sorted(drawn.items())
    ]
    every = max(1, math.ceil(steps / _MOST_LABELS))
    xs = [(round(n * width, 2), _time(view, n)) for n in range(0, steps, every)]
    ys = [(round(HEIGHT * (1 - part), 2), label(top * part)) for part in (0.5, 1.0)] if top else []
    return Chart(made, xs, ys, _per(view.step))


def _stacked(parts: Sequence[tuple[str, float]], top: float) -> list[tuple[str, float, float]]:
    found, y = [], float(HEIGHT)
    for name, value in parts:
        if value <= 0:
            continue
        height = max(_LEAST, value / top * HEIGHT)
        y -= height
        found.append((name, round(y, 2), round(height, 2)))
    return found


def _described(parts: Sequence[tuple[str, float]], label: Callable[[float], str], title: str) -> str:
    if len(parts) == 1:
        return f"{label(parts[0][1])} {title}"
    return ", ".join(f"{label(value)} {name}" for name, value in reversed(parts))


def _iso(view: View, step: int) -> str:
    return view.at(step).isoformat(timespec="seconds")


def _time(view: View, step: int) -> str:
    at = view.at(step)
    if view.step >= _DAY:
        return at.strftime("%b %d")
    return at.strftime("%H:%M" if view.length <= _DAY else "%b %d %H:%M")


def _per(step: timedelta) -> str:
    for size, unit in _UNITS:
        if step % size == timedelta(0):
            number = step // size
            return f"per {number} {unit}" if number > 1 else f"per {unit}"
    return f"per {step}"


def _round(value: float) -> float:
    """Return the next number that reads well."""
    if value <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 4, 5, 8, 10, 20) if step * power >= value * 0.999)


@dataclass(frozen=True, slots=True)
class Lane:
    """One line of a timeline, in thousandths of its width; `first` is where the first byte came."""

    name: str
    kind: str
    x: float
    width: float
    first: float | None
    label: str
    row: Any = None


def timeline(request: Request, calls: Sequence[LlmCall]) -> list[Lane]:
    """Return the request and its calls along its time. What ends after it, or began before, widens the scale."""
    spans = [(request.ts, request.latency_ms or 0.0), *((call.ts, call.total_latency_ms or 0.0) for call in calls)]
    begin = min(ts for ts, _ in spans)
    offsets = [((ts - begin) / _MILLISECOND, length) for ts, length in spans]
    whole = max((at + length for at, length in offsets), default=0.0) or 1.0
    lanes = []
    rows: list[Request | LlmCall] = [request, *calls]
    for row, (at, length) in zip(rows, offsets, strict=True):
        first = None if row.ttfb_ms is None else round((at + row.ttfb_ms) / whole * _SCALE, 2)
        stage = "" if isinstance(row, Request) else (row.meta or {}).get("stage", "")
        name = (row.route or "request") if isinstance(row, Request) else (row.model or "model call")
        lanes.append(
            Lane(
                name=words.text(f"{stage}: {name}" if stage else name),
                kind="failed" if not row.ok else "request" if isinstance(row, Request) else "call",
                x=round(at / whole * _SCALE, 2),
                width=round(max(length / whole * _SCALE, 2), 2),
                first=first,
                label=_took(row),
                row=row,
            )
        )
    return lanes


def _took(row: Request | LlmCall) -> str:
    """Return how long it took, and how often a call was tried."""
    if isinstance(row, Request):
        return words.ms(row.latency_ms)
    took = words.ms(row.total_latency_ms)
    return f"{took}, {row.retries + 1} tries" if row.retries else took


_SCALE: Final = 1_000
_MILLISECOND: Final = timedelta(milliseconds=1)

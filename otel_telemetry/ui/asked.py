"""Parses the query string of a URL: a period, filters, an order and a position to continue from.

All state of a page is in its URL. A view is made from the query string once and never changed; links are made from it
by giving the differences.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast, get_args
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from starlette.datastructures import QueryParams

from otel_telemetry.exporters.request_log.operate import browse
from otel_telemetry.exporters.request_log.operate.browse import Filters, Order, PageMark
from otel_telemetry.exporters.request_log.operate.report_groups import Period
from otel_telemetry.ui.problems import Problem, bad

#: Lengths of time that are offered, each with the step of its charts.
RANGES: Final[Mapping[str, tuple[timedelta, timedelta]]] = {
    "15m": (timedelta(minutes=15), timedelta(minutes=1)),
    "1h": (timedelta(hours=1), timedelta(minutes=2)),
    "6h": (timedelta(hours=6), timedelta(minutes=15)),
    "24h": (timedelta(hours=24), timedelta(hours=1)),
    "7d": (timedelta(days=7), timedelta(hours=6)),
    "30d": (timedelta(days=30), timedelta(days=1)),
    "90d": (timedelta(days=90), timedelta(days=2)),
}
DEFAULT: Final = "24h"
ORDERS: Final[tuple[Order, ...]] = get_args(Order)
_TEXTS: Final = ("service", "environment", "region", "route", "model", "user", "session", "degraded", "text")
_MS: Final = ("min_ms", "max_ms")
_USD: Final = ("min_usd", "max_usd")
#: Columns of the list of requests, beside the time; those that are shown where nothing is said come first.
COLUMNS: Final = (
    *(
        "outcome",
        "route",
        "model",
        "calls",
        "tokens_in",
        "cached",
        "out",
        "latency",
        "first_byte",
        "cost",
        "what_happened",
    ),
    *("service", "environment", "provider", "user", "session", "reasoning", "retries"),
)
_SHOWN: Final = COLUMNS[: COLUMNS.index("service")]
_MANY: Final = ("absent", "columns")
_SINGLE: Final = ("range", "since", "until", "tz", "outcome", "sort", "after", *_TEXTS, *_MS, *_USD)
#: What stays where a link leads to another page.
_TIME: Final = ("range", "since", "until", "tz")
_LONGEST: Final = 4_096
_MOST_STEPS: Final = 90
_LARGEST: Final = Decimal(10) ** 15
_ZONE: Final = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*")


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at; `given` are the parameters as they were, without what is empty."""

    given: tuple[tuple[str, str], ...]
    period: Period
    step: timedelta
    zone: ZoneInfo
    filters: Filters
    order: Order
    after: PageMark | None

    @property
    def since(self) -> datetime:
        """When the period begins, in UTC."""
        return cast("datetime", self.period.since)

    @property
    def until(self) -> datetime:
        """When it ends, in UTC."""
        return cast("datetime", self.period.until)

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.until - self.since

    @property
    def before(self) -> Period:
        """The period of the same length before it."""
        return Period(self.since - self.length, self.since)

    def at(self, step: int) -> datetime:
        """Return when a step of the charts begins, in the view's zone."""
        return (self.since + step * self.step).astimezone(self.zone)

    def value(self, name: str) -> str:
        """Return a parameter as it was given; empty where it was not."""
        return next((value for key, value in self.given if key == name), "")

    def query(self, **changes: Any) -> str:
        """Return the query string of this view with other values; None takes one away. A change goes to page one."""
        changes = {"after": None, **changes}
        pairs = [(key, value) for key, value in self.given if key not in changes]
        pairs += [pair for key, value in changes.items() for pair in _pairs(key, value)]
        return f"?{urlencode(pairs)}" if pairs else "?"

    def time_query(self) -> str:
        """Return the query string with the time alone, for links to other pages."""
        return self.query(**{key: None for key, _ in self.given if key not in _TIME})

    def hidden(self, *names: str) -> list[tuple[str, str]]:
        """Return the parameters that a form which asks for `names` has to carry along."""
        return [(key, value) for key, value in self.given if key not in {*names, "after"}]

    def columns(self) -> tuple[str, ...]:
        """Return the columns of the list of requests, in their own order."""
        wanted = {value for key, value in self.given if key == "columns"}
        return tuple(name for name in COLUMNS if name in wanted) if wanted else _SHOWN

    def chips(self) -> list[tuple[str, str, str]]:
        """Return each filter in force: its name, its value, and the query string without it."""
        found = []
        for key, value in self.given:
            if key == "absent":
                rest = tuple(one for one in self.filters.absent if one != value)
                found.append((value, "not known", self.query(absent=rest)))
            elif key in _FILTERS:
                found.append((_CALLED.get(key, key), value, self.query(**{key: None})))
        return found

    def only(self, name: str, value: str | None) -> str:
        """Return the query string that also asks for one value, which may be none."""
        key = _COLUMN.get(name, name)
        return self.query(**{name: value}) if value is not None else self.query(absent=(*self.filters.absent, key))


_FILTERS: Final = frozenset(one.name for one in fields(Filters))
_CALLED: Final = {"min_ms": "at least ms", "max_ms": "at most ms", "min_usd": "at least USD", "max_usd": "at most USD"}
_COLUMN: Final = {"user": "user_id", "session": "session_id"}


def _pairs(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, tuple):
        yield from ((key, one) for one in dict.fromkeys(value))
    elif value is not None:
        yield key, str(value)


def view(params: QueryParams, now: datetime | None = None) -> View:
    """Return what a query string asks for; raises Problem for what it cannot."""
    given = tuple((key, value.strip()) for key, value in params.multi_items() if value.strip())
    _check(given)
    single = dict(given)
    zone = _zone(single.get("tz", "UTC"))
    period, step = _period(single, zone, now or datetime.now(UTC))
    order = _one_of("sort", single.get("sort", "time"), ORDERS)
    return View(given, period, step, zone, _filters(given, single), order, _after(single.get("after"), order))


def without(params: QueryParams, *names: str) -> QueryParams:
    """Return parameters without those that a page asks for by itself."""
    return QueryParams([(key, value) for key, value in params.multi_items() if key not in names])


def _check(given: tuple[tuple[str, str], ...]) -> None:
    seen = set()
    for key, value in given:
        if key not in _SINGLE and key not in _MANY:
            known = ", ".join(sorted((*_SINGLE, *_MANY)))
            raise Problem(_BAD, f"there is no filter {key[:80]!r}", f"known are {known}")
        if key in seen and key not in _MANY:
            raise bad(key, value, f"give {key} once")
        if len(value) > _LONGEST or "\x00" in value:
            raise bad(key, value, "no stored value is like that")
        if key == "columns":
            _one_of(key, value, COLUMNS)
        seen.add(key)


_BAD: Final = bad("", "", "").status


def _period(given: Mapping[str, str], zone: ZoneInfo, now: datetime) -> tuple[Period, timedelta]:
    if "since" in given or "until" in given:
        if "range" in given:
            raise bad("range", given["range"], "give either range, or since and until")
        until = _moment("until", given["until"], zone) if "until" in given else now
        since = _moment("since", given["since"], zone) if "since" in given else until - RANGES[DEFAULT][0]
        if since >= until:
            raise bad("since", given.get("since", ""), "it has to lie before until")
        return Period(since, until), _step(until - since)
    name = _one_of("range", given.get("range", DEFAULT), tuple(RANGES))
    length, step = RANGES[name]
    # To the next whole step, so that the charts' steps stay where they are while time goes on.
    offset = cast("timedelta", now.astimezone(zone).utcoffset())
    epoch = (now + offset).timestamp()
    width = step.total_seconds()
    until = datetime.fromtimestamp((epoch // width + 1) * width, UTC) - offset
    return Period(until - length, until), step


def _step(length: timedelta) -> timedelta:
    """Return a step of which a period has no more than can be drawn."""
    steps = [step for _, step in RANGES.values()]
    found = next((step for step in steps if length / step <= _MOST_STEPS), None)
    return found or timedelta(days=-(-length // (_MOST_STEPS * timedelta(days=1))))


def _moment(name: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        found = found if found.tzinfo else found.replace(tzinfo=zone)
        found = found.astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        raise bad(name, text, "write a date like 2026-11-29 or 2026-11-29T10:30") from None
    if not _EARLIEST <= found <= _LATEST:
        raise bad(name, text, f"choose a date between {_EARLIEST.year} and {_LATEST.year}")
    return found


_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2199, 1, 1, tzinfo=UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        if _ZONE.fullmatch(name):
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise bad("tz", name, "name a zone like UTC, Europe/Oslo or Asia/Kolkata")


def _filters(given: tuple[tuple[str, str], ...], single: Mapping[str, str]) -> Filters:
    absent = tuple(value for key, value in given if key == "absent")
    for one in absent:
        _one_of("absent", one, browse.ABSENT)
    values: dict[str, Any] = {name: single.get(name) for name in _TEXTS}
    values |= {name: None if name not in single else float(_number(name, single[name])) for name in _MS}
    values |= {name: None if name not in single else _number(name, single[name]) for name in _USD}
    for low, high in (_MS, _USD):
        if values[low] is not None and values[high] is not None and values[low] > values[high]:
            raise bad(low, single[low], f"it has to be no more than {high}")
    if "outcome" in single:
        values["outcome"] = _one_of("outcome", single["outcome"], browse.OUTCOMES)
    return Filters(**values, absent=absent)


def _number(name: str, text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or not 0 <= found < _LARGEST:
        raise bad(name, text, "write a number like 250 or 0.05")
    return found


def _one_of(name: str, value: str, known: tuple[Any, ...]) -> Any:
    if value not in known:
        raise bad(name, value, f"choose one of {', '.join(known)}")
    return value


def mark_text(mark: PageMark, order: Order) -> str:
    """Return a mark as a parameter."""
    value = mark.value.isoformat() if isinstance(mark.value, datetime) else str(mark.value)
    return f"{order}~{value}~{mark.id}"


def _after(text: str | None, order: Order) -> PageMark | None:
    if text is None:
        return None
    of, _, rest = text.partition("~")
    value, _, name = rest.partition("~")
    if of != order or not name:
        raise bad("after", text, "go back to the first page: leave `after` out")
    try:
        if order == "time":
            return PageMark(datetime.fromisoformat(value).astimezone(UTC), name)
        number = Decimal(value)
    except (ValueError, InvalidOperation, OverflowError):
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) >= _LARGEST:
        raise bad("after", text, "go back to the first page: leave `after` out")
    return PageMark(float(number) if order == "latency" else number, name)

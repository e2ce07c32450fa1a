"""The state of one run or step, and how one more event changes it.

The result equals that of chronicle's database when every event is applied there in the order of its `Stamp`: the first
start sets name, input, tags and so on all together, and a later start only sets a run's status again. Every other event
replaces the status; an update or an end replaces the output, even by none, and merges `info` key by key. But values
that come before the start are not lost: until there is a start, the newest value for each column is used.

All of this depends on the set of events only. `stamps` stores which event set each column, so that the order in which
they come, their batches and their repetition make no difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from otel_telemetry.exporters.request_log.db import coerce

#: What the start of a run or step says of it, beside `info`.
STARTING: Final = {
    False: ("name", "description", "application", "environment", "input", "trace_id", "span_id", "tags"),
    True: ("type", "parent_step", "name", "input", "span_id", "tags"),
}
OUTPUT: Final = "output"
_STATUS: Final = "status"
_START: Final = "start/"
_INFO: Final = "info."
_MOST_INFO: Final = 256
_STARTED: Final = "started"

Key = tuple[str, str]


class Stamp(NamedTuple):
    """The order of an event among all: by its millisecond, then by kind, time, position in its request, and id.

    `at` is a whole millisecond if the event itself has a time. If not, `at` is exactly when it was received: then it
    comes after what was received before, of whatever kind.
    """

    at: int
    kind: int
    time_ns: int
    place: int
    event_id: str


#: Before everything: what a start says in `info` counts less than what is said later, whatever the clocks say.
_LEAST: Final = Stamp(0, 0, 0, 0, "")


@dataclass(slots=True)
class Change:
    """The change that one event makes to a run (`step_id` is empty) or to a step."""

    run_id: str
    step_id: str
    stamp: Stamp
    columns: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    status: str | None = None
    starts: bool = False
    ends: bool = False
    has_text: bool = False

    @property
    def key(self) -> Key:
        """What it is about."""
        return self.run_id, self.step_id

    @property
    def event_id(self) -> str:
        """By which it is known again."""
        return self.stamp.event_id

    def set(self, column: str, value: Any) -> None:
        """Set a column, unless it was set before."""
        if value is not None:
            self.columns.setdefault(column, value)


@dataclass(slots=True)
class Subject:
    """A run or a step under way: its row, and by which event each column was set."""

    row: dict[str, Any]
    stamps: dict[str, Stamp] = field(default_factory=dict)
    ts: datetime | None = None
    has_text: bool = False

    def apply(self, change: Change) -> None:
        """Apply what an event changes."""
        stamp = change.stamp
        first = self._first()
        if change.starts:
            self._start(change, first)
        elif change.status is not None:
            self._go_on(change.status, stamp)
        if not change.starts:
            self._inform(change.info, stamp)
        for column, value in change.columns.items():
            stands_in = first is None and not change.starts
            if (column == OUTPUT or stands_in) and self._wins(column, stamp):
                self.row[column] = value
        self._date(change, is_first=change.starts and self.stamps.get(self._first() or "") is stamp)
        self.has_text = self.has_text or change.has_text

    def _first(self) -> str | None:
        """Return under which name the stamp of the first start is kept: the status that it gave is in it."""
        return next((name for name in self.stamps if name.startswith(_START)), None)

    def _start(self, change: Change, first: str | None) -> None:
        """Begin with the earliest start that there is; of a run, another one is a word on its status."""
        word = change.status or _STARTED
        if first is None or change.stamp < self.stamps[first]:
            if first is not None:
                self._start_again(first.removeprefix(_START), self.stamps.pop(first), change.step_id)
            self._begin(change, word)
        else:
            self._start_again(word, change.stamp, change.step_id)

    def _start_again(self, word: str, stamp: Stamp, step_id: str) -> None:
        if not step_id:
            self._go_on(word, stamp)

    def _begin(self, change: Change, word: str) -> None:
        """Take all values of this start event, and forget those of another start, or of what stood in for one."""
        self.stamps[_START + word] = change.stamp
        for column in STARTING[bool(change.step_id)]:
            self.row[column] = change.columns.get(column)
            self.stamps.pop(column, None)
        info = self.row.get("info") or {}
        for name in [name for name, stamp in self.stamps.items() if stamp == _LEAST]:
            del self.stamps[name]
            info = {key: value for key, value in info.items() if _INFO + key != name}
        self.row["info"] = info or None
        self._inform(change.info, _LEAST)
        if _STATUS not in self.stamps:
            self.row[_STATUS] = word

    def _go_on(self, word: str, stamp: Stamp) -> None:
        if self._wins(_STATUS, stamp):
            self.row[_STATUS] = word

    def _inform(self, changes: Mapping[str, Any], stamp: Stamp) -> None:
        """Merge the fields of `info`. Beyond the limit, keys that sort first stay, whatever the order of events."""
        new = {name: value for name, value in changes.items() if self._wins(_INFO + name, stamp)}
        if not new:
            return
        info = {**(self.row.get("info") or {}), **new}
        for name in sorted(info)[_MOST_INFO:]:
            del info[name], self.stamps[_INFO + name]
        self.row["info"] = info

    def _wins(self, name: str, stamp: Stamp) -> bool:
        if name in self.stamps and self.stamps[name] >= stamp:
            return False
        self.stamps[name] = stamp
        return True

    def _date(self, change: Change, *, is_first: bool) -> None:
        """Date a run from its first start to its last word, a step from its first start to its last end."""
        ts = coerce.moment(change.stamp.time_ns)
        self.ts = ts if self.ts is None else max(self.ts, ts)
        earliest, latest = ("start_time", "end_time") if change.step_id else ("created_at", "updated_at")
        if is_first:
            self.row[earliest] = ts
        elif not change.step_id and self._first() is None:
            self.row[earliest] = min(self.row.get(earliest) or ts, ts)
        if change.ends or not change.step_id:
            self.row[latest] = max(self.row.get(latest) or ts, ts)


def packed(stamps: Mapping[str, Stamp]) -> dict[str, list[str]]:
    """Return which columns each event set, which is shorter than the stamp of each column."""
    found: dict[str, list[str]] = {}
    for name, stamp in stamps.items():
        head = f"{stamp.at}/{stamp.kind}/{stamp.time_ns - stamp.at}/{stamp.place}"
        found.setdefault(f"{head} {stamp.event_id}", []).append(name)
    for names in found.values():
        names.sort()
    return found


def unpacked(columns: Mapping[str, list[str]], row: Mapping[str, Any]) -> dict[str, Stamp]:
    """Return the stamp of each column; `row` has what stamps of earlier versions lack."""
    found: dict[str, Stamp] = {}
    for key, names in columns.items():
        head, _, event_id = key.partition(" ")
        if "/" not in head:
            return _as_before(columns, row)
        at, kind, later, of_request = map(int, head.split("/"))
        found.update(dict.fromkeys(names, Stamp(at, kind, at + later, of_request, event_id)))
    return found


def _as_before(columns: Mapping[str, list[str]], row: Mapping[str, Any]) -> dict[str, Stamp]:
    """Read stamps of a time and an id only, and statuses with their place in a life: 0 is that of a start."""
    found: dict[str, Stamp] = {}
    for head, names in columns.items():
        time_ns, _, event_id = head.partition(" ")
        stamp = Stamp(int(time_ns), 1, int(time_ns), 0, event_id)
        for name in names:
            status = name.startswith(_STATUS)
            known = f"{_START}{row.get(_STATUS)}" if name == "status/0" else _STATUS if status else name
            found[known] = stamp
    is_step = "run_id" in row
    started = row.get("start_time") if is_step else row.get("name")
    if started is not None and not any(name.startswith(_START) for name in found):
        found[_START + _STARTED] = _LEAST
    if any(name.startswith(_START) for name in found):
        found = {name: stamp for name, stamp in found.items() if name not in STARTING[is_step]}
    return found

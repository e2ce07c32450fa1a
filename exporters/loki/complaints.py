"""Parses Loki's answer 400: which lines it rejected, and why. It has stored all other lines of the request.

The texts are those of Loki 3 (pkg/validation/validate.go, pkg/ingester/stream.go, pkg/chunkenc/interface.go).
"""

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from typing import Final

from otel_telemetry.exporters.loki.lines import Line

_TIME: Final = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d))"
_TOO_OLD: Final = re.compile(rf"has timestamp too old: \S+ oldest acceptable timestamp is: {_TIME}")
_TOO_NEW: Final = re.compile(rf"has timestamp too new: {_TIME}")
_TOO_LONG: Final = re.compile(r"[Mm]ax entry size '(\d{1,18})' bytes exceeded")
_BEHIND: Final = re.compile(rf"entry too far behind, entry timestamp is: \S+ oldest acceptable timestamp is: {_TIME}'")
_IGNORED: Final = re.compile(r"total ignored: \d+ out of \d+ for stream: (?=\{)")
_STREAM: Final = re.compile(r"""\{(?:[^"}]|"(?:[^"\\]|\\.)*+")*+\}""")
_LONGEST_STREAM: Final = 8_000
_PAIR: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_SECOND: Final = 1_000_000_000
NO_STREAM: Final = "at least one valid stream is required"
NO_METADATA: Final = "includes structured metadata, but this feature is disallowed"


def blame(text: str, lines: Sequence[Line]) -> Iterator[tuple[Line, str, str]]:
    """Yield each rejected line that the text names, the reason as a fixed word, and the limit in Loki's words."""
    oldest = max(filter(_nanoseconds, _TOO_OLD.findall(text)), key=_nanoseconds, default=None)
    newest = min(filter(_nanoseconds, _TOO_NEW.findall(text)), key=_nanoseconds, default=None)
    longest = min(map(int, _TOO_LONG.findall(text)), default=None)
    behind = dict(_behind(text))
    for line in lines:
        cutoff = behind.get(frozenset(line.labels.mapping().items()))
        if oldest is not None and line.time_ns < _nanoseconds(oldest):
            yield line, "too_old", f"oldest acceptable timestamp is {oldest}"
        elif newest is not None and line.time_ns >= _nanoseconds(newest):
            yield line, "too_new", f"timestamp too new, as is {newest}"
        elif longest is not None and len(line.text.encode()) > longest:
            yield line, "too_long", f"max entry size of {longest} bytes exceeded"
        elif cutoff is not None and line.time_ns < _nanoseconds(cutoff):
            yield line, "too_far_behind", f"oldest acceptable timestamp of its stream is {cutoff}"


def reason(text: str) -> str:
    """Return the reason that the text gives for a line that was sent alone, "invalid" where it is another."""
    named = {"too_old": _TOO_OLD, "too_new": _TOO_NEW, "too_long": _TOO_LONG}
    word = next((word for word, pattern in named.items() if pattern.search(text)), None)
    return word or ("too_far_behind" if any(_behind(text)) else "invalid")


def _behind(text: str) -> Iterator[tuple[frozenset[tuple[str, str]], str]]:
    """Yield the labels of each stream of which lines are too late, and the time before which they are.

    Each stream is named behind its lines. Every part of the text is read once, whatever a destination writes.
    """
    start = 0
    for ignored in _IGNORED.finditer(text):
        stream = _STREAM.match(text, ignored.end(), ignored.end() + _LONGEST_STREAM)
        cutoff = _BEHIND.search(text, start, ignored.start())
        start = ignored.end()
        if stream and cutoff and _nanoseconds(cutoff[1]):
            yield _labels(stream[0]), cutoff[1]


def _nanoseconds(when: str) -> int:
    """Return a time in nanoseconds since 1970, 0 where there is no such time."""
    try:
        return int(dt.datetime.fromisoformat(when).timestamp()) * _SECOND
    except (ValueError, OverflowError):
        return 0


def _labels(stream: str) -> frozenset[tuple[str, str]]:
    return frozenset((name, value.replace('\\"', '"').replace("\\\\", "\\")) for name, value in _PAIR.findall(stream))

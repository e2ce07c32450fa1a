"""Makes the row of a model call from all its reports."""

import copy
from collections.abc import Sequence
from typing import Final

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.derive import calls
from otel_telemetry.exporters.request_log.derive.call_words import is_of_all_tries
from otel_telemetry.exporters.request_log.derive.facts import Fact

_COUNTS: Final = ("prompt_tokens", "completion_tokens")
_MOST_NOTED: Final = 64


def row(leader: Fact, reports: Sequence[Fact], began: int | None) -> records.LlmCall | None:
    """Return the row of a call; the same object as its leader's row if no report adds a value.

    `reports` are the other ones of the call; `began`, when its first try did, where this is a later one (tries.py).
    """
    own = leader.call
    resent = own is not None and own.retries > 0 and not is_of_all_tries(own)
    if own is None or not (reports or resent):
        return own
    found = copy.copy(own)
    logs = sorted((each for each in reports if each.of_log), key=lambda each: (each.start_ns, each.span_id))
    for each in (*(each for each in reports if not each.of_log), *logs):
        if each.call is not None:
            calls.complete(found, each.call)
            _note_differences(found, each.call)
    if resent:
        _time(found, leader, began)
    return found


def _note_differences(found: records.LlmCall, other: records.LlmCall) -> None:
    """Note where another report counts otherwise."""
    problems: dict[str, str] = {}
    for name in _COUNTS:
        mine, theirs = getattr(found, name), getattr(other, name)
        if mine is not None and theirs is not None and mine != theirs:
            problems[name] = f"another report of this call ({other.dialect}) says {theirs}"[:_MOST_NOTED]
    if problems:
        meta = found.meta or {}
        found.meta = {**meta, "problems": {**(meta.get("problems") or {}), **problems}}


def _time(found: records.LlmCall, leader: Fact, began: int | None) -> None:
    """Separate the time of the successful try from that of all tries, which may have one span or one each."""
    if found.request_latency_ms is not None:
        return  # the span is of all tries, and says how long the last one took
    found.request_latency_ms = found.total_latency_ms if found.ok else None
    found.total_latency_ms = None if began is None else (leader.end_ns - began) / 1e6

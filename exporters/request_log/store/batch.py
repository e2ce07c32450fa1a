"""What a batch is about: the facts that are new, and all that is known of their traces."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

import sqlalchemy as sa

from otel_telemetry.exporters.request_log.derive.chunks import facts_of
from otel_telemetry.exporters.request_log.derive.facts import Fact, IrrelevantSpan
from otel_telemetry.exporters.request_log.derive.plain import PlainTrace, plain
from otel_telemetry.exporters.request_log.derive.trace import Trace
from otel_telemetry.exporters.request_log.store import tables
from otel_telemetry.exporters.request_log.store.facts_table import FactsTable, TraceVersion

#: Traces of so many facts are kept in memory: shorter ones are read as fast.
_LONG: Final = 128
#: As many facts are kept in memory, of all traces together.
_MOST: Final = 50_000


class TraceCache:
    """The long traces that were written last, in memory: reading one anew for each batch would cost its whole length.

    Each is true only as long as the table's rows of it are as they were.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[str, tuple[TraceVersion, Trace]] = OrderedDict()
        self._size = 0

    def __contains__(self, trace_id: str) -> bool:
        return trace_id in self._held

    def take(self, trace_id: str) -> tuple[TraceVersion, Trace]:
        """Remove a trace from the cache: the caller that changes it puts it back once that is committed."""
        mark, trace = self._held.pop(trace_id)
        self._size -= len(trace.facts)
        return mark, trace

    def put(self, trace_id: str, mark: TraceVersion, trace: Trace) -> None:
        """Keep a trace, and let go of those that were longest not written to."""
        self._held[trace_id] = mark, trace
        self._size += len(trace.facts)
        while self._size > _MOST:
            self.take(next(iter(self._held)))


class Batch:
    """The traces of a batch. Valid for one transaction."""

    def __init__(self, connection: sa.Connection, trace_cache: TraceCache) -> None:
        self._table = FactsTable(connection)
        self._trace_cache = trace_cache
        self._new: list[Sequence[Fact | IrrelevantSpan]] = []
        self._known: dict[str, Trace] = {}
        self._marks: dict[str, TraceVersion] = {}
        #: Those whose rows may change.
        self.traces: list[Trace | PlainTrace] = []

    def take_in(self, placed: Iterable[Fact | IrrelevantSpan]) -> int:
        """Take in facts; return how many were new. Of one that comes again the first that was stored counts."""
        by_trace: dict[str, dict[str, Fact | IrrelevantSpan]] = {}
        for each in placed:
            spans = by_trace.get(each.trace_id)
            if spans is None:
                spans = by_trace[each.trace_id] = {}
            if each.span_id not in spans or (type(spans[each.span_id]) is IrrelevantSpan and type(each) is Fact):
                spans[each.span_id] = each
        self._load(by_trace)
        count = 0
        for trace_id, spans in by_trace.items():
            count += self._take_in(trace_id, list(spans.values()))
        return count

    def _load(self, traces: Iterable[str]) -> None:
        """Read what is known of these traces."""
        ids = set(traces)
        held = {trace_id: self._trace_cache.take(trace_id) for trace_id in ids if trace_id in self._trace_cache}
        marks = self._table.marks(held)
        self._known = {trace_id: trace for trace_id, (mark, trace) in held.items() if marks.get(trace_id) == mark}
        for trace_id, facts in self._table.of(ids - self._known.keys()).items():
            trace = self._known[trace_id] = Trace()
            trace.add(facts)
            tables.mark_stored([trace])

    def _take_in(self, trace_id: str, spans: list[Fact | IrrelevantSpan]) -> int:
        trace = self._known.get(trace_id)
        if trace is not None:
            spans = [each for each in spans if each.span_id not in trace.facts]
            if not spans:
                return 0
        self._new.append(spans)
        if trace is None:
            facts = _relevant(spans) if len(spans) < _LONG else facts_of(spans)
            if not facts:
                return len(spans)
            if len(spans) < _LONG and (found := plain(facts)) is not None:
                self.traces.append(found)
                return len(spans)
            trace = Trace()
            if len(spans) >= _LONG:
                self._known[trace_id] = trace
        else:
            facts = facts_of(spans)
        trace.add(facts)
        self.traces.append(trace)
        return len(spans)

    def write(self) -> None:
        """Write what is new."""
        self._table.insert(self._new)
        long = {trace_id: trace for trace_id, trace in self._known.items() if len(trace.facts) >= _LONG}
        self._marks = self._table.marks(long)
        tables.mark_stored(long.values())

    def remember(self) -> None:
        """Keep long traces, once all of it is committed, and let go of the others."""
        for trace in (*self.traces, *self._known.values()):
            if len(trace.facts) < _LONG:
                trace.release()
        for trace_id, mark in self._marks.items():
            self._trace_cache.put(trace_id, mark, self._known[trace_id])


def _relevant(spans: Iterable[Fact | IrrelevantSpan]) -> list[Fact]:
    """Return the relevant spans and those above them: all that rows are derived from."""
    found: list[Fact] = []
    irrelevant: dict[str, IrrelevantSpan] = {}
    for each in spans:
        if type(each) is IrrelevantSpan:
            irrelevant[each.span_id] = each
        else:
            found.append(each)  # type: ignore[arg-type]
    if found:
        for fact in found:  # it grows meanwhile
            above = irrelevant.pop(fact.parent, None) if fact.parent is not None else None
            if above is not None:
                found.append(above.fact())
    return found

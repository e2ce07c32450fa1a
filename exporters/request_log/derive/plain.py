"""Plain traces: those whose rows follow from a few comparisons, as nearly all do that come whole.

A trace is plain if one span is above all others that say something, and they are of its service; if no model call is
below another one, none was tried again and all have one source; and if there are neither log records nor stages. Then
the span at the top is the request, all calls are its own, and each call is counted. trace.py would come to the same
rows, by steps that are prepared for everything else; a test compares the two.
"""

from collections.abc import Sequence

from otel_telemetry.exporters.request_log.derive.facts import Fact


class PlainTrace:
    """The facts of one trace that is plain, of which nothing is stored. It takes in no further ones."""

    __slots__ = ("_named", "calls", "facts", "requests")

    def __init__(self, facts: dict[str, Fact], top: Fact, calls: dict[str, Fact]) -> None:
        self.facts = facts
        self.calls = calls
        self.requests = {top.span_id: top}
        fields = top.request_fields
        self._named = [top] if fields is not None and "id" in fields else []

    def claimants(self) -> list[Fact]:
        """See Trace."""
        return self._named

    def release(self) -> None:
        """See Trace."""
        for fact in self.facts.values():
            fact.separate()


def plain(facts: Sequence[Fact]) -> PlainTrace | None:
    """Return what follows from facts that are all that is known of a trace, if it is plain."""
    by_id: dict[str, Fact] = {}
    calls: dict[str, Fact] = {}
    source: tuple[str, str | None] | None = None
    top: Fact | None = None
    for fact in facts:
        by_id[fact.span_id] = fact
        call = fact.call
        if call is None:
            continue
        writer = fact.source, call.dialect
        if fact.has_request_fields or fact.local_root or call.retries or writer != (source or writer):
            return None
        source = writer
        calls[fact.span_id] = fact
    for fact in facts:
        if fact.of_log or fact.cached or fact.matched_before or fact.stage is not None:
            return None
        above = by_id.get(fact.parent) if fact.parent is not None else None
        if above is None:
            if top is not None or fact.call is not None:
                return None
            top = fact
        elif fact.has_request_fields or fact.local_root or above.call is not None or above.service != fact.service:
            return None
    if top is None or not (top.has_request_fields or (top.local_root and calls)) or not _is_tree(by_id, len(facts)):
        return None
    return _derived(by_id, top, calls)


def _is_tree(by_id: dict[str, Fact], count: int) -> bool:
    """Return whether parents lead to the top from everywhere, and not around in a circle."""
    if len(by_id) < count:
        return False
    for fact in by_id.values():
        steps, above = 0, fact.parent
        while above is not None and steps <= count and (each := by_id.get(above)) is not None:
            steps, above = steps + 1, each.parent
        if steps > count:
            return False
    return True


def _derived(by_id: dict[str, Fact], top: Fact, calls: dict[str, Fact]) -> PlainTrace:
    if top.local_root:
        top.root = top
    request = top.known()
    request.is_request = True
    request.direct_calls = len(calls)
    for fact in calls.values():
        fact.leader = fact
        fact.row = fact.added = fact.call
        fact.asked_in = top
        request.sum.put(fact, fact.call)
    return PlainTrace(by_id, top, calls)

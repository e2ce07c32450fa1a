"""Rows from the facts of a trace: which span is a request, and which model calls belong to it.

The result depends on the set of facts alone, not on their order, their batches or their repetition:

1. *Above* a span are its parent, its parent's parent and so on, as far as they are known and of the same service.
2. A report of a model call is counted unless a report of the same call is below it: frameworks repeat what their calls
   report. Two reports are of one call unless both have an answer id and the ids differ: then the inner call was made
   while the outer one ran. A log record of a call is below the span in whose context it was written. It is counted only
   if no span above reports the same call; if that very span does, the log adds the values that the span lacks. A log
   record below a span of a cached answer is not a call, because that span is not one. For reports beside each other,
   twins.py decides which are of one call. One of them becomes the row and takes missing values from the others. If
   their counts differ, the row says so.
3. A request is the outermost span, going up, that has `request_log.*` attributes. If the tree of a local root (it
   entered the service or began there) has no such span, the root is a request once it has a counted call of its own.
4. A call belongs to the outermost span with request fields at or above it, else to its nearest local root if that is a
   request. If neither is known (a span in between has not arrived yet), it belongs to the only request of its service
   in the trace, and to none if there are several or none.

`Trace` is a function of its facts, evaluated as they arrive: the cost of a batch is that of its own spans and of those
whose position it changes. Positions change in one direction: a local root stays one, and the outermost carrier only
moves out. So each span is processed a small, bounded number of times, however many batches a trace has.
"""

from collections.abc import Iterable
from typing import Final

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.derive import merge, tries
from otel_telemetry.exporters.request_log.derive.facts import Fact
from otel_telemetry.exporters.request_log.derive.tries import TryKey, try_key
from otel_telemetry.exporters.request_log.derive.twins import Calls, pair

#: As many calls within calls are told apart.
_NEAREST: Final = 16
_NOBODY: Final[list[Fact]] = []


class Trace:
    """The facts of one trace. `calls` and `requests` may differ from what is stored (`mark_stored`)."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self.calls: dict[str, Fact] = {}
        self.requests: dict[str, Fact] = {}
        self._children: dict[str, list[Fact]] = {}
        self._named: list[Fact] = []  # to which the app gave an id as requests
        self._candidates = Calls()
        self._tries: dict[TryKey, dict[str, Fact]] | None = None
        self._loose: dict[str, dict[str, Fact]] = {}  # parts that no request owns, by service
        self._found: dict[str, dict[str, Fact]] = {}  # requests, by service
        self._changed: set[str] = set()  # services whose requests are others now
        self._only: dict[str, Fact | None] = {}  # the only request of a service
        self._parts: dict[str, Fact] = {}  # parts whose owner has to be looked at
        self._owners: dict[str, Fact] = {}  # spans that may have become, or ceased to be, a request

    def add(self, facts: Iterable[Fact]) -> list[Fact]:
        """Add facts and update all rows that follow from them; return the facts that were new."""
        new = []
        for fact in facts:
            if self.facts.setdefault(fact.span_id, fact) is fact:
                new.append(fact)
                if fact.request_fields is not None and "id" in fact.request_fields:
                    self._named.append(fact)
                if fact.parent is not None:
                    self._children.setdefault(fact.parent, []).append(fact)
        if new:
            self._match_reports(self._link_parents(new))
            self._complete(new)
            self._own()
            self._adopt()
            self._parts.clear()
        return new

    def revise(self, rows: Iterable[tuple[Fact, records.LlmCall]]) -> None:
        """Give reports of calls other rows, with the same values for which report belongs to which call."""
        for fact, row in rows:
            fact.call = row
            self._parts[fact.span_id] = fact
        self._complete([])
        self._own()
        self._adopt()
        self._parts.clear()

    def mark_stored(self) -> None:
        """Note that the tables now hold these rows."""
        for fact in self.calls.values():
            fact.stored, fact.stored_in = (fact.row, fact.asked_in) if fact.is_counted else (None, None)
        self.calls, self.requests = {}, {}

    def release(self) -> None:
        """Separate the facts of a trace that is done with: nothing but the cycle collector would free them else."""
        for fact in self.facts.values():
            fact.separate()

    def claimants(self) -> list[Fact]:
        """Return the spans to which the app gave an id as requests, and that are or were requests."""
        request_state = [fact for fact in self._named if fact.request_state is not None]
        return [fact for fact in request_state if fact.known().is_request or fact.known().stored is not None]

    # --- where spans stand ---------------------------------------------------------------------------------------

    def _link_parents(self, new: list[Fact]) -> dict[str, Fact]:
        """Give spans their places, and carry them down to what waited for them; return the calls placed anew."""
        linked: dict[str, Fact] = {}
        fresh = {fact.span_id for fact in new}
        level = [fact for fact in new if fact.parent not in fresh] + self._cut_circles(new)
        while level:
            below: list[Fact] = []
            for fact in level:
                moved = self._label(fact)
                if fact.span_id in fresh:
                    fresh.discard(fact.span_id)
                    moved = True
                    self._register(fact)
                if moved:
                    below += self._children.get(fact.span_id, ())
                    if fact.call is not None:
                        linked[fact.span_id] = fact
            level = below
        return linked

    def _cut_circles(self, new: list[Fact]) -> list[Fact]:
        """Open circles of parents, each at the span with the smallest id; return where they are open."""
        opened = []
        seen: set[str] = set()
        for start in new:
            if start.parent is None or start.span_id not in self._children:
                continue
            path: dict[str, Fact] = {}
            fact: Fact | None = start
            while fact is not None and not (fact.span_id in path or fact.span_id in seen or fact.cut):
                path[fact.span_id] = fact
                fact = self.facts.get(fact.parent) if fact.parent is not None else None
            if fact is not None and fact.span_id in path:
                ids = list(path)
                smallest = path[min(ids[ids.index(fact.span_id) :])]
                smallest.cut = True
                opened.append(smallest)
            seen |= path.keys()
        return opened

    def _label(self, fact: Fact) -> bool:
        """Set a span's place from the span above it; return whether it changed."""
        above = self.facts.get(fact.parent) if fact.parent is not None and not fact.cut else None
        is_elsewhere = above is not None and above.service != fact.service
        up = fact.up = None if is_elsewhere else above
        enters = fact.enters = fact.local_root or is_elsewhere
        root = fact if enters else up.root if up is not None else None
        outermost = up.outermost if up is not None else None
        if outermost is None and fact.has_request_fields:
            outermost = fact
        outer = fact.outer
        if up is not None:
            outer = (up, *up.outer)[:_NEAREST] if up.call is not None or up.cached else up.outer
        if fact.has_request_fields or enters:
            self._owners[fact.span_id] = fact
        if root is fact.root and outermost is fact.outermost and outer == fact.outer:
            return False
        if root is not None and fact.root is None:
            self._take_root(fact, root)
        if root is not fact.root and fact.request_state is not None:
            self.requests[fact.span_id] = fact  # its row names where it came in
        fact.root, fact.outermost, fact.outer = root, outermost, outer
        if fact.is_part:
            self._parts[fact.span_id] = fact
        return True

    def _take_root(self, fact: Fact, root: Fact) -> None:
        """Note under a local root what has it as root: parts, and whether a carrier is among them."""
        if fact.is_part:
            root.parts = root.parts or []
            root.parts.append(fact)
        if fact.has_request_fields and not root.carried:
            root.carried = True
            self._owners[root.span_id] = root
            self._parts.update((part.span_id, part) for part in root.parts or ())

    def _register(self, fact: Fact) -> None:
        if fact.is_part:
            self._parts[fact.span_id] = fact
        if fact.call is None:
            return
        if not fact.matched_before:
            self._candidates.add(fact)
        if fact.call.retries and self._tries is None:
            self._tries = {}
            for each in self.facts.values():
                self._note_try(each)
        else:
            self._note_try(fact)

    def _note_try(self, fact: Fact) -> None:
        """Note a try of a call that was tried again, or may have been."""
        if self._tries is not None and fact.call is not None and (fact.call.retries or not fact.call.ok):
            self._tries.setdefault(try_key(fact), {})[fact.span_id] = fact

    # --- which reports are of one call ---------------------------------------------------------------------------

    def _match_reports(self, linked: dict[str, Fact]) -> None:
        """Find which report stands for each call, so that each is counted once."""
        wrapping: dict[str, Fact] = {}
        for fact in linked.values():
            same = [each for each in fact.outer if _is_same_call(each, fact)]
            if not fact.of_log:
                wrapping.update((each.span_id, each) for each in same if not each.wraps)
            elif same and not fact.wraps:
                wrapping[fact.span_id] = fact
        looked_at = dict(linked)
        if self._candidates.have_twins:
            for group in self._candidates.around(wrapping.values()):
                looked_at.update((fact.span_id, fact) for fact in group)
        for fact in wrapping.values():
            fact.wraps = True
            self._candidates.remove(fact)
            self._lead(fact, None, _NOBODY)
        self._pair([fact for fact in looked_at.values() if not fact.wraps])

    def _pair(self, facts: list[Fact]) -> None:
        if not self._candidates.have_twins:
            for fact in facts:
                self._lead(fact, fact, _NOBODY)
            return
        for group in self._candidates.around(facts):
            for leader, *others in pair(group):
                self._lead(leader, leader, others)
                for each in others:
                    self._lead(each, leader, _NOBODY)

    def _lead(self, fact: Fact, leader: Fact | None, others: list[Fact]) -> None:
        if fact.leader is not leader or fact.others != others:
            fact.leader, fact.others = leader, others
            self._parts[fact.span_id] = fact

    # --- what their rows say -------------------------------------------------------------------------------------

    def _complete(self, new: list[Fact]) -> None:
        """Form the rows of calls, with what other reports know of them."""
        for log in new:
            if log.of_log and log.up is not None and log.up.call is not None:
                for fact in (log.up, log.up.leader):
                    if fact is not None:
                        self._parts[fact.span_id] = fact
        led = [fact.leader for fact in self._parts.values() if fact.leader is not None and fact.leader is not fact]
        self._parts.update((leader.span_id, leader) for leader in led)
        began: dict[str, int | None] = {}
        if self._tries is not None:
            for key in {try_key(fact) for fact in self._parts.values() if fact.call is not None}:
                began |= tries.began(list(self._tries.get(key, {}).values()))
            self._parts.update((span_id, self.facts[span_id]) for span_id in began)
        for fact in self._parts.values():
            if fact.leader is not fact:
                continue
            is_alone = not fact.others and fact.span_id not in self._children
            fact.row = merge.row(fact, _NOBODY if is_alone else self.reports(fact)[1:], began.get(fact.span_id))

    def reports(self, fact: Fact) -> list[Fact]:
        """Return the reports of a call, that which stands for it first: spans, and the logs written in them."""
        found = [fact, *fact.others]
        for span in (fact, *fact.others):
            below = self._children.get(span.span_id, ())
            found += [each for each in below if each.of_log and each.wraps and _is_same_call(span, each)]
        return found

    # --- which request they belong to ----------------------------------------------------------------------------

    def _own(self) -> None:
        """Give every part its owner, count the calls of owners, and tell which spans are requests."""
        for fact in self._parts.values():
            owner = fact.owner = self._owner_of(fact)
            self._count(fact, owner if fact.is_counted else None)
            if owner is None:
                self._loose.setdefault(fact.service, {})[fact.span_id] = fact
                continue
            if fact.service in self._loose:
                self._loose[fact.service].pop(fact.span_id, None)
            self._assign(fact, owner)
        for fact in self._owners.values():
            self._decide(fact)
        self._owners.clear()

    def _owner_of(self, fact: Fact) -> Fact | None:
        """Return the request of a part by where it stands, or where another report of its call does."""
        for each in (fact, *fact.others):
            if each.outermost is not None:
                return each.outermost
            if each.root is not None and not each.root.carried:
                return each.root
        return None

    def _count(self, fact: Fact, owner: Fact | None) -> None:
        if fact.counted_in is owner:
            return
        for each, step in ((fact.counted_in, -1), (owner, 1)):
            if each is not None:
                each.known().direct_calls += step
                self._owners[each.span_id] = each
        fact.counted_in = owner

    def _decide(self, fact: Fact) -> None:
        """Return whether a span is a request."""
        if fact.has_request_fields:
            is_request = fact.outermost is fact
        else:
            called = fact.request_state is not None and fact.request_state.direct_calls > 0
            is_request = called and fact.root is fact and not fact.carried
        if is_request == (fact.request_state is not None and fact.request_state.is_request):
            return
        fact.known().is_request = is_request
        self.requests[fact.span_id] = fact
        found = self._found.setdefault(fact.service, {})
        if is_request:
            found[fact.span_id] = fact
        else:
            del found[fact.span_id]
        self._changed.add(fact.service)

    def _adopt(self) -> None:
        """Let parts without an owner follow the only request of their service, where there is exactly one."""
        for service in self._changed:
            found = self._found[service]
            only = next(iter(found.values())) if len(found) == 1 else None
            if only is not self._only.get(service):
                self._only[service] = only
                self._parts.update(self._loose.get(service, {}))
        self._changed.clear()
        for fact in self._parts.values():
            if fact.owner is None:
                self._assign(fact, self._only.get(fact.service))
            if fact.call is not None:
                self.calls[fact.span_id] = fact

    def _assign(self, fact: Fact, request: Fact | None) -> None:
        """Add a part to the request that it belongs to, and take it from where it was."""
        row = fact.row if fact.is_counted else None
        if fact.asked_in is request and fact.added is row:
            return
        if fact.asked_in is not None:
            fact.asked_in.known().sum.take(fact)
            self.requests[fact.asked_in.span_id] = fact.asked_in
        if request is not None:
            request.known().sum.put(fact, row)
            self.requests[request.span_id] = request
        fact.asked_in, fact.added = request, row


def _is_same_call(one: Fact, other: Fact) -> bool:
    """Return whether two reports, one above the other, are of one call: unless each has the id of another answer."""
    mine, theirs = one.answer_id, other.answer_id
    return mine is None or theirs is None or mine == theirs

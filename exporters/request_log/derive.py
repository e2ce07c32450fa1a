"""From spans to requests: which span is a request, and which model calls are its own (DESIGN D6 and D7).

What holds in the end depends on the set of spans alone, not on their order, their batches or their repetition:

1. *Above* a span are its parent, its parent's parent and so on, as far as they are known and of the same service.
2. A span that reports a model call is counted unless one of the same call hangs below it: frameworks repeat what
   their calls report, and two instrumentations may see one call. They are of one call unless both say the id of their
   answer and the ids differ: then the inner one was made while the outer one ran. A log record of a call stands below
   the span in whose context it was written, and is counted only where no span above tells of the same call; where that
   very span does, the log (the first to come, should there be several) adds what the span does not know.
3. A request is the outermost span, going up, that carries `request_log.*`. Where a local root (it entered the service
   or began there) has no such span in its tree, it is a request itself once a counted call is its own.
4. A call belongs to the outermost carrier at or above it, else to its nearest local root if that is a request. Where
   neither is known (a span in between has not come yet), it goes to the only request of its service in the trace, and
   to none if there are several or none.

Everything is kept as labels on the spans (node.py) and changed only where a new span changes it. Labels move one way:
marks are set once, a local root once found stays, the outermost carrier only moves out. So the cost of a batch is its
own spans plus those whose labels change, and over a whole trace each span is touched a small, bounded number of times:
once when it comes, once when the chain above it is complete, once for each carrier that turns up further out. A sum is
added to and taken from, never formed anew, except where the call that ended last is taken back.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from otel_telemetry.exporters.request_log.graph import Graph
from otel_telemetry.exporters.request_log.node import Group, Key, Node
from otel_telemetry.exporters.request_log.rollup import Rollup

#: As many calls within calls are told apart.
_NEAREST: Final = 16


@dataclass(slots=True)
class Changes:
    """What the tables of the contract must follow: nodes whose call or request changed."""

    new: list[Node] = field(default_factory=list)
    calls: dict[Key, Node] = field(default_factory=dict)
    completed: list[tuple[Node, Node]] = field(default_factory=list)
    requests: dict[Key, Node] = field(default_factory=dict)


def absorb(graph: Graph, incoming: Iterable[Node]) -> Changes:
    """Take in a batch of nodes and bring everything that is derived up to date, in `span_node` and in the result."""
    changes = Changes(new=graph.admit(incoming))
    if not changes.new:
        return changes
    touched = _Touched(graph)
    touched.place(changes.new)
    touched.tell_calls_apart()
    touched.own()
    touched.sum_up()
    groups = graph.changed_groups() | touched.groups()
    before = graph.only_requests(groups)  # nothing is written yet
    if before:
        graph.flush()
    after = graph.only_requests(groups) | graph.only_fresh_requests()
    touched.adopt(before, after)
    touched.sum_up()
    touched.sum_anew()
    changes.calls, changes.requests, changes.completed = touched.calls, touched.requests, touched.completed
    return changes


class _Touched:
    """The nodes that a batch changes, step by step."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._children: dict[Key, list[Node]] = {}
        self._expanded: set[Key] = set()
        self._parts: dict[Key, Node] = {}  # parts whose owner has to be looked at
        self._owners: dict[Key, Node] = {}  # spans that may have become, or ceased to be, a request
        self._stale: set[Key] = set()  # owners whose sum has to be formed anew
        self._placed: dict[Key, Node] = {}  # calls that are new or have other calls above them now
        self.calls: dict[Key, Node] = {}
        self.completed: list[tuple[Node, Node]] = []  # spans and the logs that complete them
        self.requests: dict[Key, Node] = {}

    def place(self, new: list[Node]) -> None:
        """Give new spans their labels, and carry them down to spans that were waiting for them."""
        for node in new:
            self._add_child(node)
        self._expand(new)
        pending = dict.fromkeys(node.key for node in new)
        level = [node for node in new if self._graph.parent(node) is None or node.above not in pending]
        while pending or level:
            if not level:  # parents that go round in a circle: begin anywhere
                level = [self._graph.nodes[next(iter(pending))]]
            changed = []
            for node in level:
                was_pending = pending.pop(node.key, self) is None
                if self._label(node) or was_pending:
                    changed.append(node)
            self._expand(changed)
            level = [child for node in changed for child in self._children.get(node.key, ())]
        self._load_roots()

    def _add_child(self, node: Node) -> None:
        self._children.setdefault(node.above, []).append(node)

    def _expand(self, nodes: Iterable[Node]) -> None:
        """Read the stored children of these spans, once."""
        unread = {node.key for node in nodes} - self._expanded
        self._expanded |= unread
        for child in self._graph.children(unread):
            self._add_child(child)

    def _label(self, node: Node) -> bool:
        """Set `top` and `root` from the span above; return whether one changed."""
        above = self._graph.parent(node)
        enters = node.local_root or self._graph.parent_elsewhere(node)
        root = node.span_id if enters else above.root if above is not None else None
        top = above.top if above is not None else None
        if top is None and node.carrier:
            top = node.span_id
        calls_above = _calls_above(node, above)
        if node.part is not None:
            self._parts[node.key] = node
        if node.carrier or enters:
            self._owners[node.key] = node
        if node.call:
            self._placed[node.key] = node
        if (root, top, calls_above) == (node.root, node.top, node.calls_above):
            return False
        node.root, node.top, node.calls_above, node.dirty = root, top, calls_above, True
        return True

    def _load_roots(self) -> None:
        """Read the local roots that labels name, and mark those that have a carrier below."""
        labelled = [*self._parts.values(), *self._owners.values()]
        self._graph.load((node.trace_id, span_id) for node in labelled for span_id in (node.root, node.top) if span_id)
        overruled = []
        for node in self._owners.values():
            root = self._graph.nodes.get((node.trace_id, node.root or "")) if node.carrier else None
            if root is not None and not root.carrier_below:
                root.carrier_below = root.dirty = True
                overruled.append(root)
        stored = [root.key for root in overruled if not root.new]
        for part in self._graph.parts_of(stored):
            self._parts[part.key] = part
        self._owners.update((root.key, root) for root in overruled)

    def groups(self) -> set[Group]:
        """Return the groups of the parts that are looked at."""
        return {node.group for node in self._parts.values()}

    def tell_calls_apart(self) -> None:
        """Mark the calls that another span tells of too, so that each is counted once."""
        above = {node.key: [(node.trace_id, each) for each in _ids(node.calls_above)] for node in self._placed.values()}
        self._graph.load(key for keys in above.values() for key in keys)
        logs: list[tuple[Node, Node]] = []
        for node in self._placed.values():
            outer = (self._graph.nodes[key] for key in above[node.key])
            same = [call for call in outer if call.is_same_call(node)]
            if not node.of_log:
                for call in same:
                    self._mark(call)
            elif same and not node.call_below:
                logs.append((same[0], node))
        for call, log in logs:
            self._complete(call, log)
            self._mark(log)

    def _complete(self, call: Node, log: Node) -> None:
        if call.span_id != log.parent_span_id or call.call_below or call.part is None or log.part is None:
            return
        call.part, call.dirty = call.part.completed(log.part), True
        self._parts[call.key] = call
        self.completed.append((call, log))

    def _mark(self, node: Node) -> None:
        if node.call_below:
            return
        node.call_below = node.dirty = True
        node.part = node.part.as_stage() if node.part is not None else None
        self._parts[node.key] = node
        self.calls[node.key] = node

    def own(self) -> None:
        """Give every part its owner, count the calls of owners, and say which spans are requests."""
        # The roots of calls that were marked as wrapping others are not read yet.
        self._graph.load((node.trace_id, node.root) for node in self._parts.values() if node.root)
        for node in self._parts.values():
            owner = self._owner(node) if node.part is not None else None
            if owner != node.owner:
                node.owner, node.dirty = owner, True
            if owner is not None or node.part is None:
                self._assign(node, owner)
            counted = owner if node.is_counted else None
            if counted != node.counted_owner:
                self._count_call(node, node.counted_owner, -1)
                self._count_call(node, counted, +1)
                node.counted_owner = counted
        for node in self._owners.values():
            was = node.is_request
            node.settle()
            if was or node.is_request:
                self.requests[node.key] = node

    def _owner(self, node: Node) -> str | None:
        if node.top is not None:
            return node.top
        root = self._graph.nodes.get((node.trace_id, node.root or ""))
        return root.span_id if root is not None and not root.carrier_below else None

    def _count_call(self, node: Node, owner: str | None, step: int) -> None:
        if owner is None:
            return
        key = (node.trace_id, owner)
        if key not in self._graph.nodes:
            self._graph.load([key])
        counted = self._graph.nodes[key]
        counted.direct_calls += step
        counted.dirty = True
        self._owners[key] = counted

    def adopt(self, before: dict[Group, str | None], after: dict[Group, str | None]) -> None:
        """Let parts without an owner follow the only request of their group, where there is exactly one."""
        changed = [group for group, only in after.items() if only != before.get(group)]
        for part in self._graph.loose(changed):
            self._parts[part.key] = part
        for node in self._parts.values():
            if node.owner is None and node.part is not None:
                self._assign(node, after.get(node.group))

    def _assign(self, node: Node, request: str | None) -> None:
        if request != node.request_span_id:
            node.request_span_id, node.dirty = request, True
            if node.is_counted:
                self.calls[node.key] = node

    def sum_up(self) -> None:
        """Move parts between the sums of the requests that they left and joined."""
        moved = [n for n in self._parts.values() if n.counted_in != n.request_span_id or n.counted_part is not n.part]
        keys = {(n.trace_id, span_id) for n in moved for span_id in (n.counted_in, n.request_span_id) if span_id}
        self._graph.load(keys)
        for node in moved:
            self._leave(node)
        for node in moved:
            self._join(node)
        for key in keys:
            owner = self._graph.nodes[key]
            if owner.is_request:
                self.requests[key] = owner

    def _leave(self, node: Node) -> None:
        if node.counted_in is None or node.counted_part is None:
            return
        owner = self._graph.nodes[node.trace_id, node.counted_in]
        if owner.rollup is not None and not owner.rollup.take_back(node.counted_part):
            self._stale.add(owner.key)
        owner.dirty = True

    def _join(self, node: Node) -> None:
        node.counted_in, node.counted_part = node.request_span_id, node.part
        if node.request_span_id is None or node.part is None:
            return
        owner = self._graph.nodes[node.trace_id, node.request_span_id]
        if owner.rollup is None:
            owner.rollup = Rollup()
        owner.rollup.merge(node.part)
        owner.dirty = True

    def sum_anew(self) -> None:
        """Form the sums from which the call that ended last was taken."""
        if not self._stale:
            return
        self._graph.whole -= {trace_id for trace_id, _ in self._stale}
        self._graph.flush()
        for key in self._stale:
            self._graph.nodes[key].rollup = None
            self._graph.nodes[key].dirty = True
        for part in self._graph.parts_of(self._stale):
            owner = self._graph.nodes[part.trace_id, part.request_span_id or ""]
            owner.rollup = owner.rollup or Rollup()
            if part.part is not None:
                owner.rollup.merge(part.part)


def _ids(joined: str | None) -> list[str]:
    return joined.split(" ") if joined else []


def _calls_above(node: Node, above: Node | None) -> str | None:
    """Return the ids of the nearest calls above a span; a circle ends where it began."""
    if above is None:
        return None
    ids = [*([above.span_id] if above.call else []), *_ids(above.calls_above)]
    return " ".join([each for each in dict.fromkeys(ids) if each != node.span_id][:_NEAREST]) or None

"""One span's place in its trace: facts from the span, and what follows from the facts of the spans around it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from otel_telemetry import conventions, records
from otel_telemetry.exporters.request_log import coerce
from otel_telemetry.exporters.request_log.calls import row_id
from otel_telemetry.exporters.request_log.rollup import Rollup

#: A span's identity: trace id, span id.
Key = tuple[str, str]
#: The spans of one service in one trace.
Group = tuple[str, str]


@dataclass(slots=True, eq=False)
class Node:
    """A row of `span_node`. Ids of other spans are of the same trace; "above" and "below" mean within the service.

    Facts: `local_root`, the span entered the service or began there. `carrier`, it says something of a request.
    `call`, it reports a model call. `of_log`, it is a log record of a model call, standing below the span in whose
    context it was written. `response_id`, the id of the answer. `claimed_id`, the request id that the app gave.
    `facts`, what it says of a request.

    Derived: `part`, what the span adds to a request (facts at first; a call that is told of elsewhere keeps only its
    stage's time and who asked). `call_below`, on a call: another span or, for a log, a span above tells of the same
    call. `calls_above`, the ids of the nearest calls above, nearest first, with a space between. `top`, the outermost
    carrier at or above. `root`, the nearest local root at or above. `carrier_below`, on a local root: a carrier has it
    for root. `owner`, the request that the part belongs to by ancestry. `request_span_id`, the same, or the group's
    only request where ancestry says nothing. `direct_calls`, on an owner: model calls that it owns. `is_request`, it
    has a row in request_log, whose key is `log_id`. `rollup`, the sum of all parts with this `request_span_id`.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    service: str
    ts: datetime
    local_root: bool
    carrier: bool
    call: bool
    of_log: bool = False
    response_id: str | None = None
    claimed_id: str | None = None
    facts: dict[str, Any] | None = None
    part: Rollup | None = None
    call_below: bool = False
    carrier_below: bool = False
    calls_above: str | None = None
    top: str | None = None
    root: str | None = None
    owner: str | None = None
    request_span_id: str | None = None
    direct_calls: int = 0
    is_request: bool = False
    log_id: str | None = None
    rollup: Rollup | None = None

    # While a batch is absorbed: the row of a new call, what has to be written, what sums contain already,
    # under which id the request stands in its table, and which model answered it as far as was known then.
    row: records.LlmCall | None = None
    new: bool = False
    dirty: bool = False
    counted_in: str | None = None
    counted_part: Rollup | None = None
    counted_owner: str | None = None
    stored_as: str | None = None
    answered: str | None = None

    #: The span's identity, and its trace and service.
    key: Key = field(init=False)
    group: Group = field(init=False)

    def __post_init__(self) -> None:
        self.key = (self.trace_id, self.span_id)
        self.group = (self.trace_id, self.service)

    @property
    def above(self) -> Key:
        """Return the key of the span above, which is nobody's where there is none."""
        return self.trace_id, self.parent_span_id or ""

    @property
    def own_id(self) -> str:
        """Key of a row that is this span's, where the app gave none."""
        return row_id(self.trace_id, self.span_id)

    @property
    def is_counted(self) -> bool:
        """Tell whether the span is a model call that is told of nowhere else: one that is counted and priced."""
        return self.call and not self.call_below

    def is_same_call(self, other: "Node") -> bool:
        """Tell whether two calls, one below the other, are one: unless each has the id of another answer."""
        return self.response_id is None or other.response_id is None or self.response_id == other.response_id

    def settle(self) -> None:
        """Say whether the span is a request, from what is derived of it."""
        if self.carrier:
            request = self.top == self.span_id
        else:
            request = self.root == self.span_id and not self.carrier_below and self.direct_calls > 0
        if request != self.is_request:
            self.is_request = request
            self.log_id = self.own_id if request else None  # an id that the app gave may follow (store.py)
            self.dirty = True


class Quiet(NamedTuple):
    """A span that says nothing of models, requests or stages: a row of `span_waiting`, in the order of its columns.

    It matters only where another span of its trace does: it connects such spans, or is the request of a call below it.
    `at_us` is its time in microseconds; `facts`, on a local root, is what it says of the request that it may be.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    service: str
    at_us: int
    local_root: bool
    facts: dict[str, Any] | None

    @property
    def above(self) -> Key:
        """Return the key of the span above, which is nobody's where there is none."""
        return self.trace_id, self.parent_span_id or ""

    def node(self) -> Node:
        """Return the span as the derivation sees it."""
        return Node(
            trace_id=self.trace_id,
            span_id=self.span_id,
            parent_span_id=self.parent_span_id,
            service=self.service,
            ts=coerce.moment(self.at_us * 1_000),
            local_root=self.local_root,
            carrier=False,
            call=False,
            facts=self.facts,
            new=True,
        )

    def span(self) -> records.Span:
        """Return what is left of the span, for where no table would take it."""
        return records.Span(
            trace_id=self.trace_id,
            span_id=self.span_id,
            parent_span_id=self.parent_span_id,
            local_root=self.local_root,
            name="",
            kind="UNSPECIFIED",
            start_ns=self.at_us * 1_000,
            end_ns=self.at_us * 1_000,
            status="UNSET",
            status_message="",
            attributes={},
            events=(),
            resource={conventions.SERVICE_NAME: self.service},
        )

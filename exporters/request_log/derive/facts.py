"""The facts that one span adds to its trace. They never change; trace.py computes the rest from them."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.db import coerce
from otel_telemetry.exporters.request_log.derive.sums import RequestSum

#: The source of reports that were stored before it was known who wrote them (migrations/versions/0010_facts.py).
LEGACY: Final = "?"

#: Who asked, and in which session and conversation, as a model call tells it: {column: value}.
CallerFields = dict[str, str]


class IrrelevantSpan(NamedTuple):
    """A span without fields of models, requests or stages; it matters only if it is above one that has some.

    `at_us` is its time in microseconds; `request_fields`, on a local root: fields of the request that it may be.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    service: str
    at_us: int
    local_root: bool
    request_fields: dict[str, Any] | None

    def fact(self) -> "Fact":
        """Return it as a Fact, the form in which a trace is processed."""
        at_ns = self.at_us * 1_000
        trace_id, span_id, parent, service, _, local_root, request_fields = self
        return Fact(trace_id, span_id, parent, service, at_ns, at_ns, local_root, False, request_fields)

    def span(self) -> records.Span:
        """Return its stored fields as a span, for a dead letter."""
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


class Fact:
    """One span, or one log record of a model call.

    Facts. `local_root`: the span entered the service or began there. `has_request_fields`: it has fields of a request,
    which are `request_fields`. `call`: the row of the model call that it reports. `of_log`: it is a log record, below
    the span in whose context it was written. `source`: the instrumentation that wrote it; two reports of one source are
    never one call. `stage`: the stage of its request that it is or belongs to. `caller`: the request fields that a call
    sets. `matched_before`: it was compared with other reports of its call before all of a call's facts were stored
    (migrations/versions/0010_facts.py). `cached`: it is of an answer for which no model was called.

    Derived while a trace is processed (trace.py); "above" and "below" mean within the service. `up`: the span above.
    `cut`: the place where a circle of parents is opened. `root`: the nearest local root at or above. `outermost`: the
    outermost span with request fields at or above. `outer`: the nearest calls and cached answers above. `wraps`:
    another report of this call is below it, or, for a log record, above. `leader`: the report that becomes the row of
    this call; `others`, on a leader: the other reports. `parts`: on a local root, the facts with this root; `carried`:
    the same for a span with request fields. `request_state`: the state of the request that the span is or may be.
    `owner`: the request of a part by its position; `counted_in`: the same of a counted call; `asked_in`: the request to
    which it adds, and `added`: what it adds. `row`: the call's row with the values of all other reports; `stored` and
    `stored_in`: the row and its request as in the tables.
    """

    __slots__ = (
        "_ts",
        *(
            "trace_id",
            "span_id",
            "parent",
            "service",
            "start_ns",
            "end_ns",
            "local_root",
            "has_request_fields",
            "request_fields",
        ),
        *("call", "of_log", "source", "stage", "caller", "matched_before", "cached"),
        *(
            "up",
            "cut",
            "enters",
            "root",
            "outermost",
            "outer",
            "wraps",
            "leader",
            "others",
            "parts",
            "carried",
            "request_state",
        ),
        *("owner", "counted_in", "asked_in", "added", "row", "stored", "stored_in"),
    )

    def __init__(  # noqa: PLR0917  # a row of facts
        self,
        trace_id: str,
        span_id: str,
        parent: str | None,
        service: str,
        start_ns: int,
        end_ns: int,
        local_root: bool,
        has_request_fields: bool,
        request_fields: dict[str, Any] | None,
        call: records.LlmCall | None = None,
        of_log: bool = False,
        source: str = "",
        stage: str | None = None,
        caller: CallerFields | None = None,
        matched_before: bool = False,
        cached: bool = False,
    ) -> None:
        self.trace_id, self.span_id, self.parent, self.service = trace_id, span_id, parent, service
        self.start_ns, self.end_ns, self.local_root, self.has_request_fields, self.request_fields = (
            start_ns,
            end_ns,
            local_root,
            has_request_fields,
            request_fields,
        )
        self.call, self.of_log, self.source, self.stage, self.caller = call, of_log, source, stage, caller
        self.matched_before, self.cached = matched_before, cached
        self.wraps = matched_before or cached
        self._ts: datetime | None = None
        self.cut = self.enters = self.carried = False
        self.up: Fact | None = None
        self.root: Fact | None = None
        self.outermost: Fact | None = None
        self.outer: tuple[Fact, ...] = ()
        self.leader: Fact | None = None
        self.others: list[Fact] = _NONE
        self.parts: list[Fact] | None = None
        self.request_state: RequestState | None = None
        self.owner: Fact | None = None
        self.counted_in: Fact | None = None
        self.asked_in: Fact | None = None
        self.added: Any = None
        self.row: records.LlmCall | None = None
        self.stored: records.LlmCall | None = None
        self.stored_in: Fact | None = None

    @property
    def ts(self) -> datetime:
        """When the span began, to the microsecond."""
        if self._ts is None:
            self._ts = coerce.moment(self.start_ns)
        return self._ts

    @property
    def is_counted(self) -> bool:
        """Return whether this is the report that stands for a model call: the one that is counted and priced."""
        return self.leader is self

    @property
    def is_part(self) -> bool:
        """Return whether it adds to a request: a model call, or the time of a stage."""
        return self.call is not None or self.stage is not None

    def known(self) -> "RequestState":
        """Return what is known of the request that the span is or may be."""
        if self.request_state is None:
            self.request_state = RequestState()
        return self.request_state

    def separate(self) -> None:
        """Forget all other facts, which may be this one itself."""
        self.up = self.root = self.outermost = self.leader = self.owner = None
        self.counted_in = self.asked_in = self.stored_in = self.parts = None
        self.outer, self.others = (), _NONE

    @property
    def is_relevant(self) -> bool:
        """Return whether it has a part in rows by itself."""
        return self.call is not None or self.has_request_fields or self.stage is not None or self.cached

    @property
    def answer_id(self) -> str | None:
        """The provider's id of the answer that a call got."""
        found = self.call.provider_request_id if self.call is not None else None
        return found[: coerce.ID_LIMIT] if found else None


class RequestState:
    """The state of a request: the sum of its parts, its row and its id as in the tables.

    `stored_more` is its stored cost beyond its calls, in USD.
    """

    __slots__ = ("direct_calls", "is_request", "stored", "stored_more", "sum")

    def __init__(self) -> None:
        self.sum = RequestSum()
        self.direct_calls = 0
        self.is_request = False
        self.stored: records.Request | None = None
        self.stored_more = Decimal(0)


_NONE: Final[list[Fact]] = []

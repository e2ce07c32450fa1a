"""Redaction of OTLP requests, on their bytes.

The whole request is scanned once. Only fields with a hit are examined: messages without one are skipped by their
length, and a request without any is passed on byte for byte. The protobuf descriptors define which fields are text: a
field added to OTLP is covered when the library knows it, and as an unknown field before.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_telemetry.base import conventions, metrics
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.base.otlp_values import pair
from otel_telemetry.processors.config import LEAK_CHECK_RATIO
from otel_telemetry.processors.ner import otlp as ner_otlp
from otel_telemetry.processors.ner.text import NerRedactor
from otel_telemetry.processors.otlp import depth as otlp_depth
from otel_telemetry.processors.otlp import invalid as otlp_invalid
from otel_telemetry.processors.otlp import resources as otlp_resources
from otel_telemetry.processors.otlp import slices as otlp_slices
from otel_telemetry.processors.otlp import wire
from otel_telemetry.processors.otlp.fields import Cleaner, Hits
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.leak_check import LeakCheck
from otel_telemetry.processors.redact.redactor import Finding, Redactor

_RESOURCE, _SCOPE_GROUPS = 1, 2
_ITEMS = 2
_TRACE_ID, _SPAN_ID, _SPAN_ATTRIBUTES = 1, 2, 9
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8
_NO_TRACE_ID, _NO_SPAN_ID = bytes(_TRACE_ID_BYTES), bytes(_SPAN_ID_BYTES)
_IDS = ((_TRACE_ID, _TRACE_ID_BYTES, "trace_id"), (_SPAN_ID, _SPAN_ID_BYTES, "span_id"))


@dataclass(slots=True, frozen=True)
class Clean:
    """A request that may be kept and passed on.

    `body` is the same object that came in where nothing was found. `items` counts the spans, log records or data points
    in it, `rejected` those that were left out; `problem` is the first reason, with the field's path.
    """

    body: bytes
    items: int
    rejected: int = 0
    problem: str = ""


@dataclass(slots=True, frozen=True)
class _Shape:
    """How the requests of one signal are called; they are all nested alike: resource, scope, item."""

    request: type[Message]
    groups: str
    scopes: str
    items: str
    group_type: Descriptor
    scope_type: Descriptor
    item_type: Descriptor


def _shape(request: type[Message], groups: str, scopes: str, items: str) -> _Shape:
    group_type: Any = request.DESCRIPTOR.fields_by_name[groups].message_type
    scope_type = group_type.fields_by_name[scopes].message_type
    item_type = scope_type.fields_by_name[items].message_type
    return _Shape(request, groups, scopes, items, group_type, scope_type, item_type)


_SHAPES: dict[Signal, _Shape] = {
    "traces": _shape(ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "logs": _shape(ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
    "metrics": _shape(ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics"),
}


class OtlpRedactor:
    """Cleans whole OTLP requests. Thread-safe; bound to the CPU."""

    def __init__(
        self,
        redactor: Redactor,
        *,
        summary: bool = False,
        leak_check_ratio: float = LEAK_CHECK_RATIO,
        ner: NerRedactor | None = None,
    ) -> None:
        """`ner` looks for names behind the rules, where it is given."""
        self._redactor = redactor
        self._ner = ner
        self._summary = summary
        self._checks = {signal: LeakCheck(signal, leak_check_ratio) for signal in _SHAPES}

    def redact(self, signal: Signal, body: bytes) -> Clean:
        """Return the request without personal data.

        Raises MalformedTelemetry if the body is not the signal's protobuf request at all. A single item that is
        invalid, or cannot be redacted, is left out and reported in the result; the others are kept.
        """
        shape = _SHAPES[signal]
        try:
            parsed: Any = shape.request.FromString(body)
        except DecodeError:
            shallow = otlp_depth.without_depths(shape.request, body)
            rest = otlp_invalid.without_invalid(shape.request, body if shallow is None else shallow)
            return self._redact_rest(signal, rest)
        try:
            check_ids = signal == "traces" and not _ids_are_valid(parsed)
            request = _Request(self._redactor, signal, body, summary=self._summary, check_ids=check_ids)
            with self._redactor.in_time(len(body)):
                clean = request.clean(_count_items(shape, parsed))
        except wire.NotWire:
            raise MalformedTelemetry(f"the body is not a valid protobuf {shape.request.DESCRIPTOR.name}") from None
        if self._ner is not None and clean.items:
            clean = _without_names(clean, ner_otlp.redact(self._ner, signal, clean.body, summary=self._summary))
        if self._checks[signal].due():
            self._checks[signal].request(self._redactor, shape.request.FromString(clean.body))
        return clean

    @staticmethod
    def slices(signal: Signal, body: bytes) -> Sequence[otlp_slices.Slice]:
        """Return a large request in parts that can be redacted one by one; raises TooDense."""
        return otlp_slices.cut(_SHAPES[signal].request, body)

    @staticmethod
    def count_items(body: bytes) -> int:
        """Count the items of a request that cannot be parsed, as far as it can be read; 1 at least."""
        return otlp_slices.count_items(body)

    @staticmethod
    def add_to_resources(body: bytes, attributes: Mapping[str, bytes], charge: Callable[[int], object]) -> bytes:
        """Return a request whose resources have these attributes too; see resources.add."""
        return otlp_resources.add(body, attributes, charge)

    def _redact_rest(self, signal: Signal, rest: otlp_invalid.Remaining) -> Clean:
        """Redact what is left of a request that held items that protobuf cannot parse."""
        clean = self.redact(signal, rest.body)
        metrics.dropped.add(rest.rejected, {"signal": signal, "reason": "invalid"})
        return Clean(clean.body, clean.items, clean.rejected + rest.rejected, rest.problem)


def _without_names(clean: Clean, named: ner_otlp.NerClean) -> Clean:
    rejected = clean.rejected + named.rejected
    return Clean(named.body, clean.items - named.rejected, rejected, clean.problem or named.problem)


class _Request:
    """One request on its way through."""

    def __init__(
        self, redactor: Redactor, signal: Signal, body: bytes, *, summary: bool, check_ids: bool = False
    ) -> None:
        """`check_ids`: at least one span has an invalid id, so each is looked at."""
        self._redactor = redactor
        self._signal: Signal = signal
        self._shape = _SHAPES[signal]
        self._body = body
        self._hits = Hits(redactor.located, body)
        self._summary = summary and signal == "traces"
        self._check_ids = check_ids
        self._rejected: Counter[str] = Counter()  # by reason
        self._problem = ""

    def clean(self, items: int) -> Clean:
        """Return what may go on of the request, which has so many items."""
        splice = wire.Splice(self._body, 0, len(self._body))
        unknown = Cleaner(self._redactor, self._body, self._hits, [])
        number = 0
        for field in wire.fields(self._body, 0, len(self._body)):
            if field.holds(_RESOURCE):
                self._clean_group(field, number, splice)
                number += 1
                otlp_slices.refuse_many_groups(number)
            elif self._hits.within(field):
                self._clean_unknown(field, unknown, splice)
        for reason, left_out in self._rejected.items():
            metrics.dropped.add(left_out, {"signal": self._signal, "reason": reason})
        body = splice.result()
        rejected = self._rejected.total()
        return Clean(self._body if body is None else body, items - rejected, rejected, self._problem)

    def _clean_unknown(self, field: wire.Field, cleaner: Cleaner, splice: wire.Splice) -> None:
        """Clean a field of the request that the schema does not know."""
        try:
            _pass_on(cleaner.unknown(field), field, splice)
        except Exception:  # noqa: BLE001  # fail closed: this field must not go on
            finding_counts.withheld(self._signal)
            splice.replace(field, None)

    def _clean_group(self, group: wire.Field, number: int, outer: wire.Splice) -> None:
        """Clean one ResourceSpans, ResourceLogs or ResourceMetrics."""
        try:
            parts = list(wire.fields(self._body, group.start, group.end))
        except wire.NotWire:  # it holds a group without end, for us
            self._withhold_group(group, number)
            outer.replace(group, None)
            return
        otlp_slices.refuse_many_groups(len(parts))
        service = self._service(parts)
        cleaner = Cleaner(self._redactor.for_service(service), self._body, self._hits, [])
        splice = wire.Splice(self._body, group.start, group.end)
        scopes = 0
        before = self._rejected.copy()
        try:
            for field in parts:
                if field.holds(_SCOPE_GROUPS):
                    path = f"{self._shape.groups}[{number}].{self._shape.scopes}[{scopes}]"
                    self._clean_scope_group(field, path, cleaner, splice)
                    scopes += 1
                elif self._hits.within(field):
                    cleaner.replace(field, self._shape.group_type, splice)
            _pass_on(splice.result(), group, outer)
        except Exception:  # noqa: BLE001  # fail closed: the shared part of these items cannot be made safe
            self._rejected = before
            self._withhold_group(group, number)
            outer.replace(group, None)
        finding_counts.count(cleaner.findings, service)

    def _clean_scope_group(self, group: wire.Field, path: str, cleaner: Cleaner, outer: wire.Splice) -> None:
        """Clean one ScopeSpans, ScopeLogs or ScopeMetrics."""
        splice = wire.Splice(self._body, group.start, group.end)
        place = group.start, group.end
        for field in wire.fields(self._body, *place) if self._check_ids else self._hits.touched(*place):
            if field.holds(_ITEMS):
                self._clean_item(field, group, path, cleaner, splice)
            elif self._hits.within(field):
                cleaner.replace(field, self._shape.scope_type, splice)
        _pass_on(splice.result(), group, outer)

    def _clean_item(self, item: wire.Field, group: wire.Field, path: str, cleaner: Cleaner, outer: wire.Splice) -> None:
        """Clean one span, log record or metric of the scope group at `path`."""
        problem = _invalid_id(self._body, item.start, item.end) if self._check_ids else ""
        if problem:
            self._reject_item(item, group, path, f".{problem}", "invalid")
            outer.replace(item, None)
            return
        if not self._hits.within(item):
            return
        before = len(cleaner.findings)
        cleaner.span = (item.start, item.end) if self._signal == "traces" else None
        try:
            payload = cleaner.message(item.start, item.end, self._shape.item_type)
            if payload is not None and self._signal == "traces":
                _require_ids(payload)
        except Exception:  # noqa: BLE001  # fail closed: this item must not go on
            self._reject_item(item, group, path, ": dropped, because it could not be redacted", "redaction_failed")
            outer.replace(item, None)
            return
        if payload is not None:
            if self._summary:
                payload += _summary_attributes(cleaner.findings[before:])
            outer.replace(item, payload)

    def _withhold_group(self, group: wire.Field, number: int) -> None:
        """Count a whole resource as rejected, with all items in it."""
        alone = wire.length_delimited(group.number, self._body[group.start : group.end])
        items = _count_items(self._shape, self._shape.request.FromString(alone))
        problem = f"{self._shape.groups}[{number}]: dropped, because its resource or scope could not be redacted"
        self._rejected["redaction_failed"] += items
        self._problem = self._problem or problem

    def _reject_item(self, item: wire.Field, group: wire.Field, path: str, problem: str, reason: str) -> None:
        if not self._problem:
            before = sum(field.holds(_ITEMS) for field in wire.fields(self._body, group.start, item.tag))
            self._problem = f"{path}.{self._shape.items}[{before}]{problem}"
        self._rejected[reason] += self._size(item)

    def _service(self, parts: Sequence[wire.Field]) -> str:
        resources = [field for field in parts if field.holds(_RESOURCE)]
        payload = b"".join(self._body[field.start : field.end] for field in resources)
        for attribute in Resource.FromString(payload).attributes:
            if attribute.key == conventions.SERVICE_NAME:
                name: str = attribute.value.string_value
                return self._redactor.string(name) if any(map(self._hits.within, resources)) else name
        return conventions.UNKNOWN_SERVICE

    def _size(self, item: wire.Field) -> int:
        """Return how many items OTLP counts in one span, log record or metric."""
        if self._signal != "metrics":
            return 1
        return _count_points(Metric.FromString(self._body[item.start : item.end]))


def _count_items(shape: _Shape, request: Any) -> int:
    """Return how many items OTLP counts in a request: each span and log record is one, a metric has its data points."""
    scopes = (scope for group in getattr(request, shape.groups) for scope in getattr(group, shape.scopes))
    items = (getattr(scope, shape.items) for scope in scopes)
    if shape.item_type is not Metric.DESCRIPTOR:
        return sum(map(len, items))
    return sum(_count_points(metric) for metrics_of_scope in items for metric in metrics_of_scope)


def _count_points(metric: Any) -> int:
    data = metric.WhichOneof("data")
    return len(getattr(metric, data).data_points) if data else 0


def _ids_are_valid(request: Any) -> bool:
    """Return whether all spans have valid ids, as the parser reads them: of a repeated field, the last one counts."""
    for group in request.resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                trace_id, span_id = span.trace_id, span.span_id  # each makes an object when it is read
                if len(trace_id) != _TRACE_ID_BYTES or len(span_id) != _SPAN_ID_BYTES:
                    return False
                if trace_id == _NO_TRACE_ID or span_id == _NO_SPAN_ID:
                    return False
    return True


def _invalid_id(body: bytes, start: int, end: int) -> str:
    """Return what is wrong with a span's ids, or "". Spans without valid ids could not be distinguished."""
    ids = {f.number: body[f.start : f.end] for f in wire.fields(body, start, end) if f.holds(f.number)}
    for number, length, name in _IDS:
        value = ids.get(number, b"")
        if len(value) != length:
            return f"{name}: {len(value)} bytes, must be {length}"
        if not any(value):
            return f"{name}: all zeros, which is not a valid id"
    return ""


def _require_ids(span: bytes) -> None:
    """Refuse a cleaned span that lost an id: what stood there was text that had to go."""
    written_as_usual = span[:2] == b"\x0a\x10" and span[18:20] == b"\x12\x08"  # the ids first, as all SDKs do
    if not written_as_usual and _invalid_id(span, 0, len(span)):
        raise ValueError("the id of a span held text")


def _pass_on(payload: bytes | None, field: wire.Field, outer: wire.Splice) -> None:
    if payload is not None:
        outer.replace(field, payload)


def _summary_attributes(findings: Sequence[Finding]) -> bytes:
    return b"".join(
        wire.length_delimited(_SPAN_ATTRIBUTES, pair(key, number).SerializeToString())
        for key, number in finding_counts.summary(findings).items()
    )


__all__ = ["Clean", "OtlpRedactor", "Signal"]

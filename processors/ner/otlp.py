"""Removes names, places and dates from OTLP requests, after the rules: in the gateway's workers, before the spool.

Covers spans and their events, and log records: their attributes that contain natural language, and bodies. Metrics
contain none. All texts of a request are processed in one batch; an item that cannot be processed is left out and
counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base import conventions, metrics
from otel_telemetry.base.otlp_values import pair, to_message, to_python
from otel_telemetry.base.records import AnyValue
from otel_telemetry.processors.ner.text import Known, NerRedactor
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.redactor import Finding, Redactor

#: By signal: the request, and the names of what is nested in it.
_SIGNALS: Final[dict[str, tuple[Any, str, str, str]]] = {
    "traces": (ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "logs": (ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
}


@dataclass(slots=True, frozen=True)
class NerClean:
    """A request behind the recogniser; `body` is the object that came in where nothing was found."""

    body: bytes
    rejected: int = 0
    problem: str = ""


class _Field(NamedTuple):
    """One natural field: where it stands, its attribute's key ("" for a body), and its value."""

    owner: Any
    key: str
    holder: Any
    value: AnyValue


class _Item(NamedTuple):
    """One span or log record with natural fields."""

    message: Any
    siblings: Any
    path: str
    service: str
    redactor: Redactor
    fields: list[_Field]


def redact(ner: NerRedactor, signal: str, body: bytes, *, summary: bool = False) -> NerClean:
    """Return a request, clean by the rules, without the names in it."""
    if signal not in _SIGNALS:
        return NerClean(body)
    request = _SIGNALS[signal][0].FromString(body)
    items = list(_items(ner, signal, request))
    if not items:
        return NerClean(body)
    known = _known(ner, items)
    failed = [item for item in items if not _clean(ner, item, known, summary=summary and signal == "traces")]
    for item in failed:
        item.siblings.remove(item.message)
    if failed:
        metrics.dropped.add(len(failed), {"signal": signal, "reason": "redaction_failed"})
        problem = f"{failed[0].path}: dropped, because it could not be looked at for names"
        return NerClean(request.SerializeToString(), len(failed), problem)
    changed = request.SerializeToString()
    return NerClean(body if changed == body else changed)


def _known(ner: NerRedactor, items: Sequence[_Item]) -> Known | None:
    """Return what is found in all items, or None where they have to be looked at one by one."""
    try:
        return ner.known(field.value for item in items for field in item.fields)
    except Exception:  # noqa: BLE001  # one text can cost its own item only: `_clean` tells which
        return None


def _clean(ner: NerRedactor, item: _Item, known: Known | None, *, summary: bool) -> bool:
    """Take the names out of one item; False where that failed: it must not go on."""
    findings: list[Finding] = []
    try:
        for field in item.fields:
            _replace(ner, field, item.redactor, findings, known)
    except Exception:  # noqa: BLE001  # fail closed, whatever the pipeline raised
        return False
    if summary and findings:
        _summarise(item.message, findings)
    finding_counts.count(findings, item.service)
    return True


def _replace(ner: NerRedactor, field: _Field, redactor: Redactor, findings: list[Finding], known: Known | None) -> None:
    if not field.key:
        clean = ner.value(field.value, redactor, findings, known)
        if clean is not field.value:
            field.owner.body.CopyFrom(to_message(clean))
        return
    cleaned = ner.item(field.key, field.value, redactor, findings, known)
    if cleaned is None:
        field.owner.attributes.remove(field.holder)
    elif cleaned[1] is not field.value:
        field.holder.value.CopyFrom(to_message(cleaned[1]))


def _summarise(span: Any, findings: Sequence[Finding]) -> None:
    """Add what was found to the counts that the rules left on a span."""
    counted = {each.key: each for each in span.attributes if finding_counts.is_summary(each.key, to_python(each.value))}
    for key, number in finding_counts.summary(findings).items():
        if key in counted:
            counted[key].value.int_value += number
        else:
            span.attributes.append(pair(key, number))


def _items(ner: NerRedactor, signal: str, request: Any) -> Iterator[_Item]:
    _, groups, scopes, items = _SIGNALS[signal]
    for number, group in enumerate(getattr(request, groups)):
        service = _service(group)
        redactor = ner.redactor_for(service)
        for scope_number, scope in enumerate(getattr(group, scopes)):
            siblings = getattr(scope, items)
            for index, message in enumerate(siblings):
                fields = list(_fields(ner, signal, message, redactor))
                if fields:
                    path = f"{groups}[{number}].{scopes}[{scope_number}].{items}[{index}]"
                    yield _Item(message, siblings, path, service, redactor, fields)


def _fields(ner: NerRedactor, signal: str, message: Any, redactor: Redactor) -> Iterator[_Field]:
    if signal == "logs" and ner.bodies and message.HasField("body"):
        yield _Field(message, "", message, to_python(message.body))
    owners = (message, *message.events, *message.links) if signal == "traces" else (message,)
    for owner in owners:
        for attribute in owner.attributes:
            if ner.applies(attribute.key, redactor):
                yield _Field(owner, attribute.key, attribute, to_python(attribute.value))


def _service(group: Any) -> str:
    for attribute in group.resource.attributes:
        if attribute.key == conventions.SERVICE_NAME:
            return str(attribute.value.string_value)
    return conventions.UNKNOWN_SERVICE

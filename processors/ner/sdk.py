"""SDK exporters that get spans and log records without names: in the thread that exports, not the app's.

The rules clean a record when it ends; a language model takes too long for that. So the exporters of a provider are
wrapped: they get only records that were processed; a record that could not be processed is dropped and counted.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link

from otel_telemetry.base import conventions
from otel_telemetry.base.records import AnyValue
from otel_telemetry.processors.ner.text import Known, NerRedactor
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.redactor import Finding, Redactor

#: Where the SDK's processors keep their exporter; other people's processors mostly do as they do.
_HOLDERS: Final = ("_batch_processor", "")
_NAMES: Final = ("_exporter", "span_exporter", "exporter")


class NerSpanExporter(SpanExporter):
    """Hands spans on without names. `summary` adds to the counts that the rules left on them."""

    def __init__(self, exporter: SpanExporter, ner: NerRedactor, *, summary: bool = False) -> None:
        self.inner = exporter
        self._ner = ner
        self._summary = summary
        self.shutdown = exporter.shutdown  # type: ignore[method-assign]  # the SDK looks at its parameters

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export what could be looked at."""
        clean = _cleaned(self._ner, "traces", spans, _span_values, self._clean)
        return self.inner.export(clean) if clean else SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the exporter."""
        return self.inner.force_flush(timeout_millis)

    def _clean(self, span: Any, known: Known | None) -> ReadableSpan:
        service = _service(span.resource)
        redactor = self._ner.redactor_for(service)
        findings: list[Finding] = []
        attributes = _attributes(self._ner, span.attributes, redactor, findings, known)
        events = [self._event(event, redactor, findings, known) for event in span.events]
        links = [self._link(link, redactor, findings, known) for link in span.links]
        if not findings:
            return span  # type: ignore[no-any-return]  # a ReadableSpan, as it came
        finding_counts.count(findings, service)
        new = copy.copy(span)
        new._attributes = _like(span._attributes, self._with_summary(attributes, findings))
        new._events, new._links = tuple(events), tuple(links)
        return new  # type: ignore[no-any-return]  # the same

    def _event(self, event: Event, redactor: Redactor, findings: list[Finding], known: Known | None) -> Event:
        attributes = _attributes(self._ner, event.attributes, redactor, findings, known)
        return Event(event.name, _like(event.attributes, attributes), event.timestamp)

    def _link(self, link: Link, redactor: Redactor, findings: list[Finding], known: Known | None) -> Link:
        return Link(
            link.context, _like(link.attributes, _attributes(self._ner, link.attributes, redactor, findings, known))
        )

    def _with_summary(self, attributes: dict[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
        counts = finding_counts.summary(findings) if self._summary else {}
        return {**attributes, **{key: number + attributes.get(key, 0) for key, number in counts.items()}}


class NerLogExporter(LogRecordExporter):
    """Hands log records on without names."""

    def __init__(self, exporter: LogRecordExporter, ner: NerRedactor) -> None:
        self.inner = exporter
        self._ner = ner
        self.shutdown = exporter.shutdown  # type: ignore[method-assign]  # the SDK looks at its parameters

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export what could be looked at."""
        clean = _cleaned(self._ner, "logs", batch, _log_values, self._clean)
        return self.inner.export(clean) if clean else LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the exporter, where it can be."""
        flush: Callable[[int], bool] | None = getattr(self.inner, "force_flush", None)
        return flush(timeout_millis) if flush else True

    def shutdown(self) -> None:
        """Shut the exporter down; the constructor puts the exporter's own method in its place."""
        self.inner.shutdown()

    def _clean(self, record: ReadableLogRecord, known: Known | None) -> ReadableLogRecord:
        service = _service(record.resource)
        redactor = self._ner.redactor_for(service)
        findings: list[Finding] = []
        log = copy.copy(record.log_record)
        if self._ner.bodies:
            log.body = self._ner.value(log.body, redactor, findings, known)
        attributes = _attributes(self._ner, log.attributes, redactor, findings, known)
        if not findings:
            return record
        finding_counts.count(findings, service)
        log.attributes = _like(log.attributes, attributes)
        return dataclasses.replace(record, log_record=log)


def protect(
    tracer_provider: TracerProvider | None,
    logger_provider: LoggerProvider | None,
    ner: NerRedactor,
    *,
    summary: bool = False,
) -> None:
    """Wrap the exporters of these providers: those that their processors have now, and of those that are added."""
    if tracer_provider is not None:
        many = tracer_provider._active_span_processor
        _wrap_all(many, many._span_processors, "add_span_processor", lambda e: NerSpanExporter(e, ner, summary=summary))
    if logger_provider is not None:
        several = logger_provider._multi_log_record_processor
        processors = several._log_record_processors
        _wrap_all(several, processors, "add_log_record_processor", lambda e: NerLogExporter(e, ner))


def _wrap_all(many: Any, processors: Sequence[Any], add: str, wrapped: Callable[[Any], Any]) -> None:
    for processor in processors:
        _wrap(processor, wrapped)
    others = getattr(many, add)

    def adding(processor: Any) -> None:
        _wrap(processor, wrapped)
        others(processor)

    setattr(many, add, adding)


def _wrap(processor: Any, wrapped: Callable[[Any], Any]) -> None:
    for holder_name in _HOLDERS:
        holder = getattr(processor, holder_name, None) if holder_name else processor
        for name in _NAMES:
            exporter = vars(holder).get(name) if hasattr(holder, "__dict__") else None
            if exporter is not None and not isinstance(exporter, NerSpanExporter | NerLogExporter):
                setattr(holder, name, wrapped(exporter))
                return


def _cleaned(
    ner: NerRedactor,
    signal: str,
    records: Sequence[Any],
    values: Callable[[NerRedactor, Any], list[AnyValue]],
    clean: Callable[[Any, Known | None], Any],
) -> list[Any]:
    """Return the records without names; those that cannot be looked at are left out and counted."""
    try:
        known: Known | None = ner.known(value for record in records for value in values(ner, record))
    except Exception:  # noqa: BLE001  # one text can cost its own record only: the next step tells which
        known = None
    cleaned = []
    for record in records:
        try:
            cleaned.append(clean(record, known))
        except Exception:  # noqa: BLE001  # fail closed: whatever went wrong, this record must not leave
            finding_counts.withheld(signal)
    return cleaned


def _span_values(ner: NerRedactor, span: Any) -> list[AnyValue]:
    redactor = ner.redactor_for(_service(span.resource))
    holders = (span, *span.events, *span.links)
    return [v for holder in holders for k, v in (holder.attributes or {}).items() if ner.applies(k, redactor)]


def _log_values(ner: NerRedactor, record: ReadableLogRecord) -> list[AnyValue]:
    redactor = ner.redactor_for(_service(record.resource))
    attributes = (record.log_record.attributes or {}).items()
    values: list[Any] = [value for key, value in attributes if ner.applies(key, redactor)]
    return [record.log_record.body, *values] if ner.bodies else values


def _attributes(
    ner: NerRedactor,
    attributes: Mapping[str, Any] | None,
    redactor: Redactor,
    findings: list[Finding],
    known: Known | None,
) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for key, value in (attributes or {}).items():
        item = ner.item(key, value, redactor, findings, known) if ner.applies(key, redactor) else (key, value)
        if item is not None:
            cleaned[key] = item[1]
    return cleaned


def _like(old: Any, attributes: dict[str, Any]) -> BoundedAttributes:
    """Return attributes in the SDK's own shape, with the limits and the drop count of those they replace."""
    new = BoundedAttributes(getattr(old, "maxlen", None))
    new._dict = attributes
    new.dropped = getattr(old, "dropped", 0)
    new._immutable = True
    return new


def _service(resource: Resource | None) -> str:
    name = resource.attributes.get(conventions.SERVICE_NAME) if resource else None
    return str(name or conventions.UNKNOWN_SERVICE)

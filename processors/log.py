"""Redaction of SDK log records, for every exporter, whatever the order of registration.

Log processors run in the order of their registration, and the batch processor keeps a shallow copy of its record: a
redactor after it is too late. So `add_log_record_processor` is patched to put ours before all others. A record whose
redaction fails also stops there.
"""

import functools
from collections.abc import Callable
from typing import Any

from opentelemetry._logs import LogRecord
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk._logs import (
    ConcurrentMultiLogRecordProcessor,
    LoggerProvider,
    LogRecordProcessor,
    ReadWriteLogRecord,
    SynchronousMultiLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource

from otel_telemetry.base import conventions
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.config import LEAK_CHECK_RATIO, RedactionSettings
from otel_telemetry.processors.redact import content_rules, finding_counts
from otel_telemetry.processors.redact.leak_check import LeakCheck, Record
from otel_telemetry.processors.redact.redactor import Findings, Redactor
from otel_telemetry.processors.sdk import fail_closed
from otel_telemetry.processors.sdk.origin import Origin, Origins
from otel_telemetry.processors.sdk.parts import clean_attributes, gather, strings_of


class RedactionLogProcessor(LogRecordProcessor):
    """Cleans body (of any shape), attributes, event name, severity text, resource and scope of every log record.

    Register it anywhere on a LoggerProvider, before or after exporters. A record whose redaction raises is dropped and
    counted; nothing is raised into the app, not even into `logging`.
    """

    def __init__(self, redactor: Redactor | None = None, *, leak_check_ratio: float = LEAK_CHECK_RATIO) -> None:
        self._origins = Origins(redactor or Redactor(RedactionSettings()))
        self._check = LeakCheck("logs", leak_check_ratio)
        fail_closed.install()
        _teach_registration()
        _prove(self)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Clean a record in place. Reached through `admit`, unless some other composite calls us directly."""
        self.admit(log_record)

    def admit(self, record: ReadWriteLogRecord) -> bool:
        """Clean a record in place; False (and an empty record) where that failed: it must go no further.

        A record that was cleaned before is let through: wrappers and composites may lead it here again.
        """
        if fail_closed.REDACTED in record.__dict__:
            return bool(record.__dict__[fail_closed.REDACTED])
        try:
            self._clean(record)
        except Exception:  # noqa: BLE001  # fail closed: whatever went wrong, this record must not leave
            _withhold(record)
            finding_counts.withheld("logs")
            record.__dict__[fail_closed.REDACTED] = False
            return False
        record.__dict__[fail_closed.REDACTED] = True
        # Exporters are given another record around the same log, and must see that it is clean.
        record.log_record.__dict__[fail_closed.REDACTED] = (record.resource, record.instrumentation_scope)
        return True

    def _clean(self, record: ReadWriteLogRecord) -> None:
        origin = self._origins.of(record.resource or Resource.get_empty())
        record.resource = origin.resource
        record.instrumentation_scope = self._origins.scope(record.instrumentation_scope, origin)
        log = record.log_record
        log.exception = None  # the live object; its type, message and stack trace are attributes already
        seen = origin.redactor.seen(_strings(log))
        if seen is not None:
            _rewrite(log, origin, Findings(seen))
        if origin.service != finding_counts.SELF_TEST and self._check.due():
            self._check.record(origin.redactor, _leaving(record))

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is held."""
        del timeout_millis
        return True


def protect(provider: LoggerProvider, processor: RedactionLogProcessor) -> None:
    """Put the processor before all others of a provider, present and future."""
    _guard(provider._multi_log_record_processor, processor)


def _strings(log: Any) -> list[str]:
    """Return all strings of a record, fast."""
    texts = [log.event_name or "", log.severity_text or ""]
    gather(log.body, texts)
    strings_of(log.attributes._dict, texts)  # the mapping around it is many times slower to read
    return texts


def _leaving(record: ReadWriteLogRecord) -> Record:
    """Return everything of a record that an exporter can read."""
    log, scope = record.log_record, record.instrumentation_scope
    resource = record.resource or Resource.get_empty()
    origin = (scope.name, scope.version, scope.schema_url) if scope else ()
    texts = (log.event_name, log.severity_text, resource.schema_url, *origin)
    return Record(texts, (log.attributes, resource.attributes, scope and scope.attributes), [log.body])


def _rewrite(log: Any, origin: Origin, findings: Findings) -> None:
    redactor = origin.redactor
    event = log.event_name or str((log.attributes or {}).get("event.name") or "")
    of_model = any(map(content_rules.is_of_model, log.attributes or ()))
    if log.event_name:
        log.event_name = redactor.string(log.event_name, findings=findings)
    if log.severity_text:
        log.severity_text = redactor.string(log.severity_text, findings=findings)
    if log.body is not None:
        log.body = redactor.body(log.body, event, findings, of_model=of_model)
    if log.attributes:
        log.attributes = _attributes(log.attributes, clean_attributes(redactor, log.attributes._dict, findings, event))
    finding_counts.count(findings, origin.service)


def _attributes(old: Any, attributes: dict[str, Any]) -> BoundedAttributes:
    new = BoundedAttributes(getattr(old, "maxlen", None), immutable=False, extended_attributes=True)
    new._dict = attributes
    new.dropped = getattr(old, "dropped", 0)
    return new


def _withhold(record: ReadWriteLogRecord) -> None:
    log = record.log_record
    log.body = log.event_name = log.exception = None
    log.severity_text = None
    log.attributes = _attributes(None, {})
    record.resource = Resource.get_empty()
    record.instrumentation_scope = None


def _guard(many: Any, processor: RedactionLogProcessor) -> None:
    """Make a composite ask the processor first: only what it admits reaches the others."""
    others = many.on_emit

    def on_emit(log_record: ReadWriteLogRecord) -> None:
        if processor.admit(log_record):
            others(log_record)

    many.on_emit = on_emit


def _teach_registration() -> None:
    """Make `add_log_record_processor` put a RedactionLogProcessor in front; other processors are added as ever."""
    for composite in (SynchronousMultiLogRecordProcessor, ConcurrentMultiLogRecordProcessor):
        add = composite.add_log_record_processor
        if not hasattr(add, "__wrapped__"):
            composite.add_log_record_processor = _in_front(add)  # type: ignore[method-assign,assignment]  # that is the point


def _in_front(add: Callable[[Any, LogRecordProcessor], None]) -> Callable[[Any, LogRecordProcessor], None]:
    @functools.wraps(add)
    def add_log_record_processor(self: Any, log_record_processor: LogRecordProcessor) -> None:
        if isinstance(log_record_processor, RedactionLogProcessor):
            _guard(self, log_record_processor)
        else:
            add(self, log_record_processor)

    return add_log_record_processor


class _Witness(LogRecordProcessor):
    """Keeps what an exporter would be given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.seen.append(repr((log_record.log_record.body, dict(log_record.log_record.attributes or {}))))

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        del timeout_millis
        return True


def _prove(processor: RedactionLogProcessor) -> None:
    """Send a planted address through the installed SDK, past an exporter registered before us; raise if it shows."""
    planted = finding_counts.planted_for(processor._origins.redactor)
    if planted is None:
        return  # the policy keeps everything that could be looked for
    witness = _Witness()
    provider = LoggerProvider(Resource({conventions.SERVICE_NAME: finding_counts.SELF_TEST}), shutdown_on_exit=False)
    provider.add_log_record_processor(witness)
    provider.add_log_record_processor(processor)
    provider.get_logger(finding_counts.SELF_TEST).emit(LogRecord(body=planted, attributes={"a": planted}))
    if len(witness.seen) != 1 or planted in witness.seen[0]:
        raise ConfigurationError(
            "redaction",
            "the installed opentelemetry-sdk does not let log records be redacted before they are exported",
            "install opentelemetry-sdk 1.45.2, the version this release was proved with, and report this",
        )

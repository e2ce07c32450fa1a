"""Redaction beside other libraries: whatever processors, wrappers and providers exist in this process.

A wrapper of processors passes on the public hooks only, a provider may be wrapped by another one, and a process may
have several. So the guards are at the places through which every record of the SDK passes: where a span that ends is
passed to processors, the stock processors in front of exporters, the composites of log processors, and the readers of
metrics. Redacted records are marked, and not checked again; others are redacted there, or dropped.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from opentelemetry.sdk._logs import (
    ConcurrentMultiLogRecordProcessor,
    ReadWriteLogRecord,
    SynchronousMultiLogRecordProcessor,
)
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import Span
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from otel_telemetry.base import admission
from otel_telemetry.processors.redact import finding_counts

#: On a span or log record: it was redacted, or emptied. On a span: the processor that answers for it.
REDACTED: Final = "_otel_telemetry_redacted"
CLAIM: Final = "_otel_telemetry_redaction"
#: On the callback through which a reader collects: what it returns is clean.
CLEANS: Final = "_otel_telemetry_cleans"


class SpanCleaner(Protocol):
    """What redacts a span in place; false where the span must go no further."""

    def clean_in_place(self, span: Any) -> bool:
        """Redact a span in place, unless it is marked."""


class LogCleaner(Protocol):
    """What redacts a log record in place; false where the record must go no further."""

    def admit(self, record: Any) -> bool:
        """Redact a record in place, unless it is marked."""


class MetricCleaner(Protocol):
    """What redacts collected metrics."""

    def clean(self, data: Any) -> Any:
        """Return the metrics without personal data."""


class GuardReached(BaseException):
    """Raised in a self-test where its record has come to a guard: it must not go on to exporters.

    `clean` tells whether what exporters would have been given is without what was planted.
    """

    def __init__(self, *, clean: bool) -> None:
        self.clean = clean
        super().__init__()


class _Guards:
    """Who redacts what nobody else in this process has: None where nobody does."""

    spans: SpanCleaner | None = None
    logs: LogCleaner | None = None
    metrics: MetricCleaner | None = None
    #: What a self-test has planted, while it runs.
    planted: str | None = None


_guards = _Guards()


def guard(spans: SpanCleaner, logs: LogCleaner, metrics: MetricCleaner) -> None:
    """Redact every record of the SDK in this process, whichever provider it comes from, now and later."""
    install()
    _guards.spans, _guards.logs, _guards.metrics = spans, logs, metrics
    admission.keep(_admitted_span, _admitted_log, _admitted_metrics)


def release() -> None:
    """Redact only where processors are registered, as before `guard`."""
    _guards.spans = _guards.logs = _guards.metrics = None
    admission.keep(None, None, None)


@contextmanager
def self_test(planted: str) -> Iterator[None]:
    """Stop records of the self-test at the guards."""
    _guards.planted = planted
    try:
        yield
    finally:
        _guards.planted = None


@functools.cache  # once a process
def install() -> None:
    """Put the guards into the SDK's classes; they do nothing until there is somebody who redacts."""
    own: Any = Span
    own._readable_span = _span_at_its_end(own._readable_span)
    for processor in (SimpleSpanProcessor, BatchSpanProcessor):
        _replace(processor, "on_end", _span_at_exporter)
    for stage in (
        SynchronousMultiLogRecordProcessor,
        ConcurrentMultiLogRecordProcessor,
        SimpleLogRecordProcessor,
        BatchLogRecordProcessor,
    ):
        _replace(stage, "on_emit", _log_at_stage)
    _replace(MetricReader, "collect", _metrics_at_reader)
    _replace(PeriodicExportingMetricReader, "_receive_metrics", _metrics_at_exporter)


def _replace(owner: Any, name: str, wrapped_by: Callable[[Any], Any]) -> None:
    setattr(owner, name, wrapped_by(getattr(owner, name)))


def _span_at_its_end(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Guard the method that makes of a span what all processors are given."""

    @functools.wraps(original)
    def readable_span(self: Any) -> Any:
        own = self.__dict__
        if REDACTED not in own:
            cleaner = own.get(CLAIM) or _guards.spans
            if cleaner is None:
                return original(self)
            if self._end_time is None:  # it goes on being written to: only the copy can be redacted
                copy = original(self)
                cleaner.clean_in_place(copy)
                return copy
            cleaner.clean_in_place(self)
        span = original(self)
        span.__dict__[REDACTED] = True
        if _guards.planted is not None:
            _stop_self_test(span.instrumentation_scope, (span.name, dict(span.attributes or {})))
        return span

    return readable_span


def _span_at_exporter(original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Guard a processor that stands before an exporter: spans that others have made or copied come here too."""

    @functools.wraps(original)
    def on_end(self: Any, span: Any) -> None:
        cleaner = _guards.spans
        if cleaner is None or REDACTED in span.__dict__:
            original(self, span)
            return
        ended = span._readable_span() if isinstance(span, Span) else span
        if REDACTED in ended.__dict__ or cleaner.clean_in_place(ended):
            original(self, ended)

    return on_end


def _admitted_span(span: Any) -> Any:
    """Return a span that came to an exporter as it may leave, or None: processors of others may call one."""
    cleaner = _guards.spans
    ended = span._readable_span() if isinstance(span, Span) else span  # the SDK makes it so, too
    if cleaner is None or REDACTED in ended.__dict__:
        return ended
    return ended if cleaner.clean_in_place(ended) else None


def _admitted_log(record: Any) -> Any:
    """Return a log record that came to an exporter as it may leave, or None.

    Batch processors wrap a log anew for exporters, in a record that cannot be changed. It is clean where its log was
    cleaned together with this very resource and scope; else it is cleaned in a record of our own.
    """
    cleaner = _guards.logs
    if cleaner is None:
        return record
    if isinstance(record, ReadWriteLogRecord):
        return record if cleaner.admit(record) else None
    resource, scope = record.log_record.__dict__.get(REDACTED, (None, None))
    if resource is not None and resource is record.resource and scope is record.instrumentation_scope:
        return record
    own = ReadWriteLogRecord(record.log_record, record.resource, record.instrumentation_scope)
    return own if cleaner.admit(own) else None


def _log_at_stage(original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    @functools.wraps(original)
    def on_emit(self: Any, log_record: Any) -> None:
        cleaner = _guards.logs
        if cleaner is not None and not cleaner.admit(log_record):
            return
        if _guards.planted is not None and REDACTED in log_record.__dict__:
            log = log_record.log_record
            _stop_self_test(log_record.instrumentation_scope, (log.body, dict(log.attributes or {})))
        original(self, log_record)

    return on_emit


def _metrics_at_reader(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def collect(self: Any, timeout_millis: float = 10_000) -> None:
        collected = self._collect
        if _guards.metrics is not None and collected is not None and not hasattr(collected, CLEANS):
            self._set_collect_callback(cleaning(collected, _guards.metrics))
        original(self, timeout_millis)

    return collect


def _metrics_at_exporter(original: Callable[..., None]) -> Callable[..., None]:
    """Guard the reader before a stock exporter: others may hand it metrics that no reader of a provider collected."""

    @functools.wraps(original)
    def receive(self: Any, metrics_data: Any, *args: Any, **kwargs: Any) -> None:
        admitted = _admitted_metrics(metrics_data)
        if admitted is not None:
            original(self, admitted, *args, **kwargs)

    return receive


def _admitted_metrics(collected: Any) -> Any:
    """Return what came to an exporter of metrics as it may leave, or None. What was cleaned is marked."""
    cleaner = _guards.metrics
    if cleaner is None or collected is None or REDACTED in collected.__dict__:
        return collected
    return _marked(cleaner.clean(collected))


def _marked(collected: Any) -> Any:
    if collected is not None:
        object.__setattr__(collected, REDACTED, True)  # the SDK's class is frozen
    return collected


def cleaning(collect: Callable[..., Any], cleaner: MetricCleaner) -> Callable[..., Any]:
    """Return the callback of a reader with what it returns redacted."""

    @functools.wraps(collect)
    def clean_collect(*args: Any, **kwargs: Any) -> Any:
        return _marked(cleaner.clean(collect(*args, **kwargs)))

    setattr(clean_collect, CLEANS, True)
    return clean_collect


def _stop_self_test(scope: Any, seen: Any) -> None:
    if scope is not None and scope.name == finding_counts.SELF_TEST:
        raise GuardReached(clean=str(_guards.planted) not in repr(seen))


__all__ = ["CLAIM", "CLEANS", "REDACTED", "GuardReached", "cleaning", "guard", "install", "release", "self_test"]

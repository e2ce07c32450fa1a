"""What leaves an exporter of SDK log records holds nothing that was planted, wherever it was planted."""

import logging
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import (
    ConcurrentMultiLogRecordProcessor,
    LoggerProvider,
    SynchronousMultiLogRecordProcessor,
)
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource

from otel_telemetry.processors import log
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor

PLANTED = "jane.roe@example.com"


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(RedactionSettings())


def make(many: Any = None) -> LoggerProvider:
    resource = Resource({"service.name": "shop", "owner": PLANTED})
    return LoggerProvider(resource, shutdown_on_exit=False, multi_log_record_processor=many)


def plant(provider: LoggerProvider) -> None:
    provider.get_logger(PLANTED, attributes={"scope": PLANTED}).emit(
        LogRecord(
            body={"text": f"mail {PLANTED}", "list": [PLANTED, {"deep": PLANTED}], "raw": PLANTED.encode()},
            severity_text=PLANTED,
            severity_number=SeverityNumber.INFO,
            event_name=PLANTED,
            attributes={"a": PLANTED, f"key {PLANTED}": 1, "map": {"mail": PLANTED}},
            exception=ValueError(PLANTED),
        )
    )


def exported(exporter: InMemoryLogRecordExporter) -> bytes:
    records = exporter.get_finished_logs()
    assert len(records) == 1
    return encode_logs(records).SerializeToString() + repr(records[0]).encode()


@pytest.mark.parametrize("many", [SynchronousMultiLogRecordProcessor, ConcurrentMultiLogRecordProcessor])
def test_no_planted_value_leaves_through_exporters_before_or_behind(many: type, redactor: Redactor) -> None:
    before, behind, batch = InMemoryLogRecordExporter(), InMemoryLogRecordExporter(), InMemoryLogRecordExporter()
    provider = make(many())
    provider.add_log_record_processor(SimpleLogRecordProcessor(before))
    provider.add_log_record_processor(BatchLogRecordProcessor(batch))
    provider.add_log_record_processor(log.RedactionLogProcessor(redactor))
    provider.add_log_record_processor(SimpleLogRecordProcessor(behind))
    plant(provider)
    provider.shutdown()
    for exporter in (before, behind, batch):
        data = exported(exporter)
        assert PLANTED.encode() not in data
        assert data.count(b"[REDACTED_EMAIL]") >= 10


@pytest.mark.parametrize(
    "body", [PLANTED, [PLANTED], {"k": {"k": [PLANTED]}}, PLANTED.encode(), f'{{"m":"{PLANTED}"}}']
)
def test_bodies_of_any_shape_are_cleaned(body: Any, redactor: Redactor) -> None:
    exporter = InMemoryLogRecordExporter()
    provider = make()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    log.protect(provider, log.RedactionLogProcessor(redactor))
    provider.get_logger("t").emit(LogRecord(body=body))
    assert PLANTED.encode() not in exported(exporter)


def test_records_of_the_logging_module_are_cleaned_with_arguments_extras_and_stack_traces(redactor: Redactor) -> None:
    exporter = InMemoryLogRecordExporter()
    provider = make()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.add_log_record_processor(log.RedactionLogProcessor(redactor))
    logger = logging.getLogger("shop.of.this.test")
    logger.addHandler(LoggingHandler(logger_provider=provider))
    try:
        raise ValueError(f"no user {PLANTED}")
    except ValueError:
        logger.exception("mail to %s failed", PLANTED, extra={"recipient": PLANTED})
    data = exported(exporter)
    assert PLANTED.encode() not in data
    assert b"mail to [REDACTED_EMAIL] failed" in data


class _Broken(Redactor):
    def seen(self, texts: Any) -> Any:
        if any(PLANTED in text for text in texts):
            raise RuntimeError
        return super().seen(texts)


def test_a_record_that_cannot_be_redacted_is_dropped_and_the_app_does_not_notice() -> None:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.add_log_record_processor(log.RedactionLogProcessor(_Broken(RedactionSettings())))
    provider.get_logger("t").emit(LogRecord(body=PLANTED))
    provider.get_logger("t").emit(LogRecord(body="fine"))
    assert [record.log_record.body for record in exporter.get_finished_logs()] == ["fine"]


def test_a_clean_record_goes_on_untouched(redactor: Redactor) -> None:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_log_record_processor(log.RedactionLogProcessor(redactor))
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    body: dict[str, Any] = {"n": 1, "text": "hello"}
    provider.get_logger("t").emit(LogRecord(body=body, attributes={"a": 1, "b": "two"}, event_name="done"))
    record = exporter.get_finished_logs()[0].log_record
    assert (record.body, dict(record.attributes or {}), record.event_name) == (body, {"a": 1, "b": "two"}, "done")

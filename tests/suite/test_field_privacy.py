"""Every line of the field's privacy inputs comes out right in every home, and `explain` says what each home does.

The inputs lie beside the repository; where they do not, there is nothing to test. Values are judged decoded.
"""

import base64
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_telemetry.base import conventions, otlp_json
from otel_telemetry.base.otlp_values import to_message, to_python
from otel_telemetry.gateway.receive.rest import records
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.log import RedactionLogProcessor
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.span import RedactionSpanProcessor
from otel_telemetry.processors.streams import Tally, redact_stream
from otel_telemetry.processors.verify.explain import explain

FOLDER = Path(__file__).parents[3] / "shared" / "field" / "privacy"
BLOBS = 20
GONE = object()


@functools.cache
def span_processor(content: Any = None) -> RedactionSpanProcessor:
    return RedactionSpanProcessor(redactor(content))


@functools.cache
def log_processor(content: Any = None) -> RedactionLogProcessor:
    return RedactionLogProcessor(redactor(content))


@functools.cache
def redactor(content: Any = None) -> Redactor:
    return Redactor(RedactionSettings(content=content))


def lines() -> Iterator[dict[str, Any]]:
    for path in sorted(FOLDER.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            yield {"id": f"{path.stem}-{number + 1}", **json.loads(line)}


def is_blob(line: dict[str, Any]) -> bool:
    return isinstance(line.get("value"), str) and "randbytes" in line["value"]


LINES = [line for line in lines() if "surface" not in line and not is_blob(line)]
SURFACES = [line for line in lines() if "surface" in line]


# --- the homes: an attribute in, what an exporter or a row gets out -----------------------------------------------
def sdk_span(key: str, value: Any, event: str = "", content: Any = None) -> Any:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(span_processor(content))
    span = provider.get_tracer("t").start_span("s", attributes=None if event else {key: value})
    if event:
        span.add_event(event, {key: value})
    span.end()
    (done,) = exporter.get_finished_spans()
    return _only(done.events[0].attributes if event else done.attributes)


def sdk_log(key: str, value: Any) -> Any:
    return _only(_log(LogRecord(body="b", attributes={key: value})).attributes)


def _log(record: LogRecord, content: Any = None) -> LogRecord:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.add_log_record_processor(log_processor(content))
    provider.get_logger("t").emit(record)
    return exporter.get_finished_logs()[0].log_record


def protobuf(key: str, value: Any, event: str = "", content: Any = None) -> Any:
    return _gateway(_request(key, value, event).SerializeToString(), content)


def json_body(key: str, value: Any, event: str = "", content: Any = None) -> Any:
    from google.protobuf.json_format import MessageToJson  # only here

    body = MessageToJson(_request(key, value, event)).encode()
    return _gateway(otlp_json.decode("traces", _with_hex_ids(body)).body, content)


def _with_hex_ids(body: bytes) -> bytes:
    for raw, text in ((b"1" * 16, "31" * 16), (b"2" * 8, "32" * 8)):
        body = body.replace(base64.b64encode(raw), text.encode())
    return body


def _request(key: str, value: Any, event: str) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, span_id=b"2" * 8, name="s")
    holder = span.events.add(name=event) if event else span
    holder.attributes.add(key=key, value=to_message(value))
    return request


def _gateway(body: bytes, content: Any = None) -> Any:
    clean = OtlpRedactor(redactor(content)).redact("traces", body)
    assert (clean.items, clean.rejected) == (1, 0)
    (span,) = ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0].spans
    attributes = span.events[0].attributes if span.events else span.attributes
    return _only({pair.key: to_python(pair.value) for pair in attributes})


def rest(key: str, value: Any) -> Any:
    record = records.Record(conventions.WORKFLOW_EVENT, "log: x", 1, None, {"data": {key: value}}, {})
    clean = OtlpRedactor(redactor()).redact("logs", records.request([record]))
    (log,) = ExportLogsServiceRequest.FromString(clean.body).resource_logs[0].scope_logs[0].log_records
    return _only(_only({pair.key: to_python(pair.value) for pair in log.attributes}))


def redact(key: str, value: Any) -> Any:
    text = f"{key}: {value}" if isinstance(value, str) else json.dumps({key: value})
    return b"".join(redact_stream(redactor(), [text.encode()], Tally())).decode()


def explained(key: str, value: Any) -> Any:
    return _explained(key, value if isinstance(value, str) else json.dumps(value))


@functools.cache
def _explained(key: str, text: str) -> Any:
    result = explain(RedactionSettings(), text, key).result
    return GONE if result is None else result


def _only(attributes: Any) -> Any:
    found = list((attributes or {}).values())
    assert len(found) <= 1
    return found[0] if found else GONE


HOMES: dict[str, Callable[[str, Any], Any]] = {
    "SDK span": sdk_span,
    "SDK log": sdk_log,
    "gateway protobuf": protobuf,
    "gateway JSON": json_body,
    "REST": rest,
    "redact": redact,
    "explain": explained,
}


def decoded(value: Any) -> str:
    """Return all texts of a value one below the other, with what JSON texts stand for."""
    if isinstance(value, dict):
        return "\n".join(f"{decoded(name)}\n{decoded(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return "\n".join(map(decoded, value))
    if not isinstance(value, str):
        return "" if value is GONE else str(value)
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return f"{value}\n{decoded(parsed)}" if isinstance(parsed, dict | list) else value


def judge(line: dict[str, Any], left: Any) -> list[str]:
    """Return what is wrong with what came out."""
    text = decoded(left)
    wrong = [f"left: {part!r}" for part in line["must_vanish"] if str(part) in text]
    return wrong + [f"lost: {part!r}" for part in line["must_stay"] if str(part) not in text]


@pytest.mark.skipif(not LINES, reason="the field's inputs are not beside the repository")
@pytest.mark.parametrize("home", HOMES)
def test_every_line_comes_out_right(home: str) -> None:
    wrong = {}
    for line in LINES:
        left = HOMES[home](line["key"], line["value"])
        if problems := judge(line, left):
            wrong[line["id"]] = (line["key"], problems, str(left)[:200])
    assert wrong == {}, "\n".join(f"{name}: {what}" for name, what in wrong.items())


@pytest.mark.skipif(not LINES, reason="the field's inputs are not beside the repository")
@pytest.mark.parametrize("home", ["SDK span", "SDK log", "gateway protobuf", "gateway JSON"])
def test_explain_says_what_each_home_does(home: str) -> None:
    wrong = {
        line["id"]: (verdict, left)
        for line in LINES
        if isinstance(line["value"], str)
        and (verdict := explained(line["key"], line["value"])) != (left := HOMES[home](line["key"], line["value"]))
    }
    assert wrong == {}


@pytest.mark.skipif(not SURFACES, reason="the field's inputs are not beside the repository")
@pytest.mark.parametrize("line", SURFACES, ids=lambda line: str(line["id"]))
def test_content_is_dropped_on_every_surface(line: dict[str, Any]) -> None:
    for left in _surfaces(line):
        assert judge(line, left) == []


def _surfaces(line: dict[str, Any]) -> Iterator[Any]:
    homes = (sdk_span, protobuf, json_body)
    if line["surface"] == "log record":
        yield _log(LogRecord(body=line["body"], event_name=line["event_name"]), "drop").body
        request = ExportLogsServiceRequest()
        logs = request.resource_logs.add().scope_logs.add().log_records
        logs.add(event_name=line["event_name"], body=to_message(line["body"]))
        clean = OtlpRedactor(redactor("drop")).redact("logs", request.SerializeToString())
        (log,) = ExportLogsServiceRequest.FromString(clean.body).resource_logs[0].scope_logs[0].log_records
        yield to_python(log.body)
    elif line["surface"] == "span attribute":
        yield from (home(line["key"], line["value"], content="drop") for home in homes)
    else:
        event = line["surface"].removeprefix("span event ")
        for key, value in line["attributes"].items():
            yield from (home(key, value, event, "drop") for home in homes)


@pytest.mark.skipif(not any(map(is_blob, lines())), reason="the field's inputs are not beside the repository")
@pytest.mark.parametrize("number", [1, 7, BLOBS])
def test_images_come_through_unchanged(number: int) -> None:
    blob = base64.b64encode(Random(number).randbytes(600_000)).decode()  # noqa: S311  # repeatable, not secret
    value = json.dumps([{"role": "user", "parts": [{"type": "blob", "mime_type": "image/png", "content": blob}]}])
    for home in ("SDK span", "gateway protobuf", "redact"):
        left = HOMES[home](conventions.INPUT_MESSAGES, value)
        assert left.endswith(value), home

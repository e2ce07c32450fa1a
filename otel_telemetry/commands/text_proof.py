"""The check of `request_log.store_text` off: prompts and answers in every input of rows, and none in any table.

Spans and log records with a sentence in each place go, not redacted, through the writer of rows into a new SQLite file
in a temporary folder; then every column of every table is searched. An input counts only if all of it became rows.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_telemetry.base import conventions
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.otlp_values import to_message
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.dialects.dialects import DETAILS_EVENT
from otel_telemetry.exporters.request_log.store.store import Written
from otel_telemetry.exporters.request_log.store.writer import Writer
from otel_telemetry.processors.verify.canaries import Canary
from otel_telemetry.processors.verify.content_canaries import FORMS, NAMED, NAMES, TYPE, ContentCanaries, words_in
from otel_telemetry.processors.verify.coverage import COVERED, LEAKED, UNPROVED, Outcome
from otel_telemetry.processors.verify.planting_otlp import Slot

SURFACE: Final = "tables of request_log"
_START: Final = 1_790_000_000_000_000_000
_ROUTE: Final = f"{conventions.REQUEST_LOG}route"
_CALL: Final[Mapping[str, Any]] = {
    conventions.OPERATION_NAME: "chat",
    conventions.PROVIDER_NAME: "openai",
    conventions.REQUEST_MODEL: "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
}
#: Members of what an app, a browser or a person says, each text or of any form.
_TEXTS: Final = (
    *("prompt", "query", "question", "answer", "messages", "completion", "text", "content", "input", "output"),
    *("userPrompt", "final_answer", "response", "chat_history", "documents", "query_text", "answer_text"),
    *("normalized", "topk", "sources"),
)
_COLUMNS: Final = ("data", "info", "meta", "error", "tags", "sources", "input", "output", "response_meta", "anything")

Values = dict[str, Any]


def verify(*, store_text: bool = False, url: str = "") -> list[Outcome]:
    """Plant, write, and look into the tables: those of an empty database at `url`, or of a new SQLite file.

    With `store_text` texts are there: that is how the proof is proved.
    """
    canaries = ContentCanaries()
    with _silence(), tempfile.TemporaryDirectory(prefix="otel-telemetry-verify-") as folder:
        url = url or f"sqlite:///{Path(folder, 'request_log.db')}"
        writer = Writer(RequestLogSettings(url=url, store_text=store_text))
        writer.open()
        try:
            planted = [each for name, way in WAYS.items() for each in _write(writer, name, way, canaries)]
        finally:
            writer.close()
        found = words_by_column(url)
    return [_outcome(slot, canary, found, arrived=arrived) for slot, canary, arrived in planted]


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress log lines about refused records: these are meant to be refused."""
    logger = logging.getLogger("otel_telemetry.request_log")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def words_by_column(url: str) -> dict[str, str]:
    """Return the words of canaries in a database, and the column that holds each."""
    found: dict[str, str] = {}
    engine = database.reader(url)
    with engine.connect() as connection:
        for table in sa.inspect(connection).get_table_names():
            for row in connection.execute(sa.text(f'SELECT * FROM "{table}"')).mappings():  # noqa: S608  # its own name
                for column, value in row.items():
                    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
                    found.update((word, f"{table}.{column}") for word in words_in(data))
    engine.dispose()
    return found


def _write(writer: Writer, name: str, way: "_Way", canaries: ContentCanaries) -> Iterator[tuple[Slot, Canary, bool]]:
    """Write all that a way takes; yield what was planted, and whether all of it became rows."""
    pairs = [(slot, canaries.draw()) for slot in _slots(name, way)]
    requests = [way.make(number, _planted(slot, str(canary.text))) for number, (slot, canary) in enumerate(pairs)]
    bodies = [request.SerializeToString() for request in requests]
    arrived = way.rows(writer.write(way.signal, bodies)) >= len(bodies)
    for (slot, canary), body in zip(pairs, bodies, strict=True):
        yield slot, canary, arrived and canary.value in words_in(body)


def _slots(name: str, way: "_Way") -> Iterator[Slot]:
    yield from (Slot(SURFACE, name, NAMED, each) for each in way.names)
    yield from (Slot(SURFACE, name, shape, each) for each in way.holders for shape in FORMS)


def _planted(slot: Slot, text: str) -> Values:
    return {slot.key: text if slot.shape == NAMED else FORMS[slot.shape].wrap(text)}


def _outcome(slot: Slot, canary: Canary, found: Mapping[str, str], *, arrived: bool) -> Outcome:
    column = found.get(str(canary.value), "")
    return Outcome(slot, TYPE, "", (LEAKED if column else COVERED) if arrived else UNPROVED, column)


def _span(number: int, **fields: Any) -> Any:
    """Return a request with one span, which is a trace of its own."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key=conventions.SERVICE_NAME, value=to_message("verify"))
    ids = {"trace_id": blake2b(f"{fields['name']} {number}".encode(), digest_size=16).digest(), "span_id": b"\x02" * 8}
    times = {"start_time_unix_nano": _START, "end_time_unix_nano": _START + 1_000_000_000}
    group.scope_spans.add().spans.add(**ids, **times, **fields)
    return request


def _pairs(values: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=to_message(value)) for key, value in values.items()]


def _of_request(number: int, values: Values) -> Any:
    return _span(number, name="ask", kind=Span.SPAN_KIND_SERVER, attributes=_pairs({_ROUTE: "ask"} | values))


def _of_call(number: int, values: Values) -> Any:
    return _span(number, name="chat", kind=Span.SPAN_KIND_CLIENT, attributes=_pairs({**_CALL, **values}))


def _event_of_call(number: int, values: Values) -> Any:
    events = [Span.Event(name="gen_ai.content.prompt", time_unix_nano=_START, attributes=_pairs(values))]
    return _span(number, name="told", kind=Span.SPAN_KIND_CLIENT, attributes=_pairs(_CALL), events=events)


def _failed_call(number: int, values: Values) -> Any:
    """Return a model call whose error quotes what was sent."""
    quoted = json.dumps(values, default=bytes.decode)
    error = {"exception.type": "BadRequest", "exception.message": quoted, "exception.stacktrace": quoted}
    return _span(
        number,
        name="failed",
        kind=Span.SPAN_KIND_CLIENT,
        attributes=_pairs({**_CALL, "error.message": quoted}),
        events=[Span.Event(name="exception", time_unix_nano=_START, attributes=_pairs(error))],
        status=Status(code=Status.STATUS_CODE_ERROR, message=quoted),
    )


def _record(event: str, body: Values, attributes: Mapping[str, Any] | None = None) -> Any:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.add(key=conventions.SERVICE_NAME, value=to_message("verify"))
    group.scope_logs.add().log_records.add(
        event_name=event, time_unix_nano=_START, body=to_message(body), attributes=_pairs(attributes or {})
    )
    return request


def _details(number: int, values: Values) -> Any:
    return _record(DETAILS_EVENT, values, {**_CALL, conventions.RESPONSE_ID: f"answer-{number}"})


def _event_of(event: str, **fixed: Any) -> Callable[[int, Values], Any]:
    """Return a function that makes an event; `fixed` are the attributes of all of them, `#` is the event's number."""

    def make(number: int, values: Values) -> Any:
        own = {key: value.replace("#", str(number)) for key, value in fixed.items()}
        return _record(event, {**values, **own})

    return make


@dataclass(frozen=True, slots=True)
class _Way:
    """One kind of span or log record: how it is made around what is planted, and how many rows came of all."""

    signal: Signal
    make: Callable[[int, Values], Any]
    rows: Callable[[Written], int]
    names: Sequence[str] = NAMES
    holders: Sequence[str] = (f"{conventions.REQUEST_LOG}args", "gen_ai.response.extra", "note")


def _way_of_event(event: str, **fixed: str) -> _Way:
    return _Way("logs", _event_of(event, **fixed), lambda written: written.events, _TEXTS, _COLUMNS)


#: Everything that becomes rows.
WAYS: Final[Mapping[str, _Way]] = {
    "spans of requests": _Way("traces", _of_request, lambda written: written.requests),
    "spans of model calls": _Way("traces", _of_call, lambda written: written.llm_calls),
    "events of model calls": _Way("traces", _event_of_call, lambda written: written.llm_calls),
    "errors of model calls": _Way("traces", _failed_call, lambda written: written.llm_calls),
    "log records of model calls": _Way("logs", _details, lambda written: written.llm_calls),
    "workflow runs": _way_of_event(conventions.WORKFLOW_EVENT, type=conventions.RUN_START, run_id="run-#"),
    "workflow steps": _way_of_event(
        conventions.WORKFLOW_EVENT, type=conventions.STEP_START, run_id="run", step_id="step-#"
    ),
    "workflow events": _way_of_event(conventions.WORKFLOW_EVENT, type="tool_execution", run_id="run-#"),
    "feedback": _way_of_event(conventions.FEEDBACK_EVENT, verdict="up", request_id="r-#"),
    "browser events": _way_of_event(conventions.BROWSER_EVENT, type="byok_call"),
    "dead letters": _Way(
        "logs", _event_of(conventions.WORKFLOW_EVENT), lambda written: written.dead_letters, _TEXTS, _COLUMNS
    ),
}


__all__ = ["SURFACE", "WAYS", "verify", "words_by_column"]

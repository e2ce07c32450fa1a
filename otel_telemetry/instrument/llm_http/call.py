"""Observes one model call: from its request, through the bytes of its answer, to its span and metrics.

Nothing here raises, delays the app or changes what it gets. A call ends exactly once, by whichever comes first: the end
of the stream, an error, a close, the garbage collector. What it was is worked out afterwards (afterwards.py), when the
app has its answer: the answer is read, and the span ended, with the time at which the call ended.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from otel_telemetry.base import conventions
from otel_telemetry.instrument import active, afterwards, ends
from otel_telemetry.instrument.llm_http import answered, content, eventstream, framing, later, regions, usage_problems
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json
from otel_telemetry.instrument.llm_http.encodings import Decode, decoder
from otel_telemetry.instrument.llm_http.endpoints import Endpoint
from otel_telemetry.instrument.llm_http.measures import CallMeasurement, ChunkIntervals, Measures
from otel_telemetry.instrument.shield import shielded

COMPONENT = "llm_http"
INCOMPLETE = "incomplete_response"
"""The `error.type` of an answer whose end is missing, though the connection ended properly."""
_IDENTITY = ("", "identity")
_OK = 200
_LITELLM_BILL = "x-litellm-response-cost"  # USD; 0 for what it cannot price
_RETRY_AFTER = re.compile(r"[\w ,:.+-]{1,64}")


class ModelCall:
    """A model call between its request and its end. It is the sink of the answer's reader."""

    __slots__ = (
        "_asked",
        "_at_once",
        "_decode",
        "_dialect",
        "_endpoint",
        "_exhausted",
        "_first",
        "_gaps",
        "_host",
        "_last",
        "_later",
        "_measures",
        "_model",
        "_open",
        "_port",
        "_reader",
        "_seen",
        "_spending",
        "_started",
        "_started_ns",
        "_status",
        "_whole",
        "span",
    )

    def __init__(
        self, endpoint: Endpoint, measures: Measures, *, capture: bool, fetches: later.Begun | None = None
    ) -> None:
        self._dialect = endpoint.dialect
        self._endpoint = endpoint
        self._measures = measures
        self._seen = CallState(capture=capture)
        self._reader: framing.Reader | eventstream.Reader | None = None
        self._decode: Decode | None = None
        self._whole: bytes | None = None  # an answer that came in one piece, and is read afterwards
        self._status: int | None = None
        self._first: float | None = None  # when content was first seen, and the last chunk since, in perf_counter
        self._last = 0.0
        self._gaps: ChunkIntervals | None = None
        self._open = [True]  # popped by whoever ends the call: one atomic step, also without a GIL
        self._exhausted = False  # the server ended the answer, and not the app or a fault
        self._later = fetches  # a call that began before, whose answer this request asks for
        self._spending = active.spending.get()
        self._at_once = True  # whether somebody needs to know at once what the answer was
        self.span: Span = trace.INVALID_SPAN

    # --- the request --------------------------------------------------------------------------------------------

    def start(
        self, tracer: Tracer, body: Json, host: str, port: int | None, context: otel_context.Context | None = None
    ) -> None:
        """Begin the span with the request's attributes, below the current span or the one of `context`."""
        endpoint, operation = self._endpoint, self._dialect.operation
        attributes = self._dialect.request(body)
        if self._later is not None and self._later.model is not None:
            attributes[conventions.REQUEST_MODEL] = self._later.model
        if endpoint.model is not None:
            attributes.setdefault(conventions.REQUEST_MODEL, endpoint.model)
        if endpoint.streamed is not None:
            attributes[conventions.REQUEST_STREAM] = endpoint.streamed
        stream = attributes.get(conventions.REQUEST_STREAM)
        self._asked = stream if isinstance(stream, bool) else None  # for a stream, where the request says so or not
        self._host = attributes[conventions.SERVER_ADDRESS] = host
        self._port = port
        if port:
            attributes[conventions.SERVER_PORT] = port
        attributes[conventions.OPERATION_NAME] = operation
        attributes[conventions.PROVIDER_NAME] = endpoint.provider
        if stage := active.stage.get():
            attributes[conventions.STAGE] = stage
        model = attributes.get(conventions.REQUEST_MODEL)
        self._model = model if isinstance(model, str) else None
        name = f"{operation} {model}" if model else operation
        self._started = time.perf_counter()  # now, as the span does
        began = self._started_ns = time.time_ns() if self._later is None else self._began(self._later)
        self.span = tracer.start_span(name, context, kind=SpanKind.CLIENT, attributes=attributes, start_time=began)
        fetched_soon = body.get("background") or getattr(self._dialect, "is_fetched", False)
        waited_for = self._spending is not None or self._later is not None or fetched_soon
        self._at_once = bool(waited_for) or not ends.may_come_later(self.span)
        if self._seen.capture and self.span.is_recording():
            self._capture_prompt(body)

    def _began(self, before: later.Begun) -> int:
        """Return when the call began whose answer is fetched now."""
        self._started -= (time.time_ns() - before.start_ns) / 1e9
        return before.start_ns

    def _capture_prompt(self, body: Json) -> None:
        messages, system = self._dialect.prompt(body)
        for key, value in ((conventions.INPUT_MESSAGES, messages), (conventions.SYSTEM_INSTRUCTIONS, system)):
            if text := content.dump(value):
                self.span.set_attribute(key, text)

    # --- the answer ---------------------------------------------------------------------------------------------

    @property
    def expects_stream(self) -> bool:
        """Return whether the request asks for a stream, in its body or by its API's default."""
        return self._asked if self._asked is not None else self._dialect.lines

    def headers(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the answer's status and headers."""
        self._status = status
        if _LITELLM_BILL in headers:  # to get what is not there costs several times as much
            self._seen.billed(_amount(headers[_LITELLM_BILL]))
        if (learn := getattr(self._dialect, "headers", None)) is not None:
            learn(self._seen, headers)
        if self._endpoint.streamed and headers.get("content-type", "").startswith(eventstream.CONTENT_TYPE):
            self._reader = eventstream.Reader(self, self.exhausted)
        if status < 400:  # noqa: PLR2004 - the class of HTTP errors
            return
        retry_after = headers.get("retry-after", "")
        if _RETRY_AFTER.fullmatch(retry_after):
            self.span.set_attribute("http.response.header.retry-after", [retry_after])

    def resent(self, attempt: str) -> None:
        """Set the number of earlier tries of this request, from the SDK's header."""
        if attempt.isdecimal() and len(attempt) < 4 and int(attempt):  # noqa: PLR2004 - up to 999
            self.span.set_attribute(conventions.HTTP_RESEND_COUNT, int(attempt))

    def encoded(self, encoding: str) -> None:
        """Take the content encoding of the bytes that `feed` is going to get."""
        name = encoding.strip().lower()
        self._decode = None if name in _IDENTITY else decoder(name)

    def feed(self, data: bytes) -> None:
        """Take the next raw bytes of the answer's body."""
        now = time.perf_counter()
        reader = self._reader
        if reader is None:
            reader = self._reader = framing.Reader(self, lines=self._dialect.lines)
        try:
            if self._decode is None:
                reader.feed(data)
            else:
                for piece in self._decode(data):
                    reader.feed(piece)
            if self._gaps is not None:
                self._gaps.add(now - self._last)
                self._last = now
            elif self._seen.content and self._asked is not False:
                self._first = self._last = now
                self._gaps = ChunkIntervals()
        except Exception as error:  # noqa: BLE001 - the border to the app: its bytes go on, ours are forgotten
            self._decode = decoder("unknown")
            shielded(COMPONENT, error)

    def feed_decoded(self, data: bytes) -> None:
        """Take a body that somebody has read and decoded already; when its parts came is unknown."""
        self._exhausted = True
        if len(data) <= framing.MAX_VALUE and not self._dialect.lines:
            self._whole = data
        else:
            self._find_out(data)

    def _read(self, data: bytes) -> None:
        value = framing.parse(data)
        if isinstance(value, dict):  # as nearly always: no need to find out what it is
            self.document(value)
        else:
            self._find_out(data)

    def _find_out(self, data: bytes) -> None:
        self._decode = None
        self.feed(data)
        self._first = None

    # --- what the reader finds ----------------------------------------------------------------------------------

    def boring(self, line: bytes) -> bool:
        """Return whether a line adds nothing: there was content before, and the dialect sees only more of it."""
        seen = self._seen
        return seen.content and not seen.capture and self._dialect.boring(line)

    def event(self, value: Any) -> None:
        """Learn from one streamed value."""
        if isinstance(value, dict):
            self._dialect.event(self._seen, value)
            usage_problems.look(self._seen, value)

    def document(self, value: Json) -> None:
        """Learn from a whole answer."""
        self._dialect.document(self._seen, value)
        usage_problems.look(self._seen, value)

    def salvaged(self, found: Json) -> None:
        """Learn from what is left of an answer that was cut off or too large."""
        self._dialect.document(self._seen, found)
        self._seen.finished(found.get("finish_reason") or found.get("stop_reason"))

    # --- the end ------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether nobody has ended the call yet."""
        return bool(self._open)

    def exhausted(self) -> None:
        """End the call now: the server has sent all that it is going to."""
        self._exhausted = True
        self.finish()

    def finish(self, error: BaseException | None = None) -> None:
        """End the call now; only the first time that a call is ended counts."""
        if not self._open:  # a stream is closed after its end: raising would cost more than this look
            return
        try:
            self._open.pop()
        except IndexError:
            return
        raised = None if error is None else type(error).__qualname__  # the error itself holds on to what the app has
        if self._at_once:
            self._complete(raised, time.perf_counter(), time.time_ns())
        else:
            afterwards.do_answer(self._complete, raised, time.perf_counter(), time.time_ns())

    def end_as_of(self, ended: float, ended_ns: int) -> None:
        """End the call at a moment in the past, given as perf_counter and time_ns."""
        try:
            self._open.pop()
        except IndexError:
            return
        self._complete(None, ended, ended_ns)

    def _complete(self, raised: str | None, ended: float, ended_ns: int) -> None:
        """Read what was not read yet, and report the call; `raised` names the error that ended it."""
        try:
            if self._whole is not None:
                self._read(self._whole)
            if self._reader is not None:
                self._reader.end()
        except Exception as fault:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, fault)
        if self._later is not None and not self._is_fetched(self._later):
            return  # the span is never ended: nobody learns of it
        error_type = None
        try:
            error_type = self._error_type(raised)
            self._report(raised, error_type)
        except Exception as fault:  # noqa: BLE001 - the border to the app
            shielded(COMPONENT, fault)
        try:
            self.span.end(ended_ns)
        except Exception as fault:  # noqa: BLE001 - a span processor of the app may raise
            shielded(COMPONENT, fault)
        if self._at_once:
            afterwards.do(self._measure, ended - self._started, error_type)
        else:
            self._measure(ended - self._started, error_type)

    def _is_fetched(self, begun: later.Begun) -> bool:
        """Return whether the answer is there, and that nobody had it before."""
        status = self._seen.finish.get(0)
        return self._status == _OK and status is not None and status not in later.WAITING and later.done(begun)

    def _note_waiting(self) -> None:
        """Remember a call whose answer is made in the background."""
        context, call_id = self.span.get_span_context(), self._seen.id
        if call_id and context.is_valid:
            later.remember(later.Begun(call_id, self._endpoint, context, self._model, self._started_ns))

    def _report(self, raised: str | None, error_type: str | None) -> None:
        if self._seen.finish.get(0) in later.WAITING:
            self._note_waiting()
        if self._endpoint.provider in regions.LISTED:
            dearer = regions.surcharge(self._endpoint.provider, self._host, self._seen.model or self._model)
            if dearer:
                self._seen.unpriced(dearer)
        if self.span.is_recording():
            self.span.set_attributes(self._attributes())
            if error_type:
                self.span.set_attribute(conventions.ERROR_TYPE, error_type)
                self.span.set_status(Status(StatusCode.ERROR, self._description(raised, error_type)))
        if self._spending is not None:
            self._spending.append(self._spent())

    def _spent(self) -> active.ModelUsage:
        refused = self._status is not None and self._status >= 400  # noqa: PLR2004 - the class of HTTP errors
        provider, operation = self._endpoint.provider, self._dialect.operation
        return answered.usage(self._seen, provider, operation, self._model, refused=refused)

    def _error_type(self, raised: str | None) -> str | None:
        """Return the provider's code, else the HTTP status, else the exception's name, else that the end is missing."""
        if raised is not None:
            return raised
        failed = self._status is not None and self._status >= 400  # noqa: PLR2004 - the class of HTTP errors
        if self._seen.error and self._seen.error != "error":
            return self._seen.error
        if failed or self._seen.error:
            return str(self._status) if failed else self._seen.error
        return INCOMPLETE if self._is_incomplete() else None

    def _is_incomplete(self) -> bool:
        """Return whether the server ended an answer that had begun in the middle, as if all were well."""
        seen, reader = self._seen, self._reader
        if reader is None:
            return False
        cut = reader.broken or (reader.unfinished and not seen.finish and not seen.ended)
        return cut and self._exhausted and (seen.content or bool(seen.id or seen.model))

    def _description(self, raised: str | None, error_type: str) -> str:
        """Return an error as codes only: providers' messages may repeat the request."""
        if raised is not None or self._status is None or self._status < 400:  # noqa: PLR2004 - the class of HTTP errors
            return error_type
        status = str(self._status)
        return f"HTTP {status}" if status == error_type else f"HTTP {status} {error_type}"

    def _attributes(self) -> dict[str, Attribute]:
        found = answered.attributes(self._seen)
        if self._status is not None:
            found[conventions.HTTP_RESPONSE_STATUS_CODE] = self._status
        if self._first is not None:
            found[conventions.RESPONSE_TIME_TO_FIRST_CHUNK] = self._first - self._started
        return found

    def _measure(self, seconds: float, error_type: str | None) -> None:
        first = None if self._first is None else self._first - self._started
        seen, gaps = self._seen, self._gaps.values if self._gaps else ()
        attributes: dict[str, str | int] = {
            conventions.OPERATION_NAME: self._dialect.operation,
            conventions.PROVIDER_NAME: self._endpoint.provider,
            conventions.SERVER_ADDRESS: self._host,
        }
        if self._port:
            attributes[conventions.SERVER_PORT] = self._port
        if self._model:
            attributes[conventions.REQUEST_MODEL] = self._model
        if seen.model:
            attributes[conventions.RESPONSE_MODEL] = seen.model
        measurement = CallMeasurement(
            seconds, seen.input_tokens, seen.output_tokens, seen.reasoning, first, gaps, error_type
        )
        self._measures.record(measurement, attributes, trace.set_span_in_context(self.span, otel_context.Context()))


def _amount(header: str) -> float | str:
    """Return a header's amount of money, or the text if it is none: the row's problems mention it."""
    try:
        return float(header)
    except ValueError:
        return header


__all__ = ["COMPONENT", "ModelCall"]

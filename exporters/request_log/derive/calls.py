"""Makes a model call's row, and its values for the request, from its span.

tokens_per_second = (completion_tokens - 1) / (total_latency - time to first chunk) for a streamed call with at least
two tokens and a known time to the first chunk: the first token came with that chunk, the others after it. NULL for
calls that are not streamed, and if the model reasoned: it is unknown how many of those tokens were made before the
first chunk.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from otel_telemetry.base import conventions, records
from otel_telemetry.base.records import LOG
from otel_telemetry.exporters.request_log.db import coerce, free_json
from otel_telemetry.exporters.request_log.db.coerce import Notes
from otel_telemetry.exporters.request_log.derive import call_words
from otel_telemetry.exporters.request_log.dialects import dialect_table, dialects
from otel_telemetry.exporters.request_log.dialects.shapes import Shape
from otel_telemetry.exporters.request_log.price import charge

#: Columns that are texts of the current convention, and how long they get.
_NAMES: Final = (
    ("operation", conventions.OPERATION_NAME, coerce.NAME_LIMIT),
    ("provider", conventions.PROVIDER_NAME, coerce.NAME_LIMIT),
    ("model_requested", conventions.REQUEST_MODEL, coerce.NAME_LIMIT),
    ("model", conventions.RESPONSE_MODEL, coerce.NAME_LIMIT),
    ("provider_request_id", conventions.RESPONSE_ID, coerce.TEXT_LIMIT),
)
#: What calls say of the request that they are part of.
_OF_REQUEST: Final = (
    ("user_id", conventions.USER_ID),
    ("session_id", conventions.SESSION_ID),
    ("conversation_id", conventions.CONVERSATION_ID),
)
#: How the clients of OpenAI, Anthropic and Pydantic AI begin the message of an error that has an HTTP status.
_STATUS_IN_TEXT: Final = re.compile(r"\b(?:error code|status[_ ]code): ?(\d{3})\b", re.IGNORECASE)
_BAD_REQUEST: Final = 400
_TOO_MANY_REQUESTS: Final = 429
#: Longest text of an attribute that we do not know, where texts are not stored: longer ones may be messages.
_UNKNOWN_TEXT: Final = 256
_STATUS_DIGITS: Final = 3
_COUNTS: Final = (
    *(conventions.USAGE_INPUT_TOKENS, conventions.USAGE_OUTPUT_TOKENS, conventions.USAGE_REASONING_TOKENS),
    *(conventions.USAGE_CACHE_READ_TOKENS, conventions.USAGE_CACHE_CREATION_TOKENS),
    *(dialect_table.INPUT_BESIDE_CACHE, dialect_table.OUTPUT_BESIDE_REASONING, dialect_table.TOTAL_TOKENS),
)
_NO_COUNTS: Final[dict[str, int | None]] = dict.fromkeys(_COUNTS)


def row_id(trace_id: str, span_id: str) -> str:
    """Return the key of a row that comes from a span."""
    return f"{trace_id}-{span_id}"


@dataclass(slots=True)
class Outline:
    """What the outcome of a span is read from, without the rest of it; times in nanoseconds."""

    attributes: records.Attributes
    start_ns: int
    end_ns: int
    status: str
    status_message: str
    events: Sequence[records.Event]
    kind: str = ""


SpanData = records.Span | Outline


@dataclass(slots=True, frozen=True)
class Origin:
    """What spans of one resource have in common, and what was wrong with it; `call_fields` are columns of each call."""

    service: str
    application: str | None
    environment: str | None
    region: str | None
    notes: Notes
    call_fields: dict[str, Any]


def origin(resource: records.Attributes) -> Origin:
    """Return the fields that a resource sets for its spans."""
    notes = Notes()
    named = resource.get(conventions.SERVICE_NAME)
    application = coerce.text(named, conventions.SERVICE_NAME, notes, coerce.NAME_LIMIT)
    service = application or conventions.UNKNOWN_SERVICE
    region = coerce.text(resource.get(conventions.CLOUD_REGION), conventions.CLOUD_REGION, notes, coerce.NAME_LIMIT)
    words = call_words.of_resource(resource, notes)
    return Origin(service, application, environment(resource, notes), region, notes, words)


def environment(resource: records.Attributes, notes: Notes) -> str | None:
    """Return the deployment environment, by its current or its older name."""
    found = resource.get(conventions.DEPLOYMENT_ENVIRONMENT) or resource.get(conventions.DEPLOYMENT_ENVIRONMENT_OLD)
    return coerce.text(found, conventions.DEPLOYMENT_ENVIRONMENT, notes, coerce.NAME_LIMIT)


def error_text(span: SpanData, notes: Notes) -> str | None:
    """Return what went wrong: the status message, else the exception, else the kind of error."""
    if span.status != "ERROR" and conventions.ERROR_TYPE not in span.attributes:
        return None
    for event in span.events:
        message = event.attributes.get(conventions.EXCEPTION_MESSAGE)
        if message and span.status == "ERROR" and not span.status_message:
            kind = event.attributes.get(conventions.EXCEPTION_TYPE)
            return coerce.text(f"{kind}: {message!s}" if isinstance(kind, str) else message, "error", notes)
    kind = span.attributes.get(conventions.ERROR_TYPE)
    kind = kind if isinstance(kind, str) else None
    if span.status == "ERROR":
        return coerce.text(span.status_message or kind or "error", "error", notes)
    return coerce.text(kind, "error", notes)


def status_code(span: SpanData) -> Any:
    """Return the HTTP status that the span reports, by its current or its older name."""
    code = span.attributes.get(conventions.HTTP_RESPONSE_STATUS_CODE)
    return code if code is not None else span.attributes.get(conventions.HTTP_STATUS_CODE_OLD)


def build(
    span: records.Span, reading: dialects.Reading, own: Shape, source: Origin, *, store_text: bool
) -> records.LlmCall:
    """Build the row of a model call; `own` is the shape of its attributes. Never raises for what attributes hold."""
    notes = Notes(source.notes)
    call = records.LlmCall(
        id=row_id(span.trace_id, span.span_id),
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        ts=coerce.moment(coerce.known_time(span.start_ns, span.end_ns)),
        application=source.application,
        environment=source.environment,
        region=source.region,
        dialect=reading.dialect.name,
    )
    call_words.fill_in(call, span.attributes, own, reading.values, notes)
    if source.call_fields:
        call_words.fill_in_from_resource(call, source.call_fields)
    _name(call, reading.values, notes)
    _outcome(call, span, notes)
    _count(call, reading, notes)
    counted = call.prompt_tokens is not None or call.completion_tokens is not None
    due = counted or not _is_refused(call, span)
    if own.request_log_keys:
        call_words.instead(call, span.attributes, own, notes)
    _time(call, span, reading.values, notes)
    if own.request_log_keys:
        call_words.instead(call, span.attributes, own, notes, call_words.TIMES)
    charge.fill(call, charge.given(span.attributes, reading.values, notes), notes, due=due)
    _remember(call, span, own, notes, store_text=store_text)
    call.error = free_json.error_text(call.error, store_text=store_text)
    if store_text:
        call.chat_request, call.chat_response = _texts(span, reading, notes)
    if notes:
        call.meta = {**(call.meta or {}), "problems": dict(notes)}
    return call


def _name(call: records.LlmCall, values: dict[str, Any], notes: Notes) -> None:
    for name, key, limit in _NAMES:
        if key in values:
            setattr(call, name, coerce.text(values[key], key, notes, limit))
    if call.model is None:
        call.model = call.model_requested
    reasons = values.get(conventions.RESPONSE_FINISH_REASONS)
    if reasons is not None:
        if isinstance(reasons, Sequence) and not isinstance(reasons, (str, bytes)):
            reasons = ",".join(dict.fromkeys(map(str, reasons[:16])))
        call.finish_reason = coerce.text(reasons, conventions.RESPONSE_FINISH_REASONS, notes)
    if conventions.REQUEST_STREAM in values:
        call.streamed = coerce.flag(values[conventions.REQUEST_STREAM], conventions.REQUEST_STREAM, notes)


def _outcome(call: records.LlmCall, span: records.Span, notes: Notes) -> None:
    call.error = error_text(span, notes)
    call.ok = span.status != "ERROR" and call.error is None
    limited = any("RateLimit" in kind for kind in _kinds_of_error(span))
    call.rate_limited = limited or _refusal(call, span) == _TOO_MANY_REQUESTS
    resent = span.attributes.get(conventions.HTTP_RESEND_COUNT)
    call.retries = 0 if resent is None else coerce.integer(resent, conventions.HTTP_RESEND_COUNT, notes) or 0


def _kinds_of_error(span: records.Span) -> list[str]:
    """Return the names of what went wrong: the error's type, and those of exceptions."""
    if not span.events and conventions.ERROR_TYPE not in span.attributes:
        return []
    kinds = [span.attributes.get(conventions.ERROR_TYPE)]
    kinds += [event.attributes.get(conventions.EXCEPTION_TYPE) for event in span.events]
    return [kind for kind in kinds if isinstance(kind, str)]


def _refusal(call: records.LlmCall, span: records.Span) -> int | None:
    """Return the HTTP status of a failed call: from the span, its error type, or its error's text."""
    if call.ok:
        return None
    reported = status_code(span)
    code = str(reported if reported is not None else span.attributes.get(conventions.ERROR_TYPE))
    if reported is None and not code.isdecimal():
        found = _STATUS_IN_TEXT.search((call.error or "")[:_UNKNOWN_TEXT])
        code = found[1] if found else ""
    return int(code) if code.isascii() and code.isdecimal() and len(code) <= _STATUS_DIGITS else None


def _count(call: records.LlmCall, reading: dialects.Reading, notes: Notes) -> None:
    counts, values = _NO_COUNTS.copy(), reading.values
    for key in _COUNTS:
        if key in values:
            counts[key] = coerce.integer(values[key], key, notes)
    call.cached_tokens = counts[conventions.USAGE_CACHE_READ_TOKENS]
    call.cache_write_tokens = counts[conventions.USAGE_CACHE_CREATION_TOKENS]
    call.reasoning_tokens = counts[conventions.USAGE_REASONING_TOKENS]
    call.token_basis = dialects.token_basis(reading, counts)
    prompt = counts[conventions.USAGE_INPUT_TOKENS]
    prompt = counts[dialect_table.INPUT_BESIDE_CACHE] if prompt is None else prompt
    if prompt is not None and call.token_basis == dialects.EXCLUSIVE:
        prompt += (call.cached_tokens or 0) + (call.cache_write_tokens or 0)
    call.prompt_tokens = prompt
    call.completion_tokens = _completion(counts, reading)
    _doubt(call, counts, reading, notes)
    if usage := charge.usage(reading.values, notes):
        call.meta = {**(call.meta or {}), "usage": usage}


def _doubt(call: records.LlmCall, counts: dict[str, int | None], reading: dialects.Reading, notes: Notes) -> None:
    """Note problems of the counts: those that our own span lists, or a total that is not the sum."""
    problems = reading.attributes.get(conventions.USAGE_PROBLEMS)
    for each in problems[:_MOST_DOUBTS] if isinstance(problems, (list, tuple)) else ():
        name, _, problem = str(each).partition(": ")
        if problem in conventions.COUNT_PROBLEMS and _COUNT_NAME.fullmatch(name):
            notes.refuse(name, problem)
    total, prompt, completion = counts[dialect_table.TOTAL_TOKENS], call.prompt_tokens, call.completion_tokens
    if total is None or prompt is None or completion is None:
        return
    beside = {
        0,
        *(amount for amount in counts.values() if amount),
        (call.cached_tokens or 0) + (call.cache_write_tokens or 0),
    }
    if abs(total - prompt - completion) not in beside:
        notes.refuse(dialect_table.TOTAL_TOKENS, conventions.NOT_THE_SUM)


_MOST_DOUBTS: Final = 8
_COUNT_NAME: Final = re.compile(r"[A-Za-z_]{1,64}")


def _completion(counts: dict[str, int | None], reading: dialects.Reading) -> int | None:
    """Return the output tokens with reasoning among them.

    Our own spans count so, and the total of others proves it; without proof, more reasoning than output was counted
    beside it.
    """
    reasoning = counts[conventions.USAGE_REASONING_TOKENS] or 0
    completion = counts[conventions.USAGE_OUTPUT_TOKENS]
    output = counts[dialect_table.OUTPUT_BESIDE_REASONING]
    if completion is None:
        return None if output is None else output + reasoning
    if not reasoning or reading.scope == conventions.SCOPE_NAME:
        return completion
    total, prompt = counts[dialect_table.TOTAL_TOKENS], counts[conventions.USAGE_INPUT_TOKENS] or 0
    if total == prompt + completion:
        return completion
    beside = reasoning > completion or total == prompt + completion + reasoning
    return completion + reasoning if beside else completion


def _time(call: records.LlmCall, span: records.Span, values: dict[str, Any], notes: Notes) -> None:
    is_log = span.kind == LOG  # written once, at some time
    total = None if is_log else coerce.milliseconds(span.start_ns, span.end_ns, "latency", notes)
    lasted = (
        coerce.real(values[dialect_table.DURATION], dialect_table.DURATION, notes)
        if dialect_table.DURATION in values
        else None
    )
    if lasted is not None and total == 0:  # a log of the call, written at its end
        total = lasted * 1_000
        call.ts = coerce.moment(max(0, span.start_ns - round(lasted * 1e9)))
    call.total_latency_ms = total
    call.request_latency_ms = total if call.retries == 0 else None
    key = conventions.RESPONSE_TIME_TO_FIRST_CHUNK
    first = coerce.real(values[key], key, notes) if key in values else None
    if first is None:
        return
    call.ttfb_ms = first * 1_000
    call.streamed = True if call.streamed is None else call.streamed
    generating = (total or 0) - call.ttfb_ms
    tokens = call.completion_tokens or 0
    if call.streamed and tokens > 1 and generating > 0 and not call.reasoning_tokens:
        call.tokens_per_second = (tokens - 1) / (generating / 1_000)


def _is_refused(call: records.LlmCall, span: records.Span) -> bool:
    return call.rate_limited or (_refusal(call, span) or 0) >= _BAD_REQUEST


def _remember(call: records.LlmCall, span: records.Span, own: Shape, notes: Notes, *, store_text: bool) -> None:
    """Store further attributes: those of the answer in `response_meta`, all others in `meta`."""
    if not (own.extra_keys or own.request_log_keys) and (call.meta is None or call.meta.keys() == _MATCH_ALONE):
        return  # nearly always
    meta: dict[str, Any] = {**(call.meta or {}), **call_words.json_field("meta", span.attributes, own, notes)}
    match = meta.pop(charge.MATCH, None)  # a word of ours: there is nothing in it to look for
    response = call_words.json_field("response_meta", span.attributes, own, notes)
    for key in own.extra_keys:
        value = span.attributes[key]
        if not store_text and _is_long(value):
            notes.refuse(key, "long text left out")
            continue
        target = response if key.startswith(("gen_ai.response.", "gen_ai.usage.")) else meta
        coerce.keep(target, key, value, notes)
    if "stage" in own.request_log_keys:
        stage = coerce.text(span.attributes[conventions.STAGE], "stage", notes, coerce.ID_LIMIT)
        if stage is not None:
            meta["stage"] = stage
    stays = free_json.members(meta, store_text=store_text)
    call.meta = (stays if match is None else {charge.MATCH: match, **stays}) or None
    call.response_meta = free_json.members(response, store_text=store_text) or None


_MATCH_ALONE: Final = frozenset({charge.MATCH})


def _is_long(value: Any) -> bool:
    """Text of a length that messages have, wherever it hides."""
    if isinstance(value, str):
        return len(value) > _UNKNOWN_TEXT
    return isinstance(value, (Sequence, dict)) and len(str(value)) > _UNKNOWN_TEXT


def _texts(span: records.Span, reading: dialects.Reading, notes: Notes) -> tuple[Any, Any]:
    asked, answered = dialects.texts(span, reading)
    chat_request = {key: coerce.parsed(value, key, notes, coerce.CONTENT_LIMIT) for key, value in asked.items()}
    return chat_request or None, coerce.parsed(answered, "answer", notes, coerce.CONTENT_LIMIT)


_USAGE_COLUMNS: Final = (
    *("prompt_tokens", "cached_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens", "token_basis"),
    *("cost_usd", "cost_input_usd", "cost_cached_usd", "cost_output_usd", "cost_source", "price_version"),
)
#: Columns of a call that a log record of it may fill in.
COMPLETED: Final = (
    *_USAGE_COLUMNS,
    *("provider", "model_requested", "model", "provider_request_id", "finish_reason", "streamed", "ttfb_ms", "user_id"),
    *("prompt_id", "prompt_version", "workflow_name", "chat_request", "chat_response"),
)


def complete(call: records.LlmCall, log: records.LlmCall) -> None:
    """Fill in what a span does not know of its call and a log record of it does. Usage and cost come together."""
    if _has_usage(call) or not _has_usage(log):
        missing = [name for name in COMPLETED if name not in _USAGE_COLUMNS]
    else:
        missing = [*COMPLETED]
        for name in _USAGE_COLUMNS:
            setattr(call, name, None)
        call.meta = charge.moved(call.meta, log.meta)
    for name in missing:
        if getattr(call, name) is None:
            setattr(call, name, getattr(log, name))


def _has_usage(call: records.LlmCall) -> bool:
    return any(value is not None for value in (call.prompt_tokens, call.completion_tokens, call.cost_usd))


def caller(reading: dialects.Reading) -> dict[str, str] | None:
    """Return the request fields that a call sets: user, session and conversation."""
    found = {}
    for column, meaning in _OF_REQUEST:
        if meaning in reading.values:
            text = coerce.text(reading.values[meaning], meaning, Notes())
            if text is not None:
                found[column] = text
    return found or None

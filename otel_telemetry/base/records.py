"""The shapes that pass between components: typed data, no I/O.

`Span` is what the row builder reads, whether it came from the SDK or from OTLP. `LlmCall` and `Request` are what it
writes: field for column as the contract names them (a test holds them against the tables).
Times are integers, nanoseconds since the Unix epoch, unless a field says otherwise; ids are lower-case hex.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

AnyValue = str | bool | int | float | bytes | None | Sequence[Any] | Mapping[str, Any]
Attributes = Mapping[str, AnyValue]


#: The kind of a span that was made of a log record.
LOG: Final = "LOG"


@dataclass(slots=True, frozen=True)
class Event:
    """One event of a span."""

    name: str
    time_ns: int
    attributes: Attributes


@dataclass(slots=True)
class Span:
    """One finished span. `kind` and `status` are the OTLP names without prefix: SERVER, CLIENT; UNSET, OK, ERROR.

    `local_root` is true where the span has no parent, or one in another process. It is not frozen, as it takes three
    times as long to make one that is.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    local_root: bool
    name: str
    kind: str
    start_ns: int
    end_ns: int
    status: str
    status_message: str
    attributes: Attributes
    events: Sequence[Event]
    resource: Attributes
    scope: str = ""


@dataclass(slots=True, frozen=True)
class AppEvent:
    """A log record with one of conventions.APP_EVENTS as its name: from an app, a browser or a person.

    `values` are `{column: value}`. `time_ns` is 0 if the sender gave no time; then `observed_ns` is used, when
    the first receiver saw it. Both are in ns since 1970. `place`, `after` and `number` are the attributes
    conventions.EVENT_PLACE and so on.
    """

    name: str
    time_ns: int
    observed_ns: int
    trace_id: str | None
    span_id: str | None
    values: Attributes
    resource: Attributes
    place: int = 0
    after: int = 0
    number: int = 0


@dataclass(slots=True, kw_only=True)
class LlmCall:
    """One row of `llm_call`, column for column: one model call. Times in milliseconds, `ts` in UTC, money in USD."""

    id: str
    request_id: str | None = None
    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    event_type: str = "llm_call"
    ts: datetime
    organization_id: str | None = None
    project_id: str | None = None
    user_id: str | None = None
    request_organization_id: str | None = None
    request_project_id: str | None = None
    request_user_id: str | None = None
    application: str | None = None
    environment: str | None = None
    workflow_id: str | None = None
    workflow_name: str | None = None
    run_id: str | None = None
    step_id: str | None = None
    step_index: int | None = None
    prompt_id: str | None = None
    prompt_version: str | None = None
    operation: str | None = None
    provider: str | None = None
    model_requested: str | None = None
    model: str | None = None
    chat_request: Any = None
    chat_response: Any = None
    finish_reason: str | None = None
    provider_request_id: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    token_basis: str | None = None
    cost_usd: Decimal | None = None
    cost_input_usd: Decimal | None = None
    cost_cached_usd: Decimal | None = None
    cost_output_usd: Decimal | None = None
    cost_source: str | None = None
    price_version: str | None = None
    retries: int = 0
    rate_limited: bool = False
    request_latency_ms: float | None = None
    total_latency_ms: float | None = None
    ttfb_ms: float | None = None
    tokens_per_second: float | None = None
    streamed: bool | None = None
    error: str | None = None
    ok: bool = True
    dialect: str | None = None
    meta: dict[str, Any] | None = None
    response_meta: dict[str, Any] | None = None
    region: str | None = None


@dataclass(slots=True, kw_only=True)
class Request:
    """One row of `request_log`, column for column: one request that the app handled, or declined."""

    id: str
    ts: datetime
    trace_id: str
    span_id: str
    service: str | None = None
    environment: str | None = None
    session_id: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None
    ip_hash: str | None = None
    route: str | None = None
    router_source: str | None = None
    router_confidence: float | None = None
    models: dict[str, Any] | None = None
    model: str | None = None
    provider: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Decimal | None = None
    cost_input_usd: Decimal | None = None
    cost_cached_usd: Decimal | None = None
    cost_output_usd: Decimal | None = None
    cost_source: str | None = None
    latency_ms: float | None = None
    ttfb_ms: float | None = None
    tokens_per_second: float | None = None
    stage_ms: dict[str, Any] | None = None
    llm_calls: int = 0
    retries: int = 0
    escalated: bool = False
    fallback_fired: bool = False
    cache_hit: bool = False
    ceiling_hit: bool = False
    per_user_cap_hit: bool = False
    rate_limited: bool = False
    prompt_version: str | None = None
    provider_request_id: str | None = None
    scope: str | None = None
    allow_tps: int | None = None
    normalized: str | None = None
    topk: Any = None
    degraded: str | None = None
    error: str | None = None
    ok: bool = True
    query_text: str | None = None
    answer_text: str | None = None
    meta: dict[str, Any] | None = None
    region: str | None = None

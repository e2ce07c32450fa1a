"""The stored form of facts: the facts of one trace in one batch are one row of `trace_facts`, which never changes.

A trace that comes in one batch has one row, whatever its size; one that comes in a thousand batches has a thousand
small rows, and no batch rewrites the rows of another. Trace ids are random, so an index of ids would touch a different
page for each trace. Instead this table grows at its end, and its one index of that kind contains small numbers,
`trace_key`.

`body` is JSON: the version of this format, the trace's id, the base time of the other times, in nanoseconds, the names
of services and of sources, then the spans. A span's parent is its position in the list if it is there, else its id. For
a model call the columns of its row are stored by short names (`_SHORT`), unless they follow from the span. Version 1
had their whole names, a third of this table; it is read as well.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final

import orjson

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.db import coerce, column_types
from otel_telemetry.exporters.request_log.derive import requests
from otel_telemetry.exporters.request_log.derive.calls import row_id
from otel_telemetry.exporters.request_log.derive.facts import Fact, IrrelevantSpan

VERSION: Final = 2
#: local_root, has_request_fields, of_log, matched_before, cached: a bit each.
_FLAGS: Final = 5
#: Columns of a call that follow from its span.
_IMPLIED: Final = frozenset({"id", "request_id", "trace_id", "span_id", "parent_span_id", "ts", "application"})
#: Names of columns in `body`. What is stored cannot be read without them: never change one, only add. Columns that are
#: not here have their own names, and so has all of version 1.
_SHORT: Final = {
    "user_id": "u",
    "environment": "e",
    "operation": "o",
    "provider": "p",
    "model_requested": "q",
    "model": "m",
    "finish_reason": "f",
    "provider_request_id": "i",
    "prompt_tokens": "tp",
    "cached_tokens": "tc",
    "cache_write_tokens": "tw",
    "completion_tokens": "to",
    "reasoning_tokens": "tr",
    "token_basis": "tb",
    "cost_usd": "c",
    "cost_input_usd": "ci",
    "cost_cached_usd": "cc",
    "cost_output_usd": "co",
    "cost_source": "cs",
    "price_version": "v",
    "request_latency_ms": "lr",
    "total_latency_ms": "lt",
    "ttfb_ms": "lf",
    "tokens_per_second": "s",
    "streamed": "st",
    "dialect": "d",
    "meta": "x",
    "response_meta": "y",
    "region": "r",
}
_LONG: Final = {short: name for name, short in _SHORT.items()}
#: Columns that nearly every call has at the same value, and that value: only others are stored.
_USUAL: Final = {"event_type": "llm_call", "retries": 0, "rate_limited": False, "ok": True}
_usual_of: Final = attrgetter(*_USUAL)
_USUAL_VALUES: Final = tuple(_USUAL.values())
_short_of: Final = attrgetter(*_SHORT)
#: Columns with their own names, which are those that few calls have.
_RARE: Final = tuple(field.name for field in fields(records.LlmCall) if field.name not in {*_IMPLIED, *_USUAL, *_SHORT})
_rare_of: Final = attrgetter(*_RARE)
_NO_RARE: Final = (None,) * len(_RARE)
_COSTS: Final = ("cost_usd", "cost_input_usd", "cost_cached_usd", "cost_output_usd")
_SHORT_COSTS: Final = tuple(_SHORT[name] for name in _COSTS)
#: Items of a span that says something, behind those that all have.
_MANY: Final = 6


@lru_cache(maxsize=4_096)
def trace_key(trace_id: str) -> int:
    """Return a number of 64 bits for a trace id: parts of ids need not be random."""
    digest = blake2b(trace_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def row(facts: Sequence[Fact | IrrelevantSpan]) -> tuple[None, int, datetime, bool, str]:
    """Return facts of one trace as a row of the table; the database gives it its number."""
    trace_id = facts[0].trace_id
    times = [each.at_us * 1_000 if type(each) is IrrelevantSpan else each.start_ns for each in facts]  # type: ignore[union-attr]
    has_text = any([type(each) is Fact and holds_text(each) for each in facts])  # noqa: C419  # a list is faster
    return None, trace_key(trace_id), coerce.moment(max(times)), has_text, _dump(trace_id, facts, times)


def holds_text(fact: Fact) -> bool:
    """Return whether texts that people typed and read are kept of a span."""
    if requests.has_text(fact.request_fields):
        return True
    call = fact.call
    return call is not None and (call.chat_request is not None or call.chat_response is not None)


def _dump(trace_id: str, facts: Sequence[Fact | IrrelevantSpan], times: Sequence[int]) -> str:
    base = min(times)
    positions: dict[str | None, Any] = {each.span_id: position for position, each in enumerate(facts)}
    positions.setdefault(None, None)
    services: dict[str, int] = {}
    sources: dict[str, int] = {}
    spans: list[list[Any]] = []
    for each, at in zip(facts, times, strict=True):
        if type(each) is IrrelevantSpan:
            _, span_id, parent, of, _, local_root, request_fields = each
            head: list[Any] = [span_id, positions.get(parent, parent), services.setdefault(of, len(services))]
            head += [at - base, 1 if local_root else 0]
            if request_fields is not None:
                head.append(request_fields)
            spans.append(head)
        elif type(each) is Fact:
            parent = each.parent
            spans.append(
                [
                    each.span_id,
                    positions.get(parent, parent),
                    services.setdefault(each.service, len(services)),
                    at - base,
                    each.local_root
                    | each.has_request_fields << 1
                    | each.of_log << 2
                    | each.matched_before << 3
                    | each.cached << 4,
                    each.request_fields,
                    each.end_ns - at,
                    sources.setdefault(each.source, len(sources)),
                    each.stage,
                    _call(each, each.call) if each.call is not None else None,
                    each.caller,
                ]
            )
    return column_types.encode([VERSION, trace_id, base, list(services), list(sources), spans], sort=False)


def _call(fact: Fact, call: records.LlmCall) -> dict[str, Any]:
    stored = {name: value for name, value in zip(_LONG, _short_of(call), strict=True) if value is not None}
    if (rare := _rare_of(call)) != _NO_RARE:
        stored |= {name: value for name, value in zip(_RARE, rare, strict=True) if value is not None}
    if (usual := _usual_of(call)) != _USUAL_VALUES:
        stored |= {name: value for name, value in zip(_USUAL, usual, strict=True) if value != _USUAL[name]}
    if "c" in stored:
        for name in _SHORT_COSTS:
            if name in stored:
                stored[name] = str(stored[name])
    if call.application != _application(fact.service):
        stored["application"] = call.application
    if call.ts is not fact.ts and call.ts != fact.ts:
        stored["ts"] = call.ts
    return stored


def _application(service: str) -> str | None:
    return None if service == conventions.UNKNOWN_SERVICE else service


def load(body: str) -> list[Fact]:
    """Return the facts of a row."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:  # it knows no numbers of more than 64 bits
        data = json.loads(body)
    if data[0] > VERSION:
        raise ValueError(f"facts of version {data[0]}, which a later version of this program wrote")
    head, spans = data[1:-1], data[-1]
    ids = [span[0] for span in spans]
    return [_fact(head, ids, span) for span in spans]


def _fact(head: list[Any], ids: list[str], span: list[Any]) -> Fact:
    trace_id, base, services, sources = head
    span_id, position, service, start, flags, *more = span
    parent = ids[position] if type(position) is int else position
    begin = base + start
    if len(more) < _MANY:  # it says nothing
        request_fields = more[0] if more else None
        return Fact(trace_id, span_id, parent, services[service], begin, begin, bool(flags), False, request_fields)
    request_fields, lasted, source, stage, call, caller = more
    local_root, has_request_fields, of_log, matched_before, cached = (bool(flags & 1 << bit) for bit in range(_FLAGS))
    end, by = begin + lasted, sources[source]
    of = trace_id, span_id, parent, services[service]
    fact = Fact(
        *of,
        begin,
        end,
        local_root,
        has_request_fields,
        request_fields,
        None,
        of_log,
        by,
        stage,
        caller,
        matched_before,
        cached,
    )
    if call is not None:
        fact.call = _loaded(fact, call)
    return fact


def _loaded(fact: Fact, short: dict[str, Any]) -> records.LlmCall:
    stored = {_LONG.get(name, name): value for name, value in short.items()}
    stored.setdefault("application", _application(fact.service))
    at = stored.pop("ts", None)
    for name in _COSTS:
        if name in stored:
            stored[name] = Decimal(stored[name])
    return records.LlmCall(
        id=row_id(fact.trace_id, fact.span_id),
        trace_id=fact.trace_id,
        span_id=fact.span_id,
        parent_span_id=fact.parent,
        ts=fact.ts if at is None else datetime.fromisoformat(at),
        **stored,
    )


def facts_of(items: Iterable[Fact | IrrelevantSpan]) -> list[Fact]:
    """Return all facts of a trace, with irrelevant spans as facts too."""
    return [each.fact() if type(each) is IrrelevantSpan else each for each in items]  # type: ignore[misc]

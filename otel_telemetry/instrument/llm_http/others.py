"""Detects whether another GenAI instrumentation already has a span for a model call: then we make no second one.

Most make their span the current one before the request is sent, which is enough to detect it. OpenLLMetry's for the
Responses API makes it only when the answer is there, with a start time in the past: for that one, its wrapper is looked
for.
"""

import sys
from collections.abc import Callable
from typing import Any

from opentelemetry import trace

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects.base import Dialect
from otel_telemetry.instrument.llm_http.dialects.openai_responses import Responses

#: Attributes that spans of older conventions and other dialects have when they are a model call.
_CALL_KEYS = ("llm.request.type", "llm.model_name", "gen_ai.system", "gen_ai.request.model")
_KIND = "openinference.span.kind"
_ANY_KEY = frozenset({conventions.OPERATION_NAME, _KIND, *_CALL_KEYS})
_LATE = "opentelemetry.instrumentation.openai."


def see_it(span: trace.Span, tracer: Any = None) -> bool:
    """Return whether the current span is a model call by itself, one of ours or of any other instrumentation.

    A span of another provider than that of `tracer`, as Logfire and Phoenix make, goes elsewhere: no row is made of it.
    """
    attributes = getattr(span, "attributes", None)
    if not attributes or _ANY_KEY.isdisjoint(attributes):  # as nearly always; to miss a key of the SDK's is slow
        return False
    if not span.is_recording() or not _go_together(span, tracer):
        return False
    operation = attributes.get(conventions.OPERATION_NAME)
    if operation is not None:
        return operation in conventions.MODEL_CALL_OPERATIONS
    kind = attributes.get(_KIND)
    if kind is not None:
        return kind in ("LLM", "EMBEDDING")
    return any(key in attributes for key in _CALL_KEYS)


def _go_together(span: Any, tracer: Any) -> bool:
    """Return whether a span goes to the same exporters as a tracer's spans, as far as the SDK's objects show it."""
    theirs = getattr(getattr(span, "span", span), "_span_processor", None)
    ours = getattr(tracer, "span_processor", None) or getattr(getattr(tracer, "_tracer", None), "span_processor", None)
    return theirs is None or ours is None or theirs is ours


def will_see_it(dialect: Dialect, header: Callable[[str], str | None]) -> bool:
    """Return whether another instrumentation wraps the OpenAI SDK's `responses`: it makes a span afterwards."""
    if not isinstance(dialect, Responses) or "OpenAI/Python" not in (header("user-agent") or ""):
        return False
    methods = getattr(sys.modules.get("openai.resources.responses"), "Responses", None)
    wrapper = getattr(getattr(methods, "create", None), "_self_wrapper", None)
    return str(getattr(wrapper, "__module__", "")).startswith(_LATE)

"""Whether another GenAI instrumentation sees a model call already: then we make no second span of it.

Most make their span the current one before the request goes out; that is enough to know. OpenLLMetry's for the
Responses API makes it only when the answer is there, with a start time in the past: there, its wrapper is looked for.
"""

import sys
from typing import Any

from opentelemetry import trace

from otel_telemetry import conventions
from otel_telemetry.instrument.llm_http.dialects.base import Dialect
from otel_telemetry.instrument.llm_http.dialects.openai_responses import Responses

#: Attributes that spans of older conventions and other dialects have when they are a model call.
_CALL_KEYS = ("llm.request.type", "llm.model_name", "gen_ai.system", "gen_ai.request.model")
_KIND = "openinference.span.kind"
_LATE = "opentelemetry.instrumentation.openai."


def see_it(span: trace.Span) -> bool:
    """Tell that the current span is a model call by itself, one of ours or of any other instrumentation."""
    attributes = getattr(span, "attributes", None)
    if not attributes or not span.is_recording():
        return False
    operation = attributes.get(conventions.OPERATION_NAME)
    if operation is not None:
        return operation in conventions.MODEL_CALL_OPERATIONS
    kind = attributes.get(_KIND)
    if kind is not None:
        return kind in ("LLM", "EMBEDDING")
    return any(key in attributes for key in _CALL_KEYS)


def will_see_it(dialect: Dialect, request: Any) -> bool:
    """Tell that a span of the call will be made when it is over: the OpenAI SDK's `responses` is wrapped for that."""
    if not isinstance(dialect, Responses) or "OpenAI/Python" not in request.headers.get("user-agent", ""):
        return False
    methods = getattr(sys.modules.get("openai.resources.responses"), "Responses", None)
    wrapper = getattr(getattr(methods, "create", None), "_self_wrapper", None)
    return str(getattr(wrapper, "__module__", "")).startswith(_LATE)

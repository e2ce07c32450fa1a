"""OpenAI's chat completions, completions and embeddings, as OpenAI and dozens of compatible servers implement them.

Differences between the compatible servers show in the answer itself: DeepSeek counts cache hits in
`prompt_cache_hit_tokens`, Moonshot in `cached_tokens`, Mistral in `num_cached_tokens`, Groq puts a stream's usage into
`x_groq`, xAI counts reasoning beside the completion and not in it (then `total_tokens` is the sum of all three). Some
report their bill (`bill`): OpenRouter and others in `usage.cost`, Perplexity in `usage.cost.total_cost`, xAI in
`usage.cost_in_usd_ticks` (1e-10 USD), DeepInfra in `usage.estimated_cost`.
"""

import re
from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json

_TEXT_KEYS = ("content", "refusal")
_CONTENT_KEYS = (*_TEXT_KEYS, "reasoning_content", "reasoning")


def usage(seen: CallState, value: Any) -> None:
    """Learn token counts from a `usage` object; a later one replaces an earlier one."""
    if not isinstance(value, dict):
        return
    read = base.part(value, "prompt_tokens_details")
    written = base.part(value, "completion_tokens_details")
    prompt, completion = base.count(value.get("prompt_tokens")), base.count(value.get("completion_tokens"))
    cached = base.count(read["cached_tokens"]) if "cached_tokens" in read else None
    if cached is None and not _CACHED.isdisjoint(value):
        cached = next((known for raw in map(value.get, _CACHED_NAMES) if (known := base.count(raw)) is not None), None)
    if cached is not None:
        seen.cache_read = cached
    creation = base.count(read["cache_write_tokens"]) if "cache_write_tokens" in read else None
    if creation is not None:
        seen.cache_creation = creation
    reasoning = base.count(written["reasoning_tokens"]) if "reasoning_tokens" in written else None
    if reasoning is not None:
        seen.reasoning = reasoning
    if reasoning and prompt is not None and completion is not None:
        beside = value.get("total_tokens") == prompt + completion + reasoning
        completion = completion + reasoning if beside else completion
    seen.input_tokens = seen.input_tokens if prompt is None else prompt
    seen.output_tokens = seen.output_tokens if completion is None else completion
    if not (_KINDS.isdisjoint(read) and _KINDS.isdisjoint(written)):
        kinds(seen, read, written)
    bill(seen, value)
    if "prompt_audio_seconds" in value and base.count(value["prompt_audio_seconds"]):
        seen.unpriced("audio by the second")


def kinds(seen: CallState, read: Json, written: Json) -> None:
    """Learn the tokens of audio and images from the details of what was read and written."""
    for details, direction in ((read, "input"), (written, "output")):
        if not _KINDS.isdisjoint(details):
            seen.counted(f"{direction}_audio_tokens", details.get("audio_tokens"))
            seen.counted(f"{direction}_image_tokens", details.get("image_tokens"))


def bill(seen: CallState, value: Json) -> None:
    """Read the cost of the answer, if its usage contains it.

    A user with his own key pays OpenRouter's fee in `cost`, and the upstream cost to the model's provider.
    """
    if _BILLS.isdisjoint(value):  # as nearly always
        return
    cost = value.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    elif value.get("is_byok") is True:
        upstream = base.part(value, "cost_details").get("upstream_inference_cost")
        if isinstance(cost, (int, float)) and isinstance(upstream, (int, float)):
            cost += upstream
    ticks = base.count(value.get("cost_in_usd_ticks"))
    if cost is None and ticks is not None:
        cost = ticks / _TICKS
    seen.billed(value.get("estimated_cost") if cost is None else cost)
    if cost is None and base.count(value.get("num_sources_used")):
        seen.unpriced("live search")
    elif cost is None and base.count(value.get("citation_tokens")):
        seen.unpriced("deep research")  # its citations, searches and reasoning are not among the tokens


_CACHED_NAMES = ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")  # the first that is a count
_CACHED = frozenset(_CACHED_NAMES)
_KINDS = frozenset({"audio_tokens", "image_tokens"})
_BILLS = frozenset({"cost", "cost_in_usd_ticks", "estimated_cost", "num_sources_used", "citation_tokens"})
_SEARCHES = re.compile(r"-search-(?:preview|api)\b")
_TICKS = 10_000_000_000  # of xAI, in a US dollar


class Chat:
    """POST …/chat/completions."""

    operation = "chat"
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        found = base.common(body, body, ("max_completion_tokens", "max_tokens"))
        if "stop" in body and (stops := base.stop_sequences(body["stop"])):
            found[conventions.REQUEST_STOP_SEQUENCES] = stops
        if "n" in body and (choices := base.count(body["n"])) not in (None, 1):
            found[conventions.REQUEST_CHOICE_COUNT] = choices
        if "response_format" in body:
            kind = base.part(body, "response_format").get("type")
            if kind in ("json_object", "json_schema"):
                found[conventions.OUTPUT_TYPE] = "json"
        if "web_search_options" in body or _SEARCHES.search(str(body.get("model"))[: base.MAX_TEXT]):
            # each call of such a model is one search (OpenAI's price list)
            found[f"{conventions.USAGE_DETAILS}web_searches"] = 1
        return found

    def boring(self, line: bytes) -> bool:
        """Return whether a line only adds text: no finish reason yet, and no usage."""
        return b'"finish_reason":null' in line and b'"usage":{' not in line

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one chunk."""
        self._learn(seen, value, "delta")

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        self._learn(seen, value, "message")

    def _learn(self, seen: CallState, value: Json, key: str) -> None:
        seen.name(value.get("id"), value.get("model"))
        if value.get("error"):
            seen.failed(value["error"])
        for choice in base.items(value.get("choices")):
            index = choice.get("index")
            if reason := choice.get("finish_reason"):
                seen.finished(reason, index)
                usage(seen, choice.get("usage"))  # Moonshot's streams
            self._choice(seen, choice, base.part(choice, key), index)
        if "service_tier" in value:
            seen.tier(value["service_tier"])
        usage(seen, value.get("usage") or base.part(value, "x_groq").get("usage"))

    def _choice(self, seen: CallState, choice: Json, message: Json, at: Any) -> None:
        tools = message.get("tool_calls") or message.get("function_call")
        if not seen.content:
            seen.content = bool(tools or choice.get("text") or any(map(message.get, _CONTENT_KEYS)))
        captured = seen.message(at)
        if captured is None:
            return
        captured.add(captured.text, choice.get("text"))
        for key in _TEXT_KEYS:
            captured.add(captured.text, message.get(key))
        captured.add(captured.reasoning, message.get("reasoning_content") or message.get("reasoning"))
        for position, call in enumerate(base.items(tools)):
            function = base.part(call, "function")
            index = base.count(call.get("index"))
            captured.tool(
                position if index is None else index, call.get("id"), function.get("name"), function.get("arguments")
            )

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return [_message(item) for item in base.items(body.get("messages"))], []


class Completions(Chat):
    """POST …/completions: the older call, without roles."""

    operation = "text_completion"

    def boring(self, line: bytes) -> bool:
        """Return whether a line only adds text."""
        return b'"finish_reason":null' in line and b'"usage":{' not in line

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs(body.get("prompt")), []


class Embeddings(base.WholeEvents):
    """POST …/embeddings. Its answers are large and hold nothing of interest but model and usage."""

    operation = "embeddings"
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        found = base.common(body, {}, ())
        if encoding := base.text(body.get("encoding_format")):
            found["gen_ai.request.encoding_formats"] = [encoding]
        if (dimensions := base.count(body.get("dimensions"))) is not None:
            found["gen_ai.embeddings.dimension.count"] = dimensions
        return found

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        seen.name(value.get("id"), value.get("model"))
        if value.get("error"):
            seen.failed(value["error"])
        usage(seen, value.get("usage"))
        if seen.input_tokens is None:  # Voyage and Jina tell the total alone, of which all is input
            seen.input_tokens = base.count(base.part(value, "usage").get("total_tokens"))

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs(body.get("input")), []


def _message(item: Json) -> Json:
    role = base.text(item.get("role")) or "user"
    parts = [] if role == "tool" else base.content_parts(item.get("content"))
    if role == "tool":
        result = base.content_parts(item.get("content"))
        response = "".join(str(part.get("content", "")) for part in result)
        parts.append({"type": "tool_call_response", "id": base.text(item.get("tool_call_id")), "response": response})
    for call in base.items(item.get("tool_calls")):
        function = base.part(call, "function")
        arguments = function.get("arguments")
        parts.append(
            {
                "type": "tool_call",
                "id": base.text(call.get("id")),
                "name": base.text(function.get("name")),
                "arguments": arguments[: base.MAX_CAPTURED] if isinstance(arguments, str) else None,
            }
        )
    return {"role": role, "parts": parts}

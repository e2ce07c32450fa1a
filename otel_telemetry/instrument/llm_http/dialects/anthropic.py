"""Anthropic's Messages API: POST …/v1/messages, and the same bodies on Vertex AI and Bedrock.

Its `input_tokens` do not include the cached ones; the conventions require the sum. Where the API shortened the
conversation before it answered (compaction), the usage leaves out the tokens of that; they are billed, and are in
`iterations`.
"""

from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base, openai
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json, Message

_COUNTS = (
    ("uncached", "input_tokens"),
    ("cache_read", "cache_read_input_tokens"),
    ("cache_creation", "cache_creation_input_tokens"),
    ("output_tokens", "output_tokens"),
)
_TEXTS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def _usage(seen: CallState, value: Any) -> None:
    usage = base.part({"usage": value}, "usage")
    passes = base.items(usage.get("iterations"))
    compactions = [each for each in passes if each.get("type") == "compaction"]
    for name, key in _COUNTS:
        if (known := base.count(usage.get(key))) is not None:
            setattr(seen, name, known + sum(base.count(each.get(key)) or 0 for each in compactions))
    reasoning = base.count(base.part(usage, "output_tokens_details").get("thinking_tokens"))
    seen.reasoning = seen.reasoning if reasoning is None else reasoning
    if seen.uncached is not None:
        seen.input_tokens = seen.uncached + (seen.cache_read or 0) + (seen.cache_creation or 0)
    written = [each["cache_creation"] for each in (usage, *compactions) if isinstance(each.get("cache_creation"), dict)]
    if written:  # a stream tells it at its begin alone
        hours = (base.count(each.get("ephemeral_1h_input_tokens")) or 0 for each in written)
        seen.counted("cache_write_1h_tokens", sum(hours))
    seen.counted("web_searches", base.part(usage, "server_tool_use").get("web_search_requests"))
    openai.bill(seen, usage)  # of gateways: OpenRouter's, Vercel's
    seen.tier("fast" if usage.get("speed") == "fast" else usage.get("service_tier"))
    if usage.get("inference_geo") == "us":
        seen.unpriced("inference in the US only")
    if any(each.get("type") == "advisor_message" for each in passes):
        seen.unpriced("an advisor of another model")  # its tokens are not among the others, its price is another


class Messages:
    """POST …/v1/messages."""

    operation = "chat"
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        found = base.common(body, body, ("max_tokens",))
        if stops := base.stop_sequences(body.get("stop_sequences")):
            found[conventions.REQUEST_STOP_SEQUENCES] = stops
        return found

    def boring(self, line: bytes) -> bool:
        """Return whether a line only adds text."""
        return b'"type":"content_block_delta"' in line

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one event."""
        kind = value.get("type")
        if kind == "content_block_delta":
            self._delta(seen, base.part(value, "delta"), value.get("index"))
        elif kind == "content_block_start":
            self._block(seen, base.part(value, "content_block"), value.get("index"))
        elif kind == "message_start":
            message = base.part(value, "message")
            seen.name(message.get("id"), message.get("model"))
            _usage(seen, message.get("usage"))
        elif kind == "message_delta":
            seen.finished(base.part(value, "delta").get("stop_reason"))
            _usage(seen, value.get("usage"))
        elif kind == "error":
            seen.failed(value.get("error"))

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        if value.get("error"):
            seen.failed(value["error"])
            return
        seen.name(value.get("id"), value.get("model"))
        seen.finished(value.get("stop_reason"))
        _usage(seen, value.get("usage"))
        for position, block in enumerate(base.items(value.get("content"))):
            self._block(seen, block, position)

    def _block(self, seen: CallState, block: Json, index: Any) -> None:
        tool = block.get("type") == "tool_use"
        text = block.get("text") or block.get("thinking")
        if tool or text:
            seen.content = True
        if captured := seen.message():
            _keep(captured, block.get("text"), block.get("thinking"))
            if tool:
                arguments = base.dumped(block.get("input")) if block.get("input") else ""
                captured.tool(base.count(index), block.get("id"), block.get("name"), arguments)

    def _delta(self, seen: CallState, delta: Json, index: Any) -> None:
        key = _TEXTS.get(str(delta.get("type")))
        text = delta.get(key) if key else None
        if not text:
            return
        seen.content = True
        if captured := seen.message():
            _keep(captured, delta.get("text"), delta.get("thinking"))
            if key == "partial_json":
                captured.tool(base.count(index), None, None, text)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        messages: list[Json] = [
            {"role": base.text(item.get("role")) or "user", "parts": _parts(item.get("content"))}
            for item in base.items(body.get("messages"))
        ]
        return messages, base.content_parts(body.get("system"))


def _keep(captured: Message, text: Any, thinking: Any) -> None:
    captured.add(captured.text, text)
    captured.add(captured.reasoning, thinking)


def _parts(content: Any) -> list[Json]:
    """Return a message's blocks as parts; tool calls and their results by name."""
    if isinstance(content, str):
        return base.content_parts(content)
    return [_part(block) for block in base.items(content)]


def _part(block: Json) -> Json:
    kind = block.get("type")
    if kind == "tool_use":
        name, arguments = base.text(block.get("name")), base.dumped(block.get("input"))
        return {"type": "tool_call", "id": base.text(block.get("id")), "name": name, "arguments": arguments}
    if kind == "tool_result":
        text = "".join(str(part.get("content", "")) for part in base.content_parts(block.get("content")))
        return {"type": "tool_call_response", "id": base.text(block.get("tool_use_id")), "response": text}
    return next(iter(base.content_parts([block])), {"type": "unknown"})

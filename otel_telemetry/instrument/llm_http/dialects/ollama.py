"""Ollama's own API: POST …/api/chat, /api/generate and /api/embed, streamed as lines of JSON."""

from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json


class Chat:
    """POST …/api/chat."""

    operation = "chat"
    lines = True

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives; Ollama streams by default."""
        options = base.part(body, "options")
        found = base.common(body, options, ("num_predict",))
        found.setdefault(conventions.REQUEST_STREAM, self.operation != "embeddings")
        if stops := base.stop_sequences(options.get("stop")):
            found[conventions.REQUEST_STOP_SEQUENCES] = stops
        if body.get("format"):
            found[conventions.OUTPUT_TYPE] = "json"
        return found

    def boring(self, line: bytes) -> bool:
        """Return whether a line only adds text."""
        return b'"done":false' in line

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one line."""
        self.document(seen, value)

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer, which has the shape of a line."""
        seen.name(None, value.get("model"))
        if value.get("error"):
            seen.failed(value["error"])
        message = base.part(value, "message")
        text = message.get("content") or value.get("response")
        thought = message.get("thinking") or value.get("thinking")
        tools = message.get("tool_calls")
        if text or thought or tools:
            seen.content = True
        if captured := seen.message():
            captured.add(captured.text, text)
            captured.add(captured.reasoning, thought)
            for call in base.items(tools):
                function = base.part(call, "function")
                captured.tool(len(captured.tools), None, function.get("name"), base.dumped(function.get("arguments")))
        seen.finished(value.get("done_reason"))
        seen.ended = value.get("done") is True
        self._usage(seen, value)

    def _usage(self, seen: CallState, value: Json) -> None:
        prompt, answer = base.count(value.get("prompt_eval_count")), base.count(value.get("eval_count"))
        seen.input_tokens = seen.input_tokens if prompt is None else prompt
        seen.output_tokens = seen.output_tokens if answer is None else answer

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        asked: Any = body.get("prompt") or body.get("input")
        return base.messages(body.get("messages")) or base.inputs(asked), base.content_parts(body.get("system"))


class Generate(Chat):
    """POST …/api/generate."""

    operation = "text_completion"


class Embed(Chat):
    """POST …/api/embed."""

    operation = "embeddings"
    lines = False

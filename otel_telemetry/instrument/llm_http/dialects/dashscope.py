"""Alibaba's DashScope in its own format: POST …/services/aigc/…-generation/generation, embeddings and rerank.

What is asked is in `input`, how in `parameters`; a stream is asked for by a header. Each event of a stream has the text
and the counts so far, and "null" for a finish reason until the end. No answer names its model.
"""

from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base, media, openai
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json

_UNFINISHED = "null"


class Generation(base.WholeEvents):
    """POST …/text-generation/generation and …/multimodal-generation/generation."""

    operation = "chat"
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        given = base.part(body, "parameters")
        found = base.common(body, given, ("max_completion_tokens", "max_tokens"))
        if stops := base.stop_sequences(given.get("stop")):
            found[conventions.REQUEST_STOP_SEQUENCES] = stops
        if base.part(given, "response_format").get("type") == "json_object":
            found[conventions.OUTPUT_TYPE] = "json"
        return found

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        seen.name(value.get("request_id"), None)
        if value.get("code"):
            seen.failed(value)
        output = base.part(value, "output")
        for index, choice in enumerate(base.items(output.get("choices")) or [output]):
            self._choice(seen, choice, index)
        _usage(seen, base.part(value, "usage"))

    def _choice(self, seen: CallState, choice: Json, index: int) -> None:
        if choice.get("finish_reason") != _UNFINISHED:
            seen.finished(choice.get("finish_reason"), index)
        message = base.part(choice, "message")
        text = _text(message.get("content")) or _text(choice.get("text"))
        tools = base.items(message.get("tool_calls"))
        seen.content = seen.content or bool(text or tools or message.get("reasoning_content"))
        if captured := seen.message(index):
            captured.text[:] = _longer(captured.text, text)
            captured.reasoning[:] = _longer(captured.reasoning, _text(message.get("reasoning_content")))
            for position, call in enumerate(tools):
                function = base.part(call, "function")
                known = captured.tools.pop(position, {"id": "", "name": "", "arguments": ""})
                arguments = "".join(_longer([known["arguments"]], _text(function.get("arguments"))))
                name = function.get("name") or known["name"]
                captured.tool(position, call.get("id") or known["id"], name, arguments)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        given = base.part(body, "input")
        return base.messages(given.get("messages")) or base.inputs(given.get("prompt")), []


def _text(content: Any) -> str:
    """Return the text of an answer: a text, or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in base.items(content) if isinstance(part.get("text"), str))


def _longer(known: list[str], text: str) -> list[str]:
    """Return the pieces of a text with what an event adds: all of it so far, or the next piece."""
    before = "".join(known)
    longer = text if text.startswith(before) else before + text
    return [longer[: base.MAX_CAPTURED]] if longer else []


def _usage(seen: CallState, usage: Json) -> None:
    """Learn counts; those of images and audio, of what was cached and of reasoning are inside the two sums."""
    for name in ("input_tokens", "output_tokens"):
        if (known := base.count(usage.get(name))) is not None:
            setattr(seen, name, known)
    read = base.part(usage, "prompt_tokens_details")
    cached, created = base.count(read.get("cached_tokens")), base.count(read.get("cache_creation_input_tokens"))
    reasoning = base.count(base.part(usage, "output_tokens_details").get("reasoning_tokens"))
    seen.cache_read = seen.cache_read if cached is None else cached
    seen.cache_creation = seen.cache_creation if created is None else created
    seen.reasoning = seen.reasoning if reasoning is None else reasoning
    details = base.part(usage, "input_tokens_details"), base.part(usage, "output_tokens_details")
    openai.kinds(seen, {**usage, **details[0]}, details[1])


class Embed(media.Call):
    """POST …/text-embedding/text-embedding and …/multimodal-embedding/multimodal-embedding: all tokens are input."""

    operation = "embeddings"

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        seen.name(value.get("request_id"), None)
        if value.get("code"):
            seen.failed(value)
        usage = base.part(value, "usage")
        known = [base.count(usage.get(name)) for name in ("input_tokens", "total_tokens")]
        seen.input_tokens = next((number for number in known if number is not None), None)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        given = base.part(body, "input")
        return base.inputs(given.get("texts") or given.get("query")), []


class Rerank(Embed):
    """POST …/text-rerank/text-rerank."""

    operation = "rerank"

"""Cloudflare's Workers AI in its own format: POST …/ai/run/{model}, also behind its gateway.

An answer is wrapped in `result`, and is Workers AI's own (`response` and `usage`), or as OpenAI's chat completions or
responses, as the model has it.
"""

from otel_telemetry.instrument.llm_http.dialects import base, media, openai, openai_responses
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json

_RESPONSES = openai_responses.Responses()


class Run(openai.Chat):
    """A model that writes text."""

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        return _RESPONSES.request(body) if "input" in body else super().request(body)

    def boring(self, line: bytes) -> bool:
        """Return whether a line only adds text."""
        if b'"choices":' in line:
            return super().boring(line)
        return b'"response":"' in line and b'"usage":' not in line

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one event."""
        if isinstance(value.get("type"), str):
            _RESPONSES.event(seen, value)
        else:
            self._own(seen, value, "delta")

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        if errors := base.items(value.get("errors")):
            seen.failed(errors[0])
        result = base.part(value, "result") or value
        if result.get("object") == "response":
            _RESPONSES.document(seen, result)
        else:
            self._own(seen, result, "message")

    def _own(self, seen: CallState, result: Json, key: str) -> None:
        self._learn(seen, result, key)
        text, tools = result.get("response"), base.items(result.get("tool_calls"))
        seen.content = seen.content or bool(text or tools)
        if captured := seen.message() if text or tools else None:
            captured.add(captured.text, text if isinstance(text, str) else base.dumped(text) if text else None)
            for position, call in enumerate(tools):
                captured.tool(position, call.get("id"), call.get("name"), base.dumped(call.get("arguments")))

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        if "input" in body:
            return _RESPONSES.prompt(body)
        asked, system = super().prompt(body)
        return asked or base.inputs(body.get("prompt")), system


class Embed(media.Call):
    """A model that makes vectors; it does not always tell its tokens."""

    operation = "embeddings"

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        if errors := base.items(value.get("errors")):
            seen.failed(errors[0])
        super().document(seen, base.part(value, "result") or value)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs(body.get("text") or body.get("query")), []


class Rerank(Embed):
    """A model that orders documents."""

    operation = "rerank"

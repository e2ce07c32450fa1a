"""Mistral's conversations: POST …/v1/conversations, and …/{id} and …/{id}/restart that go on with one.

The tokens of connectors (web search, code, images), which Mistral's own tools read and write, are counted beside those
of the prompt. They are charged, and so are their calls, but no price table has them.
"""

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base, openai
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json

_DELTAS = (b'"message.output.delta"', b'"function.call.delta"', b'"tool.execution.delta"')


class Conversations:
    """POST …/conversations."""

    operation = "chat"
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        given = base.part(body, "completion_args")
        found = base.common(body, given, ("max_tokens",))
        if stops := base.stop_sequences(given.get("stop")):
            found[conventions.REQUEST_STOP_SEQUENCES] = stops
        return found

    def boring(self, line: bytes) -> bool:
        """Return whether a line only adds to an output."""
        return any(delta in line for delta in _DELTAS)

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one event."""
        kind = str(value.get("type"))
        if kind.startswith("conversation.response."):
            _conversation(seen, value)
            _usage(seen, base.part(value, "usage"))
            seen.ended = seen.ended or kind != "conversation.response.started"
            if kind == "conversation.response.error":
                seen.failed({"code": value.get("code")})
        elif kind.startswith(("message.output", "function.call")):
            _output(seen, value)

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        _conversation(seen, value)
        if value.get("object") == "error":
            seen.failed(value)
        for output in base.items(value.get("outputs")):
            if str(output.get("type")).startswith(("message.output", "function.call")):
                _output(seen, output)
        _usage(seen, base.part(value, "usage"))

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        given = body.get("inputs")
        asked = base.inputs(given) if isinstance(given, str) else base.messages(given)
        return asked, base.content_parts(body.get("instructions"))


def _conversation(seen: CallState, value: Json) -> None:
    if name := base.text(value.get("conversation_id")):
        seen.also[conventions.CONVERSATION_ID] = name


def _output(seen: CallState, output: Json) -> None:
    """Learn from an output, or a piece of one: its id is the answer's, as a conversation has many answers."""
    seen.name(output.get("id"), output.get("model"))
    content, arguments = output.get("content"), output.get("arguments")
    seen.content = seen.content or bool(content or output.get("name"))
    captured = seen.message()
    if captured is None:
        return
    if output.get("name") is not None or arguments is not None:
        captured.tool(output.get("tool_call_id"), output.get("tool_call_id"), output.get("name"), arguments)
    for piece in base.content_parts([content] if isinstance(content, dict) else content):
        captured.add(captured.text, piece.get("content"))


def _usage(seen: CallState, usage: Json) -> None:
    openai.usage(seen, usage)
    seen.counted("connector_tokens", usage.get("connector_tokens"))
    if base.count(usage.get("connector_tokens")) or base.part(usage, "connectors"):
        seen.unpriced("what connectors use")

"""Cohere's chat, generate and embed: version 2 as server-sent events, version 1 as lines of JSON.

Cohere reports tokens and billed units; if a system reports both, the conventions require the billed ones. Cached tokens
are part of the tokens and not of the billed units, so they count only if nothing was billed.
"""

from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json


def _usage(seen: CallState, value: Json) -> None:
    for name in ("input_tokens", "output_tokens"):
        given = (base.part(value, name_of_part).get(name) for name_of_part in ("billed_units", "tokens"))
        known = next((known for raw in given if (known := base.count(raw)) is not None), None)
        if known is not None:
            setattr(seen, name, known)
    cached = base.count(value.get("cached_tokens"))
    if base.count(base.part(value, "billed_units").get("input_tokens")) is None:
        seen.cache_read = seen.cache_read if cached is None else cached
    else:
        seen.also[_RULE] = "billed units"
        seen.counted("counted_input_tokens", base.part(value, "tokens").get("input_tokens"))
        seen.counted("counted_cached_tokens", cached)


_RULE = f"{conventions.USAGE_DETAILS}rule"


class Chat:
    """POST /v2/chat."""

    operation = "chat"
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        given = {**body, "top_p": body.get("p")}
        found = base.common(body, given, ("max_tokens",))
        if stops := base.stop_sequences(body.get("stop_sequences")):
            found[conventions.REQUEST_STOP_SEQUENCES] = stops
        return found

    def boring(self, line: bytes) -> bool:
        """Return whether a line only adds text."""
        return b'"type":"content-delta"' in line

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one event; its content is where a whole answer has it."""
        delta = base.part(value, "delta")
        seen.name(value.get("id"), None)
        seen.finished(delta.get("finish_reason"))
        _usage(seen, base.part(delta, "usage"))
        message = base.part(delta, "message")
        self._content(seen, message.get("content"))
        self._tools(seen, message.get("tool_calls"), base.count(value.get("index")))
        self._plan(seen, message.get("tool_plan"))

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        seen.name(value.get("id"), None)
        seen.finished(value.get("finish_reason"))
        _usage(seen, base.part(value, "usage"))
        _usage(seen, base.part(value, "meta"))
        message = base.part(value, "message")
        self._content(seen, message.get("content"))
        self._tools(seen, message.get("tool_calls"), None)
        self._plan(seen, message.get("tool_plan"))

    def _content(self, seen: CallState, content: Any) -> None:
        """Learn from one content block, or from a list of them."""
        for block in base.items(content if isinstance(content, list) else [content]):
            if block.get("text") or block.get("thinking"):
                seen.content = True
            if captured := seen.message():
                captured.add(captured.text, block.get("text"))
                captured.add(captured.reasoning, block.get("thinking"))

    def _tools(self, seen: CallState, calls: Any, index: int | None) -> None:
        for position, call in enumerate(base.items(calls if isinstance(calls, list) else [calls])):
            seen.content = True
            if captured := seen.message():
                function = base.part(call, "function")
                key = position if index is None else index
                captured.tool(key, call.get("id"), function.get("name"), function.get("arguments"))

    def _plan(self, seen: CallState, plan: Any) -> None:
        if plan:
            seen.content = True
            if captured := seen.message():
                captured.add(captured.reasoning, plan)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.messages(body.get("messages")) or base.inputs(body.get("message")), base.content_parts(
            body.get("preamble")
        )


class ChatV1(Chat):
    """POST /v1/chat."""

    lines = True

    def boring(self, line: bytes) -> bool:
        """Return whether a line only adds text."""
        return b'"event_type":"text-generation"' in line

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one line; one without a type is a whole answer."""
        kind = value.get("event_type")
        if kind is None:
            self.document(seen, value)
        elif kind == "text-generation":
            self._text(seen, value.get("text"))
        elif kind == "stream-end":
            end = base.part(value, "response")
            seen.name(end.get("response_id"), None)
            seen.finished(value.get("finish_reason"))
            _usage(seen, base.part(end, "meta"))
        else:
            seen.name(value.get("generation_id"), None)

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        seen.name(value.get("response_id"), None)
        seen.finished(value.get("finish_reason"))
        _usage(seen, base.part(value, "meta"))
        self._text(seen, value.get("text"))

    def _text(self, seen: CallState, text: Any) -> None:
        self._content(seen, {"text": text})


class Generate(ChatV1):
    """POST /v1/generate."""

    operation = "text_completion"

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one line; one without a type is a whole answer, and the last one has it inside."""
        if value.get("event_type") == "stream-end":
            seen.finished(value.get("finish_reason"))
            self._ended(seen, base.part(value, "response"))
        else:
            super().event(seen, value)

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        self._ended(seen, value)
        for generation in base.items(value.get("generations")):
            self._text(seen, generation.get("text"))

    def _ended(self, seen: CallState, response: Json) -> None:
        seen.name(response.get("id"), None)
        _usage(seen, base.part(response, "meta"))
        for generation in base.items(response.get("generations")):
            seen.finished(generation.get("finish_reason"), base.count(generation.get("index")) or 0)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs(body.get("prompt")), []


class Embed(Chat):
    """POST /v2/embed and /v1/embed."""

    operation = "embeddings"

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer; images are billed apart."""
        super().document(seen, value)
        billed = base.part(value, "meta", "billed_units")
        seen.counted("images", billed.get("images"))
        tokens = base.count(billed.get("image_tokens"))
        if tokens:
            seen.input_tokens = (seen.input_tokens or 0) + tokens
            seen.counted("input_image_tokens", tokens)
        if tokens or base.count(billed.get("images")):
            seen.unpriced("embeddings of images")

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs(body.get("texts")), []

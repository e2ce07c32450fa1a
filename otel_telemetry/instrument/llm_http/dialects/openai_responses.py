"""OpenAI's Responses API: POST …/responses, one document or typed events that end in `response.completed`."""

from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base, openai
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json, content_parts

_ENDS = ("response.completed", "response.incomplete", "response.failed")
_DELTA = b'.delta"'


def _usage(seen: CallState, value: Any) -> None:
    if not isinstance(value, dict):
        return
    read, written = base.part(value, "input_tokens_details"), base.part(value, "output_tokens_details")
    given = {
        "input_tokens": value.get("input_tokens"),
        "output_tokens": value.get("output_tokens"),
        "cache_read": read.get("cached_tokens"),
        "cache_creation": read.get("cache_write_tokens"),
        "reasoning": written.get("reasoning_tokens"),
    }
    for name, raw in given.items():
        if (known := base.count(raw)) is not None:
            setattr(seen, name, known)
    openai.kinds(seen, read, written)
    openai.bill(seen, value)


def _tools(seen: CallState, output: Any) -> None:
    """Count the uses of tools that are charged apart (OpenAI's price list)."""
    used = [item for item in base.items(output) if item.get("status", "completed") == "completed"]
    searches = sum(item.get("type") == "web_search_call" and _is_search(item) for item in used)
    seen.counted("web_searches", searches)
    seen.counted("storage_searches", sum(item.get("type") == "file_search_call" for item in used))
    for item in used:
        if item.get("type") in _UNPRICED_TOOLS:
            seen.unpriced(str(item["type"]).removesuffix("_call"))


_UNPRICED_TOOLS = ("code_interpreter_call", "image_generation_call")


def _is_search(item: Json) -> bool:
    """Return whether it is a search, not the opening of a found page or a search for a word in it."""
    return bool(base.part(item, "action").get("type", "search") == "search")


class Responses:
    """POST …/responses."""

    operation = "chat"
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        found = base.common(body, body, ("max_output_tokens",))
        if base.part(body, "text", "format").get("type") in ("json_object", "json_schema"):
            found[conventions.OUTPUT_TYPE] = "json"
        conversation = body.get("conversation")
        known = base.text(conversation) or base.text(base.part(body, "conversation").get("id"))
        if known:
            found[conventions.CONVERSATION_ID] = known
        return found

    def boring(self, line: bytes) -> bool:
        """Return whether a line only adds text: its type ends in `.delta`."""
        return _DELTA in line[:80]

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one event."""
        kind = value.get("type")
        if not isinstance(kind, str):
            return
        if kind.endswith(".delta"):
            self._delta(seen, kind, value)
        elif kind == "error":
            seen.failed(value.get("error") or value.get("code"))
        elif kind == "response.output_item.added":
            self._tool(seen, value.get("output_index"), base.part(value, "item"), "")
        else:
            response = base.part(value, "response")
            seen.name(response.get("id"), response.get("model"))
            if kind in _ENDS:
                self._ended(seen, response)

    def _delta(self, seen: CallState, kind: str, value: Json) -> None:
        delta = value.get("delta")
        if not delta:
            return
        seen.content = True
        captured = seen.message()
        if captured is None:
            return
        if kind.startswith("response.function_call"):
            captured.tool(str(value.get("output_index")), None, None, delta)
        else:
            captured.add(captured.reasoning if "reasoning" in kind else captured.text, delta)

    def _tool(self, seen: CallState, key: Any, item: Json, arguments: Any) -> None:
        if item.get("type") == "function_call":
            seen.content = True
            if captured := seen.message():
                captured.tool(str(key), item.get("call_id"), item.get("name"), arguments)

    def _ended(self, seen: CallState, response: Json) -> None:
        """Learn how it ended: the status, or the reason why it is incomplete."""
        _usage(seen, response.get("usage"))
        _tools(seen, response.get("output"))
        seen.tier(response.get("service_tier"))
        if response.get("error"):
            seen.failed(response["error"])
        reason = base.part(response, "incomplete_details").get("reason")
        seen.finished(reason or response.get("status"))

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        seen.name(value.get("id"), value.get("model"))
        self._ended(seen, value)
        captured = seen.message()
        for position, item in enumerate(base.items(value.get("output")) if captured else ()):
            self._tool(seen, position, item, item.get("arguments"))
            for piece in (*base.items(item.get("content")), *base.items(item.get("summary"))):
                if captured:
                    into = captured.reasoning if item.get("type") == "reasoning" else captured.text
                    captured.add(into, piece.get("text") or piece.get("refusal"))

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        given = body.get("input")
        system = content_parts(body.get("instructions"))
        if isinstance(given, str):
            return [{"role": "user", "parts": content_parts(given)}], system
        return [_item(item) for item in base.items(given)], system


def _item(item: Json) -> Json:
    kind = item.get("type")
    if kind == "function_call":
        arguments = item.get("arguments")
        call = {
            "type": "tool_call",
            "id": base.text(item.get("call_id")),
            "name": base.text(item.get("name")),
            "arguments": arguments[: base.MAX_CAPTURED] if isinstance(arguments, str) else None,
        }
        return {"role": "assistant", "parts": [call]}
    if kind == "function_call_output":
        output = item.get("output")
        response = output[: base.MAX_CAPTURED] if isinstance(output, str) else None
        answer = {"type": "tool_call_response", "id": base.text(item.get("call_id")), "response": response}
        return {"role": "tool", "parts": [answer]}
    return {"role": base.text(item.get("role")) or "user", "parts": content_parts(item.get("content"))}

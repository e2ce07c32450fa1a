"""Google's Interactions API: POST …/interactions, one document or events that end in `interaction.completed`.

Thought tokens are not included in the output count, and tokens of tool prompts not in the input count, unless the total
shows otherwise.
"""

from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json

_KINDS = ("audio", "image", "video")


def _usage(seen: CallState, usage: Json) -> None:
    names = ("input", "tool_use", "output", "thought", "cached")
    asked, tools, answered, thoughts, cached = (base.count(usage.get(f"total_{name}_tokens")) for name in names)
    thoughts = base.count(usage.get("total_reasoning_tokens")) if thoughts is None else thoughts  # its first name
    inside = thoughts and usage.get("total_tokens") == (asked or 0) + (tools or 0) + (answered or 0)
    if asked is not None:
        seen.input_tokens = asked + (tools or 0)
    if answered is not None or thoughts is not None:
        seen.output_tokens = (answered or 0) + (0 if inside else thoughts or 0)
    seen.reasoning = seen.reasoning if thoughts is None else thoughts
    seen.cache_read = seen.cache_read if cached is None else cached
    read = [*base.items(usage.get("input_tokens_by_modality")), *base.items(usage.get("tool_use_tokens_by_modality"))]
    for kind in _KINDS:
        seen.counted(f"input_{kind}_tokens", _of(read, kind))
        if kind != "video":
            seen.counted(f"cache_{kind}_read_tokens", _of(base.items(usage.get("cached_tokens_by_modality")), kind))
            seen.counted(f"output_{kind}_tokens", _of(base.items(usage.get("output_tokens_by_modality")), kind))
    searches = [item for item in base.items(usage.get("grounding_tool_count")) if item.get("type") == "google_search"]
    if searches:
        seen.counted("web_searches", sum(base.count(item.get("count")) or 0 for item in searches))


def _of(details: list[Json], kind: str) -> int | None:
    if not details:
        return None
    return sum(base.count(item.get("tokens")) or 0 for item in details if str(item.get("modality")).lower() == kind)


class Interactions:
    """POST …/interactions."""

    operation = "generate_content"
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        found = base.common(body, base.part(body, "generation_config"), ("max_output_tokens",))
        if conversation := base.text(body.get("previous_interaction_id")):
            found[conventions.CONVERSATION_ID] = conversation
        return found

    def boring(self, line: bytes) -> bool:
        """Return whether a line only adds to a step."""
        return b'"step.delta"' in line or b'"content.delta"' in line

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one event."""
        kind = str(value.get("event_type") or value.get("type"))
        if kind == "error":
            seen.failed(value.get("error"))
        elif kind.endswith(".delta"):
            delta = base.part(value, "delta")
            seen.content = True
            if captured := seen.message():
                captured.add(
                    captured.reasoning if "thought" in str(delta.get("type")) else captured.text, delta.get("text")
                )
        elif interaction := base.part(value, "interaction"):
            self._learn(seen, interaction, is_over=kind.startswith("interaction.complete"))

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        if value.get("error"):
            seen.failed(value["error"])
        self._learn(seen, value, is_over=True)
        if captured := seen.message():
            for step in (*base.items(value.get("steps")), *base.items(value.get("outputs"))):
                for piece in base.items(step.get("content")) or [step]:
                    captured.add(captured.text, piece.get("text"))

    def _learn(self, seen: CallState, interaction: Json, *, is_over: bool) -> None:
        seen.name(interaction.get("id"), interaction.get("model"))
        _usage(seen, base.part(interaction, "usage"))
        seen.tier(interaction.get("service_tier"))
        if is_over:
            seen.finished(interaction.get("status"))

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return _asked(body.get("input")), base.content_parts(body.get("system_instruction"))


def _asked(given: Any) -> list[Json]:
    if isinstance(given, dict):
        given = [given]
    if isinstance(given, str):
        return base.inputs(given)
    return [
        {"role": base.text(item.get("role")) or "user", "parts": base.content_parts(item.get("content") or [item])}
        for item in base.items(given)
    ]

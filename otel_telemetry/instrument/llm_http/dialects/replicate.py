"""Replicate's predictions: POST …/predictions, …/models/{owner}/{name}/predictions and …/deployments/….

A prediction is made in the background unless its client waits for it (`Prefer: wait`); the GET that finds it done has
its counts. Language models tell tokens; Replicate charges most models by the second, which no price table has.
"""

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json

_TO_COME = frozenset({"starting", "processing"})
_FAILED = frozenset({"failed", "canceled", "aborted"})


class Predictions(base.WholeEvents):
    """POST …/predictions."""

    operation = "generate_content"
    lines = False
    #: Whether somebody may ask for the answer as soon as its request was answered: its id must be known by then.
    is_fetched = True

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives: a version is its model."""
        found = base.common(body, base.part(body, "input"), ("max_new_tokens", "max_tokens"))
        if version := base.text(body.get("version")):
            found[conventions.REQUEST_MODEL] = version.partition(":")[0] if "/" in version else version
        return found

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a prediction."""
        seen.name(value.get("id"), value.get("model"))
        status = base.text(value.get("status"))
        if status in _FAILED:
            seen.failed(status)
        seen.finished("in_progress" if status in _TO_COME else status)  # as OpenAI's responses have it
        metrics = base.part(value, "metrics")
        seen.input_tokens = base.count(metrics.get("input_token_count"))
        seen.output_tokens = base.count(metrics.get("output_token_count"))
        output = value.get("output")
        seen.content = bool(output)
        if captured := seen.message() if output else None:
            for piece in output if isinstance(output, list) else [output]:
                captured.add(captured.text, piece)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        given = base.part(body, "input")
        return base.inputs(given.get("prompt")), base.content_parts(given.get("system_prompt"))

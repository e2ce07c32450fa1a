"""IBM's watsonx.ai: POST …/ml/v1/text/chat, which answers as OpenAI's, and …/ml/v1/text/generation; both may stream."""

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base, openai
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json


class Chat(openai.Chat):
    """POST …/text/chat and …/text/chat_stream."""

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        return _request(super().request(body), body)

    def _learn(self, seen: CallState, value: Json, key: str) -> None:
        seen.name(None, value.get("model_id"))
        super()._learn(seen, value, key)


class Generation(openai.Completions):
    """POST …/text/generation and …/text/generation_stream: a stream's counts grow up to its end."""

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        given = base.part(body, "parameters")
        return _request(base.common({}, given, ("max_new_tokens",)), body)

    def boring(self, line: bytes) -> bool:
        """Return False: each value has the counts so far."""
        del line
        return False

    def _learn(self, seen: CallState, value: Json, key: str) -> None:
        del key
        seen.name(None, value.get("model_id"))
        if errors := base.items(value.get("errors")):
            seen.failed(errors[0])
        results = base.items(value.get("results"))
        read = [known for each in results if (known := base.count(each.get("input_token_count"))) is not None]
        made = [known for each in results if (known := base.count(each.get("generated_token_count"))) is not None]
        if read and (sum(read) or seen.input_tokens is None):
            seen.input_tokens = sum(read)
        if made:
            seen.output_tokens = max(sum(made), seen.output_tokens or 0)
        for index, each in enumerate(results):
            if each.get("stop_reason") != "not_finished":
                seen.finished(each.get("stop_reason"), index)
            if text := each.get("generated_text"):
                seen.content = True
                if captured := seen.message(index):
                    captured.add(captured.text, text)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs(body.get("input")), []


def _request(found: dict[str, Attribute], body: Json) -> dict[str, Attribute]:
    if model := base.text(body.get("model_id")):
        found[conventions.REQUEST_MODEL] = model
    return found

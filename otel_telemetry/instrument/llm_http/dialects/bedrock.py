"""AWS Bedrock: `Converse` and `ConverseStream`, and `InvokeModel` of models that have their own format.

`inputTokens` do not include the cached ones; the conventions require the sum. If a model's answer has no counts, they
are in its headers, or in the metrics that Bedrock adds to the last event of a stream.
"""

from collections.abc import Mapping
from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import anthropic, base, media, openai
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json

_METRICS = "amazon-bedrock-invocationMetrics"
_COUNT_HEADERS = (
    ("x-amzn-bedrock-input-token-count", "input_tokens"),
    ("x-amzn-bedrock-output-token-count", "output_tokens"),
)


def _usage(seen: CallState, usage: Json) -> None:
    given = {
        "uncached": usage.get("inputTokens"),
        "output_tokens": usage.get("outputTokens"),
        "cache_read": usage.get("cacheReadInputTokens", usage.get("cacheReadInputTokenCount")),
        "cache_creation": usage.get("cacheWriteInputTokens", usage.get("cacheWriteInputTokenCount")),
    }
    for name, raw in given.items():
        if (known := base.count(raw)) is not None:
            setattr(seen, name, known)
    if seen.uncached is not None:
        seen.input_tokens = seen.uncached + (seen.cache_read or 0) + (seen.cache_creation or 0)
    if details := base.items(usage.get("cacheDetails")):
        written = (base.count(each.get("inputTokens")) or 0 for each in details if each.get("ttl") == "1h")
        seen.counted("cache_write_1h_tokens", sum(written))


def _headers(seen: CallState, headers: Mapping[str, str]) -> None:
    """Read an answer's headers: its id, and counts for which the body has priority."""
    seen.name(headers.get("x-amzn-requestid"), None)
    for name, column in _COUNT_HEADERS:
        header = headers.get(name) or ""
        if header.isascii() and header.isdecimal() and getattr(seen, column) is None:
            setattr(seen, column, base.count(int(header[:16])))


class Converse:
    """POST …/model/{model}/converse and …/converse-stream."""

    operation = "chat"
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        asked = base.part(body, "inferenceConfig")
        found = base.common({}, {**asked, "top_p": asked.get("topP")}, ("maxTokens",))
        if stops := base.stop_sequences(asked.get("stopSequences")):
            found[conventions.REQUEST_STOP_SEQUENCES] = stops
        return found

    def headers(self, seen: CallState, headers: Mapping[str, str]) -> None:
        """Learn from an answer's headers."""
        _headers(seen, headers)

    def boring(self, line: bytes) -> bool:
        """Return whether an event only adds text."""
        return b'"delta":{"text"' in line

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one event."""
        for kind in value:
            event = base.part(value, kind)
            if kind == "contentBlockDelta":
                self._delta(seen, base.part(event, "delta"), event.get("contentBlockIndex"))
            elif kind == "contentBlockStart":
                self._tool(seen, base.part(event, "start", "toolUse"), event.get("contentBlockIndex"), "")
            elif kind == "messageStop":
                seen.finished(event.get("stopReason"))
            elif kind == "metadata":
                self._ended(seen, event)
            elif kind.endswith("Exception"):
                seen.failed({"type": kind})

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        if value.get("message") and not value.get("output"):
            seen.failed({"type": value.get("__type")})
        seen.finished(value.get("stopReason"))
        self._ended(seen, value)
        for position, block in enumerate(base.items(base.part(value, "output", "message").get("content"))):
            self._delta(seen, block, position)
            tool = base.part(block, "toolUse")
            self._tool(seen, tool, position, base.dumped(tool.get("input")) if tool else "")

    def _ended(self, seen: CallState, metadata: Json) -> None:
        _usage(seen, base.part(metadata, "usage"))
        tier = base.part(metadata, "serviceTier").get("type") or base.part(metadata, "performanceConfig").get("latency")
        if tier not in (None, "default", "standard"):
            seen.tier(tier)

    def _delta(self, seen: CallState, delta: Json, index: Any) -> None:
        reasoning = base.part(delta, "reasoningContent")
        thought = reasoning.get("text") or base.part(reasoning, "reasoningText").get("text")
        arguments = base.part(delta, "toolUse").get("input")
        if delta.get("text") or thought or arguments:
            seen.content = True
        if captured := seen.message():
            captured.add(captured.text, delta.get("text"))
            captured.add(captured.reasoning, thought)
            if isinstance(arguments, str):
                captured.tool(base.count(index), None, None, arguments)

    def _tool(self, seen: CallState, tool: Json, index: Any, arguments: str) -> None:
        if tool:
            seen.content = True
            if captured := seen.message():
                captured.tool(base.count(index), tool.get("toolUseId"), tool.get("name"), arguments)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.messages(body.get("messages")), base.content_parts(body.get("system"))


class Invoke(Converse):
    """POST …/model/{model}/invoke and …/invoke-with-response-stream, of Nova, Titan, Llama, Mistral and others."""

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        own = {**base.part(body, "textGenerationConfig"), **base.part(body, "inferenceConfig"), **body}
        return base.common({}, own, ("max_tokens", "maxTokenCount", "max_gen_len", "maxTokens", "max_new_tokens"))

    def boring(self, line: bytes) -> bool:
        """Return False: each model has its own format."""
        del line
        return False

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one event: the model's own, or Bedrock's exception."""
        super().event(seen, value)
        self._own(seen, value)

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        super().document(seen, value)
        self._own(seen, value)

    def _own(self, seen: CallState, value: Json) -> None:
        metrics = base.part(value, _METRICS)
        _usage(seen, metrics)
        output = (
            base.items(value.get("results")) or base.items(value.get("outputs")) or base.items(value.get("generations"))
        )
        counts = (
            ("input_tokens", (value.get("inputTextTokenCount"), value.get("prompt_token_count"))),
            ("output_tokens", (*(each.get("tokenCount") for each in output), value.get("generation_token_count"))),
            ("output_tokens", (value.get("totalOutputTextTokenCount"), metrics.get("outputTokenCount"))),
            ("input_tokens", (metrics.get("inputTokenCount"),)),
        )
        for column, given in counts:
            for known in filter(None, map(base.count, given)):
                setattr(seen, column, known)
        if value.get("choices"):
            openai.Chat().document(seen, value)
        for each in (value, *output, *base.items(value.get("choices"))):
            seen.finished(each.get("stop_reason") or each.get("completionReason") or each.get("finish_reason"))
            text = next(
                (each[name] for name in ("generation", "outputText", "text") if isinstance(each.get(name), str)), ""
            )
            if text:
                seen.content = True
                if captured := seen.message():
                    captured.add(captured.text, text)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        if body.get("messages"):
            return super().prompt(body)
        return base.inputs(body.get("prompt") or body.get("inputText")), []


class Embed(Invoke):
    """InvokeModel of models that embed."""

    operation = "embeddings"

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs(body.get("inputText") or body.get("texts")), []


class Images(media.Images):
    """InvokeModel of models that make images, and nothing else."""

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        return media.asked_images(base.part(body, "imageGenerationConfig").get("numberOfImages"))

    def _made(self, value: Json) -> int | None:
        """Return how many images an answer has."""
        images = value.get("images")
        return len(images) if isinstance(images, list) else None


class Anthropic(anthropic.Messages):
    """InvokeModel of Anthropic's models: their own format. Versions before Messages have no counts in it."""

    def headers(self, seen: CallState, headers: Mapping[str, str]) -> None:
        """Learn from an answer's headers."""
        _headers(seen, headers)

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one event: the model's own, to the last of which Bedrock adds its metrics."""
        super().event(seen, value)
        if isinstance(value.get("completion"), str):
            seen.content = True
            seen.finished(value.get("stop_reason"))
        metrics = base.part(value, _METRICS)
        if seen.input_tokens is None:
            seen.input_tokens = base.count(metrics.get("inputTokenCount"))
        if seen.output_tokens is None:
            seen.output_tokens = base.count(metrics.get("outputTokenCount"))


class Rerank(media.Rerank):
    """InvokeModel of models that put documents in order; charged by searches, which the answer does not count."""

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        super().document(seen, value)
        seen.unpriced("rerank by searches")


class AgentRerank(Rerank):
    """POST /rerank of Bedrock's agent runtime."""

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        place = ("bedrockRerankingConfiguration", "modelConfiguration")
        model = base.text(base.part(body, "rerankingConfiguration", *place).get("modelArn"))
        return {conventions.REQUEST_MODEL: model} if model else {}

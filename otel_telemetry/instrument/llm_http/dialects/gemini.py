"""Google's Gemini: POST …/models/{model}:generateContent, :streamGenerateContent, :embedContent, :predict.

Thought tokens are not included in the candidates' count, and tokens of tool prompts not in the prompt's; cached content
is included. Each streamed value repeats the usage so far; the last one counts.
"""

from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base, media
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json

_NAMES = {
    "temperature": "temperature",
    "topP": "top_p",
    "maxOutputTokens": "max_tokens",
    "seed": "seed",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
}


def _usage(seen: CallState, value: Any) -> None:
    usage = base.part({"usage": value}, "usage")
    prompt, tools = base.count(usage.get("promptTokenCount")), base.count(usage.get("toolUsePromptTokenCount"))
    answer, thoughts = base.count(usage.get("candidatesTokenCount")), base.count(usage.get("thoughtsTokenCount"))
    cached = base.count(usage.get("cachedContentTokenCount"))
    if prompt is not None:
        seen.input_tokens = prompt + (tools or 0)
    if answer is not None or thoughts is not None:
        seen.output_tokens = (answer or 0) + (thoughts or 0)
    seen.reasoning = seen.reasoning if thoughts is None else thoughts
    seen.cache_read = seen.cache_read if cached is None else cached
    read = [*base.items(usage.get("promptTokensDetails")), *base.items(usage.get("toolUsePromptTokensDetails"))]
    stored, made = base.items(usage.get("cacheTokensDetails")), base.items(usage.get("candidatesTokensDetails"))
    if read or stored or made:
        for modality in ("AUDIO", "IMAGE", "VIDEO"):
            kind = modality.lower()
            seen.counted(f"input_{kind}_tokens", _of(read, modality))
            seen.counted(f"cache_{kind}_read_tokens", _of(stored, modality))
            if modality != "VIDEO":
                seen.counted(f"output_{kind}_tokens", _of(made, modality))
    seen.tier(_TIERS.get(str(usage.get("trafficType")), usage.get("serviceTier")))


_TIERS = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "PROVISIONED_THROUGHPUT": "provisioned",
}


def _of(details: list[Json], modality: str) -> int | None:
    """Return the tokens of a modality, None where nothing is told: a stream's last value may have the sums alone."""
    if not details:
        return None
    return sum(base.count(item.get("tokenCount")) or 0 for item in details if item.get("modality") == modality)


def _searches(seen: CallState, queries: Any) -> None:
    """Count searches as Google charges them: a grounded answer up to Gemini 2.5, each query from Gemini 3 on."""
    asked = len(queries) if isinstance(queries, list) else 0
    older = (seen.model or "").startswith(("gemini-1", "gemini-2"))
    if asked:  # of a stream, the last value may have none
        seen.counted("web_searches", 1 if older else asked)


class GenerateContent(base.WholeEvents):
    """POST …:generateContent and :streamGenerateContent; the model is in the path."""

    operation = "generate_content"
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        given = base.part(body, "generationConfig")
        known = {ours: given[theirs] for theirs, ours in _NAMES.items() if theirs in given}
        found = base.common({}, known, ("max_tokens",))
        if stops := base.stop_sequences(given.get("stopSequences")):
            found[conventions.REQUEST_STOP_SEQUENCES] = stops
        choices = base.count(given.get("candidateCount"))
        if choices is not None and choices != 1:
            found[conventions.REQUEST_CHOICE_COUNT] = choices
        if given.get("responseMimeType") == "application/json":
            found[conventions.OUTPUT_TYPE] = "json"
        return found

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        seen.name(value.get("responseId"), value.get("modelVersion"))
        if value.get("error"):
            seen.failed(value["error"])
        _usage(seen, value.get("usageMetadata"))
        seen.finished(base.part(value, "promptFeedback").get("blockReason"))
        for candidate in base.items(value.get("candidates")):
            index = candidate.get("index")
            seen.finished(candidate.get("finishReason"), index)
            if "groundingMetadata" in candidate:
                _searches(seen, base.part(candidate, "groundingMetadata").get("webSearchQueries"))
            for position, part in enumerate(base.items(base.part(candidate, "content").get("parts"))):
                self._part(seen, part, index, position)

    def _part(self, seen: CallState, part: Json, index: Any, position: int) -> None:
        call = base.part(part, "functionCall")
        if part.get("text") or call or part.get("inlineData"):
            seen.content = True
        if captured := seen.message(index):
            captured.add(captured.reasoning if part.get("thought") else captured.text, part.get("text"))
            if call:
                captured.tool(
                    (position, len(captured.tools)), call.get("id"), call.get("name"), base.dumped(call.get("args"))
                )

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        messages: list[Json] = [
            {"role": base.text(item.get("role")) or "user", "parts": _parts(item.get("parts"))}
            for item in base.items(body.get("contents"))
        ]
        return messages, _parts(base.part(body, "systemInstruction").get("parts"))


class Embed(GenerateContent):
    """POST …:embedContent and :batchEmbedContents."""

    operation = "embeddings"


class Predict(Embed):
    """POST …:predict of Vertex AI's models that embed texts: each prediction has the count of its own text."""

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        found: dict[str, Attribute] = {}
        dimensions = base.count(base.part(body, "parameters").get("outputDimensionality"))
        if dimensions is not None:
            found["gen_ai.embeddings.dimension.count"] = dimensions
        return found

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        if value.get("error"):
            seen.failed(value["error"])
        made = [base.part(each, "embeddings", "statistics") for each in base.items(value.get("predictions"))]
        counts = [count for each in made if (count := base.count(each.get("token_count"))) is not None]
        seen.input_tokens = sum(counts) if counts else None

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs([each.get("content") for each in base.items(body.get("instances"))]), []


class Images(media.Images):
    """POST …:predict of models that make images, and nothing else; the model is in the path."""

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        return media.asked_images(base.part(body, "parameters").get("sampleCount"))

    def _made(self, value: Json) -> int | None:
        """Return how many images an answer has; those that were filtered out have only the reason."""
        if "predictions" not in value:
            return None
        return sum("bytesBase64Encoded" in each or "gcsUri" in each for each in base.items(value["predictions"]))

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs([each.get("prompt") for each in base.items(body.get("instances"))]), []


def _parts(value: Any) -> list[Json]:
    found: list[Json] = []
    for part in base.items(value):
        if call := base.part(part, "functionCall"):
            arguments = base.dumped(call.get("args"))
            found.append({"type": "tool_call", "name": base.text(call.get("name")), "arguments": arguments})
        elif answer := base.part(part, "functionResponse"):
            response = base.dumped(answer.get("response"))
            found.append({"type": "tool_call_response", "id": base.text(answer.get("id")), "response": response})
        else:
            found += base.content_parts([part]) or [{"type": next(iter(part), "unknown")}]
    return found

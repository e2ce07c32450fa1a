"""How to read off an answer what its row must say: by other code than the one under test.

Each provider's counts, brought to one meaning: input includes cached tokens, output includes reasoning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Expected:
    """The columns of a row of llm_call that one HTTP answer must give. Counts that it does not have are None."""

    model: str | None = None
    prompt: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    completion: int | None = None
    reasoning: int | None = None
    finish: str | None = None
    tier: str | None = None


def last(values: Sequence[Any], *path: str) -> Any:
    """Return the last value there is at a path."""
    found = None
    for value in values:
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None  # noqa: PLW2901 - going down the path
        found = value if value is not None else found
    return found


def openai(values: list[Any]) -> Expected:
    usage = last(values, "usage") or last(values, "x_groq", "usage") or {}
    finishes = [c["finish_reason"] for v in values for c in v.get("choices", ()) if c.get("finish_reason")]
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", usage.get("prompt_cache_hit_tokens"))
    return Expected(
        model=values[0].get("model"),
        prompt=usage.get("prompt_tokens"),
        cached=cached,
        completion=usage.get("completion_tokens"),
        reasoning=usage.get("completion_tokens_details", {}).get("reasoning_tokens"),
        finish=finishes[-1] if finishes else None,
        tier=last(values, "service_tier"),
    )


def responses(values: list[Any]) -> Expected:
    answer = values[-1].get("response", values[-1])
    usage = answer["usage"]
    return Expected(
        model=answer["model"],
        prompt=usage["input_tokens"],
        cached=usage["input_tokens_details"]["cached_tokens"],
        completion=usage["output_tokens"],
        reasoning=usage["output_tokens_details"]["reasoning_tokens"],
        finish=answer["status"],
        tier=answer.get("service_tier"),
    )


def anthropic(values: list[Any]) -> Expected:
    first = values[0].get("message", values[0])
    usage = first["usage"] | (last(values, "usage") or {})
    read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    return Expected(
        model=first["model"],
        prompt=usage["input_tokens"] + (read or 0) + (written or 0),
        cached=read,
        cache_write=written,
        completion=usage["output_tokens"],
        finish=last(values, "delta", "stop_reason") or first["stop_reason"],
    )


def gemini(values: list[Any]) -> Expected:
    usage = values[-1]["usageMetadata"]
    answers = [candidate for value in values for candidate in value.get("candidates", ())]
    thoughts, answered = usage.get("thoughtsTokenCount"), usage.get("candidatesTokenCount")
    return Expected(
        model=values[-1].get("modelVersion"),
        prompt=usage["promptTokenCount"],
        cached=usage.get("cachedContentTokenCount"),
        completion=None if answered is None else answered + (thoughts or 0),
        reasoning=thoughts,
        finish=answers[-1]["finishReason"] if answers else values[-1]["promptFeedback"]["blockReason"],
    )


def cohere(values: list[Any]) -> Expected:
    end = values[-1].get("delta") or values[-1].get("response") or values[-1]
    billed = (end.get("usage") or end.get("meta"))["billed_units"]
    finish = values[-1].get("finish_reason") or end.get("finish_reason")
    return Expected(prompt=billed["input_tokens"], completion=billed.get("output_tokens"), finish=finish)


def ollama(values: list[Any]) -> Expected:
    end = values[-1]
    counts = {"prompt": end.get("prompt_eval_count"), "completion": end.get("eval_count")}
    return Expected(model=end["model"], finish=end.get("done_reason"), **counts)


def nothing(values: list[Any]) -> Expected:
    del values
    return Expected()

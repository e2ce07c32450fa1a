"""Calls that are not counted in text tokens: rerank, images, speech, transcription, moderation.

The counts of an answer go to the span: tokens as everywhere, else the unit: searches (Cohere's rerank), images,
characters to be spoken, milliseconds of audio. If neither has a price the row says so.
"""

from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base, openai
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json

_LONGEST_SECONDS = 1e7


class Call:
    """What these calls have in common."""

    operation = ""
    lines = False

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        return base.common(body, {}, ())

    def boring(self, line: bytes) -> bool:
        """Return whether a line is a piece of sound, picture or text, without counts."""
        return b'.delta"' in line[:80] or b"partial_image" in line[:80]

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one streamed value; the last one is shaped like a whole answer."""
        self.document(seen, value)

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        seen.name(value.get("id"), value.get("model"))
        if value.get("error"):
            seen.failed(value["error"])
        self._count(seen, value)

    def _count(self, seen: CallState, value: Json) -> None:
        """Learn what is counted."""
        _tokens(seen, base.part(value, "usage"))

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs(body.get("prompt") or body.get("input") or body.get("query")), []


def _tokens(seen: CallState, usage: Json) -> None:
    """Learn token counts under the names of OpenAI's two conventions."""
    openai.usage(seen, usage)
    read, written = base.part(usage, "input_tokens_details"), base.part(usage, "output_tokens_details")
    read = read or base.part(usage, "input_token_details")  # of transcriptions
    for name, raw in (("input_tokens", usage.get("input_tokens")), ("output_tokens", usage.get("output_tokens"))):
        if (known := base.count(raw)) is not None:
            setattr(seen, name, known)
    openai.kinds(seen, read, written)


class Rerank(Call):
    """POST …/rerank: Cohere's, and those of Jina, Voyage, Together and vLLM, which count tokens."""

    operation = "rerank"

    def _count(self, seen: CallState, value: Json) -> None:
        usage, meta = base.part(value, "usage"), base.part(value, "meta")
        _tokens(seen, usage)
        for part in (meta, base.part(meta, "tokens"), base.part(meta, "billed_units")):
            if (known := base.count(part.get("input_tokens"))) is not None:
                seen.input_tokens = known
        if seen.input_tokens is None:
            seen.input_tokens = base.count(usage.get("total_tokens"))
        if (searches := base.count(base.part(meta, "billed_units").get("search_units"))) is not None:
            seen.counted("search_units", searches)
            seen.unpriced("rerank by searches")


def asked_images(number: Any) -> dict[str, Attribute]:
    """Return how many images a request asks for: what is counted where the answer is too large to be read."""
    asked = base.count(number)
    return {f"{conventions.USAGE_DETAILS}images": asked} if asked else {}


class Images(Call):
    """POST …/images/generations, …/images/edits and …/images/variations."""

    operation = "image_generation"

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        return {**super().request(body), **asked_images(body.get("n"))}

    def _count(self, seen: CallState, value: Json) -> None:
        super()._count(seen, value)
        made = 0 if seen.error else self._made(value)
        if made is not None:
            seen.also[f"{conventions.USAGE_DETAILS}images"] = made
        if seen.output_tokens is not None or seen.error or made == 0:
            seen.also.pop(conventions.UNPRICED_FEATURE, None)
        else:
            seen.unpriced("images")

    def _made(self, value: Json) -> int | None:
        """Return how many images an answer has, None where it is too large to be read."""
        if "b64_json" in value:
            return 1
        return len(base.items(value["data"])) if "data" in value else None


class Speech(Call):
    """POST …/audio/speech: the answer is sound, and seldom has counts."""

    operation = "speech"

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives: the characters of the text are what is charged."""
        found = super().request(body)
        if isinstance(text := body.get("input"), str):
            found[f"{conventions.USAGE_DETAILS}input_characters"] = len(text)
        return found


class ElevenLabs(Speech):
    """POST …/text-to-speech/{voice} of ElevenLabs: charged by characters, at a rate of the customer's plan."""

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        return super().request({"model": body.get("model_id"), "input": body.get("text")})


class Transcription(Call):
    """POST …/audio/transcriptions and …/audio/translations; the request is a form with a file."""

    operation = "transcription"

    def _count(self, seen: CallState, value: Json) -> None:
        super()._count(seen, value)
        usage = base.part(value, "usage")
        seconds = usage.get("seconds") if usage.get("type") == "duration" else None
        seconds = usage.get("prompt_audio_seconds") if seconds is None else seconds
        if seconds is None and seen.input_tokens is None:
            seconds = value.get("duration")
        if isinstance(seconds, (int, float)) and 0 < seconds < _LONGEST_SECONDS:
            seen.counted("input_audio_ms", round(seconds * 1_000))
            seen.also.pop(conventions.UNPRICED_FEATURE, None)


class Moderation(Call):
    """POST …/moderations."""

    operation = "moderation"

    def _count(self, seen: CallState, value: Json) -> None:
        super()._count(seen, value)
        if seen.input_tokens is None:
            seen.unpriced("moderation")

"""Videos: OpenAI's and Google's Veo. They are made in the background: the row has the seconds that were asked for.

No price table has a price for a second of video, so these rows have none.
"""

from typing import Any

from otel_telemetry.base import conventions
from otel_telemetry.instrument.llm_http.dialects import base, media
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState, Json

_MS = f"{conventions.USAGE_DETAILS}output_video_ms"
_LONGEST_SECONDS = 100_000


class Videos(media.Call):
    """POST …/videos."""

    operation = "video_generation"

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        return {**super().request(body), **_asked(body.get("seconds"), 1)}

    def _count(self, seen: CallState, value: Json) -> None:
        seen.also.update(_asked(value.get("seconds"), 1))
        if not seen.error:
            seen.unpriced("videos")


class Veo(Videos):
    """POST …:predictLongRunning of a model that makes videos; the model is in the path."""

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        parameters = base.part(body, "parameters")
        return _asked(parameters.get("durationSeconds"), base.count(parameters.get("sampleCount")) or 1)

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions)."""
        return base.inputs([each.get("prompt") for each in base.items(body.get("instances"))]), []


def _asked(seconds: Any, videos: int) -> dict[str, Attribute]:
    """Return the milliseconds of all videos; the number may be text."""
    if isinstance(seconds, str) and seconds.isascii() and seconds.isdecimal():
        seconds = int(seconds[:8])
    known = base.count(seconds)
    return {_MS: known * videos * 1_000} if known and known <= _LONGEST_SECONDS else {}

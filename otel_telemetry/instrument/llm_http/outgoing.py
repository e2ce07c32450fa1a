"""A request that is about to be sent, as its client has it."""

import re
from collections.abc import Callable
from typing import NamedTuple

from otel_telemetry.instrument.llm_http import framing
from otel_telemetry.instrument.llm_http.dialects.base import Json

#: Where a form, which may hold a large file, names the model.
_MODEL_OF_FORM = re.compile(rb'name="model"\r\n(?:[\w-]+: [^\r\n]{0,128}\r\n){0,3}\r\n([\w./:-]{1,128})\r\n')
_FORM_PART = 8 << 10


class OutgoingRequest(NamedTuple):
    """Where a request goes, and what it brings.

    `path` is without query, as sent; `header` looks a header up by its lower-case name; `raw` is the body where that is
    in memory, else None.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    header: Callable[[str], str | None]
    raw: bytes | None

    def body(self) -> Json:
        """Return a JSON body, of a form the model that it names; one that is streamed is left alone."""
        if self.raw is None:
            return {}
        if self.raw[:1] == b"{":
            return _json_body(self.raw)
        named = _MODEL_OF_FORM.search(self.raw[:_FORM_PART]) or _MODEL_OF_FORM.search(self.raw[-_FORM_PART:])
        return {"model": named[1].decode()} if named and self.raw[:2] == b"--" else {}


def _json_body(raw: bytes) -> Json:
    """Return what is known of a request's JSON body: all of it, or the names and flags of one that is too large."""
    if len(raw) > framing.MAX_VALUE:
        return framing.salvage(raw[: framing.HEAD], raw[-framing.TAIL :])
    value = framing.parse(raw)
    return value if isinstance(value, dict) else {}

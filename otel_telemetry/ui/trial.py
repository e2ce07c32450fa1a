"""Try a text: what the active policy does to it, rule by rule. Nothing of it is stored, logged, or in an address."""

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Final

from starlette.requests import Request

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.verify.explain import Explanation, explain
from otel_telemetry.ui import forms
from otel_telemetry.ui.problems import Problem

LONGEST: Final = 20_000
#: A character takes up to twelve bytes in a form.
_BYTES: Final = LONGEST * 12


async def tried(request: Request, settings: RedactionSettings) -> tuple[Explanation, str]:
    """Return what becomes of the text of a form, and the name of the attribute that it is tried as."""
    try:
        given = await forms.read(request, _BYTES)
    except forms.TooLong:
        raise _too_long() from None
    text = given.get("text", "").replace("\r\n", "\n")
    if len(text) > LONGEST:
        raise _too_long()
    key = given.get("key", "").strip()
    return await asyncio.to_thread(partial(explain, settings, text, key, "")), key


def _too_long() -> Problem:
    hint = f"try no more than {LONGEST:,} characters; `otel-telemetry redact` takes files of any size"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the text is too long", hint)

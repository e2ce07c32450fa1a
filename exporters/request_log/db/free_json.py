"""Removes prompts and answers from columns of free JSON and of error texts, if texts are not stored.

One filter for `meta`, `response_meta`, `data`, `info`, `error`, `tags`, `sources`, `topk` and the items of dead
letters; otel_telemetry/base/content.py decides what is removed. It runs before values are cut to size, so that JSON
text is still complete.
"""

from collections.abc import Mapping
from typing import Any

from otel_telemetry.base import content


def storable(value: Any, column: str = "", *, store_text: bool) -> Any:
    """Return what may be stored of a value in a column: all of it with `store_text`; None where nothing stays."""
    if store_text or value is None:
        return value
    stays = content.without(value, column)
    return None if stays is content.GONE else stays


def members(values: Mapping[str, Any], *, store_text: bool) -> dict[str, Any]:
    """Return those members of a map that may be stored, each as far as it may."""
    if store_text or not values:
        return dict(values)
    stays = content.without(dict(values))
    return {} if stays is content.GONE else stays


def error_text(text: str | None, *, store_text: bool) -> str | None:
    """Return an error's text, without what it quotes of a prompt as JSON."""
    stays = storable(text, "error", store_text=store_text)
    return stays if isinstance(stays, str) else None

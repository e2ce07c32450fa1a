"""Extracts the question and the answer from the messages of a call in any dialect.

The question is the last message of a user. The answer is all text of the model, without its reasoning and its tool
calls. Messages are maps with a `role`, at any depth; their text is a string, or parts of which some are texts. There
are none unless `store_text` is on.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.db import coerce

_PEOPLE: Final = frozenset({"user", "human"})
_OTHERS: Final = frozenset({"system", "developer", "tool", "function", *_PEOPLE})
_TEXTS: Final = frozenset({"text", "input_text", "output_text"})
_DEEPEST: Final = 12


def question(call: records.LlmCall) -> str | None:
    """Return what a person asked last."""
    if call.chat_request is None:
        return None
    asked = [message for message in _messages(call.chat_request) if _role(message) in _PEOPLE]
    if asked:
        return _limited(_text(asked[-1]))
    given = call.chat_request.values() if isinstance(call.chat_request, Mapping) else ()
    return _limited(next((value for value in reversed(list(given)) if isinstance(value, str)), None))


def answer(call: records.LlmCall) -> str | None:
    """Return the model's text."""
    response = call.chat_response
    if response is None or isinstance(response, str):
        return _limited(response)
    texts = [_text(message) for message in _messages(response) if _role(message) not in _OTHERS]
    return _limited("\n".join(filter(None, texts)))


def _limited(text: str | None) -> str | None:
    return coerce.text(text, "text", coerce.Notes(), coerce.CONTENT_LIMIT) if text else None


def _messages(value: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield what has a role, in order; the parts of such a message are its own."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        if isinstance(value.get("role"), str):
            yield value
            return
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _messages(item, depth + 1)


def _role(message: Mapping[str, Any]) -> str:
    return str(message["role"]).lower()


def _text(message: Mapping[str, Any]) -> str | None:
    parts = next((message[name] for name in ("parts", "content", "text") if message.get(name)), None)
    if isinstance(parts, Mapping):
        parts = [parts]
    if not isinstance(parts, list):
        return parts if isinstance(parts, str) else None
    return "\n".join(filter(None, map(_part, parts)))


def _part(part: Any) -> str | None:
    if not isinstance(part, Mapping):
        return part if isinstance(part, str) else None
    if part.get("type", "text") not in _TEXTS:
        return None
    found = part.get("content", part.get("text"))
    return found if isinstance(found, str) else None

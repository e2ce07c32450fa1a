"""Messages as the GenAI conventions shape them, as JSON text of bounded size, for where content is captured."""

import json
from collections.abc import Iterable

from otel_telemetry.instrument.llm_http.dialects.base import CallState, Json, Message, clean

MAX_CHARACTERS = 64 << 10  # of one attribute


def dump(messages: Iterable[Json]) -> str | None:
    """Return the JSON text of the last messages that fit, or None where there are none. It is always whole JSON."""
    fitting: list[str] = []
    room = MAX_CHARACTERS - 2
    for message in reversed(list(messages)):
        text = clean(json.dumps(message, ensure_ascii=False, separators=(",", ":")))
        if len(text) + 1 > room:
            break
        fitting.append(text)
        room -= len(text) + 1
    return f"[{','.join(reversed(fitting))}]" if fitting else None


def answers(seen: CallState) -> list[Json]:
    """Return what was answered as output messages."""
    return [
        {"role": message.role, "parts": list(_parts(message)), "finish_reason": seen.finish.get(index, "")}
        for index, message in sorted(seen.messages.items())
    ]


def _parts(message: Message) -> Iterable[Json]:
    if message.reasoning:
        yield {"type": "reasoning", "content": "".join(message.reasoning)}
    if message.text:
        yield {"type": "text", "content": "".join(message.text)}
    for call in message.tools.values():
        yield {"type": "tool_call", **call}

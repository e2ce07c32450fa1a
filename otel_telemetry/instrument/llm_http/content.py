"""Messages as the GenAI conventions shape them, as JSON text of bounded size, for where content is captured."""

import json
from collections.abc import Iterable

from otel_telemetry.instrument.llm_http.dialects.base import CallState, Json, Message, clean

MAX_CHARACTERS = 64 << 10  # of one attribute


def dump(messages: Iterable[Json]) -> str | None:
    """Return the JSON text of the last messages that fit, or None where there are none. It is always whole JSON."""
    kept: list[str] = []
    room = MAX_CHARACTERS - 2
    for message in reversed(list(messages)):
        said = clean(json.dumps(message, ensure_ascii=False, separators=(",", ":")))
        if len(said) + 1 > room:
            break
        kept.append(said)
        room -= len(said) + 1
    return f"[{','.join(reversed(kept))}]" if kept else None


def answers(seen: CallState) -> list[Json]:
    """Return what was answered as output messages."""
    return [
        {"role": said.role, "parts": list(_parts(said)), "finish_reason": seen.finish.get(index, "")}
        for index, said in sorted(seen.messages.items())
    ]


def _parts(said: Message) -> Iterable[Json]:
    if said.reasoning:
        yield {"type": "reasoning", "content": "".join(said.reasoning)}
    if said.text:
        yield {"type": "text", "content": "".join(said.text)}
    for call in said.tools.values():
        yield {"type": "tool_call", **call}

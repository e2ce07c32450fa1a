"""Canaries for content: sentences with a unique word, and the names and formats under which prompts are sent.

Attributes of every known convention, structures under a neutral name, and messages as events of spans and as bodies of
log records.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from otel_telemetry.base import conventions
from otel_telemetry.processors.verify.canaries import Canary

TYPE: Final = "CONTENT"
NAMED: Final = "under its name"
MESSAGE: Final = "as a message"
_LETTERS: Final = "ghijkmnopqrstuvwxyz"
_WORD: Final = re.compile(rf"quill[{_LETTERS}]{{9}}".encode())
_DEEP: Final = 10


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which content stands inside a value; `is_sure`: wherever that is, in any log record too."""

    wrap: Callable[[str], Any]
    is_nested: bool = False
    is_sure: bool = True


def _deep(text: str) -> Any:
    value: Any = {"prompt": text}
    for _ in range(_DEEP):
        value = {"inner": [value, 1]}
    return value


def _messages(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": [{"type": "text", "content": text}]}]


#: What stands under a name that says nothing of it.
FORMS: Final[dict[str, Form]] = {
    "in a map": Form(lambda text: {"prompt": text, "n": 1}, is_nested=True),
    f"{2 * _DEEP} deep": Form(_deep, is_nested=True),
    "in a list of messages": Form(_messages, is_nested=True),
    "as a named value": Form(lambda text: {"name": "prompt", "value": text}, is_nested=True),
    "as an argument": Form(lambda text: ["--prompt", text]),
    "in JSON": Form(lambda text: json.dumps({"request": {"userPrompt": text}})),
    "messages in JSON": Form(lambda text: json.dumps({"messages": _messages(text)})),
    "in JSON within JSON": Form(lambda text: json.dumps({"body": json.dumps({"answer": text})})),
    "in JSON behind text": Form(lambda text: f"sent {json.dumps({'prompt': text})}"),
    "in JSON that was cut": Form(lambda text: json.dumps({"prompt": text, "n": [1, 2]})[:-4], is_sure=False),
    "in Python's notation": Form(lambda text: repr({"completion": text})),
    "in bytes": Form(lambda text: json.dumps({"prompt": text}).encode(), is_nested=True),
    "behind a label": Form(lambda text: f"Prompt: {text}", is_sure=False),
    "in an address": Form(lambda text: f"https://models.example/ask?prompt={text.replace(' ', '+')}"),
}
#: Names of frameworks that no list has: their namespace says that they are of models.
_OF_FRAMEWORKS: Final = (
    *("gen_ai.agent.instructions", "llm.prompts.0", "langgraph.state.messages", "langsmith.metadata.question"),
    *("langchain.chat_history", "mlflow.traceInputs", "crewai.crew.result", "crew_inputs", "mcp.tool.arguments"),
    *("llamaindex.query", "traceloop.task.input", "langfuse.trace.metadata.answer", "haystack.query"),
    *("smolagents.task.prompt", "dspy.signature.inputs", "autogen.message.content", "semantic_kernel.input"),
    *("openai.request.messages", "anthropic.completion", "cohere.chat.message.text", "bedrock.prompt"),
    *("vertexai.contents", "ollama.prompt", "litellm.response.text", "rag.question", "agno.run.input"),
    *("gen_ai.request.wish", "gen_ai.response.remark"),
)
#: Names that an app gives.
_OF_APPS: Final = (
    *("prompt", "question", "answer", "query", "input", "output", "messages", "user_input", "final_answer"),
    *("app.prompt", "app.userPrompt", "shop.user_query", "chat_history", "request_log.prompt", "request_log.question"),
    *("request_log.messages", "request_log.completion", "request_log.response"),
)
#: Attributes whose name says that they are content. Prefixes stand for the names that begin so.
NAMES: Final = tuple(
    dict.fromkeys(
        (
            *sorted(conventions.CONTENT_KEYS),
            *(f"{prefix.rstrip('.')}.0.content" for prefix in conventions.CONTENT_PREFIXES),
            *sorted(conventions.CONTENT_OF_REQUESTS),
            *_OF_FRAMEWORKS,
            *_OF_APPS,
        )
    )
)
#: Messages as events of spans, and what their attributes are.
EVENTS: Final[dict[str, Callable[[str], dict[str, Any]]]] = {
    "gen_ai.user.message": lambda text: {"content": text},
    "gen_ai.system.message": lambda text: {"anything": text},
    "gen_ai.choice": lambda text: {"message": json.dumps({"content": text}), "index": 0},
    "gen_ai.content.prompt": lambda text: {"gen_ai.prompt": text},
    "gen_ai.content.completion": lambda text: {"gen_ai.completion": text},
    "llm.content.completion.chunk": lambda text: {"piece": text},
    "gen_ai.client.inference.operation.details": lambda text: {"gen_ai.output.messages": json.dumps(_messages(text))},
}
#: Messages as log records, and what their body is.
BODIES: Final[dict[str, Callable[[str], Any]]] = {
    "gen_ai.tool.message": lambda text: text,
    "gen_ai.user.message": lambda text: {"content": text},
    "gen_ai.assistant.message": lambda text: {"tool_calls": [{"id": "c-1", "function": {"arguments": text}}]},
    "gen_ai.choice": lambda text: {"index": 0, "message": {"content": [{"text": text}]}},
    "gen_ai.client.inference.operation.details": lambda text: {"gen_ai.input.messages": _messages(text)},
    conventions.WORKFLOW_EVENT: lambda text: {"type": "run:start", "id": "r", "input": text, "data": {"query": text}},
    conventions.FEEDBACK_EVENT: lambda text: {"verdict": "up", "question": text},
    conventions.BROWSER_EVENT: lambda text: {"type": "byok_call", "data": {"prompt": text}},
}


class ContentCanaries:
    """Draws sentences; each has a word that no other has."""

    def __init__(self) -> None:
        self._random = Random(11)  # noqa: S311  # the same sentences in each run
        self._taken: set[str] = set()

    def draw(self) -> Canary:
        """Return a sentence that is unlike all before it."""
        while (word := "quill" + "".join(self._random.choices(_LETTERS, k=9))) in self._taken:
            pass
        self._taken.add(word)
        return Canary(TYPE, "", f"why does my {word} hum at night", word)


def words_in(data: bytes) -> set[str]:
    """Return the words of canaries that stand in data."""
    return {word.decode() for word in _WORD.findall(data)}


__all__ = ["BODIES", "EVENTS", "FORMS", "MESSAGE", "NAMED", "NAMES", "TYPE", "ContentCanaries", "Form", "words_in"]

"""What the model server says and what it counts: small deterministic answers, tokens, a prompt prefix cache.

No model is behind it. Tokens are pieces of at most four letters, or one sign; a prompt's cached tokens are its longest
prefix, in blocks of `BLOCK` tokens, that an earlier prompt to the same model began with, as vLLM and OpenAI count them.
"""

import base64
import hashlib
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

BLOCK: Final = 16
#: Below two blocks nothing counts as cached.
SMALLEST_CACHED: Final = 2 * BLOCK
#: Blocks remembered before the cache starts over; a server left running must not grow for ever.
MOST_BLOCKS: Final = 100_000

EMBEDDING_SIZE: Final = 8

_PIECE = re.compile(r"\w{1,4}|[^\w\s]")
_FRESH = re.compile(r"\b(latest|today|news|weather|price|now)\b", re.IGNORECASE)
_REASONING_MODEL = re.compile(r"^(o\d|gpt-5)")

Message = Mapping[str, Any]


@dataclass(slots=True, frozen=True)
class Usage:
    """Tokens of one call. `prompt` includes `cached`; `completion` includes `reasoning`."""

    prompt: int
    cached: int
    completion: int
    reasoning: int

    def as_openai(self) -> dict[str, Any]:
        """Return the `usage` object of a chat completion."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning, "audio_tokens": 0},
        }


@dataclass(slots=True, frozen=True)
class Reply:
    """One answer: text, or the call of a tool."""

    text: str
    tool_name: str = ""
    tool_arguments: str = ""
    finish_reason: str = "stop"

    def tokens(self) -> int:
        """Return how many tokens were written."""
        return len(_pieces(self.text + self.tool_name + self.tool_arguments))

    def cut(self, limit: int | None) -> "Reply":
        """Return the reply as `max_tokens` leaves it."""
        if limit is None or self.tokens() <= limit or self.tool_name:
            return self
        ends = [match.end() for match in _PIECE.finditer(self.text)]
        return Reply(self.text[: ends[limit - 1]], finish_reason="length")


class PrefixCache:
    """Remembers how prompts began, per model."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def cached(self, model: str, tokens: Sequence[str]) -> int:
        """Return how many leading tokens were seen before, and remember these."""
        if len(self._seen) > MOST_BLOCKS:
            self._seen.clear()
        known = 0
        unbroken = True
        for end, key in _prefix_keys(model, tokens):
            unbroken = unbroken and key in self._seen
            known = end if unbroken else known
            self._seen.add(key)
        return known if known >= SMALLEST_CACHED else 0


def _prefix_keys(model: str, tokens: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    digest = hashlib.sha256(model.encode())
    for end in range(BLOCK, len(tokens) + 1, BLOCK):
        digest.update("\0".join(tokens[end - BLOCK : end]).encode())
        yield end, digest.digest()


def prompt_tokens(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the prompt as the model reads it: tools first, then each message behind its role."""
    tokens = _pieces(json.dumps(tools)) if tools else []
    for message in messages:
        tokens.append(f"<{message.get('role', '')}>")
        tokens.extend(_pieces(text_of(message)))
        if message.get("tool_calls"):
            tokens.extend(_pieces(json.dumps(message["tool_calls"])))
    return tokens


def text_tokens(texts: Sequence[str]) -> int:
    """Return how many tokens plain texts have."""
    return sum(len(_pieces(text)) for text in texts)


def embedding(text: str, *, as_base64: bool) -> list[float] | str:
    """Return the vector of a text: the same for the same text, without meaning; as OpenAI packs it, or as numbers."""
    digest = hashlib.sha256(text.encode()).digest()
    numbers = array("f", (byte / 128 - 1 for byte in digest[:EMBEDDING_SIZE]))
    return base64.b64encode(numbers.tobytes()).decode() if as_base64 else numbers.tolist()


def reasoning_tokens(model: str, prompt: int) -> int:
    """Return the tokens a reasoning model thinks with; the others think with none."""
    return 64 * (1 + prompt // 256) if _REASONING_MODEL.match(model) else 0


def text_of(message: Message) -> str:
    """Return the text of a message, whose content is a string, a list of parts, or null."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text", "")) for part in content)


def question_of(messages: Sequence[Message]) -> str:
    """Return what the user asked last."""
    return next((text_of(m) for m in reversed(messages) if m.get("role") == "user"), "")


def reply_to(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Reply:
    """Return the answer: a tool call where a tool is offered and fresh facts are asked for, else text."""
    last = messages[-1]
    question = question_of(messages)
    if tools and last.get("role") != "tool":
        return _choose_tool(question, tools[0])
    if last.get("role") == "tool":
        return Reply(f"I looked it up. {text_of(last)} That is the best answer to: {question}")
    return Reply(
        f"You asked: {question} The short answer is that it depends on what you need it for; "
        "start with the simplest thing that works, measure it, and change one part at a time."
    )


def _choose_tool(question: str, tool: Mapping[str, Any]) -> Reply:
    if not _FRESH.search(question):
        return Reply("No tool is needed.")
    function = tool["function"]
    names = list(function.get("parameters", {}).get("properties", {"query": {}}))
    return Reply("", function["name"], json.dumps({names[0]: question}), "tool_calls")


def chunks_of(reply: Reply, words: int = 3) -> list[str]:
    """Return the text in the pieces in which it is streamed."""
    parts = re.findall(r"\s*\S+", reply.text)
    return ["".join(parts[i : i + words]) for i in range(0, len(parts), words)]


def _pieces(text: str) -> list[str]:
    return _PIECE.findall(text)

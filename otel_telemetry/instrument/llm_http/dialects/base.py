"""What a dialect is, and what can be seen of one model call.

A dialect reads JSON that a provider wrote or an app sent: every field may be missing, null, negative, of another type
or absurdly long. `count`, `text`, `part` and `items` are the only ways in, and they let nothing else through.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from otel_telemetry.base import conventions

Json = Mapping[str, Any]
Attribute = str | bool | int | float | list[str]
MAX_TEXT = 256  # characters of an id, a model's name or a finish reason
MAX_CHOICES = 32  # answers of one call whose finish reason is kept
MAX_CAPTURED = 24 << 10  # characters of one message that are kept where content is captured: they fit when escaped
_EMPTY: Json = {}


def count(value: Any) -> int | None:
    """Return a number of tokens, or None for anything that is none: null, negative, text, a fraction, true."""
    if type(value) is int:  # as nearly always
        return value if 0 <= value < 1 << 53 else None
    return count(int(value)) if type(value) is float and value.is_integer() else None


def text(value: Any) -> str | None:
    """Return a short, non-empty text, or None."""
    if not isinstance(value, str) or not value:
        return None
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT]
    return value if value.isascii() else clean(value)


def clean(value: str) -> str:
    """Return a text without lone surrogates: JSON can escape them, and no exporter can encode them."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def part(value: Any, key: str, *path: str) -> Json:
    """Return the object at a path of keys, or an empty one."""
    found = value.get(key) if type(value) is dict else None
    if path:
        for deeper in path:
            found = found.get(deeper) if type(found) is dict else None
    return found if type(found) is dict else _EMPTY


def items(value: Any) -> list[Json]:
    """Return the objects of a list; none for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


@dataclass(slots=True)
class Message:
    """The content of one answer, stored only if content is captured."""

    role: str = "assistant"
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tools: dict[Any, dict[str, str]] = field(default_factory=dict)
    size: int = 0

    def add(self, kind: list[str], value: Any) -> None:
        """Append some text while there is room."""
        if isinstance(value, str) and self.size < MAX_CAPTURED:
            kind.append(value[: MAX_CAPTURED - self.size])
            self.size += len(kind[-1])

    def tool(self, key: Any, call_id: Any, name: Any, arguments: Any) -> None:
        """Append a piece of a tool call; `key` identifies the call within the answer."""
        if key not in self.tools and len(self.tools) >= MAX_CHOICES:
            return
        known = self.tools.setdefault(key, {"id": "", "name": "", "arguments": ""})
        known["id"] = text(call_id) or known["id"]
        known["name"] = text(name) or known["name"]
        if isinstance(arguments, str) and self.size < MAX_CAPTURED:
            known["arguments"] += arguments[: MAX_CAPTURED - self.size]
            self.size += len(arguments)


class CallState:
    """What is known of a model call so far.

    Token counts follow the conventions: input includes cached ones, output includes reasoning; None is unknown, which
    is not 0. What is not known yet is an attribute of the class: most calls set few of them.
    """

    id: str | None = None
    model: str | None = None
    error: str | None = None
    content: bool = False  # something that a reader would see has come: text, a tool call, reasoning
    ended: bool = False  # the answer itself said that it is over, without saying why
    input_tokens: int | None = None
    uncached: int | None = None  # what a provider that counts cached tokens beside its input calls input
    output_tokens: int | None = None
    cache_read: int | None = None
    cache_creation: int | None = None
    reasoning: int | None = None

    def __init__(self, *, capture: bool = False) -> None:
        self.capture = capture
        self.also: dict[str, Attribute] = {}  # what else the span is to say: what changes the price
        self.finish: dict[int, str] = {}
        self.messages: dict[int, Message] = {}

    def name(self, call_id: Any, model: Any) -> None:
        """Set the answer's id and model, the first time each is known."""
        if self.id is None:
            self.id = text(call_id)
        if self.model is None:
            self.model = text(model)

    def finished(self, reason: Any, index: Any = 0) -> None:
        """Note why the answer with that index ended."""
        known = text(reason)
        if known is None:
            return
        position = (count(index) or 0) if index else 0
        if position in self.finish or len(self.finish) < MAX_CHOICES:
            self.finish[position] = known

    def failed(self, error: Any) -> None:
        """Note what a provider's error object calls itself, where that is a plain code (its message may hold text)."""
        known = part({"error": error}, "error")
        number = known.get("code")
        for candidate in (number, known.get("type"), known.get("status"), error, str(number)):
            code = text(candidate) if candidate != "None" else None
            if code and code.replace("_", "").replace("-", "").replace(".", "").isalnum() and code.isascii():
                self.error = code
                return
        self.error = self.error or "error"

    def counted(self, name: str, value: Any) -> None:
        """Note a count that has a price of its own: tokens of another kind than text, or searches; 0 is nothing.

        None leaves what is known: a later usage may have the sums alone.
        """
        number = count(value)
        if number is not None and (number or conventions.USAGE_DETAILS + name in self.also):
            self.also[conventions.USAGE_DETAILS + name] = number

    def tier(self, value: Any) -> None:
        """Note the service tier that answered."""
        if name := text(value):
            self.also[conventions.SERVICE_TIER] = name

    def billed(self, value: Any) -> None:
        """Record the cost that the answer reports, in USD. If it is not an amount the row reports it."""
        if type(value) in (int, float) and abs(value) < _LARGEST:
            self.also[conventions.USAGE_COST] = float(value)
        elif known := text(str(value) if type(value) in (int, float) else value):
            self.also[conventions.USAGE_COST] = known

    def unpriced(self, feature: str) -> None:
        """Note that the call used something with a fee that no price table has."""
        self.also[conventions.UNPRICED_FEATURE] = feature

    def message(self, index: Any = 0) -> Message | None:
        """Return the message of the answer with that index, to append to; None if content is not captured."""
        if not self.capture:
            return None
        position = count(index) or 0
        if position not in self.messages and len(self.messages) >= MAX_CHOICES:
            return None
        return self.messages.setdefault(position, Message())


class WholeEvents:
    """A part of dialects without streams, or whose streams have whole answers as events, with the counts so far."""

    def boring(self, line: bytes) -> bool:
        """Return False: each event counts, and there are few."""
        del line
        return False

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from an event, which is shaped like a whole answer."""
        self.document(seen, value)

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer."""
        raise NotImplementedError


class Dialect(Protocol):
    """How one kind of endpoint is asked and answers. Instances hold no state: they serve many calls at once."""

    #: `gen_ai.operation.name` of its calls.
    operation: str
    #: Whether its streams are lines of JSON, not server-sent events.
    lines: bool

    def request(self, body: Json) -> dict[str, Attribute]:
        """Return the attributes that a request's body gives."""
        ...

    def boring(self, line: bytes) -> bool:
        """Return whether a line, in the middle of an answer, holds nothing but more of its text. In doubt: False.

        This is what keeps a chunk cheap. A JSON string cannot hold an unescaped quote, so a search for a quoted key
        with its value never finds one in the text itself.
        """
        ...

    def event(self, seen: CallState, value: Json) -> None:
        """Learn from one streamed value."""
        ...

    def document(self, seen: CallState, value: Json) -> None:
        """Learn from a whole answer that was not streamed."""
        ...

    def prompt(self, body: Json) -> tuple[list[Json], list[Json]]:
        """Return (input messages, system instructions) as the conventions shape them, for where content is captured."""
        ...


_LARGE = 1e9  # no parameter is; and an integer may be too large for a float
_LARGEST = 1e300
_NUMBERS = (
    ("temperature", conventions.REQUEST_TEMPERATURE),
    ("top_p", conventions.REQUEST_TOP_P),
    ("frequency_penalty", conventions.REQUEST_FREQUENCY_PENALTY),
    ("presence_penalty", conventions.REQUEST_PRESENCE_PENALTY),
)
_NUMERIC = frozenset(key for key, _ in _NUMBERS)


def common(body: Json, parameters: Json, max_tokens: tuple[str, ...]) -> dict[str, Attribute]:
    """Return the request attributes that most dialects spell alike: `parameters` is where the numbers are."""
    found: dict[str, Attribute] = {}
    if model := text(body.get("model")):
        found[conventions.REQUEST_MODEL] = model
    if isinstance(body.get("stream"), bool):
        found[conventions.REQUEST_STREAM] = body["stream"]
    for key, attribute in _NUMBERS if not _NUMERIC.isdisjoint(parameters) else ():
        if key in parameters and type(value := parameters[key]) in (int, float) and -_LARGE < value < _LARGE:
            found[attribute] = float(value)
    for key in max_tokens:
        if key in parameters and (limit := count(parameters[key])) is not None:
            found[conventions.REQUEST_MAX_TOKENS] = limit
            break
    if "seed" in parameters and type(seed := parameters["seed"]) is int and abs(seed) < 1 << 63:
        found[conventions.REQUEST_SEED] = seed
    return found


def stop_sequences(value: Any) -> list[str]:
    """Return stop sequences, given as one or as a list."""
    given = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [known for item in given[:16] if (known := text(item))]


def messages(value: Any) -> list[Json]:
    """Return messages that are a role and its content as the conventions' messages."""
    return [
        {"role": text(item.get("role")) or "user", "parts": content_parts(item.get("content"))} for item in items(value)
    ]


def inputs(value: Any) -> list[Json]:
    """Return plain inputs, given as one text or as a list, as messages of the user."""
    given = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [
        {"role": "user", "parts": [{"type": "text", "content": item[:MAX_CAPTURED]}]}
        for item in given
        if isinstance(item, str)
    ]


def content_parts(value: Any) -> list[Json]:
    """Return message content, a text or a list of typed parts, as the conventions' parts; media only by its type."""
    if isinstance(value, str):
        return [{"type": "text", "content": value[:MAX_CAPTURED]}]
    found: list[Json] = []
    for item in items(value):
        content = item.get("text")
        if isinstance(content, str):
            found.append({"type": "text", "content": content[:MAX_CAPTURED]})
        elif kind := text(item.get("type")):
            found.append({"type": kind})
    return found


def dumped(value: Any) -> str:
    """Return a value of a message as JSON text of bounded length."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))[:MAX_CAPTURED]

"""Reads the fields of a model call from a span in any dialect, into the names of the current convention.

Dialects are rows of a table (dialect_table.py). If a span uses several, the earlier row has priority for each value.
The call's row is marked with the first dialect whose marks the span has, else with the least current dialect that a
value came from. A span is a model call if one dialect says so and none says otherwise: agents, chains, tasks and the
outer spans of SDKs repeat the usage of the calls below them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.dialects import dialect_table, words
from otel_telemetry.exporters.request_log.dialects.dialect_table import DIALECTS, Dialect
from otel_telemetry.exporters.request_log.dialects.shapes import Shape, shape

#: The same fact in words of the app itself, in USD. It alone may say 0; see calls.py.
GIVEN_COST: Final = "request_log.cost_usd"

INCLUSIVE: Final = "inclusive"
EXCLUSIVE: Final = "exclusive"
#: The providers whose own APIs count cached tokens beside the input, not inside it.
_EXCLUSIVE_PROVIDERS: Final = frozenset({"anthropic", "aws.bedrock"})
#: The event that carries what a span would, as an event of that span or as a log record in its context.
DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
_CHOICE_EVENT: Final = "gen_ai.choice"
#: Longest JSON that is looked into.
_JSON_LIMIT: Final = 65_536
_LAST: Final = len(DIALECTS)
_LANGSMITH: Final = next(rank for rank, dialect in enumerate(DIALECTS) if dialect.name == "langsmith")
_COMPLETION: Final = "gen_ai.completion"
_NO_COST: Final = re.compile(r'(?<!\\)"total_cost"\s{0,8}:\s{0,8}0(?:\.0{1,8})?\s{0,8}[,}]')
_VERCEL: Final = next(rank for rank, dialect in enumerate(DIALECTS) if dialect.name == "vercel")


@dataclass(slots=True)
class Reading:
    """The fields of a model call on a span: values under current names, and the ranks of the dialects they are from.

    `attributes` are the span's, with those of its details event, and `shape` is theirs. `scope` names the
    instrumentation that made the span.
    """

    shape: Shape
    attributes: records.Attributes
    scope: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    is_model_call: bool = False
    is_from_cache: bool = False

    @property
    def dialect(self) -> Dialect:
        """The dialect that the span bears the marks of, else the least current one that a value is from."""
        marked = self.shape.marked
        return DIALECTS[max(self.ranks.values(), default=0) if marked is None else marked]

    def take(self, rank: int, meaning: str, value: Any) -> None:
        """Take a value, unless an earlier dialect gave one."""
        if value is not None and value != "" and rank < self.ranks.get(meaning, _LAST):
            self.values[meaning], self.ranks[meaning] = value, rank

    def imply(self, rank: int, implied: Mapping[str, Any]) -> None:
        """Set the values that a span's kind or name implies, if no attribute has them."""
        for meaning, value in implied.items():
            if meaning not in self.values:
                self.take(rank, meaning, value)


def read(span: records.Span, own: Shape | None = None) -> Reading:
    """Read the fields of a model call from a span. Never raises for attribute values. `own`: its attributes' shape."""
    attributes = _with_details(span) if span.events else span.attributes
    known = own if own is not None and attributes is span.attributes else shape(attributes)
    reading = Reading(known, attributes, span.scope)
    if not known.is_known:
        return reading
    values, ranks = reading.values, reading.ranks
    for key, rank, meaning in known.names:  # `take`, written out: this is done for every span
        value = attributes[key]
        if value is not None and value != "" and rank < ranks.get(meaning, _LAST):
            values[meaning], ranks[meaning] = value, rank
    for key, rank, paths in known.inside:
        _look_inside(reading, rank, paths, attributes[key])
    reading.is_from_cache = _is_from_cache(reading)
    reading.is_model_call = not reading.is_from_cache and _is_model_call(reading, span)
    if reading.is_model_call:
        _read_events(reading, span)
        _to_current_names(reading, span)
    return reading


def _with_details(span: records.Span) -> records.Attributes:
    """Add the values of an event of the span that has them instead of attributes."""
    implied = next((event.attributes for event in span.events if event.name == DETAILS_EVENT), None)
    return {**implied, **span.attributes} if implied else span.attributes


def _look_inside(reading: Reading, rank: int, paths: Mapping[str, str], value: Any) -> None:
    content = parsed(value)
    if not isinstance(content, Mapping):
        return
    for path, meaning in paths.items():
        reading.take(rank, meaning, _at(content, path))


def parsed(value: Any) -> Any:
    """Return what JSON text stands for, or the value itself where it is none."""
    if isinstance(value, str) and value[:1] in ("{", "[", '"') and len(value) <= _JSON_LIMIT:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _at(content: Mapping[str, Any], path: str) -> Any:
    """Return what is at a path: nested maps, or a key with dots."""
    if path in content:
        return content[path]
    found: Any = content
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return None if isinstance(found, (Mapping, list)) else found


def _is_model_call(reading: Reading, span: records.Span) -> bool:
    """Return whether the span is one model call, and take what its kind implies.

    Where no dialect tells kinds apart, it is of an older convention: one that names a model and its usage.
    """
    is_call = False
    for rank in reading.shape.telling:
        dialect = DIALECTS[rank]
        kind = parsed(reading.attributes.get(dialect.kind)) if dialect.kind else None  # MLflow's stand in JSON
        if isinstance(kind, str):
            if kind not in dialect.calls:
                return False
            is_call = is_call or conventions.OPERATION_NAME in dialect.calls[kind]
            reading.imply(rank, dialect.calls[kind])
            if dialect.kind == conventions.OPERATION_NAME:
                reading.values[conventions.OPERATION_NAME] = dialect.calls[kind][conventions.OPERATION_NAME]
        if span.name in dialect.spans:
            reading.imply(rank, dialect.spans[span.name])
    values = reading.values
    if span.status != "ERROR" and any(_is_only_announced(DIALECTS[rank], values) for rank in reading.shape.announcing):
        return False
    has_model = conventions.REQUEST_MODEL in values or conventions.RESPONSE_MODEL in values
    has_usage = conventions.USAGE_INPUT_TOKENS in values or conventions.USAGE_OUTPUT_TOKENS in values
    return is_call or (conventions.OPERATION_NAME not in values and has_model and has_usage)


def _is_from_cache(reading: Reading) -> bool:
    """Return whether a span is of an answer for which no model was called.

    It says so, or LangSmith tells that LangChain set its cost to 0, which it does with answers from its cache. Quotes
    in texts have a backslash before them in JSON, so that no answer can say so.
    """
    if reading.attributes.get(conventions.ANSWERED_FROM_CACHE):
        return True
    if _LANGSMITH not in reading.shape.spoken:
        return False
    answered = reading.attributes.get(_COMPLETION)
    return isinstance(answered, str) and _NO_COST.search(answered) is not None


def _is_only_announced(dialect: Dialect, values: Mapping[str, Any]) -> bool:
    return not any(name in values for name in dialect.announced_by)


def _read_events(reading: Reading, span: records.Span) -> None:
    for event in span.events:
        for rank in reading.shape.spoken:
            if event.name in DIALECTS[rank].events and event.time_ns >= span.start_ns:
                seconds = (event.time_ns - span.start_ns) / 1e9
                reading.imply(rank, {conventions.RESPONSE_TIME_TO_FIRST_CHUNK: seconds})
        if event.name == _CHOICE_EVENT:
            reason = event.attributes.get("finish_reason")
            reading.imply(1, {conventions.RESPONSE_FINISH_REASONS: reason})


def _to_current_names(reading: Reading, span: records.Span) -> None:
    """Convert values without a current name into values that have one."""
    values = reading.values
    for meaning in _MAY_BE_JSON:
        if meaning in values:
            values[meaning] = parsed(values[meaning])
    provider = values.get(conventions.PROVIDER_NAME)
    if isinstance(provider, str):
        values[conventions.PROVIDER_NAME] = _provider(provider, reading)
    milliseconds = values.get(dialect_table.FIRST_CHUNK_MS)
    at = _seconds_until(values.get(dialect_table.FIRST_CHUNK_AT), span.start_ns)
    if isinstance(milliseconds, (int, float)) and not isinstance(milliseconds, bool):
        values.setdefault(conventions.RESPONSE_TIME_TO_FIRST_CHUNK, milliseconds / 1_000)
    elif at is not None:
        values.setdefault(conventions.RESPONSE_TIME_TO_FIRST_CHUNK, at)


_MAY_BE_JSON: Final = (
    *(conventions.RESPONSE_FINISH_REASONS, dialect_table.FIRST_CHUNK_AT),
    *(conventions.RESPONSE_MODEL, conventions.PROVIDER_NAME),
)


def _provider(name: str, reading: Reading) -> str:
    """Return the current name of a provider."""
    lowered = name.lower()
    if _VERCEL in reading.shape.spoken:
        known = [known for known in words.PROVIDERS if lowered.startswith(f"{known}.")]
        lowered = max(known, key=len, default=lowered)
        lowered = lowered if lowered in words.PROVIDERS else lowered.partition(".")[0]
        return words.PROVIDERS.get(lowered, lowered)
    return words.PROVIDERS.get(lowered, name)


def _seconds_until(moment: Any, start_ns: int) -> float | None:
    try:
        at = datetime.fromisoformat(moment) if isinstance(moment, str) else None
    except ValueError:
        return None
    seconds = at.timestamp() - start_ns / 1e9 if at is not None and at.tzinfo is not None else -1.0
    return seconds if seconds >= 0 else None


def token_basis(reading: Reading, counts: Mapping[str, int | None]) -> str | None:
    """Return whether the input count includes cached tokens (inclusive) or not (exclusive); None without a count.

    Our own spans are inclusive, as the conventions require. For others evidence comes first: a separate count of
    uncached tokens; more tokens read from a cache, or written to it, than all; a total that adds up in one way only.
    Without any, the dialect decides: it either promises inclusive counts, or passes on the provider's counts, which for
    Anthropic are exclusive.
    """
    prompt = counts[conventions.USAGE_INPUT_TOKENS]
    anew = counts[dialect_table.INPUT_BESIDE_CACHE]
    if prompt is None:
        return None if anew is None else EXCLUSIVE
    read = counts[conventions.USAGE_CACHE_READ_TOKENS] or 0
    written = counts[conventions.USAGE_CACHE_CREATION_TOKENS] or 0
    beside = read + written
    if not beside or reading.scope == conventions.SCOPE_NAME:
        return INCLUSIVE
    if anew is not None:
        return EXCLUSIVE if prompt == anew else INCLUSIVE
    if max(read, written) > prompt:
        return EXCLUSIVE
    total = counts[dialect_table.TOTAL_TOKENS]
    completion = counts[conventions.USAGE_OUTPUT_TOKENS] or 0
    own_sum = _is_own_sum(reading)
    if total == prompt + completion and not own_sum:
        return INCLUSIVE
    if beside > prompt or total == prompt + beside + completion:
        return EXCLUSIVE
    if own_sum:
        return EXCLUSIVE if reading.values.get(conventions.PROVIDER_NAME) in _EXCLUSIVE_PROVIDERS else INCLUSIVE
    provider = reading.values.get(conventions.PROVIDER_NAME)
    is_provider_s = reading.dialect.basis == "provider" and provider in _EXCLUSIVE_PROVIDERS
    return EXCLUSIVE if is_provider_s else INCLUSIVE


def _is_own_sum(reading: Reading) -> bool:
    """Return whether a total is the instrumentation's own sum of input and output."""
    if reading.scope.startswith(dialect_table.TOTAL_IS_OWN_SUM):
        return True
    key, start = reading.dialect.own_sum or ("", "")
    return bool(key) and str(reading.attributes.get(key)).startswith(start)


def texts(span: records.Span, reading: Reading) -> tuple[dict[str, Any], Any]:
    """Return what was asked, {attribute: value}, and what was answered; both as the dialect shapes them.

    What was answered is the value itself, or {attribute: value} where an answer has several parts.
    """
    attributes = reading.attributes
    asked: dict[str, Any] = {}
    answered: dict[str, Any] = {}
    for rank in sorted(reading.shape.spoken):
        dialect = DIALECTS[rank]
        if not asked:
            asked = _collected(attributes, dialect.asked, all_parts="asked" in dialect.in_parts)
        if not answered:
            answered = _collected(attributes, dialect.answered, all_parts="answered" in dialect.in_parts)
    asked = asked or _spoken_of(span, _ASKED_EVENTS)
    answered = answered or _spoken_of(span, _ANSWERED_EVENTS)
    return asked, next(iter(answered.values())) if len(answered) == 1 else answered or None


_ASKED_EVENTS: Final = (
    *("gen_ai.content.prompt", "gen_ai.system.message", "gen_ai.user.message", "gen_ai.assistant.message"),
    "gen_ai.tool.message",
)
_ANSWERED_EVENTS: Final = ("gen_ai.content.completion", _CHOICE_EVENT)


def _spoken_of(span: records.Span, names: Sequence[str]) -> dict[str, Any]:
    """Return the messages that span events of older conventions carry."""
    found = [{"event": event.name, **event.attributes} for event in span.events if event.name in names]
    return {"events": found} if found else {}


def _collected(attributes: records.Attributes, names: Sequence[str], *, all_parts: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        value = attributes.get(name) if not name.endswith(".") else _nested(attributes, name)
        if value is not None:
            found[name.removeprefix(conventions.GEN_AI).rstrip(".")] = value
            if not all_parts:
                break
    return found


def _nested(attributes: records.Attributes, prefix: str) -> Any:
    """Return attributes with dotted keys as the structure that they flatten: maps, and lists for numbers."""
    tree: dict[str, Any] = {}
    for key, value in attributes.items():
        if not key.startswith(prefix):
            continue
        node = tree
        *path, last = key[len(prefix) :].split(".")
        for step in path[:_DEEPEST]:
            inner = node.setdefault(step, {})
            if not isinstance(inner, dict):
                inner = node[step] = {"": inner}
            node = inner
        node[last] = value
    return _listed(tree) if tree else None


_DEEPEST: Final = 8
_LONGEST_INDEX: Final = 6


def _listed(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if all(key.isascii() and key.isdecimal() and len(key) < _LONGEST_INDEX for key in tree):
        return [_listed(tree[key]) for key in sorted(tree, key=int)]
    return {key: _listed(value) for key, value in tree.items()}

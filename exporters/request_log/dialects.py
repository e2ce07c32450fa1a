"""The ways in which spans speak of model calls, as a table: which attribute of which dialect means what.

A dialect is a mapping from its attribute names to the current GenAI names. Adding one is adding a row (and a fixture).
Where a span speaks two dialects, the earlier row wins, and the row records the latest dialect that was needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from otel_telemetry import conventions

#: Current names that a model call is read from.
CURRENT: Final = (
    conventions.OPERATION_NAME,
    conventions.PROVIDER_NAME,
    conventions.REQUEST_MODEL,
    conventions.REQUEST_STREAM,
    conventions.RESPONSE_ID,
    conventions.RESPONSE_MODEL,
    conventions.RESPONSE_FINISH_REASONS,
    conventions.RESPONSE_TIME_TO_FIRST_CHUNK,
    conventions.USAGE_INPUT_TOKENS,
    conventions.USAGE_OUTPUT_TOKENS,
    conventions.USAGE_CACHE_READ_TOKENS,
    conventions.USAGE_CACHE_CREATION_TOKENS,
    conventions.USAGE_REASONING_TOKENS,
)

DIALECTS: Final[tuple[tuple[str, Mapping[str, str]], ...]] = (
    ("gen_ai", {name: name for name in CURRENT} | conventions.SDK_NAMES),
    ("gen_ai.old", conventions.OLD_NAMES),
)

#: Attributes in which a producer says what a call cost it, in USD, best first.
GIVEN_COST: Final = ("request_log.cost_usd", "gen_ai.usage.cost", "llm.cost.total", "llm.usage.cost")

_MEANING: Final = {
    attribute: (canonical, rank)
    for rank, (_, names) in reversed(list(enumerate(DIALECTS)))
    for attribute, canonical in names.items()
}

INCLUSIVE: Final = "inclusive"
EXCLUSIVE: Final = "exclusive"
#: The providers whose own APIs count cached tokens beside the input, not inside it.
_EXCLUSIVE_PROVIDERS: Final = frozenset({"anthropic", "aws.bedrock"})


@dataclass(slots=True)
class Reading:
    """What a span says about a model call, under current names, and in which dialect."""

    values: dict[str, Any] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)

    @property
    def dialect(self) -> str:
        """Name of the least current dialect that a value was taken from."""
        return DIALECTS[max(self.ranks.values(), default=0)][0]

    @property
    def is_model_call(self) -> bool:
        """A model call says so, or is of an older convention: it names a model and its usage, but no operation."""
        operation = self.values.get(conventions.OPERATION_NAME)
        if operation is not None:
            return operation in conventions.MODEL_CALL_OPERATIONS
        has_model = conventions.REQUEST_MODEL in self.values or conventions.RESPONSE_MODEL in self.values
        return has_model and (
            conventions.USAGE_INPUT_TOKENS in self.values or conventions.USAGE_OUTPUT_TOKENS in self.values
        )


def read(attributes: Mapping[str, Any]) -> Reading:
    """Read what a span says about a model call."""
    reading = Reading()
    for attribute, value in attributes.items():
        meaning = _MEANING.get(attribute)
        if meaning is None or value is None:
            continue
        canonical, rank = meaning
        if rank < reading.ranks.get(canonical, len(DIALECTS)):
            reading.values[canonical] = value
            reading.ranks[canonical] = rank
    return reading


def is_known(attribute: str) -> bool:
    """Tell whether an attribute has a column by way of `read`."""
    return attribute in _MEANING


def is_content(attribute: str) -> bool:
    """Tell whether an attribute holds messages between people and models."""
    return attribute in conventions.CONTENT_KEYS or attribute.startswith(conventions.CONTENT_PREFIXES)


def token_basis(
    dialect: str, provider: str | None, prompt: int | None, cached: int | None, cache_write: int | None
) -> str | None:
    """Say whether `prompt` counts cached tokens too (inclusive) or not (exclusive); None without a count.

    The current convention demands inclusive counts. Whatever a span claims, more cached than all tokens can only be
    exclusive. Spans of older conventions pass on what the provider counts, which for Anthropic is exclusive.
    """
    if prompt is None:
        return None
    if (cached or 0) + (cache_write or 0) > prompt:
        return EXCLUSIVE
    if dialect != DIALECTS[0][0] and provider in _EXCLUSIVE_PROVIDERS and (cached or cache_write):
        return EXCLUSIVE
    return INCLUSIVE

"""What a model call cost, from the price table of `genai-prices`, by exact match or not at all.

genai-prices finds a model by rules, some of which match any name with a certain beginning or part: a model that comes
out tomorrow could be priced as its predecessor. We take a match only where the name is the one that the table has:

- it equals the model's id, or a name that the rules list (`ClauseEquals`), or
- a rule that is an anchored regular expression (`^...$`) matches all of it, or
- a rule `starts with X` matches and what follows X is a version of the same model: a date, `latest`, or `v1:0`.

Which of these it was is kept with the cost: `name` for the first, `version` for the others.

The provider too must be known by name (`_PROVIDERS`, else the table's own id): none is guessed from the model.
Where the table says that a provider sells another's models at their price (Azure, Vertex AI), that is followed.

Prices depend on the day and, for some models, on the size of the input; both are applied as the table says. Tokens for
which the table has no price make the call unpriced. Amounts are exact decimals, rounded once, half even, to 1e-12 USD.
Loading the table takes a quarter of a second, so it is loaded with the first call that is priced.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from otel_telemetry.exporters.request_log.coerce import SMALLEST_AMOUNT

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

#: `gen_ai.provider.name` (and `gen_ai.system` before it) -> id in genai-prices, where the two differ.
_PROVIDERS: Final = {
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot_ai": "moonshotai",
    "vertex_ai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}
_SAME_MODEL: Final = re.compile(r"(?:[-@.:]?(?:20\d{6}|20\d{2}-\d{2}-\d{2}|latest|v\d{1,2}(?::\d{1,2})?|:\d{1,2}))*\Z")
_MILLION: Final = Decimal(1_000_000)
_NOTHING: Final = Decimal(0)
_CACHED_MODELS: Final = 4_096


@dataclass(slots=True, frozen=True)
class Tokens:
    """What is priced. `prompt` includes `cached` and `cache_write`; `completion` includes `reasoning`."""

    prompt: int
    cached: int
    cache_write: int
    completion: int
    reasoning: int


@dataclass(slots=True, frozen=True)
class Cost:
    """US dollars. `input` is what was read anew or written to the cache, `cached` what was read from it.

    `match` is how the table knows the model: by its `name`, or as a `version` of one.
    """

    total: Decimal
    input: Decimal
    cached: Decimal
    output: Decimal
    match: str


@functools.cache
def price_version() -> str:
    """Name and version of the price table."""
    import genai_prices  # noqa: PLC0415  # a quarter of a second, only where something is priced

    return f"genai-prices/{genai_prices.__version__}"


def price(provider: str | None, model: str | None, tokens: Tokens, at: datetime) -> Cost | None:
    """Price a call, or return None where the table has no exact answer."""
    if not provider or not model:
        return None
    found = _lasting(provider, model)
    if found is None:
        return None
    known, match = found
    return _cost(known if isinstance(known, _Rates) else _Rates.of(known.get_prices(at)), tokens, match)


@functools.lru_cache(maxsize=_CACHED_MODELS)
def _lasting(provider: str, model: str) -> "tuple[ModelInfo | _Rates, str] | None":
    """Return what a model costs where that is the same at any time, else the model; None for an unknown one."""
    found = _model(provider.lower(), model.lower())
    if found is None:
        return None
    known, match = found
    return known if isinstance(known.prices, list) else _Rates.of(known.prices), match


@dataclass(slots=True, frozen=True)
class _Rates:
    """Prices of a model as the table has them: USD per million tokens, tiers of it, or None; `fee` per 1,000 calls."""

    input: Any
    cached: Any
    cache_write: Any
    output: Any
    reasoning: Any
    fee: Any

    @classmethod
    def of(cls, prices: "ModelPrice") -> "_Rates":
        """Return the rates of one price list."""
        return cls(
            input=prices.input_mtok,
            cached=_first(prices.cache_read_mtok, prices.input_mtok),
            cache_write=_first(prices.cache_write_mtok, prices.input_mtok),
            output=prices.output_mtok,
            reasoning=_first(prices.output_reasoning_mtok, prices.output_mtok),
            fee=prices.requests_kcount,
        )


def _cost(rates: _Rates, tokens: Tokens, match: str) -> Cost | None:
    prompt = tokens.prompt
    anew = prompt - tokens.cached - tokens.cache_write
    said = tokens.completion - tokens.reasoning
    if anew < 0 or said < 0:
        return None
    try:
        read = _amount(anew, rates.input, prompt) + _amount(tokens.cache_write, rates.cache_write, prompt)
        cached = _amount(tokens.cached, rates.cached, prompt)
        written = _amount(said, rates.output, prompt) + _amount(tokens.reasoning, rates.reasoning, prompt)
    except LookupError:
        return None
    if rates.fee is not None:  # on top of each call
        read += _amount(1_000, rates.fee, prompt)
    parts = read.quantize(SMALLEST_AMOUNT), cached.quantize(SMALLEST_AMOUNT), written.quantize(SMALLEST_AMOUNT)
    return Cost(parts[0] + parts[1] + parts[2], *parts, match)


def _first(price: Any, otherwise: Any) -> Any:
    return otherwise if price is None else price


def _amount(count: int, per_million: Any, prompt: int) -> Decimal:
    if count == 0:
        return _NOTHING
    if per_million is None:
        raise LookupError
    if not isinstance(per_million, Decimal):  # tiers: a large input makes every token dearer
        tiers = [tier.price for tier in per_million.tiers if prompt > tier.start]
        per_million = tiers[-1] if tiers else per_million.base
    rate: Decimal = per_million
    return count * rate / _MILLION


@functools.lru_cache(maxsize=_CACHED_MODELS)
def _model(provider: str, name: str) -> "tuple[ModelInfo, str] | None":
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415  # see price_version

    by_id = {known.id: known for known in get_snapshot().providers}
    seller = by_id.get(_PROVIDERS.get(provider, provider))
    if seller is None:
        return None
    for owner in (seller, *(by_id[other] for other in seller.fallback_model_providers or () if other in by_id)):
        found = _exact(owner, name)
        if found is not None:
            return found
    return None


def _exact(provider: "Provider", name: str) -> "tuple[ModelInfo, str] | None":
    """Return the model of that very name, and how it was found. Names listed as such go before patterns."""
    for model in provider.models:
        if name == model.id.lower() or any(_is_name(rule, name) for rule in _alternatives(model.match)):
            return model, "name"
    for model in provider.models:
        if any(_is_version(rule, name) for rule in _alternatives(model.match)):
            return model, "version"
    return None


def _alternatives(rule: Any) -> Iterator[Any]:
    """Yield the rules of which one is enough; parts of an AND are none."""
    if hasattr(rule, "or_"):
        for part in rule.or_:
            yield from _alternatives(part)
    else:
        yield rule


def _is_name(rule: Any, name: str) -> bool:
    return hasattr(rule, "equals") and bool(name == rule.equals.lower())


def _is_version(rule: Any, name: str) -> bool:
    if hasattr(rule, "starts_with"):
        start = rule.starts_with.lower().rstrip("-@")
        return name.startswith(start) and _SAME_MODEL.match(name, len(start)) is not None
    if hasattr(rule, "regex") and rule.regex.startswith("^") and rule.regex.endswith("$"):
        return re.match(rule.regex, name) is not None
    return False

"""The cost of a model call from the price table of `genai-prices`: exact, or none with the reason.

price_table.py finds the table's entry for the call's model. Prices depend on the day, for some models on the size of
the input, and on the tier that served the call (`flex`, `priority`, `batch`); all are applied as in the table. Besides
text tokens, these have their own prices: tokens of audio, images and video, prompts written to a cache for an hour, and
searches. If the table has no price for one of them, the call is unpriced, with the reason.

Amounts are exact decimals, rounded once, half even, to 1e-12 USD. Loading the table takes a quarter of a second, so it
is loaded with the first call that is priced.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_telemetry.exporters.request_log.db.coerce import SMALLEST_AMOUNT
from otel_telemetry.exporters.request_log.price import price_table

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_MILLION: Final = Decimal(1_000_000)
_THOUSAND: Final = Decimal(1_000)
_NOTHING: Final = Decimal(0)
#: Tiers that cost what the list says.
_STANDARD: Final = frozenset({"", "default", "standard", "standard_only", "auto", "on_demand", "on-demand"})
#: A tier that a provider sells at its list price, by (provider, tier). Source: console.groq.com/docs/flex-processing.
_STANDARD_AT: Final = frozenset({("groq", "flex"), ("groq", "performance")})
#: Kinds of tokens with a price of their own: (name of the count, name of the price).
_INPUT_KINDS: Final = (
    ("input_audio_tokens", "input_audio_mtok"),
    ("input_image_tokens", "input_image_mtok"),
    ("input_video_tokens", "input_video_mtok"),
)
_CACHED_KINDS: Final = (
    ("cache_audio_read_tokens", "cache_audio_read_mtok"),
    ("cache_image_read_tokens", "cache_image_read_mtok"),
    ("cache_video_read_tokens", "cache_video_read_mtok"),
)
_OUTPUT_KINDS: Final = (
    ("output_audio_tokens", "output_audio_mtok"),
    ("output_image_tokens", "output_image_mtok"),
)
_HOUR: Final = Decimal(3_600_000)  # in milliseconds
#: What is charged by its number: (name of the count, name of the price, for how many that is).
_FEES: Final = (
    ("web_searches", "web_searches_kcount", _THOUSAND),
    ("storage_searches", "storage_searches_kcount", _THOUSAND),
    ("input_characters", "input_mchars", _MILLION),
    ("input_audio_ms", "input_audio_hours", _HOUR),
    ("pages", "input_document_kpages", _THOUSAND),
    ("annotated_pages", "input_annotated_document_kpages", _THOUSAND),
)
_CACHE_WRITE_1H: Final = "cache_write_1h_tokens"
#: Kinds that cost what text does where the table has no price for them. Providers price images and videos that are
#: read by their tokens; Google's price list is one line for all kinds where they cost the same.
_LIKE_TEXT: Final = frozenset(
    {"input_image_tokens", "input_video_tokens", "cache_image_read_tokens", "cache_video_read_tokens"}
)
_LIKE_TEXT_AT_GOOGLE: Final = frozenset({"input_audio_tokens", "cache_audio_read_tokens", "output_audio_tokens"})


class Tokens(NamedTuple):
    """What is priced. `prompt` includes `cached` and `cache_write`; `completion` includes `reasoning`.

    `kinds` are counts of `dialect_table.PRICED_KINDS`: tokens of other kinds than text, which the sums include, and
    searches. `tier` is the service tier that the answer names.
    """

    prompt: int
    cached: int
    cache_write: int
    completion: int
    reasoning: int
    kinds: Mapping[str, int] = {}
    tier: str | None = None


class Cost(NamedTuple):
    """US dollars. `input` is what was read anew or written to the cache, with fees; `cached` what was read from it.

    `match` is how the table knows the model: by its `name`, or as a `version` of one.
    """

    total: Decimal
    input: Decimal
    cached: Decimal
    output: Decimal
    match: str


@dataclass(slots=True, frozen=True)
class NoPrice:
    """A call that the table cannot price. `is_unknown`: it does not have the model, under this name."""

    reason: str
    is_unknown: bool = False


@functools.cache
def price_version() -> str:
    """Name and version of the price table."""
    import genai_prices  # noqa: PLC0415  # a quarter of a second, only where something is priced

    return f"genai-prices/{genai_prices.__version__}"


def price(provider: str | None, model: str | None, tokens: Tokens, at: datetime) -> Cost | NoPrice:
    """Price a call, or return why the table has no exact answer."""
    if not provider or not model:
        return NoPrice("the provider is not known" if not provider else "the model is not known", is_unknown=True)
    found = _entry(provider, model)
    if isinstance(found, NoPrice):
        return found
    if found.model.id.endswith(_FREE):
        return Cost(_NOTHING, _NOTHING, _NOTHING, _NOTHING, found.match)
    tier = (tokens.tier or "").lower()
    if tier in _STANDARD or (found.seller, tier) in _STANDARD_AT:
        rates = found.lasting or _Rates.of(found.model.get_prices(at))
    else:
        prices = _of_tier(found.model, tier, at)
        if prices is None:
            return NoPrice(f"no price for the tier {tier[:_LONGEST_TIER]}")
        rates = _Rates.of(prices)
    return _cost(rates, tokens, found)


_LONGEST_TIER: Final = 32
_FREE: Final = ":free"  # of OpenRouter's models; the table has no prices for them


@dataclass(slots=True, frozen=True)
class _Entry:
    """A model of the table, how its name was found, who sells it, and its rates where they never change."""

    model: "ModelInfo"
    match: str
    seller: str
    lasting: "_Rates | None"


@functools.lru_cache(maxsize=4_096)
def _entry(provider: str, model: str) -> _Entry | NoPrice:
    found = price_table.find(provider.lower(), model.lower())
    if isinstance(found, str):
        return NoPrice(found, is_unknown=True)
    known, match, seller = found
    return _Entry(known, match, seller, None if isinstance(known.prices, list) else _Rates.of(known.prices))


def _of_tier(model: "ModelInfo", tier: str, at: datetime) -> "ModelPrice | None":
    """Return the prices of a tier, or None where the table has none for this model at that time."""
    for context in ({"service_tier": tier}, {"processing": tier}, {"speed": tier}):
        for variant in model.price_variants or ():
            if variant.when == context and (variant.constraint is None or variant.constraint.active(at)):
                return model.get_prices(at, context)
    return None


@dataclass(slots=True, frozen=True)
class _Rates:
    """Prices of a model as the table has them: USD per million tokens, tiers of it, or None; `fee` per 1,000 calls.

    `per_token`: the same five for one token, where all of them are amounts, and nothing else is charged.
    """

    input: Any
    cached: Any
    cache_write: Any
    output: Any
    reasoning: Any
    fee: Any
    prices: "ModelPrice"
    per_token: "tuple[Decimal, ...] | None"

    @classmethod
    def of(cls, prices: "ModelPrice") -> "_Rates":
        """Return the rates of one price list."""
        by_kind = (
            prices.input_mtok,
            _first(prices.cache_read_mtok, prices.input_mtok),
            _first(prices.cache_write_mtok, prices.input_mtok),
            prices.output_mtok,
            _first(prices.output_reasoning_mtok, prices.output_mtok),
        )
        fee = prices.requests_kcount
        plain = tuple(rate / _MILLION for rate in by_kind if isinstance(rate, Decimal))
        return cls(*by_kind, fee, prices, plain if fee is None and len(plain) == len(by_kind) else None)


class _Amounts:
    """Adds up amounts of one call; raises LookupError with the reason where a price is missing."""

    __slots__ = ("_google", "_kinds", "_prices", "_prompt")

    def __init__(self, rates: _Rates, tokens: Tokens, seller: str) -> None:
        self._prices = rates.prices
        self._prompt = tokens.prompt
        self._kinds = tokens.kinds
        self._google = seller == "google"

    def of_kinds(self, kinds: tuple[tuple[str, str], ...], cached: tuple[str, ...], like_text: Any) -> tuple[int, Any]:
        """Return how many tokens are of these kinds and what they cost, without those of each that are `cached`."""
        count, amount = 0, _NOTHING
        if not self._kinds:
            return count, amount  # nearly always
        for (name, key), beside in zip(kinds, cached, strict=True):
            found = max(0, self._kinds.get(name, 0) - self._kinds.get(beside, 0))
            if found:
                count += found
                amount += self.of(found, self._rate(name, key, like_text), name)
        return count, amount

    def _rate(self, name: str, key: str, like_text: Any) -> Any:
        shared = name in _LIKE_TEXT or (self._google and name in _LIKE_TEXT_AT_GOOGLE)
        # A model that reads images at a price of their own, and writes at one price, writes images.
        shared = shared or (name == "output_image_tokens" and self._prices.input_image_mtok is not None)
        return _first(getattr(self._prices, key, None), like_text if shared else None)

    def of(self, count: int, rate: Any, name: str, per: Decimal = _MILLION) -> Decimal:
        """Return what a count costs at a rate, which may have tiers: a large input makes every token dearer."""
        if count == 0:
            return _NOTHING
        if rate is None:
            raise LookupError(f"no price for {name}")
        if not isinstance(rate, Decimal):
            tiers = [tier.price for tier in rate.tiers if self._prompt > tier.start]
            rate = tiers[-1] if tiers else rate.base
        exact: Decimal = rate
        return count * exact / per

    def fees(self) -> Decimal:
        """Return what the searches, the sounds, the pages and the texts to be spoken cost."""
        amount = _NOTHING
        for name, key, per in _FEES:
            if found := self._kinds.get(name, 0):
                amount += self.of(found, getattr(self._prices, key, None), name, per)
        return amount


_NO_CACHE: Final = ("",) * len(_CACHED_KINDS)


def _cost(rates: _Rates, tokens: Tokens, found: _Entry) -> Cost | NoPrice:
    """Price a call by its rates. More reasoning than output, as some servers count, is all of the output."""
    reasoning = min(tokens.reasoning, tokens.completion)
    if rates.per_token is not None and not tokens.kinds:
        return _cost_of_text(rates.per_token, tokens, reasoning, found.match)
    amounts = _Amounts(rates, tokens, found.seller)
    try:
        hour = min(tokens.kinds.get(_CACHE_WRITE_1H, 0), tokens.cache_write)
        cached_kinds, cached = amounts.of_kinds(_CACHED_KINDS, _NO_CACHE, rates.cached)
        read_kinds, read = amounts.of_kinds(_INPUT_KINDS, tuple(name for name, _ in _CACHED_KINDS), rates.input)
        made_kinds, written = amounts.of_kinds(_OUTPUT_KINDS, _NO_CACHE[: len(_OUTPUT_KINDS)], rates.output)
        anew = tokens.prompt - tokens.cached - tokens.cache_write - read_kinds
        text_tokens = tokens.completion - reasoning - made_kinds
        if anew < 0 or text_tokens < 0 or tokens.cached < cached_kinds:
            return NoPrice("the counts contradict each other")
        read += amounts.of(anew, rates.input, "input tokens") + amounts.fees()
        read += amounts.of(tokens.cache_write - hour, rates.cache_write, "cache writes")
        read += amounts.of(hour, rates.prices.cache_write_1h_mtok, "cache writes for an hour")
        cached += amounts.of(tokens.cached - cached_kinds, rates.cached, "cached tokens")
        written += amounts.of(text_tokens, rates.output, "output tokens")
        written += amounts.of(reasoning, rates.reasoning, "reasoning")
        if rates.fee is not None:
            read += amounts.of(1, rates.fee, "a request", _THOUSAND)
    except LookupError as error:
        return NoPrice(str(error.args[0]))
    parts = read.quantize(SMALLEST_AMOUNT), cached.quantize(SMALLEST_AMOUNT), written.quantize(SMALLEST_AMOUNT)
    return Cost(parts[0] + parts[1] + parts[2], *parts, found.match)


def _cost_of_text(rates: tuple[Decimal, ...], tokens: Tokens, reasoning: int, match: str) -> Cost | NoPrice:
    """Price a call that has nothing but tokens of text, by amounts for each: nearly all calls."""
    fresh, text = tokens.prompt - tokens.cached - tokens.cache_write, tokens.completion - reasoning
    if fresh < 0 or text < 0:
        return NoPrice("the counts contradict each other")
    read = (fresh * rates[0] + tokens.cache_write * rates[2]).quantize(SMALLEST_AMOUNT)
    cached = (tokens.cached * rates[1]).quantize(SMALLEST_AMOUNT)
    written = (text * rates[3] + reasoning * rates[4]).quantize(SMALLEST_AMOUNT)
    return Cost(read + cached + written, read, cached, written, match)


def _first(price: Any, otherwise: Any) -> Any:
    return otherwise if price is None else price

"""The cost of a model call: the producer's bill, else the price table's cost, else none.

A call that the server refused (an HTTP status from 400 on) is not billed: it has no cost and lacks none. A call that
was abandoned or broke off may be billed, for tokens that nobody reported. If a count is missing or was absurd, the
other counts would give too low a cost, so there is none.

`meta` contains how the table matched the model (`price_match`), beside a producer's cost the table's
(`computed_cost_usd`), and without a cost the reason (`unpriced`). Counts that have no column but change the price
(tokens of audio, searches, the service tier) are in `meta.usage`, so that a stored call can be priced again.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Protocol

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.db import coerce
from otel_telemetry.exporters.request_log.db.coerce import Notes
from otel_telemetry.exporters.request_log.dialects import dialect_table, dialects
from otel_telemetry.exporters.request_log.price import cost

#: How the price table knows a model, in `meta`.
MATCH: Final = "price_match"
#: What of `meta` a price brings along.
PRICED_BY: Final = frozenset({MATCH, "price_model", "computed_cost_usd", "unpriced"})
#: What of `meta` belongs to a price.
PRICE_KEYS: Final = PRICED_BY | {"usage"}
#: Providers whose answers state a bill of 0 where they really charge nothing.
_FREE_AT: Final = frozenset({"openrouter"})
_TIER: Final = "service_tier"
_FEATURE: Final = "unpriced_feature"
_WITHOUT_OUTPUT: Final = frozenset({"embeddings", "rerank", "moderation"})
#: Problems with which a count is lost, and how names of counts end.
_UNUSABLE: Final = conventions.COUNT_PROBLEMS - {conventions.NOT_A_MAP, conventions.NOT_THE_SUM}
_COUNTS: Final = ("tokens", "tokencount")
#: Counts in whose place there are no tokens.
_INSTEAD: Final = ("input_characters", "input_audio_ms", "pages", "annotated_pages")
#: States of an answer that is made in the background, and why its call has no cost then.
_TO_COME: Final = frozenset({"queued", "in_progress"})
_FETCHED_ELSEWHERE: Final = "the answer is made in the background, and was not seen being fetched"
_USAGE: Final = "gen_ai.usage."
_KINDS: Final = {conventions.USAGE_DETAILS + name: name for name in dialect_table.PRICED_KINDS}


class Counted(Protocol):
    """A call, as far as it is priced."""

    provider: str | None
    model: str | None
    model_requested: str | None
    operation: str | None
    ts: datetime
    prompt_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    meta: dict[str, Any] | None


def computed(call: Counted, problems: Mapping[str, Any]) -> tuple[cost.Cost | cost.NoPrice, str | None]:
    """Return the table's cost, and the model that it was found by if that is not the one that answered.

    There is a cost only if all counts are known and none of the `problems` is about one.
    """
    usage = (call.meta or {}).get("usage") or {}
    if feature := usage.get(_FEATURE):
        return cost.NoPrice(f"{feature} is in no price table"), None
    has_output = call.completion_tokens is not None or call.operation in _WITHOUT_OUTPUT
    if (call.prompt_tokens is None or not has_output) and not any(name in usage for name in _INSTEAD):
        return cost.NoPrice("token counts are missing"), None
    if wrong := next((key for key in problems if _is_lost_count(key, problems[key])), None):
        return cost.NoPrice(f"{wrong} cannot be used"), None
    tokens = cost.Tokens(
        prompt=call.prompt_tokens or 0,
        cached=call.cached_tokens or 0,
        cache_write=call.cache_write_tokens or 0,
        completion=call.completion_tokens or 0,
        reasoning=call.reasoning_tokens or 0,
        kinds=_counts_of_kinds(usage, in_tokens=call.prompt_tokens is not None) if usage else {},
        tier=usage.get(_TIER),
    )
    found = cost.price(call.provider, call.model, tokens, call.ts)
    asked = call.model_requested
    if isinstance(found, cost.NoPrice) and found.is_unknown and asked and asked != call.model:
        other = cost.price(call.provider, asked, tokens, call.ts)
        if isinstance(other, cost.Cost):
            return other, asked
    return found, None


def _is_lost_count(key: str, problem: Any) -> bool:
    """Return whether a problem is of a count that changes the cost: under our name for it, or the provider's."""
    if key.startswith(_USAGE):
        return True
    return problem in _UNUSABLE and key.lower().endswith(_COUNTS) and not key.lower().startswith("total")


def _counts_of_kinds(usage: Mapping[str, Any], *, in_tokens: bool) -> dict[str, int]:
    """Return what changes the price; of what is counted in tokens, no characters and no seconds."""
    kinds = (name for name in dialect_table.PRICED_KINDS if not (in_tokens and name in _INSTEAD))
    return {name: count for name in kinds if type(count := usage.get(name)) is int}


def meta(found: cost.Cost, model: str | None, *, given: bool) -> dict[str, Any]:
    """Return what is kept of a price beside the cost; `model`: the one that it was found by, if not the answer's."""
    noted = {MATCH: found.match if model is None else "requested"}
    if model is not None:
        noted["price_model"] = model
    return {**noted, "computed_cost_usd": str(found.total)} if given else noted


def usage(values: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """Return what changes the price without a column: counts of `PRICED_KINDS` above 0, the tier, what has a fee."""
    found: dict[str, Any] = {}
    for key in () if _KINDS.keys().isdisjoint(values) else values.keys() & _KINDS.keys():
        if count := coerce.integer(values[key], key, notes):
            found[_KINDS[key]] = count
    for name, meaning in ((_TIER, dialect_table.SERVICE_TIER), (_FEATURE, dialect_table.UNPRICED_FEATURE)):
        if meaning in values and (value := coerce.text(values[meaning], name, notes, coerce.ID_LIMIT)):
            found[name] = value
    return found


def moved(own: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return `meta` of a call with what another, whose cost it takes over, has of a price."""
    rest = {key: value for key, value in (own or {}).items() if key not in PRICE_KEYS}
    taken = {key: value for key, value in (other or {}).items() if key in PRICE_KEYS}
    return {**taken, **rest} or None


def given(attributes: records.Attributes, values: Mapping[str, Any], notes: Notes) -> Decimal | None:
    """Return the cost that the producer reports."""
    if dialects.GIVEN_COST in attributes:
        own = coerce.money(attributes[dialects.GIVEN_COST], dialects.GIVEN_COST, notes)
        if own is not None:
            return own
    if dialect_table.COST not in values:
        return None
    bill = coerce.money(values[dialect_table.COST], dialect_table.COST, notes)
    # Some proxies and SDKs say 0 for what they cannot price; the app itself and some providers mean it.
    return bill if bill or str(values.get(conventions.PROVIDER_NAME)) in _FREE_AT else None


def fill(call: records.LlmCall, billed: Decimal | None, notes: Notes, *, due: bool) -> None:
    """Fill in the cost; a call that has none is unpriced where one is `due`."""
    found, model = computed(call, notes)
    if isinstance(found, cost.Cost) and not due:  # what a refused request brought along was not served
        found = cost.NoPrice("refused")
    if isinstance(found, cost.Cost):
        call.price_version = cost.price_version()
        call.meta = {**(call.meta or {}), **meta(found, model, given=billed is not None)}
    if billed is not None:
        call.cost_usd, call.cost_source = billed, "given"
    elif isinstance(found, cost.Cost):
        call.cost_usd, call.cost_source = found.total, "computed"
        call.cost_input_usd, call.cost_cached_usd, call.cost_output_usd = found.input, found.cached, found.output
    elif due:
        call.cost_source = "unpriced"
        is_to_come = call.prompt_tokens is None and call.finish_reason in _TO_COME
        call.meta = {**(call.meta or {}), "unpriced": _FETCHED_ELSEWHERE if is_to_come else found.reason}

"""What a model call is charged: what its producer was billed, else what the price table says, else nothing.

A call that the server refused (an HTTP status from 400 on) is not billed: it has no cost and lacks none. One that was
given up or broke off may well be, for tokens that nobody reported. Where a count is missing or was absurd, the others
alone would give too low a cost, hence none. `meta` keeps how the table knows the model (`price_match`), and beside a
producer's cost what the table says (`computed_cost_usd`).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Protocol

from otel_telemetry import records
from otel_telemetry.exporters.request_log import coerce, cost, dialects
from otel_telemetry.exporters.request_log import dialect_table as table
from otel_telemetry.exporters.request_log.coerce import Notes

_KEPT: Final = frozenset({"price_match", "computed_cost_usd"})
_EMBEDDINGS: Final = "embeddings"
_USAGE: Final = "gen_ai.usage."


class Counted(Protocol):
    """A call, as far as it is priced."""

    provider: str | None
    model: str | None
    operation: str | None
    ts: datetime
    prompt_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None


def computed(call: Counted, problems: Iterable[str]) -> cost.Cost | None:
    """Return what the table says, where all counts are known and none of the `problems` is about one."""
    has_output = call.completion_tokens is not None or call.operation == _EMBEDDINGS
    if call.prompt_tokens is None or not has_output or any(key.startswith(_USAGE) for key in problems):
        return None
    tokens = cost.Tokens(
        prompt=call.prompt_tokens,
        cached=call.cached_tokens or 0,
        cache_write=call.cache_write_tokens or 0,
        completion=call.completion_tokens or 0,
        reasoning=call.reasoning_tokens or 0,
    )
    return cost.price(call.provider, call.model, tokens, call.ts)


def meta(found: cost.Cost, *, given: bool) -> dict[str, Any]:
    """Return what is kept of a price beside the cost."""
    kept = {"price_match": found.match}
    return {**kept, "computed_cost_usd": str(found.total)} if given else kept


def moved(own: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return `meta` of a call with what another, whose cost it takes over, has of a price."""
    kept = {key: value for key, value in (own or {}).items() if key not in _KEPT}
    taken = {key: value for key, value in (other or {}).items() if key in _KEPT}
    return {**taken, **kept} or None


def given(attributes: records.Attributes, values: Mapping[str, Any], notes: Notes) -> Decimal | None:
    """Return what the producer says that the call cost."""
    if dialects.GIVEN_COST in attributes:
        own = coerce.money(attributes[dialects.GIVEN_COST], dialects.GIVEN_COST, notes)
        if own is not None:
            return own
    # Some proxies and SDKs say 0 for what they cannot price; only the app itself means it.
    return coerce.money(values[table.COST], table.COST, notes) or None if table.COST in values else None


def fill(call: records.LlmCall, billed: Decimal | None, notes: Notes, *, due: bool) -> None:
    """Fill in the cost; a call that has none is unpriced where one is `due`."""
    found = computed(call, notes)
    if found is not None:
        call.price_version = cost.price_version()
        call.meta = meta(found, given=billed is not None)
    if billed is not None:
        call.cost_usd, call.cost_source = billed, "given"
    elif found is not None:
        call.cost_usd, call.cost_source = found.total, "computed"
        call.cost_input_usd, call.cost_cached_usd, call.cost_output_usd = found.input, found.cached, found.output
    elif due:
        call.cost_source = "unpriced"

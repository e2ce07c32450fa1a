"""Costs of model calls for apps: the price table of the request_log, for calls that the instrumentation recorded."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from otel_telemetry.exporters.request_log.price import cost
from otel_telemetry.instrument.active import ModelUsage


def warm() -> None:
    """Load the price table, which takes a quarter of a second."""
    cost.price_version()


def total(calls: Sequence[ModelUsage]) -> Decimal | None:
    """Return US dollars, or None where one of the calls has no known price. Calls that were refused cost nothing."""
    amounts = [_price(call) for call in calls if not call.refused]
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if known and len(known) == len(amounts) else None


def _price(call: ModelUsage) -> Decimal | None:
    if call.bill is not None:
        return Decimal(str(call.bill))
    written = 0 if call.operation == "embeddings" else call.output_tokens
    if call.input_tokens is None or written is None:
        return None
    tokens = cost.Tokens(
        prompt=call.input_tokens,
        cached=call.cache_read or 0,
        cache_write=call.cache_creation or 0,
        completion=written or 0,
        reasoning=call.reasoning or 0,
        kinds=call.kinds,
        tier=call.tier,
    )
    priced = cost.price(call.provider, call.model, tokens, datetime.now(UTC))
    return priced.total if isinstance(priced, cost.Cost) else None

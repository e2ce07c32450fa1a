"""What an answer was, as the attributes of its span, and as what it used up."""

from otel_telemetry.base import conventions
from otel_telemetry.instrument import active
from otel_telemetry.instrument.llm_http import content
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState


def attributes(seen: CallState) -> dict[str, Attribute]:
    """Return what is known of an answer, as attributes."""
    found = _counts(seen)
    if seen.id is not None:
        found[conventions.RESPONSE_ID] = seen.id
    if seen.model is not None:
        found[conventions.RESPONSE_MODEL] = seen.model
    if seen.finish:
        found[conventions.RESPONSE_FINISH_REASONS] = [seen.finish[index] for index in sorted(seen.finish)]
    if seen.also:
        found.update(seen.also)
    if seen.capture and (text := content.dump(content.answers(seen))):
        found[conventions.OUTPUT_MESSAGES] = text
    return found


def _counts(seen: CallState) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {}
    if seen.input_tokens is not None:
        found[conventions.USAGE_INPUT_TOKENS] = seen.input_tokens
    if seen.output_tokens is not None:
        found[conventions.USAGE_OUTPUT_TOKENS] = seen.output_tokens
    if seen.cache_read is not None:
        found[conventions.USAGE_CACHE_READ_TOKENS] = seen.cache_read
    if seen.cache_creation is not None:
        found[conventions.USAGE_CACHE_CREATION_TOKENS] = seen.cache_creation
    if seen.reasoning is not None:
        found[conventions.USAGE_REASONING_TOKENS] = seen.reasoning
    return found


def usage(seen: CallState, provider: str, operation: str, asked: str | None, *, refused: bool) -> active.ModelUsage:
    """Return what a call used up; `asked` is the model that its request names."""
    bill, tier = seen.also.get(conventions.USAGE_COST), seen.also.get(conventions.SERVICE_TIER)
    return active.ModelUsage(
        provider=provider,
        model=seen.model or asked,
        operation=operation,
        input_tokens=seen.input_tokens,
        output_tokens=seen.output_tokens,
        cache_read=seen.cache_read,
        cache_creation=seen.cache_creation,
        reasoning=seen.reasoning,
        refused=refused,
        kinds={
            key.removeprefix(conventions.USAGE_DETAILS): count for key, count in seen.also.items() if type(count) is int
        },
        tier=tier if isinstance(tier, str) else None,
        bill=bill if isinstance(bill, float) and bill > 0 else None,
    )

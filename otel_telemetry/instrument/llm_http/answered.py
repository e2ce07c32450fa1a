"""What an answer was, as the attributes of its span, and as what it used up."""

from operator import attrgetter

from otel_telemetry.base import conventions
from otel_telemetry.instrument import active
from otel_telemetry.instrument.llm_http import content
from otel_telemetry.instrument.llm_http.dialects.base import Attribute, CallState

#: What of an answer goes to the span as it is, and its attributes.
_answered = attrgetter(
    *("id", "model", "input_tokens", "output_tokens", "cache_read", "cache_creation", "reasoning"),
)
_ANSWERED = (
    *(conventions.RESPONSE_ID, conventions.RESPONSE_MODEL),
    *(conventions.USAGE_INPUT_TOKENS, conventions.USAGE_OUTPUT_TOKENS, conventions.USAGE_CACHE_READ_TOKENS),
    *(conventions.USAGE_CACHE_CREATION_TOKENS, conventions.USAGE_REASONING_TOKENS),
)


def attributes(seen: CallState) -> dict[str, Attribute]:
    """Return what is known of an answer, as attributes."""
    found: dict[str, Attribute] = {
        key: value for key, value in zip(_ANSWERED, _answered(seen), strict=True) if value is not None
    }
    if seen.finish:
        found[conventions.RESPONSE_FINISH_REASONS] = [seen.finish[index] for index in sorted(seen.finish)]
    if seen.also:
        found.update(seen.also)
    if seen.capture and (text := content.dump(content.answers(seen))):
        found[conventions.OUTPUT_MESSAGES] = text
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

"""Settings of the instrumentation."""

import ipaddress
import os
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

#: OpenTelemetry's own switch for prompts and answers, and its words for them on spans, and not at all.
CAPTURE_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON_SPANS: Final = ("true", "span_only", "span_and_event")
_NOT_ON_SPANS: Final = ("false", "no_content", "event_only")


class InstrumentSettings(BaseModel):
    """What is instrumented, and which proxies are trusted for the client's address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    llm_http: bool = Field(
        default=True, description="Record model calls made with httpx, httpx2, requests, urllib3, botocore and aiohttp."
    )
    llm_hosts: tuple[str, ...] = Field(
        default=(),
        description="Further host names whose paths of a known dialect are model calls; * for every host.",
    )
    llm_providers: dict[str, str] = Field(
        default_factory=dict,
        description="Provider of a host, for its prices: host name = provider, for example for your own proxy in front "
        "of OpenAI.",
    )
    capture_content: bool | None = Field(
        default=None,
        description="Put prompts and answers on model spans (redacted before they leave). Unset: as "
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT says, else as request_log.store_text.",
    )
    threads: bool = Field(
        default=True, description="Carry the request into threads and thread pools: calls made there belong to it."
    )
    redis_cache: bool = Field(default=True, description="Record hits and misses of redis-py's read commands.")
    redis_family_parts: int = Field(
        default=1, ge=0, le=3, description="Leading `:`-separated parts of a Redis key that name its family, 0 to 3."
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="Networks (CIDR) whose X-Forwarded-For is believed; none: the socket's address is the client.",
    )

    def captures(self, *, store_text: bool = False) -> bool:
        """Return whether prompts and answers are put on spans; `store_text`, whether rows keep them."""
        variable = os.environ.get(CAPTURE_VARIABLE, "").strip().lower()
        if self.capture_content is not None:
            return self.capture_content
        return variable in _ON_SPANS or (store_text and variable not in _NOT_ON_SPANS)

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; write networks like 10.0.0.0/8 or 2001:db8::/32") from None
        return value

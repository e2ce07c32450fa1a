"""Settings of the instrumentation."""

import ipaddress

from pydantic import BaseModel, ConfigDict, Field, field_validator


class InstrumentSettings(BaseModel):
    """What is instrumented, and whose word about the client's address is believed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    llm_http: bool = Field(default=True, description="See model calls made over httpx and httpx2.")
    llm_hosts: tuple[str, ...] = Field(
        default=(),
        description="Further host names whose paths of a known dialect are model calls; * for every host.",
    )
    capture_content: bool = Field(
        default=False, description="Put prompts and answers on model spans (redacted before they leave)."
    )
    redis_cache: bool = Field(default=True, description="See hits and misses of redis-py's read commands.")
    redis_family_parts: int = Field(
        default=1, ge=0, le=3, description="Leading `:`-separated parts of a Redis key that name its family, 0 to 3."
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="Networks (CIDR) whose X-Forwarded-For is believed; none: the socket's address is the client.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; write networks like 10.0.0.0/8 or 2001:db8::/32") from None
        return value

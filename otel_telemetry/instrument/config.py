"""Settings of the instrumentation."""

from pydantic import BaseModel, ConfigDict, Field


class InstrumentSettings(BaseModel):
    """What is instrumented, and whose word about the client's address is believed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    llm_http: bool = Field(default=True, description="See model calls made over httpx and httpx2.")
    llm_hosts: tuple[str, ...] = Field(
        (), description="Further host names whose OpenAI-compatible paths are model calls; * for every host."
    )
    capture_content: bool = Field(
        default=False, description="Put prompts and answers on model spans (redacted before they leave)."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Networks (CIDR) whose X-Forwarded-For is believed; none: the socket's address is the client."
    )

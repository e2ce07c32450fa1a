"""Settings of the page."""

import re
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_TRACE: Final = "{trace_id}"
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*")


class UiSettings(BaseModel):
    """Whether the gateway serves the page, and where what it shows can be looked at further."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=True,
        description="Serve the page at /ui of gateway.http_port, and its JSON at /api, for keys of the role read.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="Database whose requests and model calls the page shows, also by `otel-telemetry ui`: a "
        "replica of PostgreSQL, or ClickHouse, as clickhouse://user:password@host:8123/database or, for "
        "request_log.clickhouse.url, as the word clickhouse. None: request_log.url, from which all else comes anyway.",
    )
    prefix: str = Field(
        "", description="Path under which a proxy in front shows the gateway, and which it takes away, like /tools/llm."
    )
    trace_url: str = Field(
        "", description="Address of a trace in your tracer, like http://127.0.0.1:16686/trace/{trace_id}."
    )
    logs_url: str = Field(
        "",
        description="Address of a trace's logs, like https://grafana.example.com/explore?left={trace_id}.",
    )

    @field_validator("prefix")
    @classmethod
    def _is_path(cls, value: str) -> str:
        if not _PREFIX.fullmatch(value):
            raise ValueError("it is no path like /tools/llm, without a slash at its end")
        return value

    @field_validator("trace_url", "logs_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not (value.startswith(("http://", "https://")) and _TRACE in value):
            raise ValueError(f"it is no http address with {_TRACE}")
        return value

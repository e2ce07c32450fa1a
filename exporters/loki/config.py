"""Settings of the Loki exporter."""

import base64
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from otel_telemetry.exporters.http.destination import Destination, Endpoint


class LokiSettings(Destination):
    """The Loki to which log records are sent as lines, and the limits of that Loki."""

    endpoint: Endpoint | None = Field(
        None, description="URL of Loki, http://loki:3100 for example, without a path of its API; none: no Loki."
    )
    protocol: Literal["push", "otlp"] = Field(
        "push",
        description="Loki's push API, with the labels that docs/delivery.md lists, or its OTLP endpoint, with the "
        "labels of Loki's otlp_config.",
    )
    compression: Literal["none", "gzip"] = Field("gzip", description="Compression of requests.")
    tenant: str | None = Field(
        None, pattern=r"^[A-Za-z0-9!_.*'()|-]{1,150}$", description="Tenant (X-Scope-OrgID) of a Loki that has several."
    )
    username: str | None = Field(
        None, description="User of basic authentication; Grafana Cloud: the instance's number."
    )
    password: SecretStr | None = Field(None, description="Password, or token, of that user.")
    bearer_token: SecretStr | None = Field(None, description="Token that is sent as `authorization: Bearer`.")
    max_streams: int = Field(
        1000,
        ge=1,
        description="Most combinations of labels; above it, further "
        "services become service_name=other, and are counted.",
    )
    max_line_bytes: int = Field(
        256 << 10, ge=0, description="Loki's max_line_size: longer lines become dead letters; 0: no limit."
    )
    max_age_hours: float = Field(
        168.0, ge=0, description="Loki's reject_old_samples_max_age: older lines become dead letters; 0: no limit."
    )
    max_ahead_seconds: float = Field(
        600.0,
        ge=0,
        description="Loki's creation_grace_period: lines further in the future become dead letters; 0: no limit.",
    )
    max_request_bytes: int = Field(
        1 << 20, ge=1 << 10, le=64 << 20, description="Size of one request in bytes, before compression."
    )

    @field_validator("endpoint")
    @classmethod
    def _without_its_api(cls, value: str | None) -> str | None:
        path = "" if value is None else urlsplit(value).path
        for known in ("/loki/api/v1/push", "/otlp/v1/logs", "/otlp"):
            if path.endswith(known):
                raise ValueError(f"must end before {known}, which is appended (loki.protocol says which)")
        return value

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        if self.username is not None and self.bearer_token is not None:
            raise ValueError("either username and password, or bearer_token")
        return self

    def header_values(self) -> dict[str, str]:
        """Return the headers, the tenant's and the credentials among them, in the clear."""
        headers = super().header_values()
        if self.tenant is not None:
            headers["x-scope-orgid"] = self.tenant
        if self.bearer_token is not None:
            headers["authorization"] = f"Bearer {self.bearer_token.get_secret_value()}"
        if self.username is not None and self.password is not None:
            pair = f"{self.username}:{self.password.get_secret_value()}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return headers

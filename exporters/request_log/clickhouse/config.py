"""Settings of ClickHouse behind the request log."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class ClickHouseSettings(BaseModel):
    """The ClickHouse to which rows are sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr | None = Field(
        None,
        description="ClickHouse's HTTP interface, as http://user:password@host:8123/database; rows of requests and"
        " model calls are sent on to it by `otel-telemetry clickhouse relay`. None: rows are not sent.",
    )
    batch_rows: int = Field(20_000, ge=1, le=1_000_000, description="Most rows in one insert to ClickHouse.")
    retention_days: int | None = Field(
        None,
        ge=1,
        description="Days that ClickHouse keeps rows (`otel-telemetry clickhouse init` tells it). None: for ever.",
    )
    text_retention_days: int | None = Field(
        None,
        ge=1,
        description="Days that ClickHouse keeps the texts in rows, like prompts. None: as long as the rows.",
    )

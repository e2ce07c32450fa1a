"""Settings of the request_log exporter."""

from pydantic import BaseModel, ConfigDict, Field

from otel_telemetry.exporters.request_log.audit.config import AuditSettings
from otel_telemetry.exporters.request_log.clickhouse.config import ClickHouseSettings


class RequestLogSettings(BaseModel):
    """The database of the rows, what is stored in them, and how they are batched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "sqlite:///telemetry.db",
        description="SQLAlchemy URL of the database. SQLite: sqlite:///relative.db or sqlite:////absolute.db. "
        "PostgreSQL: postgresql://user:password@host/database, with special characters as %40 and so on.",
        repr=False,
    )
    retention_days: int | None = Field(
        None, ge=1, le=36_500, description="Days after which rows are deleted; none: rows are not deleted."
    )
    text_retention_days: int | None = Field(
        None, ge=1, le=36_500, description="Days after which question and answer texts are removed from rows that stay."
    )
    cost_budget_per_day_usd: float | None = Field(
        None,
        gt=0,
        description="Budget for model calls in USD a day; above it, the alert CostAboveBudget fires.",
    )
    store_text: bool = Field(
        default=False, description="Keep question and answer texts (redacted). Off: text never reaches a table."
    )
    unsampled: bool = Field(
        default=True,
        description="In an app: write rows also for requests that the sampler, or their caller, does not sample.",
    )
    batch_size: int = Field(200, ge=1, le=10_000, description="Number of spans at which a batch is written.")
    debounce: float = Field(
        0.5,
        gt=0,
        le=60,
        description="Seconds after a batch's first span at which it is written even if it is not full.",
    )
    queue_size: int = Field(
        20_000, ge=100, description="Spans waiting to be written; beyond, new ones are dropped and counted."
    )
    writers: int = Field(
        2,
        ge=1,
        le=16,
        description="Processes of a gateway that turn spans into rows while there is much to write. The second and "
        "further ones start with the first backlog, and take about 70 MB each. 1: none but the process that delivers, "
        "as with gateway.workers 0.",
    )
    audit: AuditSettings = AuditSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()

"""Settings of the Prometheus exporter."""

from pydantic import BaseModel, ConfigDict, Field


class PrometheusSettings(BaseModel):
    """Where an app shows its metrics to Prometheus. The gateway has its own /metrics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="Port on which an app serves its metrics, those of all its workers together; none: no exporter, "
        "unless OTEL_METRICS_EXPORTER names prometheus (then OTEL_EXPORTER_PROMETHEUS_PORT, 9464).",
    )
    host: str = Field("127.0.0.1", description="Address of that port. Everybody who can reach it can read the metrics.")

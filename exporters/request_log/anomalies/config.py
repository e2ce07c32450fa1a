"""Settings of anomalies."""

from datetime import date
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator


class AnomalySettings(BaseModel):
    """Whether a gateway looks for unusual hours, and with which time zone and holidays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=False,
        description="The gateway looks for anomalies in the rows every ten minutes while /metrics is read, and shows "
        "open ones as otel_telemetry_anomaly. The command `anomalies` needs no setting.",
    )
    timezone: str = Field("UTC", description="Time zone of the users' hours and weekdays, like Europe/Oslo.")
    holidays: tuple[Annotated[date, Field()], ...] = Field(
        (), description="Days with traffic like Sundays, for example 2026-12-25."
    )

    @field_validator("timezone")
    @classmethod
    def _known(cls, given: str) -> str:
        try:
            ZoneInfo(given)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{given!r} is no time zone, like Europe/Oslo") from None
        return given

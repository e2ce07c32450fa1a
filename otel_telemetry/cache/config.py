"""Settings of the response cache."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_SCHEMES = ("redis://", "rediss://", "unix://")
_TEN_YEARS = 315_360_000  # in seconds


class CacheSettings(BaseModel):
    """Where answers are stored, for how long, and how long callers wait for them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr | None = Field(
        None, description="Redis, as redis://, rediss:// or unix://; none: in the memory of each process."
    )
    prefix: str = Field("", max_length=64, description="Prefix of every key in Redis, for a Redis that is shared.")
    ttl: float = Field(
        3600.0, gt=0, le=_TEN_YEARS, description="Seconds that a value is kept, unless the app gives another time."
    )
    ttl_jitter: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Largest share of its time by which a value expires earlier, so that not all expire at once.",
    )
    max_value_bytes: int = Field(1_048_576, ge=1, description="Largest value that is kept, in bytes as it is stored.")
    max_items: int = Field(
        10_000, ge=1, description="Most values in memory; above it, the least recently used are removed."
    )
    max_bytes: int = Field(
        67_108_864,
        ge=1,
        description="Most bytes of all values in memory; above it, the least recently used are removed.",
    )
    timeout: float = Field(
        0.25, gt=0, le=10, description="Seconds to wait for Redis to connect, and for each answer; then it is a miss."
    )
    cooldown: float = Field(
        1.0, gt=0, description="Seconds for which Redis is not asked after a timeout, or after three failures in a row."
    )
    flight_wait: float = Field(
        30.0, ge=0, description="Longest wait, in seconds, for the same call under way in this process; 0: none."
    )
    lock_wait: float = Field(
        2.0, ge=0, description="Longest wait, in seconds, for the same call under way in another process; 0: none."
    )

    @field_validator("url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(_SCHEMES):
            raise ValueError(f"write a URL that begins with {', '.join(_SCHEMES)}")
        return value

"""Settings of the audit trail."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class AuditSettings(BaseModel):
    """Whether the rows have an audit trail, the key that signs it, and where checkpoints go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=False,
        description="Commit to every request's row in a signed Merkle log; `otel-telemetry audit init` begins it.",
    )
    origin: str = Field(
        "otel-telemetry/audit",
        pattern=r"^[^\s+]{1,100}$",
        description="Name of the log and of its key, for example example.com/audit.",
    )
    key_file: Path = Field(
        Path("otel-audit.key"), description="File of the private key, which only its owner may read. Keep a copy."
    )
    key: SecretStr | None = Field(None, description="The private key itself, instead of a file.")
    anchor_file: Path | None = Field(
        None,
        description="File to which every checkpoint is added: on a machine, or in a bucket, that the database's owner "
        "cannot write to. Each checkpoint is also logged.",
    )
    checkpoint_seconds: float = Field(
        60.0, ge=1, le=86_400, description="Seconds after which new rows are signed; a stop signs at once."
    )

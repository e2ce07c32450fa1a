"""Settings of the processors. Each field's description is its documentation (docs/settings.md is made from it)."""

from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr

LEAK_CHECK_RATIO = 0.01
Group = Literal["national_id", "passport", "crypto_wallet"]
#: Groups of rules that are off by default, and the type that each finds.
GROUPS: Final = {group: group.upper() for group in get_args(Group)}
#: Types that the language model finds, and no rule.
NER_TYPES: Final = frozenset({"PERSON", "LOCATION", "ADDRESS", "DATE_TIME"})


class PseudonymSettings(BaseModel):
    """Pseudonyms, which distinguish people without revealing them: HMAC-SHA256 (RFC 2104)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret: SecretStr | None = Field(
        None,
        description="Key of the HMAC, at least 16 characters. Without "
        "it, values that would be hashed are fully redacted.",
    )
    key_id: str = Field("k1", pattern=r"^[a-z0-9]{1,16}$", description="Name of the key, kept beside each pseudonym.")
    previous_secret: SecretStr | None = Field(
        None,
        description="Key before the last rotation: `otel-telemetry pseudonym` also shows the pseudonyms of that time.",
    )
    previous_key_id: str = Field("k0", pattern=r"^[a-z0-9]{1,16}$", description="Name of that key.")
    length: int = Field(12, ge=12, le=64, description="Hexadecimal characters that are kept of each HMAC.")


class NerSettings(BaseModel):
    """Names of people, places and dates, found by a language model (docs/privacy.md). Off, it is not even imported."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=False,
        description="Find names of people, places, addresses and dates in natural language too (needs the extra ner).",
    )
    model: str = Field("en_core_web_lg", description="spaCy pipeline that finds them: a package's name, or a folder.")
    content: bool = Field(
        default=True,
        description="Look at prompts and answers: attributes of the conventions, and attributes whose names say that "
        "they hold content.",
    )
    bodies: bool = Field(default=True, description="Look at the bodies of log records.")
    keys: tuple[str, ...] = Field(
        (
            "exception.message",
            *("request_log.query_text", "request_log.answer_text", "request_log.normalized"),
            *("request_log.query", "request_log.answer", "request_log.note", "request_log.sources"),
            *("request_log.input", "request_log.output", "request_log.data", "request_log.info", "request_log.error"),
        ),
        description="Further attributes to look at; * stands for any characters.",
    )
    max_length: int = Field(20_000, ge=100, le=500_000, description="Characters of one field that are looked at.")
    share: float = Field(
        0,
        ge=0,
        le=1,
        description="Most time that each process looks for names, as a share of one core: 0.25 is a quarter of each "
        "second. Texts past it are treated as beyond says. 0: no limit, and senders wait.",
    )
    beyond: Literal["cut", "drop", "keep"] = Field(
        "cut",
        description="What happens to a longer field: cut replaces the rest by [REDACTED_UNSCANNED], drop removes the "
        "field, keep keeps the rest as the rules left it.",
    )


class RedactionSettings(BaseModel):
    """What is taken out of telemetry before any exporter sees it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Path | None = Field(None, description="YAML file with the redaction policy; none: the built-in policy.")
    rules: tuple[Path, ...] = Field((), description="TOML files with further detection rules.")
    optional: tuple[Group, ...] = Field(
        (),
        description="Groups of built-in rules that are off by default: national_id (needs the extra ids), passport, "
        "crypto_wallet. A policy file can name them too.",
    )
    engine: Literal["auto", "hyperscan", "re2", "re"] = Field(
        "auto", description="Multi-pattern engine. auto: hyperscan where it is installed, else re2, else re."
    )
    content: Literal["drop", "redact", "keep"] | None = Field(
        None, description="Prompts and answers in what is forwarded; none: as the policy says (redact by default)."
    )
    summary: bool = Field(
        default=False, description="Add counts of findings by type to each span as otel_telemetry.redacted.<type>."
    )
    leak_check_ratio: float = Field(
        LEAK_CHECK_RATIO,
        ge=0,
        le=1,
        description="Share of requests, spans and log records that are redacted once more after redaction; "
        "what that still finds is counted in otel_telemetry.leaks. 0: none.",
    )
    names: bool = Field(
        default=False,
        description="Find names of people, addresses, places and dates of birth in natural language with a small model "
        "(needs the extra names). redaction.ner says which fields and how much; its enabled and model have "
        "no effect here.",
    )
    ner: NerSettings = NerSettings()
    pseudonyms: PseudonymSettings = PseudonymSettings()

    @property
    def looks_for_names(self) -> bool:
        """Return whether a model looks for names, whichever it is."""
        return self.names or self.ner.enabled

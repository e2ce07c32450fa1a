"""The redaction policy: what becomes of each type of finding and of each attribute key.

Built in here; a YAML file overrides it (see `load_policy`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from otel_telemetry import conventions

Action = Literal["replace", "mask", "hash", "drop", "keep"]
Content = Literal["drop", "redact", "keep"]

#: Attributes that hold one person's or session's id: pseudonyms keep them countable.
HASHED_KEYS: Final[Mapping[str, str]] = {
    conventions.USER_ID: "USER_ID",
    conventions.ENDUSER_ID: "USER_ID",
    "request_log.user_id": "USER_ID",
    conventions.SESSION_ID: "SESSION_ID",
    "request_log.session_id": "SESSION_ID",
}
#: Attributes that are never touched: ids of telemetry itself, names of code, models and services, counts.
SAFE_KEYS: Final = frozenset(
    {
        conventions.REQUEST_MODEL,
        conventions.RESPONSE_MODEL,
        conventions.RESPONSE_ID,
        conventions.CONVERSATION_ID,
        conventions.OPERATION_NAME,
        conventions.PROVIDER_NAME,
        conventions.RESPONSE_FINISH_REASONS,
        conventions.OUTPUT_TYPE,
        conventions.TOOL_NAME,
        conventions.TOKEN_TYPE,
        conventions.HTTP_REQUEST_METHOD,
        conventions.HTTP_ROUTE,
        conventions.SERVICE_NAME,
        conventions.SERVICE_INSTANCE_ID,
        conventions.DEPLOYMENT_ENVIRONMENT,
        conventions.DEPLOYMENT_ENVIRONMENT_OLD,
        "gen_ai.system",
        "service.namespace",
        "service.version",
        "error.type",
        "network.protocol.name",
        "network.protocol.version",
        "url.scheme",
        "trace_id",
        "span_id",
        "traceId",
        "spanId",
    }
)
SAFE_PREFIXES: Final = ("gen_ai.usage.", "telemetry.sdk.", "code.")


@dataclass(frozen=True)
class Policy:
    """What to do. `keys` are actions by exact attribute key, before everything else."""

    default: Action = "replace"
    types: Mapping[str, Action] = field(default_factory=dict)
    keys: Mapping[str, Action] = field(default_factory=dict)
    content: Content = "redact"

    def action(self, kind: str) -> Action:
        """Return what becomes of a finding of this type."""
        return self.types.get(kind, self.default)


def is_safe(key: str) -> bool:
    """Tell whether the built-in policy leaves an attribute alone."""
    return key in SAFE_KEYS or key.startswith(SAFE_PREFIXES)


def is_content(key: str) -> bool:
    """Tell whether an attribute holds messages between people and models."""
    return key in conventions.CONTENT_KEYS or key.startswith(conventions.CONTENT_PREFIXES)

"""What a redactor is made of, for the commands that explain and prove it."""

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.detect.detector import Detector
from otel_telemetry.processors.detect.ruleset import Rule, builtin_rules, load_rules
from otel_telemetry.processors.redact.policy import Policy
from otel_telemetry.processors.redact.policy_file import optional_of
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.redact.rewrite import Writer


def active_rules(settings: RedactionSettings) -> tuple[Rule, ...]:
    """Return the rules that a redactor with these settings applies."""
    builtin = builtin_rules(optional=optional_of(settings))
    return (*builtin, *load_rules(settings.rules, builtin))


def policy_of(redactor: Redactor) -> Policy:
    """Return the policy in force, for the service that the redactor is for."""
    return redactor._policy  # noqa: SLF001  # read only


def detector_of(redactor: Redactor) -> Detector:
    """Return the detector with all active rules."""
    return redactor._detector  # noqa: SLF001  # read only


def writer_of(redactor: Redactor) -> Writer:
    """Return what writes replacements under the policy in force."""
    return redactor._writer  # noqa: SLF001  # read only

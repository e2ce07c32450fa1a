"""`otel-telemetry verify`: check what is covered, with the user's rules and policy."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from otel_telemetry import settings as settings_module
from otel_telemetry.commands import coverage_table, text_proof
from otel_telemetry.commands.options import AsJson
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.ner.text import ner_of
from otel_telemetry.processors.redact import finding_counts
from otel_telemetry.processors.redact.insight import active_rules
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.verify import content_coverage, coverage, names_coverage

#: Parts of the exit code: values of the rules' types leaked; prompts and answers leaked. 2 is a wrong use.
VALUES_LEAKED, CONTENT_LEAKED = 1, 4

PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", help="Policy file instead of redaction.policy.", metavar="FILE", show_default=False),
]


def redaction_settings(policy: Path | None) -> settings_module.Settings:
    """Return the settings in force, with the policy that was named on the command line, if any."""
    return settings_module.load(**({"redaction": {"policy": policy}} if policy else {}))


def prove(redaction: RedactionSettings, service: str) -> coverage.CoverageReport:
    """Plant everything, values and content, and return what became of it."""
    redactor = Redactor(redaction)
    report = coverage.verify(redactor, active_rules(redaction), service)
    if redaction.names and (ner := ner_of(redaction, redactor)):
        report.outcomes += names_coverage.verify(ner, redactor, service)
    report.content += content_coverage.verify(content_coverage.dropping(redaction), service)
    report.content += text_proof.verify()
    return report


def exit_code(report: coverage.CoverageReport) -> int:
    """Return 0 where everything was proved, else what was not: VALUES_LEAKED, CONTENT_LEAKED or the sum of both."""
    return (0 if report.proved else VALUES_LEAKED) + (0 if report.content_proved else CONTENT_LEAKED)


def verify(
    *,
    policy: PolicyFile = None,
    service: Annotated[
        str | None,
        typer.Option(help="Prove the policy's overrides for this service.", metavar="NAME", show_default=False),
    ] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/privacy.md.")] = False,
) -> None:
    """Plant values of every type in every field of telemetry, and show that none of them leaves.

    The values come from the rules' own examples, yours included; the fields from the OTLP schema and from the SDK. They
    go through the gateway's redaction and through the SDK's, with your settings and your policy. Prompts and answers
    go the same way with `content: drop`, and into the tables of a temporary request_log with `store_text` off. With
    redaction.names on, names and addresses of people are planted too. Exit
    code 1: a value leaked; 4: a prompt or an answer; 5: both. Takes about ten seconds; nothing is sent anywhere.

    [bold]Try it:[/] otel-telemetry verify --policy policy.yaml --json
    """
    redaction = redaction_settings(policy).redaction
    report = prove(redaction, service or finding_counts.SELF_TEST)
    if as_json:
        sys.stdout.write(coverage_table.to_json(report) + "\n")
    elif markdown:
        sys.stdout.write(coverage_table.to_markdown(report))
    else:
        coverage_table.to_terminal(report, Console())
    raise typer.Exit(exit_code(report))

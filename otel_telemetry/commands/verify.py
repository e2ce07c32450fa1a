"""`otel-telemetry verify`: prove what is covered, under one's own rules and policy."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from otel_telemetry import settings as settings_module
from otel_telemetry.commands import coverage_table
from otel_telemetry.processors import coverage, evidence
from otel_telemetry.processors.insight import active_rules
from otel_telemetry.processors.redactor import Redactor


class Format(StrEnum):
    """How the result is printed."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", help="Policy file instead of redaction.policy.", metavar="FILE", show_default=False),
]


def redaction_settings(policy: Path | None) -> settings_module.Settings:
    """Return the settings in force, with the policy that was named on the command line, if any."""
    return settings_module.load(**({"redaction": {"policy": policy}} if policy else {}))


def verify(
    *,
    policy: PolicyFile = None,
    service: Annotated[
        str | None,
        typer.Option(help="Prove the policy's overrides for this service.", metavar="NAME", show_default=False),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
) -> None:
    """Plant values of every type in every field of telemetry, and show that none of them leaves.

    The values come from the rules' own examples, yours included; the fields from the OTLP schema and from the SDK. They
    go through the gateway's redaction and through the SDK's, with your settings and your policy. Exit code 1: something
    leaked. Takes about five seconds; nothing is sent anywhere.

    [bold]Try it:[/] otel-telemetry verify --policy policy.yaml --format json
    """
    redaction = redaction_settings(policy).redaction
    report = coverage.verify(Redactor(redaction), active_rules(redaction), service or evidence.SELF_TEST)
    if output is Format.TABLE:
        coverage_table.to_terminal(report, Console())
    elif output is Format.JSON:
        sys.stdout.write(coverage_table.to_json(report) + "\n")
    else:
        sys.stdout.write(coverage_table.to_markdown(report))
    raise typer.Exit(0 if report.proved else 1)

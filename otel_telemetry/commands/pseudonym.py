"""`otel-telemetry pseudonym`: what a person is called in rows and telemetry."""

import sys
from typing import Annotated

import typer

from otel_telemetry import settings
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.audit import acts
from otel_telemetry.processors.redact.pseudonym import Pseudonyms


def pseudonym(
    value: Annotated[
        str, typer.Argument(help="A user or session id, or with --ip an address; - reads it from standard input.")
    ],
    *,
    ip: Annotated[bool, typer.Option("--ip", help="The value is an IP address.")] = False,
) -> None:
    """Print the pseudonyms of a user, a session or an IP address: under the present key, then under the previous one.

    [bold]Try it:[/] otel-telemetry pseudonym --ip 203.0.113.9, then look for it: SELECT * FROM request_log WHERE
    ip_hash = '...'. For a user: WHERE user_id = '...'. Needs the secret that the telemetry was written with.
    """
    given = settings.load()
    config = given.redaction.pseudonyms
    if config.secret is None:
        name = settings.variable("redaction.pseudonyms.secret")
        raise ConfigurationError("redaction.pseudonyms.secret", "is not set", f"set {name} to the secret in use")
    text = sys.stdin.read().strip() if value == "-" else value
    found = Pseudonyms(config).every(text, ip=ip)
    if not found:
        raise typer.BadParameter(f"{text!r} is no IP address", param_hint="VALUE")
    acts.note(given.request_log, "pseudonym", {"ip": ip})
    sys.stdout.writelines(f"{name}\n" for name in found)

"""`otel-telemetry key`: a new API key for the gateway."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from otel_telemetry import settings
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.audit import acts
from otel_telemetry.gateway.receive import auth
from otel_telemetry.gateway.receive.auth import Role

_err = Console(stderr=True)


def key(
    *,
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may do: ingest, cache, read, admin (all), or public, for web pages. May be repeated."
        ),
    ] = None,
) -> None:
    """Print a new random API key, and the entry of gateway.api_keys that lets it in.

    [bold]Try it:[/] otel-telemetry key --role ingest. The first line is for the sender, and is shown only now; the
    second is for the gateway, which keeps no key, only its SHA-256. Without a role a key may do everything.
    """
    given = _roles(role or ())
    made = auth.new_key()
    acts.note(settings.load().request_log, "key", {"roles": [str(one) for one in given]})
    sys.stdout.write(f"{made}\n{auth.entry(made, given)}\n")
    where = escape(settings.variable("gateway.api_keys") + "='[\"...\"]'")
    _err.print("[dim]the first line is the key, for the sender; the second is for the gateway:[/]")
    _err.print(f"[dim]{where}, or gateway.api_keys in the file[/]")


def _roles(given: list[str] | tuple[()]) -> list[Role]:
    found: list[Role] = [role for role in auth.ROLES if role in given]
    unknown = sorted(set(given) - set(auth.ROLES))
    if unknown:
        raise ConfigurationError("--role", f"there is no role {unknown[0]!r}", f"one of {', '.join(auth.ROLES)}")
    return found

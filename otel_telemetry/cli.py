"""The `otel-telemetry` command: its list of commands, and how errors end it.

The module of a command is imported when that command is run, completed or explained: importing all of them takes a
second, and most starts need one, or none (`--help`, `--version`).
"""

import sys
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from otel_telemetry.commands.process_list import WARNING, hide_password


class Command(NamedTuple):
    """A command that is not imported yet.

    `where` names a function or a Typer app as "module:attribute" in otel_telemetry.commands; `summary` is the first
    paragraph of its docstring. With `interspersed` off, all arguments behind the first positional one belong to it.
    """

    where: str
    summary: str
    interspersed: bool = True


COMMANDS: Final[Mapping[str, Command]] = {
    "run": Command(
        "run:run",
        "Run a program with redaction, request rows and model calls, without a change to its code.",
        interspersed=False,
    ),
    "doctor": Command(
        "doctor:doctor",
        "Look at everything that telemetry depends on here: versions, loader, settings, exporters, "
        "database, spool, clock.",
    ),
    "report": Command(
        "report:report",
        "Show cost, tokens, latency and outcome: by route, by day, by model, of the cache, of feedback.",
    ),
    "anomalies": Command(
        "anomalies:anomalies",
        "Tell what is unusual in traffic, errors, latency, cost, tokens and cache hits, by service, route and model.",
    ),
    "show": Command(
        "show:show",
        "Show one request: its stages, each model call with tokens, time and cost, what went wrong, and its texts.",
    ),
    "tail": Command("tail:tail", "Show requests as their rows are committed; Ctrl-C ends it."),
    "ui": Command(
        "ui:ui",
        "Show requests, costs and what was redacted as a page in the browser; reads the database, never writes to it.",
    ),
    "export": Command("export:export_rows", "Write stored requests to a file, newest first, without their texts."),
    "trim": Command("trim:trim", "Delete old rows and texts, and give the disk its space back."),
    "rollups": Command(
        "rollups:rollups",
        "Sum stored requests up by quarters of an hour and days, so that pages over many of them are fast.",
    ),
    "erase": Command(
        "erase:erase",
        "Erase one person: every row and text that is about them, in all tables and in the gateway's spool.",
    ),
    "reprice": Command(
        "reprice:reprice",
        "Compute anew what model calls cost, by the genai-prices that is installed, and their "
        "requests' costs with them.",
    ),
    "scan": Command(
        "scan:scan",
        "Check every text of every table, also inside JSON, with the current rules and policy.",
    ),
    "import": Command(
        "import_old:import_old",
        "Bring the rows of an older system over: the SQLite telemetry module, the chat bot's request_log, chronicle.",
    ),
    "copy": Command(
        "copy_rows:copy_rows",
        "Copy all rows of another database into this one, from SQLite to PostgreSQL or back, and compare both.",
    ),
    "verify": Command(
        "verify:verify",
        "Plant values of every type in every field of telemetry, and show that none of them leaves.",
    ),
    "redact": Command("redact:redact", "Take personal data and secrets out of text: logs, dumps, JSON lines."),
    "explain": Command(
        "explain:explain",
        "Show what is found in a text: which rule and validator, at which characters, and what becomes of it and why.",
    ),
    "pseudonym": Command(
        "pseudonym:pseudonym",
        "Print the pseudonyms of a user, a session or an IP address: under the present key, then "
        "under the previous one.",
    ),
    "key": Command("key:key", "Print a new random API key, and the entry of gateway.api_keys that lets it in."),
    "demo": Command(
        "demo:demo",
        "Run a chat app against a model server of its own, and hold the rows that come of it against the truth.",
    ),
    "dashboards": Command(
        "dashboards:dashboards",
        "Write the Grafana dashboard, the alert rules of Prometheus, and the examples that promtool tests them with.",
    ),
    "serve": Command(
        "serve:serve",
        "Receive OTLP over gRPC and HTTP, redact it, keep it on disk, write the request_log.",
    ),
    "redactor": Command(
        "serve:redactor",
        "Redact what an OpenTelemetry Collector asks for, and keep nothing: the other half of its processor.",
    ),
    "settings": Command(
        "show_settings:show_settings",
        "List every setting with its default, its variable and what it does.",
    ),
    "spool": Command("spool:spool_app", "Look into the spool, deliver again, or drop."),
    "audit": Command(
        "audit:audit_app",
        "A signed trail that shows whether rows were changed or removed behind its back, and what operators did.",
    ),
    "clickhouse": Command(
        "clickhouse:clickhouse_app",
        "Send rows of requests and model calls on to ClickHouse, which keeps them for years.",
    ),
}


def load_command(name: str) -> Any:
    """Import a command; return it as Typer makes it: a TyperCommand, or a TyperGroup where it has subcommands."""
    command = COMMANDS[name]
    module, _, attribute = command.where.partition(":")
    found = getattr(import_module(f"otel_telemetry.commands.{module}"), attribute)
    holder = typer.Typer(rich_markup_mode="rich")
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name, context_settings={"allow_interspersed_args": command.interspersed})(found)
    return typer.main.get_group(holder).commands[name]


class LazyGroup(TyperGroup):
    """The group of all commands: lists them by their summaries, and imports the one that is used."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = {name: TyperCommand(name, help=command.summary) for name, command in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the name of the command that the arguments begin with, the command, and the other arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else command, rest


app = typer.Typer(
    cls=LazyGroup,
    help="Safe, complete, useful OpenTelemetry for apps that call LLMs.",
    epilog="Every setting can also come from OTEL_TELEMETRY_* variables or otel-telemetry.toml: see `settings`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"otel-telemetry {metadata.version('otel-telemetry')}\n")
        raise typer.Exit


@app.callback()
def _of_all_commands(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Safe, complete, useful OpenTelemetry for apps that call LLMs."""
    del version


def main() -> None:
    """Run the command line; expected errors become one readable line, and exit code 2 (settings) or 1."""
    try:
        if hide_password(sys.argv[1:]):
            _failures().warn(WARNING)
        app()
    except Exception as error:
        code = _failures().show(error)
        if code is None:
            raise
        sys.exit(code)


def _failures() -> Any:
    """Return the module that shows errors; it needs SQLAlchemy, to know those of a database."""
    return import_module("otel_telemetry.commands.failures")


if __name__ == "__main__":
    main()

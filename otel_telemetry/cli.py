"""The `otel-telemetry` command: parse, call assemble, print."""

import logging
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from otel_telemetry import assemble_gateway
from otel_telemetry import settings as settings_module
from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable, TelemetryError
from otel_telemetry.commands import tables
from otel_telemetry.commands.anomalies import anomalies
from otel_telemetry.commands.audit import audit_app
from otel_telemetry.commands.clickhouse import clickhouse_app
from otel_telemetry.commands.dashboards import dashboards
from otel_telemetry.commands.demo import demo
from otel_telemetry.commands.doctor import doctor
from otel_telemetry.commands.erase import erase
from otel_telemetry.commands.explain import explain
from otel_telemetry.commands.export import export_rows
from otel_telemetry.commands.import_old import import_old
from otel_telemetry.commands.key import key
from otel_telemetry.commands.options import AsJson
from otel_telemetry.commands.process_list import WARNING, hide_password
from otel_telemetry.commands.pseudonym import pseudonym
from otel_telemetry.commands.redact import redact
from otel_telemetry.commands.report import report
from otel_telemetry.commands.reprice import reprice
from otel_telemetry.commands.rollups import rollups
from otel_telemetry.commands.run import run
from otel_telemetry.commands.scan import scan
from otel_telemetry.commands.show import show
from otel_telemetry.commands.spool import spool_app
from otel_telemetry.commands.tail import tail
from otel_telemetry.commands.trim import trim
from otel_telemetry.commands.ui import ui
from otel_telemetry.commands.verify import verify
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.gateway.serve import logs

app = typer.Typer(
    help="Safe, complete, useful OpenTelemetry for apps that call LLMs.",
    epilog="Every setting can also come from OTEL_TELEMETRY_* variables or otel-telemetry.toml: see `settings`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(spool_app, name="spool")
app.add_typer(audit_app, name="audit")
app.add_typer(clickhouse_app, name="clickhouse")
app.command(context_settings={"allow_interspersed_args": False})(run)
app.command()(doctor)
app.command()(report)
app.command()(anomalies)
app.command()(show)
app.command()(tail)
app.command()(ui)
app.command("export")(export_rows)
app.command()(trim)
app.command()(rollups)
app.command()(erase)
app.command()(reprice)
app.command()(scan)
app.command("import")(import_old)
app.command()(verify)
app.command()(redact)
app.command()(explain)
app.command()(pseudonym)
app.command()(key)
app.command()(demo)
app.command()(dashboards)

_out = Console()
_err = Console(stderr=True)
_OLDER = (
    "[dim]next:[/] write to it once with this version, which brings its tables up to date (a gateway does as it starts)"
)
_AGAIN = "[dim]next:[/] when it is there again, run this again; what was done is done, and is not repeated"

Database = Annotated[
    str | None,
    typer.Option("--db", help="SQLAlchemy URL of the request_log database.", metavar="URL", show_default=False),
]
SpoolDir = Annotated[
    Path | None, typer.Option("--spool-dir", help="Folder of the spool.", metavar="DIR", show_default=False)
]


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
    """Run the command line; errors of ours become one readable line and exit code 2."""
    if hide_password(sys.argv[1:]):
        _err.print(f"[bold yellow]warning[/] {escape(WARNING)}")
    try:
        app()
    except ConfigurationError as error:
        _err.print(f"[bold red]error[/] [bold]{escape(error.key)}[/]: {escape(error.problem)}")
        if error.hint:
            _err.print(f"[dim]next:[/] {escape(error.hint)}")
        sys.exit(2)
    except TelemetryError as error:
        _err.print(f"[bold red]error[/] {escape(str(error))}")
        if hint := getattr(error, "hint", ""):
            _err.print(f"[dim]next:[/] {escape(hint)}")
        elif isinstance(error, StoreUnavailable) and "next:" not in str(error):
            _err.print(_AGAIN)
        sys.exit(1)
    except DBAPIError as error:
        _err.print(f"[bold red]error[/] [bold]request_log.url[/]: the database says: {escape(str(error.orig).strip())}")
        _err.print(_OLDER if database.lacks_schema(error) else _AGAIN)
        sys.exit(1)


@app.command()
def serve(
    *,
    role: Annotated[
        str | None, typer.Option(help="What to do: receive, deliver, all of it; or redact.", show_default="all")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that receive, beside one that delivers; 0: one for all.", show_default="1"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port of OTLP/gRPC.", show_default="4317")] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port of OTLP/HTTP, /health and /metrics.", show_default="4318")
    ] = None,
    db: Database = None,
    spool_dir: SpoolDir = None,
) -> None:
    """Receive OTLP over gRPC and HTTP, redact it, keep it on disk, write the request_log.

    [bold]Try it:[/] otel-telemetry serve --db sqlite:///telemetry.db, then point any OpenTelemetry SDK at it with
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317. Ctrl-C stops it; nothing acknowledged is lost.
    """
    ports = {"host": host, "grpc_port": grpc_port, "http_port": http_port}
    given = {"role": role, "workers": workers, "spool_dir": spool_dir, **ports}
    _serve(**_sections(gateway=given, request_log={"url": db}))


@app.command()
def redactor(
    *,
    socket: Annotated[
        Path | None,
        typer.Option(help="Unix socket to listen on.", metavar="PATH", show_default="otel-redactor/redactor.sock"),
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(help="Port to listen on in place of a socket.", show_default=False)
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address of that port; beyond loopback it needs keys.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that redact.", show_default="1")] = None,
) -> None:
    """Redact what an OpenTelemetry Collector asks for, and keep nothing: the other half of its processor.

    The processor `otel_telemetry` of collector/ sends each batch here and passes on what comes back. The socket is for
    the user who runs both. Ctrl-C stops it.

    [bold]Try it:[/] otel-telemetry redactor --socket /run/otel-telemetry/redactor.sock
    """
    by_port = http_port is not None or host is not None
    if socket and by_port:
        raise ConfigurationError("--socket", "is of no use beside --http-port or --host", "leave one of them out")
    where = {"socket": "-", "http_port": http_port, "host": host} if by_port else {"socket": socket and str(socket)}
    _serve(**_sections(gateway={"role": "redact", "workers": workers, **where}))


def _serve(**given: dict[str, Any]) -> None:
    """Serve by the settings, and what was given on the command line."""
    load = partial(settings_module.load, **given)
    with logs.kept_back():
        settings = load()
        logs.use(settings.gateway)
    gateway = assemble_gateway.gateway_of(settings, load)
    for line in filter(None, (_where_to(settings), _what_is_not_shared(settings))):
        logging.getLogger(__package__).info("%s", line)
    gateway.run()


def _where_to(settings: settings_module.Settings) -> str:
    """Say where what comes in is kept, and where it goes from there; of addresses no more than the host."""
    if settings.gateway.role == "redact":
        return "requests are redacted and returned to the client; nothing is stored"
    kept = f"what is acknowledged is kept in {_kept_in(settings)}"
    if settings.gateway.role == "receive":
        return f"{kept}; a gateway with --role deliver takes it from there"
    on = [f"OTLP to {name} at {urlsplit(one.endpoint).netloc}" for name, one in sorted(settings.forward.items())]
    if settings.loki.endpoint:
        on.append(f"log lines to {urlsplit(settings.loki.endpoint).netloc}")
    return ", ".join([f"rows go to {make_url(settings.request_log.url)}", *on, kept])


def _kept_in(settings: settings_module.Settings) -> str:
    if settings.gateway.transport == "disk":
        return str(settings.gateway.spool_dir)
    kafka = settings.gateway.kafka
    return f"the topics {kafka.topic_prefix}* of Kafka at {kafka.brokers}"


def _what_is_not_shared(settings: settings_module.Settings) -> str:
    """Say what several receivers do not have in common, if anything."""
    if settings.gateway.workers < 2 or settings.gateway.role in {"deliver", "redact"} or settings.cache.url:  # noqa: PLR2004 - one shares with nobody
        return ""
    return f"/cache is in the memory of each of {settings.gateway.workers} processes; cache.url makes it one, in Redis"


@app.command("settings")
def show_settings(
    *,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
) -> None:
    """List every setting with its default, its variable and what it does."""
    if markdown:
        sys.stdout.write(settings_markdown())
        return
    if as_json:
        tables.as_json([_as_row(name, info) for name, info in settings_module.describe()])
        return
    for name, info in settings_module.describe():
        _out.print(f"[bold]{name}[/] = {escape(_default(info))}", soft_wrap=True)
        _out.print(f"  [dim]{settings_module.variable(name)}[/]", soft_wrap=True)
        _out.print(Padding(escape(info.description), (0, 0, 1, 2)))


def settings_markdown() -> str:
    """Return docs/settings.md; a test holds the file against this."""
    lines = [
        "# Settings",
        "",
        "Argument over environment over file (`otel-telemetry.toml`, or the one that `OTEL_TELEMETRY_FILE` names)",
        "over default. Unknown keys stop start-up. Made by `otel-telemetry settings --markdown`.",
        "",
        "| setting | variable | default | what it does |",
        "|---|---|---|---|",
    ]
    for name, info in settings_module.describe():
        lines.append(f"| `{name}` | `{settings_module.variable(name)}` | `{_default(info)}` | {info.description} |")
    return "\n".join(lines) + "\n"


def _sections(**sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings that were given on the command line; what was not given is left to the environment."""
    given = {name: {key: v for key, v in section.items() if v is not None} for name, section in sections.items()}
    return {name: section for name, section in given.items() if section}


def _as_row(name: str, info: Any) -> dict[str, Any]:
    variable = settings_module.variable(name)
    return {"setting": name, "variable": variable, "default": _default(info), "description": info.description}


def _default(info: Any) -> str:
    if info.default is None or info.default is PydanticUndefined:
        return "none"
    return "none" if info.default == () else str(info.default)


if __name__ == "__main__":
    main()

"""`otel-telemetry ui`: the page over a request_log database, in the browser of the person at this machine."""

import asyncio
import contextlib
import socket
import webbrowser
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from rich.console import Console

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.commands.options import Readable, load
from otel_telemetry.exporters.request_log.kpis.definitions import compiled
from otel_telemetry.exporters.request_log.kpis.measures import active
from otel_telemetry.exporters.request_log.operate import limits
from otel_telemetry.ui.config import UiSettings

_HOST: Final = "127.0.0.1"
_TRACE_ID: Final = "{trace_id}"
_err = Console(stderr=True)


def ui(
    *,
    db: Readable = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0: any free.", min=0, max=65_535)] = 4320,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the browser.")] = False,
    trace_url: Annotated[
        str | None,
        typer.Option(
            help="Address of a trace in your tracer, like http://127.0.0.1:16686/trace/{trace_id} (ui.trace_url).",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show requests, costs and what was redacted as a page in the browser; reads the database, never writes to it.

    [bold]Try it:[/] otel-telemetry ui --db sqlite:///telemetry.db

    It listens on this machine alone. Ctrl-C stops it.
    """
    import uvicorn  # noqa: PLC0415 - what no other command needs

    from otel_telemetry.ui.app import ROOT, make_app  # noqa: PLC0415
    from otel_telemetry.ui.reading import SECONDS, Reading, databases  # noqa: PLC0415

    settings = load(db)
    shown = _with(settings.ui, trace_url)
    url, written = databases(settings.ui if db is None else UiSettings(), settings.request_log)
    limits.reader(url, SECONDS).dispose()  # what cannot be opened is told before anything is served
    active.use(compiled(settings.kpi))
    reading = Reading(url)
    listening = _listen(port)
    address = f"http://{_HOST}:{listening.getsockname()[1]}{ROOT}/"
    _err.print(f"the page is at [bold]{address}[/] (Ctrl-C stops it)", soft_wrap=True, highlight=False)
    application = make_app(reading, settings.redaction, shown, written=Reading(written))
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", access_log=False, server_header=False))
    if not no_browser:
        webbrowser.open(address)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.serve(sockets=[listening]))
    reading.close()


def _with(settings: UiSettings, trace_url: str | None) -> UiSettings:
    if trace_url is None:
        return settings
    try:
        return UiSettings(**{**settings.model_dump(), "trace_url": trace_url})
    except ValidationError:
        hint = f"write it like http://127.0.0.1:16686/trace/{_TRACE_ID}"
        raise ConfigurationError("--trace-url", f"is no http address with {_TRACE_ID}", hint) from None


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
    except OSError as error:
        listening.close()
        hint = "choose another one, or 0 for any that is free"
        raise ConfigurationError("--port", f"{port} cannot be listened on: {error.strerror}", hint) from None
    return listening

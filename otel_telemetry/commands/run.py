"""`otel-telemetry run`: run a program under `opentelemetry-instrument` with our distro and its settings."""

import os
import re
import shutil
import subprocess
import sys
from enum import StrEnum
from importlib import metadata, util
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from opentelemetry.instrumentation import auto_instrumentation
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otel_telemetry import assemble
from otel_telemetry import settings as settings_module
from otel_telemetry.app import config_file
from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.commands import registered, surroundings
from otel_telemetry.commands.surroundings import Destination, Instrumentation
from otel_telemetry.exporters.request_log.store.store import Store
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.settings import Settings

_TRACES = "OTEL_TRACES_EXPORTER"
_SECRET = settings_module.variable("redaction.pseudonyms.secret")
_err = Console(stderr=True, highlight=False)


class Exporter(StrEnum):
    """Where spans go."""

    OTLP = "otlp"
    REQUEST_LOG = "request_log"


def run(
    command: Annotated[
        list[str],
        typer.Argument(help="The program and its arguments.", metavar="-- PROGRAM [ARGS]", show_default=False),
    ],
    *,
    service_name: Annotated[
        str | None, typer.Option(help="Name of the service, as OTEL_SERVICE_NAME.", metavar="NAME", show_default=False)
    ] = None,
    exporter: Annotated[
        Exporter | None,
        typer.Option(help="Where spans go: to a gateway or collector, or straight into rows.", show_default="otlp"),
    ] = None,
    db: Annotated[
        str | None,
        typer.Option(help="Database of the rows; implies --exporter request_log.", metavar="URL", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing before the program starts.")] = False,
) -> None:
    """Run a program with redaction, request rows and model calls, without a change to its code.

    Says on stderr what it found, then becomes the program: signals, output and exit code are the program's own. A wrong
    setting stops here, with exit code 2. OTEL_* variables that are set are kept.

    [bold]Try it:[/] otel-telemetry run --db sqlite:///telemetry.db -- uvicorn app:app
    """
    executable = _executable(command[0])
    if not assemble.switched_off():
        _take(service_name, exporter, db)
    settings = assemble.load_settings()
    if settings is None:
        if not quiet:
            _err.print("[bold]otel-telemetry[/] is switched off: the program runs as it is")
        _become(executable, command)
    assemble.default_environment(settings)
    _pin()
    _require_our_interpreter(executable)
    redactor = Redactor(settings.redaction)
    destinations = surroundings.destinations()
    database = _database(settings, destinations)
    if not quiet:
        _show(command[0], _facts(settings, redactor, destinations, database))
    sys.argv = ["opentelemetry-instrument", executable, *command[1:]]
    auto_instrumentation.run()


def _take(service_name: str | None, exporter: Exporter | None, db: str | None) -> None:
    """Put the options where the program will look for them; an argument goes before a variable."""
    if db and exporter is Exporter.OTLP:
        raise ConfigurationError("--db", "nothing is written there with --exporter otlp", "leave one of the two out")
    chosen = Exporter.REQUEST_LOG if db else exporter
    given = {
        "OTEL_SERVICE_NAME": service_name,
        _TRACES: chosen.value if chosen else None,
        settings_module.variable("request_log.url"): db,
    }
    os.environ.update({name: value for name, value in given.items() if value})
    if chosen and config_file.named():
        hint = "name the exporter in the file, or unset the variable"
        raise ConfigurationError(config_file.VARIABLE, f"decides on exporters, so {_TRACES} says nothing", hint)


def _pin() -> None:
    for kind, name in surroundings.PINS.items():
        given = os.environ.setdefault(name, assemble.NAME)
        if given != assemble.NAME:
            hint = "unset it, or use opentelemetry-instrument, without our redaction"
            raise ConfigurationError(name, f"names another {kind}, {given}", hint)


def _executable(command: str) -> str:
    """Return the full path of a program; those beside our own interpreter go before those on PATH."""
    here = str(Path(sys.executable).parent)
    found = shutil.which(command, path=os.pathsep.join((here, os.environ.get("PATH", os.defpath))))
    if found:
        return os.path.abspath(found)  # noqa: PTH100  # not resolved: a link tells a virtual environment its home
    if Path(command).is_file():
        python = command.endswith(".py")
        hint = f"otel-telemetry run -- python {command}" if python else f"chmod +x {command}"
        raise ConfigurationError(command, "is a file, but not one that can be executed", hint)
    hint = "install it in this environment, or give its full path"
    if re.fullmatch(r"\w+", command) and util.find_spec(command):
        hint = f"otel-telemetry run -- python -m {command}"
    raise ConfigurationError(command, "there is no such program on PATH", hint)


def _require_our_interpreter(executable: str) -> None:
    """Refuse a program of a Python in which this package is not: it would run, and nothing would be recorded."""
    interpreter = _interpreter(executable)
    if interpreter is None or Path(interpreter).parent == Path(sys.executable).parent:
        return
    look = [interpreter, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('otel_telemetry') is None)"]
    try:
        there = subprocess.run(look, capture_output=True, timeout=30, check=False).returncode == 0  # noqa: S603  # the user's own
    except (OSError, subprocess.TimeoutExpired):
        there = False
    if not there:
        hint = f"{interpreter} -m pip install otel-telemetry, or use a program of {Path(sys.executable).parent}"
        raise ConfigurationError(executable, f"runs on {interpreter}, where otel-telemetry is not installed", hint)


def _interpreter(executable: str) -> str | None:
    """Return the Python that a program runs on: itself, or the one that its first line names; None where unknown."""
    if re.fullmatch(r"python[\d.]*", Path(executable).name):
        return executable
    with Path(executable).open("rb") as file:
        first = file.readline(512)
    words = first[2:].split() if first.startswith(b"#!") else []
    path = os.fsdecode(words[0]) if words else ""
    if Path(path).name == "env":
        path = shutil.which(os.fsdecode(words[-1])) or ""
    return path if "python" in Path(path).name else None


def _database(settings: Settings, destinations: list[Destination]) -> str:
    """Open the database that the app will write to, so that a wrong URL stops here; return a remark to print."""
    if not surroundings.writes_rows(destinations) or config_file.named():
        return ""
    store = Store(settings.request_log)
    try:
        store.open()
    except StoreUnavailable as error:
        return f" [yellow](not now: {escape(' '.join(str(error).split()))})[/]"
    finally:
        store.close()
    return " [green](open)[/]"


def _facts(
    settings: Settings, redactor: Redactor, destinations: list[Destination], database: str
) -> list[tuple[str, str]]:
    """Return the lines of the output, as names and values."""
    service = os.environ.get("OTEL_SERVICE_NAME") or "[yellow]unknown_service[/] (--service-name NAME)"
    facts = [("service", service if "[" in service else escape(service))]
    for signal in surroundings.SIGNALS:
        described = [
            _described(settings, destination, database) for destination in destinations if destination.signal == signal
        ]
        facts.append((signal, ", ".join(described) or "[dim]nowhere[/]"))
    secret = settings.redaction.pseudonyms.secret
    unset = f"[yellow]no secret[/]: addresses and ids redacted in full; set {_SECRET}"
    facts += [
        ("redaction", f"{redactor.engine}, {escape(str(settings.redaction.policy or 'built-in policy'))}"),
        ("pseudonyms", f"HMAC, key {settings.redaction.pseudonyms.key_id}" if secret else unset),
    ]
    facts += [
        ("not reached", f"[yellow]{escape(error.problem)}[/]: {escape(error.hint)}")
        for error in registered.unreached(redactor)
    ]
    if unseen := surroundings.unseen_by_sampler(settings, destinations):
        facts.append(("sampler", f"[yellow]{escape(unseen)}[/]"))
    found = surroundings.instrumentations(settings)
    facts.append(("instruments", ", ".join(_name(each) for each in found if each.starts) or "[yellow]nothing[/]"))
    facts += [("", f"[dim]not {escape(each.name)}: {escape(each.why)}[/]") for each in found if not each.starts]
    if missing := surroundings.uninstrumented():
        mend = f"pip install {' '.join(missing.values())}"
        facts.append(("not seen", f"[yellow]{escape(', '.join(missing))}[/]: {escape(mend)}"))
    facts += [
        ("nobody listens", f"[yellow]{escape(each)}[/]: start a gateway there (otel-telemetry serve), or use --db")
        for each in surroundings.unheard(destinations)
    ]
    if surroundings.writes_rows(destinations) and (hosts := surroundings.unseen_calls(settings.request_log.url)):
        facts.append(("unseen calls", f"[yellow]{escape(surroundings.counted(hosts))}[/]: {surroundings.NAME_HOSTS}"))
    facts.append(("texts", _texts(settings)))
    return facts


def _texts(settings: Settings) -> str:
    """Return where prompts and answers are stored."""
    switch = settings_module.variable("request_log.store_text")
    stores = settings.request_log.store_text
    if settings.instrument.captures(store_text=stores):
        return f"redacted, on spans{' and in rows' if stores else f' ({switch}=true: in rows, too)'}"
    return f"[dim]prompts and answers are not kept ({switch}=true keeps them, redacted)[/]"


def _described(settings: Settings, destination: Destination, database: str) -> str:
    if destination.exporter == assemble.REQUEST_LOG and not config_file.named():
        return f"{destination.exporter} {escape(surroundings.masked_database(settings.request_log.url))}{database}"
    file = f" [dim]({escape(str(config_file.named()))})[/]" if config_file.named() else ""
    return f"{escape(destination.exporter)} {escape(surroundings.masked(destination.where))}".rstrip() + file


def _name(each: Instrumentation) -> str:
    own = {assemble.LLM_HTTP: "model calls", assemble.REDIS_CACHE: "Redis lookups", assemble.THREADS: "threads"}
    if each.name not in own:
        return escape(each.why or each.name)
    return escape(f"{own[each.name]} ({each.why})" if each.why else own[each.name])


def _show(program: str, facts: list[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", justify="right")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    version = metadata.version("otel-telemetry")
    _err.print(f"[bold]otel-telemetry {version}[/] runs [bold]{escape(program)}[/]")
    _err.print(table)


def _become(executable: str, command: list[str]) -> NoReturn:
    _err.file.flush()
    os.execv(executable, [executable, *command[1:]])  # noqa: S606  # the program that the user asked for

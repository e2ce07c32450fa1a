"""`otel-telemetry erase`: one person's rows and texts go, from every table, the spool, and the bytes of their files."""

import re
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from otel_telemetry import settings as settings_module
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Database, load, progress
from otel_telemetry.exporters.request_log.operate.erase import Erased, Eraser
from otel_telemetry.exporters.request_log.operate.erase_search import KEYS, Found, Kind, Person
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.opening import open_reader
from otel_telemetry.gateway.spool import spool_file
from otel_telemetry.gateway.spool.erase import ErasureResult, ErasureTarget, SpoolEraser, leftovers
from otel_telemetry.processors.config import PseudonymSettings
from otel_telemetry.processors.redact.pseudonym import Pseudonyms

_PSEUDONYM: Final = re.compile(r"[a-z0-9]{1,16}_[0-9a-f]{12,64}")
_IP_PSEUDONYM: Final = re.compile(r"[0-9a-f]{12,64}")
_err = Console(stderr=True)


def erase(
    *,
    user: Annotated[str | None, typer.Option(help="Id of a user, as the app has it.", metavar="ID")] = None,
    ip: Annotated[str | None, typer.Option("--ip", help="An IP address.", metavar="ADDRESS")] = None,
    session: Annotated[str | None, typer.Option(help="Id of a session.", metavar="ID")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    db: Database = None,
    spool_dir: Annotated[
        Path | None,
        typer.Option("--spool-dir", help="Folder of the spool.", metavar="DIR", show_default="gateway.spool_dir"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Erase one person: every row and text that is about them, in all tables and in the gateway's spool.

    [bold]Try it:[/] otel-telemetry erase --user 8231 --dry-run

    Give the id or address itself (- reads it from standard input, so that it stays out of the shell's history), or the
    pseudonym that stands in the rows. It is looked for under the present key and the previous one, so the secrets that
    the telemetry was written with must be set.

    Requests that name the person go with all their model calls, spans, texts and feedback. The files are rebuilt
    afterwards, so that nothing is left in free pages. A gateway may run meanwhile. Spans that an app sends later make
    new rows: erase again when the person's last requests have come in.
    """
    kind, value = _given({"user": user, "ip": ip, "session": session})
    resolved = load(db)
    person = _person(kind, value, resolved.redaction.pseudonyms)
    folder = spool_dir or resolved.gateway.spool_dir
    in_topics = spool_dir is None and resolved.gateway.transport == "kafka"
    if in_topics:
        _refuse_undelivered(resolved.gateway)
    with Eraser(resolved.request_log.url, person) as eraser:
        found = _find(eraser)
        done = _in_spool(folder, person, found, erase=False)
        counts = {**found.counts(), **_spool_counts(done)}
        if counts and not dry_run:
            _agree(counts, person, ask=not yes)
            counts = _erase(eraser, found, folder, person)
    _show(counts, dry_run=dry_run, as_json=as_json)
    _warn(folder, counts)
    if in_topics:
        _err.print(
            f"[yellow]look at[/] the topics {resolved.gateway.kafka.topic_prefix}* of Kafka: nothing can be erased from"
            " them, and what they have of this person goes with their retention (retention.ms)"
        )


def _given(options: dict[Kind, str | None]) -> tuple[Kind, str]:
    given = [(kind, value) for kind, value in options.items() if value is not None]
    if len(given) != 1:
        raise typer.BadParameter("give exactly one of --user, --ip and --session", param_hint="erase")
    kind, value = given[0]
    value = (sys.stdin.read() if value == "-" else value).strip()
    if not value or value.startswith("[REDACTED"):
        raise typer.BadParameter("is empty or a marker, which names no single person", param_hint=f"--{kind}")
    return kind, value


def _person(kind: Kind, value: str, config: PseudonymSettings) -> Person:
    """Return what a person is called in rows, under each key; what looks like a pseudonym is one."""
    if (_IP_PSEUDONYM if kind == "ip" else _PSEUDONYM).fullmatch(value):
        return Person(kind, (value,), value)
    if config.secret is None:
        name = settings_module.variable("redaction.pseudonyms.secret")
        problem = "is not set, so this person's pseudonym in the rows cannot be computed"
        hint = f"set {name} to the secret in use, or give the pseudonym as it stands in the rows"
        raise ConfigurationError("redaction.pseudonyms.secret", problem, hint)
    pseudonyms = Pseudonyms(config)
    names = [name for text in (value, value.lower()) for name in pseudonyms.every(text, ip=kind == "ip")]
    if not names:
        raise typer.BadParameter(f"{value!r} is no IP address", param_hint="--ip")
    return Person(kind, tuple(dict.fromkeys(names)), value)


def _refuse_undelivered(gateway: GatewaySettings) -> None:
    """Raise ConfigurationError where Kafka has something that is not in rows yet: it would bring the person back."""
    with open_reader(gateway) as topics:
        left = sum(lag.batches for sink, lag in topics.status().lag.items() if sink == "request_log")
    if left:
        hint = "wait until `otel-telemetry spool status` shows nothing for request_log, then erase"
        problem = f"{left} messages are not in rows yet, and nothing can be erased from a topic of Kafka"
        raise ConfigurationError("erase", problem, hint)


def _find(eraser: Eraser) -> Found:
    with progress() as bar:
        task = bar.add_task("looking", total=None)
        return eraser.find(lambda table: bar.update(task, description=f"looking through {table}", advance=1))


def _erase(eraser: Eraser, found: Found, folder: Path, person: Person) -> dict[str, int]:
    """Erase from the spool first, so that nothing of it is delivered afterwards, then from the database."""
    done = _in_spool(folder, person, found, erase=True)
    with progress() as bar:
        task = bar.add_task("erasing", total=sum(found.counts().values()))
        erased = eraser.erase(found, lambda table, n: bar.update(task, description=f"erasing {table}", advance=n))
        bar.update(task, description="rebuilding the database", total=None)
        eraser.reclaim(erased.rows)
        late = eraser.find()
        if late.counts():  # delivered by a gateway that had read it before
            erased.rows += eraser.erase(late).rows
            eraser.reclaim(late.counts())
    return {**_sorted(erased), **_spool_counts(done)}


def _sorted(erased: Erased) -> dict[str, int]:
    return {table: erased.rows[table] for table in sorted(erased.rows) if erased.rows[table]}


def _in_spool(folder: Path, person: Person, found: Found, *, erase: bool) -> ErasureResult:
    """Look through the spool, or erase from it and rebuild its file; nothing where there is none."""
    if not (folder / spool_file.FILE_NAME).exists():
        return ErasureResult()
    traces, mixed = (frozenset(map(bytes.fromhex, _hex(ids))) for ids in (found.traces, found.mixed))
    names = tuple(name.encode() for name in person.names)
    wanted = ErasureTarget(names, KEYS[person.kind], person.value, traces, mixed)
    with SpoolEraser(folder, wanted) as spool, progress() as bar:
        task = bar.add_task("erasing from the spool" if erase else "looking through the spool", total=spool.size())
        if not erase:
            return spool.find(lambda n: bar.advance(task, n))
        done = spool.erase(lambda n: bar.advance(task, n))
        bar.update(task, description="rebuilding the spool", total=None)
        spool.rebuild()
        return done


def _hex(ids: set[str]) -> list[str]:
    return [each for each in ids if re.fullmatch(r"(?:[0-9a-f]{2})+", each)]


def _spool_counts(done: ErasureResult) -> dict[str, int]:
    counts = {"spool: items": done.items, "spool: batches": done.batches, "spool: dead letters": done.dead_letters}
    return {name: count for name, count in counts.items() if count}


def _agree(counts: dict[str, int], person: Person, *, ask: bool) -> None:
    """Ask whether to go on; without a terminal, raise with the option that answers."""
    if not ask:
        return
    if not sys.stdin.isatty():
        hint = "look at --dry-run first, then add --yes"
        raise ConfigurationError("erase", "there is no terminal to ask for confirmation", hint)
    _err.print(tables.table("would go", _COLUMNS, _rows(counts), _err.width))
    typer.confirm(f"Delete everything about this {person.kind}? It cannot be undone.", abort=True, err=True)


_COLUMNS: Final = [("where", "where", None), ("rows", "rows", 0)]


def _rows(counts: dict[str, int]) -> list[dict[str, object]]:
    return [{"where": where, "rows": count} for where, count in counts.items()]


def _show(counts: dict[str, int], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        tables.as_json(_rows(counts))
    elif counts:
        tables.show(tables.table("would go" if dry_run else "gone", _COLUMNS, _rows(counts), tables.window()))
    else:
        tables.show("nothing is known of this person")


def _warn(folder: Path, counts: dict[str, int]) -> None:
    """Name the files that nobody rewrites."""
    for path in leftovers(folder) if counts else ():
        _err.print(
            f"[yellow]look at[/] {escape(str(path))}: put aside when the spool was damaged or replaced;"
            " delete it if you can"
        )

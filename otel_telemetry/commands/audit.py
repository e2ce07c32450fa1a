"""`otel-telemetry audit`: begin, sign, prove and verify the trail over the rows of requests."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.markup import escape

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Database, progress, request_log
from otel_telemetry.exporters.request_log.audit import check, keys, proofs, trail
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema

audit_app = typer.Typer(
    help="A signed trail that shows whether rows were changed or removed behind its back, and what operators did.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_err: Final = Console(stderr=True)
_CHUNK: Final = 1_000
_SHOWN: Final = 20

PublicKey = Annotated[
    str | None,
    typer.Option(
        "--public-key",
        help="The key that `audit init` showed, kept outside the database.",
        metavar="KEY",
        show_default="the database's own",
    ),
]
Anchor = Annotated[
    Path | None,
    typer.Option("--anchor", help="File of checkpoints (request_log.audit.anchor_file).", metavar="FILE"),
]


@audit_app.command("init")
def audit_init(*, db: Database = None) -> None:
    """Begin the trail: make the key where there is none, commit to every row that is there, sign the first checkpoint.

    [bold]Try it:[/] otel-telemetry audit init --db sqlite:///telemetry.db, then set request_log.audit.enabled = true
    for the gateway. It prints the public key: keep it where the database's owner cannot change it. Safe to repeat:
    rows that were written while the trail was off are committed to then.
    """
    config = request_log(db)
    signer = keys.make(config.audit)
    with _writing(config) as engine:
        with engine.begin() as connection:
            trail.start(connection, signer)
        count = 0
        with progress() as bar:
            task = bar.add_task("committing to rows", total=None)
            for spans in _uncommitted(engine):
                with engine.begin() as connection:
                    count += trail.follow(connection, spans)
                bar.advance(task, len(spans))
        _sign(engine, config)
    _err.print(f"{count:,} rows are committed to; the public key is:")
    sys.stdout.write(signer.public + "\n")


@audit_app.command("checkpoint")
def audit_checkpoint(
    *,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the log as static files (C2SP tlog-tiles) into this folder too.", metavar="DIR"),
    ] = None,
    db: Database = None,
) -> None:
    """Sign how the trail is now, and print the checkpoint. A gateway does so by itself, each minute and when it stops.

    [bold]Try it:[/] otel-telemetry audit checkpoint --export audit-files. Any verifier of C2SP logs reads the files.
    """
    config = request_log(db)
    with _writing(config) as engine:
        _sign(engine, config)
        with engine.connect() as connection:
            table = schema.audit_checkpoint
            note = connection.execute(sa.select(table.c.note).order_by(table.c.size.desc()).limit(1)).scalar_one()
            if export is not None:
                size = proofs.export(connection, export)
                _err.print(f"{size:,} leaves are in {escape(str(export))}")
    sys.stdout.write(note)


@audit_app.command("prove")
def audit_prove(
    request: Annotated[str | None, typer.Argument(help="Id of a request.", show_default=False)] = None,
    *,
    leaf: Annotated[int | None, typer.Option(help="Number of a leaf, instead.", min=0, show_default=False)] = None,
    ref: Annotated[
        str | None,
        typer.Option(help="The ref of an earlier proof: also of a row that is erased by now.", show_default=False),
    ] = None,
    db: Database = None,
) -> None:
    """Print, as JSON, each leaf of a row with its proof, and the signed checkpoint that holds it.

    [bold]Try it:[/] otel-telemetry audit prove REQUEST-ID. Of an erased row: audit prove --ref REF shows that a row was
    there, and that it was erased, and nothing of what it said.
    """
    if sum(each is not None for each in (request, leaf, ref)) != 1:
        raise typer.BadParameter("give one of REQUEST, --leaf and --ref", param_hint="prove")
    with _reading(request_log(db)) as connection:
        if leaf is not None:
            found = [leaf]
        elif ref is not None:
            found = proofs.leaves_of_ref(connection, _bytes(ref))
        else:
            found = proofs.leaves_of_row(connection, request or "")
        if not found:
            raise ConfigurationError("audit prove", "there is no such row in the trail", "otel-telemetry audit verify")
        tables.as_json([proofs.prove(connection, number) for number in found])


@audit_app.command("verify")
def audit_verify(
    *,
    public_key: PublicKey = None,
    anchor: Anchor = None,
    files: Annotated[
        Path | None,
        typer.Option(help="Verify exported files instead of the database; needs --public-key.", metavar="DIR"),
    ] = None,
    db: Database = None,
    as_json: AsJson = False,
) -> None:
    """Verify rows, leaves, tiles and checkpoints; name what does not hold, and exit with 1 then.

    [bold]Try it:[/] otel-telemetry audit verify --public-key KEY --anchor checkpoints.txt. Without an anchor an owner
    of database and key may have written both anew.
    """
    anchors = keys.anchored(anchor) if anchor is not None else ()
    if files is not None:
        if public_key is None:
            raise ConfigurationError("--public-key", "is missing", "give the key that audit init showed")
        found = check.of_files(_file_reader(files), public_key, anchors)
    else:
        with _reading(request_log(db), database.snapshot) as connection:
            found = check.of_database(connection, public_key, anchors)
    _show(found, as_json=as_json)
    if public_key is None or anchor is None:
        missing = [name for name, given in (("--public-key", public_key), ("--anchor", anchor)) if given is None]
        _err.print(
            f"[dim]without {' and '.join(missing)} it is not shown that key and log were not replaced together[/]"
        )
    if found.problems:
        raise typer.Exit(1)


def _show(found: check.Found, *, as_json: bool) -> None:
    figures: dict[str, Any] = {
        "leaves": found.leaves,
        "rows": found.rows,
        "erased": found.erased,
        "checkpoints": found.checkpoints,
        "signed_leaves": found.signed or 0,
        "wrong": found.wrong,
        "problems": found.problems,
    }
    if as_json:
        tables.as_json([figures])
        return
    for problem in found.problems[:_SHOWN]:
        _err.print(f"[bold red]wrong[/] {escape(tables.visible(problem))}", soft_wrap=True)
    if found.wrong > _SHOWN:
        _err.print(f"and {found.wrong - _SHOWN:,} more; --json lists the first thousand")
    state = "does not hold" if found.problems else "holds"
    sys.stdout.write(
        f"the trail {state}: {found.leaves} leaves ({figures['signed_leaves']} of them signed), {found.rows} rows, "
        f"{found.erased} erased or expired, {found.checkpoints} checkpoints\n"
    )


def _sign(engine: sa.Engine, config: RequestLogSettings) -> None:
    signer = keys.signer(config.audit)
    with engine.begin() as connection:
        _require_trail(connection)
        note = trail.sign(connection, signer)
    if note is not None:
        keys.anchor(config.audit, note)


def _uncommitted(engine: sa.Engine) -> Iterator[list[trail.Key]]:
    """Yield the spans of rows that have no leaf, a chunk at a time, until there are none."""
    row, salt = schema.request_log.c, schema.audit_salt.c
    own = sa.select(salt.leaf).where(salt.trace_id == row.trace_id, salt.span_id == row.span_id).exists()
    query = sa.select(row.trace_id, row.span_id).where(~own).order_by(row.ts).limit(_CHUNK)
    while True:
        with engine.connect() as connection:
            spans = [(trace, span) for trace, span in connection.execute(query)]
        if not spans:
            return
        yield spans


def _require_trail(connection: sa.Connection) -> None:
    if not trail.exists(connection):
        raise ConfigurationError("request_log.audit", "this database has no trail", "otel-telemetry audit init")


@contextmanager
def _writing(config: RequestLogSettings) -> Iterator[sa.Engine]:
    database.reader(config.url).dispose()  # a database that is not there is not made
    engine = database.connect(config.url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _reading(
    config: RequestLogSettings, begun: Callable[[sa.Engine], sa.Connection] = sa.Engine.connect
) -> Iterator[sa.Connection]:
    engine = database.reader(config.url)
    try:
        with begun(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def _file_reader(folder: Path) -> Any:
    def read(name: str) -> bytes | None:
        try:
            return (folder / name).read_bytes()
        except OSError:
            return None

    return read


def _bytes(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 16:  # noqa: PLR2004 - bytes of a ref
        raise typer.BadParameter("is not 32 hexadecimal characters", param_hint="--ref")
    return found

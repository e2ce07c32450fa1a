"""`otel-telemetry spool`: look into the spool, deliver again, drop; all of it beside a running gateway too."""

import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from otel_telemetry import settings
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.base.foreign_text import plain_json
from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson
from otel_telemetry.exporters.request_log.audit import acts
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.kafka import client, topics
from otel_telemetry.gateway.opening import open_operator, open_reader
from otel_telemetry.gateway.spool.operator import Count
from otel_telemetry.gateway.spool.reader import DeadLetters, Loss, SpoolStatus
from otel_telemetry.gateway.spool.transport import Operator

spool_app = typer.Typer(help="Look into the spool, deliver again, or drop.", no_args_is_help=True)

_out = Console()
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SINCE_EVER: Final = 0
_UNTIL_EVER: Final = 1 << 62
_WIDE_ENOUGH: Final = 10_000

SpoolDir = Annotated[
    Path | None, typer.Option("--spool-dir", help="Folder of the spool.", metavar="DIR", show_default=False)
]
Exporter = Annotated[str, typer.Option(help="For which exporter, as `spool status` names it.", metavar="NAME")]
OlderThan = Annotated[
    str | None, typer.Option(help="Only what came in longer ago than this: 90m, 24h, 7d.", metavar="AGE")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@spool_app.command("status")
def spool_status(
    *,
    spool_dir: SpoolDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in the spool, how far each exporter has come, and what it will never get, with the reasons.

    [bold]Try it:[/] otel-telemetry spool status, in the folder where the gateway was started, or with --spool-dir.
    """
    with open_reader(_gateway(spool_dir)) as spool:
        status, dead = spool.status(), spool.dead_letters()
    if as_json:
        shown = dataclasses.asdict(status) | {"dead": [dataclasses.asdict(one) for one in dead]}
        _out.print_json(json.dumps(shown, default=str))
        return
    _show(_totals(status))
    _show(_by_exporter(status))
    if dead:
        _show(_dead(dead))
    if status.loss:
        typer.echo(f"{_lost(status.loss)}. Next: otel-telemetry spool acknowledge")
    for name in status.detached:
        typer.echo(
            f"{name} is not in the settings, and what it has not got is kept. Next: configure it again, or\n"
            f"  otel-telemetry spool drop --exporter {name} --forget"
        )


@spool_app.command("cat")
def spool_cat(
    *,
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Only what exporters could not take; `spool status` says why.")
    ] = False,
    spool_dir: SpoolDir = None,
) -> None:
    """Print everything that is in the spool, redacted as it was stored: one OTLP/JSON request a line.

    [bold]Try it:[/] otel-telemetry spool cat | tail -1
    """
    with open_reader(_gateway(spool_dir)) as spool:
        for line in spool.cat_dead_letters() if dead_letters else spool.cat():
            sys.stdout.write(plain_json(line) + "\n")


@spool_app.command("replay")
def spool_replay(
    *,
    exporter: Exporter,
    dead_letters: Annotated[bool, typer.Option("--dead-letters", help="What it could not take.")] = False,
    since: Annotated[
        str | None,
        typer.Option(help="All that is still kept and came since: '2h ago', or 2026-11-21T08:00Z.", metavar="TIME"),
    ] = None,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    spool_dir: SpoolDir = None,
) -> None:
    """Deliver to an exporter again: its dead letters, or everything since a time.

    [bold]Try it:[/] otel-telemetry spool replay --exporter request_log --dead-letters --dry-run. The gateway does it
    within a second, or at its next start. A dead letter is kept until it is delivered. request_log accepts the same
    batch twice without counting it twice; other destinations may not.
    """
    _one_of({"--dead-letters": dead_letters, "--since '2h ago'": since})

    def change(operator: Operator) -> Count:
        if since:
            return operator.replay_since(exporter, _moment(since))
        return operator.replay_dead(exporter, _before(older_than))

    _do(spool_dir, change, f"be delivered to {exporter} again", "will", dry_run=dry_run, yes=yes)


@spool_app.command("drop")
def spool_drop(
    *,
    exporter: Exporter,
    dead_letters: Annotated[bool, typer.Option("--dead-letters", help="What it could not take.")] = False,
    undelivered: Annotated[bool, typer.Option("--undelivered", help="What it has not got yet.")] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="All of an exporter that is no longer in the settings.")
    ] = False,
    older_than: OlderThan = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    spool_dir: SpoolDir = None,
) -> None:
    """Drop what an exporter has not got, or could not take. It is counted as dropped, and gone for this exporter.

    [bold]Try it:[/] otel-telemetry spool drop --exporter request_log --undelivered --older-than 7d --dry-run.
    """
    _one_of({"--dead-letters": dead_letters, "--undelivered": undelivered, "--forget": forget})
    before = _before(older_than)

    def change(operator: Operator) -> Count:
        if forget:
            return operator.forget(exporter)
        return operator.drop_dead(exporter, before) if dead_letters else operator.drop_undelivered(exporter, before)

    _do(spool_dir, change, f"dropped for {exporter}", "are", dry_run=dry_run, yes=yes)


@spool_app.command("acknowledge")
def spool_acknowledge(*, yes: Yes = False, spool_dir: SpoolDir = None) -> None:
    """Acknowledge data that the disk lost: /health is no longer degraded by it.

    [bold]Try it:[/] otel-telemetry spool acknowledge. It prints what is lost, and asks. The counters stay.
    """
    gateway = _gateway(spool_dir)
    with open_reader(gateway) as spool:
        loss = spool.status().loss
    if loss is None:
        typer.echo("no loss is waiting to be acknowledged")
        return
    typer.echo(_lost(loss))
    if not yes:
        typer.confirm("Take note of it? (--yes does not ask)", abort=True)
    with open_operator(gateway) as operator:
        operator.acknowledge()
    typer.echo("noted: /health no longer counts it as degraded")


@spool_app.command("topics")
def spool_topics(
    *,
    create: Annotated[bool, typer.Option("--create", help="Make those that are missing.")] = False,
    replicas: Annotated[int, typer.Option(help="Brokers that keep each partition of a new topic.", min=1)] = 3,
    retention: Annotated[
        str, typer.Option(help="How long a new topic keeps messages, delivered or not: 24h, 7d.", metavar="AGE")
    ] = "7d",
) -> None:
    """Check the topics of a gateway whose transport is Kafka, or make those that are missing.

    [bold]Try it:[/] otel-telemetry spool topics --create. Of three replicas two must have a message before its sender
    hears that it is kept.
    """
    config = settings.load().gateway
    if config.transport != "kafka":
        raise ConfigurationError("gateway.transport", "is disk, which has no topics", "set it to kafka")
    hours = _age(retention, "--retention") / 3.6e12
    made = topics.create(config.kafka, replicas, hours) if create else []
    for name in made:
        typer.echo(f"made {name}")
    topics.check(config.kafka)
    names = client.Topics(config.kafka).partitions
    typer.echo(", ".join(f"{name} ({count})" for name, count in names.items()) + ": there, with their partitions")


def _lost(loss: Loss) -> str:
    since = datetime.fromtimestamp(loss.since_ns / 1e9, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    more = ", and perhaps more: the parts that say how much there was are gone too" if loss.unknown else ""
    return (
        f"since {since} the disk did not keep {loss.batches:,} batches ({loss.items:,} items known of them) and"
        f" {loss.letters:,} dead letters{more}; a damaged file is kept beside spool.db as spool.damaged-*.db"
    )


def _do(spool_dir: Path | None, change: Any, what: str, done: str, *, dry_run: bool, yes: bool) -> None:
    """Show what a change would do, ask, and make it."""
    gateway = _gateway(spool_dir)
    if dry_run or not yes:
        with open_operator(gateway, dry_run=True) as operator:
            count = change(operator)
        typer.echo(f"{count.batches} batches with {count.items} items would be {what.removeprefix('be ')}")
        if dry_run or not count.batches:
            return
        typer.confirm("Go on? (--yes does not ask)", abort=True)
    acts.note(settings.load().request_log, "spool", {"what": f"{done} {what}"})
    with open_operator(gateway) as operator:
        count = change(operator)
    typer.echo(f"{count.batches} batches with {count.items} items {done} {what}")


# --- what was given -------------------------------------------------------------------------------------------------
def _gateway(spool_dir: Path | None) -> GatewaySettings:
    """Return the gateway's settings; a folder that is given is meant, whatever the transport."""
    given = {"gateway": {"spool_dir": spool_dir, "transport": "disk"}} if spool_dir else {}
    return settings.load(**given).gateway


def _one_of(options: Mapping[str, object]) -> None:
    """Raise ConfigurationError unless exactly one option is given."""
    given = [name for name, value in options.items() if value]
    if len(given) != 1:
        what = f"{' and '.join(given)} do not go together" if given else "nothing says what is meant"
        raise ConfigurationError(next(iter(options)).split()[0], what, f"give one of {', '.join(options)}")


def _before(older_than: str | None) -> int:
    if older_than is None:
        return _UNTIL_EVER
    return time.time_ns() - _age(older_than, "--older-than")


def _moment(text: str) -> int:
    """Return a time in ns since 1970: an age (2h), or a date or time of ISO 8601, in UTC unless it has a zone."""
    age = text.removesuffix("ago").strip()
    if re.fullmatch(r"\d+(\.\d+)?[smhd]", age):
        return time.time_ns() - _age(age, "--since")
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError("--since", f"{text!r} is no time", "write 2h, or 2026-11-21T08:00Z") from None
    return max(_SINCE_EVER, int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1e9))


def _age(text: str, option: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not match:
        raise ConfigurationError(option, f"{text!r} is no age", "write a number and s, m, h or d: 90m, 24h, 7d")
    return int(float(match[1]) * _SECONDS[match[2]] * 1e9)


# --- what is shown --------------------------------------------------------------------------------------------------
def _show(table: Table) -> None:
    """Print a table whole: a narrow window breaks its lines rather than cut names, which commands need."""
    wide = Console(width=_WIDE_ENOUGH)
    needed = Measurement.get(wide, wide.options, table).maximum
    Console(width=max(needed, tables.window() if _out.is_terminal else needed)).print(table)


def _table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column in right else "left")
    return table


def _totals(status: SpoolStatus) -> Table:
    table = _table("spool", "what", "value", right=["value"])
    for name in ("bytes", "batches", "appended", "dead_letters"):
        table.add_row(name, _number(getattr(status, name)))
    table.add_row("oldest_seconds", f"{status.oldest_seconds:.1f}")
    return table


def _by_exporter(status: SpoolStatus) -> Table:
    numbers = ("batches", "items", "bytes", "seconds", "dead items", "dead bytes")
    table = _table("what waits for each exporter", "exporter", *numbers, "never got", right=numbers)
    for name, cells in _rows(status):
        table.add_row(name, *cells)
    return table


def _rows(status: SpoolStatus) -> Iterator[tuple[str, list[str]]]:
    for name in sorted({*status.lag, *status.dead_items}):
        lag = status.lag.get(name)
        counts = [_number(one) for one in (lag.batches, lag.items, lag.bytes)] if lag else ["-"] * 3
        numbers = [*counts, f"{lag.seconds:.1f}" if lag else "-"]
        missed = ", ".join(f"{count:,} {what}" for what, count in sorted(status.missed.get(name, {}).items()))
        dead = [f"{found.get(name, 0):,}" for found in (status.dead_items, status.dead_bytes)]
        yield name, [*numbers, *dead, missed or ("0" if status.appended is not None else "-")]


def _number(value: int | None) -> str:
    """Return a number as people read it, "-" where it is not known."""
    return "-" if value is None else f"{value:,}"


def _dead(letters: Sequence[DeadLetters]) -> Table:
    table = _table("dead letters", "exporter", "signal", "batches", "items", "since", "why", right=("batches", "items"))
    for one in letters:
        since = datetime.fromtimestamp(one.since_ns / 1e9, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
        table.add_row(one.exporter, one.signal, f"{one.batches:,}", f"{one.items:,}", since, tables.visible(one.reason))
    return table

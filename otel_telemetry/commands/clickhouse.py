"""`otel-telemetry clickhouse`: create the tables there, send rows to them, and show the progress."""

import signal
import threading
from datetime import UTC, datetime
from typing import Annotated, Final

import sqlalchemy as sa
import typer

from otel_telemetry.base import backoff
from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.commands import tables
from otel_telemetry.commands.options import AsJson, Database, progress, request_log
from otel_telemetry.exporters.request_log.clickhouse import tables as there
from otel_telemetry.exporters.request_log.clickhouse.client import KEY, ClickHouse
from otel_telemetry.exporters.request_log.clickhouse.relay import Relay
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, outbox

clickhouse_app = typer.Typer(
    help="Send rows of requests and model calls on to ClickHouse, which keeps them for years.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_TARGET: Final = "clickhouse"
_PAUSE: Final = 1.0
_LONGEST: Final = 30.0
_COLUMNS: Final[tuple[tables.Column, ...]] = (("table", "table", None), ("here", "here", 0), ("ClickHouse", "there", 0))


def _server(config: RequestLogSettings) -> ClickHouse:
    if config.clickhouse.url is None:
        raise ConfigurationError(KEY, "is not set", "name ClickHouse: http://user:password@host:8123/database")
    return ClickHouse(config.clickhouse.url.get_secret_value())


@clickhouse_app.command("init")
def clickhouse_init(*, db: Database = None) -> None:
    """Make the tables in ClickHouse, or bring them up to date, and have rows noted for it from now on.

    [bold]Try it:[/] otel-telemetry clickhouse init

    It also tells ClickHouse how long to keep rows (request_log.clickhouse.retention_days) and texts; run it again after
    a change of these. Writers that run already note rows once they are started again; rows from before are sent by
    `otel-telemetry clickhouse backfill`. Safe to repeat.
    """
    config = request_log(db)
    there.make(_server(config), config.clickhouse.retention_days, config.clickhouse.text_retention_days)
    engine = database.connect(config.url)
    try:
        with engine.begin() as connection:
            if not outbox.is_wanted(connection):
                connection.execute(sa.insert(outbox.outbox_target).values(name=_TARGET, ts=datetime.now(UTC)))
    finally:
        engine.dispose()
    tables.show("ClickHouse has its tables; start writers again, then: otel-telemetry clickhouse backfill")


@clickhouse_app.command("relay")
def clickhouse_relay(
    *,
    once: Annotated[bool, typer.Option("--once", help="End when nothing is left to send.")] = False,
    db: Database = None,
) -> None:
    """Send rows on as they are written, until it is stopped.

    [bold]Try it:[/] otel-telemetry clickhouse relay

    It may be killed at any time, and several may run: a row that comes twice is one row there.
    """
    config = request_log(db)
    server, stopped = _server(config), threading.Event()
    there.check(server)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    failures = 0
    with Relay(config.url, server, config.clickhouse.batch_rows) as relay:
        while not stopped.is_set():
            try:
                done = relay.step()
            except StoreUnavailable as error:
                failures += 1
                typer.echo(str(error), err=True)
                if once:
                    raise
                stopped.wait(backoff.pause(failures, _PAUSE, _LONGEST))
                continue
            failures = 0
            if not done and once:
                break
            if not done:
                stopped.wait(_PAUSE)
        tables.show(f"sent {relay.sent:,} rows; {relay.refused:,} were refused and are in dead_letter")


@clickhouse_app.command("backfill")
def clickhouse_backfill(*, db: Database = None) -> None:
    """Send all rows that are stored; those that were sent since stay as they are.

    [bold]Try it:[/] otel-telemetry clickhouse backfill
    """
    config = request_log(db)
    server = _server(config)
    there.check(server)
    with Relay(config.url, server, config.clickhouse.batch_rows) as relay, progress() as bar:
        task = bar.add_task("sending", total=None)
        for count in relay.backfill():
            bar.update(task, advance=count)
    tables.show(f"sent {relay.sent:,} rows; {relay.refused:,} were refused and are in dead_letter")


@clickhouse_app.command("status")
def clickhouse_status(*, db: Database = None, as_json: AsJson = False) -> None:
    """Tell what waits to be sent, and how many rows there are here and there.

    [bold]Try it:[/] otel-telemetry clickhouse status
    """
    config = request_log(db)
    server = _server(config)
    there.check(server)
    engine = database.reader(config.url)
    try:
        with engine.connect() as connection:
            count = sa.select(sa.func.count())
            waiting = connection.execute(count.select_from(outbox.outbox)).scalar_one()
            here = {table: connection.execute(count.select_from(table)).scalar_one() for table in there.TABLES}
    finally:
        engine.dispose()
    rows = [
        {"table": table.name, "here": number, "there": int(server.rows(_counted(server, table))[0]["n"])}
        for table, number in here.items()
    ]
    if as_json:
        tables.as_json([{**row, "waiting": waiting} for row in rows])
        return
    tables.show(tables.table("rows", _COLUMNS, rows, tables.window()))
    tables.show(f"{waiting:,} transactions wait to be sent")


def _counted(server: ClickHouse, table: sa.Table) -> str:
    return f"SELECT toUInt32(count()) AS n FROM {server.database}.{table.name} FINAL"  # noqa: S608  # checked names

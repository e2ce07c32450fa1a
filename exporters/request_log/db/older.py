"""Databases of the older systems, recognised by their tables and columns.

They are never written to: a `request_log.url` that names one is refused, and `otel-telemetry import` imports its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import sqlalchemy as sa

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.db import schema

_KEY: Final = "request_log.url"
#: Names that our migrations make views of.
_VIEWS: Final = frozenset({"ask_logs", "events", "chronicle_events", "chronicle_runs", "chronicle_steps"})


@dataclass(slots=True, frozen=True, eq=False)
class System:
    """An older system: its name, and the columns that identify each of its tables.

    A table that it may lack, or that may have no row, is in `tables` like the others: one of them is enough.
    """

    name: str
    tables: Mapping[str, frozenset[str]]


MODULE: Final = System(
    "the SQLite telemetry module",
    {
        "ask_logs": frozenset({"id", "ts", "sid", "query", "model", "ok"}),
        "events": frozenset({"id", "ts", "type", "sid", "data_json"}),
        "feedback": frozenset({"id", "ts", "sid", "verdict", "sources_json"}),
    },
)
BOT: Final = System("the chat bot's request_log", {"request_log": frozenset({"id", "route"})})
CHRONICLE: Final = System(
    "chronicle",
    {
        "chronicle_events": frozenset({"id", "event_type", "chat_request", "created_at"}),
        "chronicle_runs": frozenset({"id", "status", "created_at", "updated_at"}),
        "chronicle_steps": frozenset({"id", "run_id", "status", "start_time"}),
    },
)
SYSTEMS: Final = (MODULE, BOT, CHRONICLE)


def is_ours(connection: sa.Connection) -> bool:
    """Return whether the database is one that this package made."""
    return sa.inspect(connection).has_table(schema.VERSION_TABLE)


def found(connection: sa.Connection) -> dict[System, list[str]]:
    """Return the older systems whose tables exist, with these tables; views do not count."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    result = {}
    for system in SYSTEMS:
        known = [
            name
            for name, columns in system.tables.items()
            if name in there and columns <= {column["name"].lower() for column in inspector.get_columns(name)}
        ]
        if known:
            result[system] = known
    return result


def refuse(connection: sa.Connection) -> None:
    """Raise ConfigurationError for a database that is not ours and has tables where ours would be."""
    inspector = sa.inspect(connection)
    taken = sorted({*inspector.get_table_names(), *inspector.get_view_names()} & {*schema.metadata.tables, *_VIEWS})
    if not taken:
        return
    where = _where(connection)
    systems = found(connection)
    if systems:
        names = " and ".join(system.name for system in systems)
        new = "sqlite:///new.db" if connection.dialect.name == "sqlite" else "another database"
        hint = f"otel-telemetry import {where} --into {new}, and set {_KEY} to that one"
        raise ConfigurationError(_KEY, f"{where} is a database of {names}, to which nothing is written", hint)
    raise ConfigurationError(_KEY, f"{where} has {_listed(taken)} of somebody else", "name another database")


def _listed(names: Sequence[str]) -> str:
    return f"a table {names[0]}" if len(names) == 1 else f"tables {', '.join(names)}"


def _where(connection: sa.Connection) -> str:
    """Return the URL of a database as people write it, without its password."""
    url = connection.engine.url
    if connection.dialect.name != "sqlite":
        return url.set(drivername="postgresql").render_as_string(hide_password=True)
    return f"sqlite:///{unquote(str(url.database).removeprefix('file:'))}"

"""PostgreSQL: connections for writing and reading, what its errors mean, and the locks of writers.

Several processes may write to one database. Each transaction that writes begins by taking an advisory lock, which ends
with it. Commands, retention, new partitions and migrations take it alone: nobody else writes meanwhile. Writers of rows
share it (`sharing`), and then lock the buckets of the traces that they write (`take`), or `EVENTS`: what a writer read
of a trace is still true when it writes, and two never count the same call. Nobody waits for a bucket while it has
another one, so there is nothing to deadlock over. Spans are turned into rows before any lock is taken.

The writers' queries are all look-ups of a few keys. Their connections therefore forbid what the planner likes where it
has no statistics yet, such as reading a whole table that was empty a minute ago.
"""

import importlib.util
from collections.abc import Collection, Mapping
from json.encoder import encode_basestring_ascii
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.db import older
from otel_telemetry.exporters.request_log.db.sqlite import KEY

#: The lock that a writer holds: an arbitrary number, the same for every version of this package.
LOCK: Final = 7_021_990_113
#: Traces are in so many buckets, each locked by one writer at a time.
BUCKETS: Final = 16
#: Locked, instead of buckets, by who writes events, and by who writes values of figures.
EVENTS: Final = BUCKETS
VALUES: Final = BUCKETS + 1
_BUCKET_CLASS: Final = 1_869_898_850
_FREE: Final = (
    f"SELECT bucket FROM unnest(%s::int[]) AS bucket WHERE pg_try_advisory_xact_lock({_BUCKET_CLASS}, bucket)"  # noqa: S608
)
_SHARING: Final = "otel_telemetry_sharing"
#: Where writers tell the ids of the requests whose rows they have written (tail.py listens).
CHANNEL: Final = "otel_telemetry_request_log"
#: Told where there are more ids than that is worth: look yourself.
MANY: Final = "*"
_NOTE_BYTES: Final = 7_900  # PostgreSQL takes less than 8,000
_NOTES: Final = 16
_CONNECT: Final = {
    "connect_timeout": "5",
    "application_name": "otel-telemetry",
    "client_encoding": "utf8",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "tcp_user_timeout": "30000",
}
_SESSION: Final = {"timezone": "UTC"}
_WRITER: Final = {
    **_SESSION,
    "lock_timeout": "15s",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
#: Readers sort and group many rows: in memory, and by plans that are not worth compiling.
_READER: Final = {**_SESSION, "default_transaction_read_only": "on", "work_mem": "64MB", "jit": "off"}
#: Classes of SQLSTATE that lie in the rows, not in the database: data, constraints, and limits of size.
_ROWS_FAULT: Final = ("22", "23", "54")
#: Beginnings and parts of what a server says that nothing but another setting helps against.
_SETTING: Final = {
    "password authentication failed": "correct user and password; special characters are written as %40 and so on",
    "no password supplied": "write the password into the URL, or set PGPASSWORD or ~/.pgpass",
    "no pg_hba.conf entry": "let this client in by pg_hba.conf, or correct user, database or sslmode",
    "database ": "create it: createdb NAME",
    "role ": "create it: createuser --pwprompt NAME",
    "failed to resolve host": "correct the host's name",
    "could not translate host name": "correct the host's name",
}


def check(parsed: sa.URL) -> None:
    """Raise ConfigurationError where the driver is missing or the URL names no database."""
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigurationError(KEY, "the PostgreSQL driver is missing", 'pip install "otel-telemetry[postgres]"')
    if not parsed.database:
        raise ConfigurationError(KEY, "names no database", "write it at the end: postgresql://user@host/telemetry")


def writer(parsed: sa.URL) -> sa.Engine:
    """Return an engine of one connection, each of whose transactions holds the writers' lock."""
    engine = _engine(parsed, _WRITER, poolclass=sa.QueuePool, pool_size=1, max_overflow=0)
    sa.event.listen(engine, "begin", _lock)
    return engine


def _lock(connection: sa.Connection) -> None:
    how = "_shared" if connection.get_execution_options().get(_SHARING) else ""
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock{how}({LOCK})")


def sharing(engine: sa.Engine) -> sa.Engine:
    """Return an engine of the same connection whose transactions share the lock; on SQLite there is none to share."""
    return engine.execution_options(**{_SHARING: True})


def take(connection: sa.Connection, buckets: Mapping[int, int], enough: int) -> tuple[list[int], bool]:
    """Lock free ones of these buckets, {bucket: size}, until that is enough; where none is free, wait for the first.

    Return them, and whether another writer had one that was wanted.
    """
    taken: list[int] = []
    met = False
    left, size = list(buckets), 0
    while left and size < enough:
        wanted: list[int] = []
        while left and size + sum(buckets[each] for each in wanted) < enough:
            wanted.append(left.pop(0))
        got = connection.exec_driver_sql(_FREE, (wanted,)).scalars().all()
        taken += got
        met = met or len(got) < len(wanted)
        size += sum(buckets[each] for each in got)
    if not taken:
        taken = [next(iter(buckets))]
        wait_for(connection, taken[0])
    return taken, met


def wait_for(connection: sa.Connection, bucket: int) -> None:
    """Lock a bucket, EVENTS or VALUES, once it is free; on SQLite a transaction that writes is alone."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_BUCKET_CLASS}, {bucket})")


def reader(parsed: sa.URL, idle: int = 0) -> sa.Engine:
    """Return an engine for reading only; raises ConfigurationError where there is nothing to read yet.

    So many connections stay open when nobody uses them.
    """
    pooled = {"poolclass": sa.QueuePool, "pool_size": idle, "max_overflow": -1, "pool_pre_ping": True}
    engine = _engine(parsed, _READER, **(pooled if idle else {"poolclass": sa.NullPool}))
    try:
        with engine.connect() as connection:
            if not older.is_ours(connection):
                older.refuse(connection)
            elif sa.inspect(connection).has_table("request_log"):
                return engine
    except exc.DBAPIError as error:
        raise refusal(error, parsed) or error from None
    hint = "record something first, or correct the URL"
    raise ConfigurationError(KEY, f"there is no request_log in database {parsed.database}", hint)


def announce(connection: sa.Connection, ids: Collection[str]) -> None:
    """Notify listeners of the written requests when this transaction is committed; does nothing on other databases."""
    if connection.dialect.name != "postgresql":
        return
    many = sum(map(len, ids)) > _NOTES * _NOTE_BYTES
    notes: list[str] = [MANY] if many else []
    size = _NOTE_BYTES
    for each in map(encode_basestring_ascii, () if many else ids):  # JSON, a line each
        size += len(each) + 1
        if size > _NOTE_BYTES:
            notes.append(each)
            size = len(each)
        else:
            notes[-1] += "\n" + each
    if notes:
        notes = notes if len(notes) <= _NOTES else [MANY]
        connection.exec_driver_sql("SELECT pg_notify(%s, note) FROM unnest(%s::text[]) AS note", (CHANNEL, notes))


def _engine(parsed: sa.URL, session: dict[str, str], **pool: Any) -> sa.Engine:
    given = {name: value for name, value in _CONNECT.items() if name not in parsed.query}
    url = parsed.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, connect_args=given, **pool)
    sa.event.listen(engine, "connect", lambda raw, _: _prepare(raw, session))
    return engine


def _prepare(raw: Any, session: dict[str, str]) -> None:
    settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in session.items())
    raw.execute(f"SELECT {settings}")
    raw.commit()


def refusal(error: exc.DBAPIError, parsed: sa.URL) -> ConfigurationError | None:
    """Return what is wrong with the setting where the server was not reached, or refused us, because of it."""
    state = getattr(error.orig, "sqlstate", None)
    where = f"{parsed.database} on {parsed.host or 'this machine'}"
    if state == "42501":
        hint = f"GRANT CREATE, USAGE ON SCHEMA public TO {parsed.username or 'its user'}"
        return ConfigurationError(KEY, f"may not make tables in {where}", hint)
    message = str(error.orig).splitlines()[0] if state is None else ""
    message = message.partition("FATAL:")[2].strip() or message
    for part, hint in _SETTING.items():
        missing = part.endswith(" ")
        if (message.startswith(part) and "does not exist" in message) if missing else part in message:
            return ConfigurationError(KEY, f"cannot open {where}: {message}", hint)
    return None


def is_passing(error: BaseException | None) -> bool:
    """Return whether trying again can help: always, unless the rows themselves are at fault.

    A missing table or right is not theirs either: everything waits until somebody has put it right.
    """
    if error is None or not type(error).__module__.startswith("psycopg"):
        return False
    state = getattr(error, "sqlstate", None)
    if state is None:  # said by the driver: it could not send a value, or has no connection
        return type(error).__name__ != "DataError"
    return not state.startswith(_ROWS_FAULT)

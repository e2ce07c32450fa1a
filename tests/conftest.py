"""Fixtures for every test: real backends, started where a test asks for one."""

import signal

from hypothesis import settings

from tests.backends.clickhouse import as_read_fixture, shared_clickhouse_fixture
from tests.backends.kafka_broker import kafka_fixture, own_kafka_fixture
from tests.backends.postgres import own_postgres_fixture, postgres_fixture
from tests.backends.redis_server import own_redis_fixture, redis_server_fixture, shared_redis_fixture
from tests.backends.tables import (
    empty_database_fixture,
    postgres_tables_fixture,
    tables_fixture,
    with_tables_fixture,
)

__all__ = [
    "as_read_fixture",
    "empty_database_fixture",
    "kafka_fixture",
    "own_kafka_fixture",
    "own_postgres_fixture",
    "own_redis_fixture",
    "postgres_fixture",
    "postgres_tables_fixture",
    "redis_server_fixture",
    "shared_clickhouse_fixture",
    "shared_redis_fixture",
    "tables_fixture",
    "with_tables_fixture",
]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in background: programs that tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same generated examples in each run; `--hypothesis-profile=random` looks for new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile("same")

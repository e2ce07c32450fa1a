"""The demo in each shape, by settings alone: `python -m tests.e2e.demo_shapes SHAPE [options of the demo]`.

`sqlite` needs nothing; `postgresql` starts a server; `kafka-clickhouse` a broker, PostgreSQL and the ClickHouse engine.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.chat_app.demo.__main__ import main
from tests.backends import kafka_broker, postgres, programs
from tests.backends.clickhouse import ClickHouseServer

SHAPES = ("sqlite", "postgresql", "kafka-clickhouse")


@dataclass(frozen=True, slots=True)
class Shape:
    """Settings of the gateway, and the files in which its backends log all that is written to them: folder, pattern."""

    settings: Mapping[str, str]
    logs: tuple[tuple[Path, str], ...] = ()

    def options(self) -> list[str]:
        """Return the demo's options."""
        return [f"--set={name}={value}" for name, value in self.settings.items()]


@contextmanager
def running(name: str) -> Iterator[Shape]:
    """Run what a shape needs for as long as the block lasts."""
    with ExitStack() as stack:
        settings: dict[str, str] = {}
        logs: list[tuple[Path, str]] = []
        if name != "sqlite":
            server = stack.enter_context(postgres.running())
            settings["request_log.url"] = server.database()
            logs.append((server.folder / "data" / "pg_wal", "[0-9A-F]*"))
        if name == "kafka-clickhouse":
            broker = stack.enter_context(kafka_broker.running())
            columns = stack.enter_context(programs.in_a_folder(ClickHouseServer))
            settings |= {"gateway.transport": "kafka", "gateway.kafka.brokers": broker.brokers}
            settings |= {"request_log.clickhouse.url": columns.url()}
            logs.append((broker.folder / "data", "*/*.log"))
        yield Shape(settings, tuple(logs))


if __name__ == "__main__":
    wanted, *options = sys.argv[1:]
    if wanted not in SHAPES:
        sys.exit(f"there is no shape {wanted}: choose {', '.join(SHAPES)}")
    with running(wanted) as shape:
        sys.exit(main([*options, *shape.options()]))

"""A real Apache Kafka for tests: one process that is broker and controller (KRaft), on free ports of loopback.

Its jars come from Maven (builds.py). A killed one starts again with what its folder holds.
"""

import base64
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.backends import builds, process, programs

_START_SECONDS = 90.0
_LARGEST = 20_000_000
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(_LARGEST),
    "log.cleaner.dedupe.buffer.size": "4194304",
    "broker.session.timeout.ms": "1000",  # how long a killed one seems to live, so that it cannot start again
    "broker.heartbeat.interval.ms": "200",
}


class KafkaBroker:
    """One broker, which may be stopped, killed and started again. Needs confluent-kafka."""

    def __init__(self, folder: Path, **properties: str) -> None:
        pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed (the extra kafka)")
        self.java = programs.program("java", "default-jre-headless")
        self._libs = builds.built(builds.KAFKA, "python -m tests.backends.builds kafka")
        self.folder = folder
        self.port, controller = process.free_port(), process.free_port()
        self.brokers = f"127.0.0.1:{self.port}"
        own = {
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "log.dirs": str(folder / "data"),
        }
        self._settings = folder / "server.properties"
        given = {**_PROPERTIES, **own, **{name.replace("_", "."): value for name, value in properties.items()}}
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        self._process: subprocess.Popen[bytes] | None = None
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool: list[str | Path] = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", self._settings]
        with (folder / "log").open("ab") as log:
            subprocess.run(self._command(*tool), check=True, timeout=60, stdout=log, stderr=log, cwd=folder)

    def _command(self, *arguments: str | Path) -> list[str | Path]:
        memory = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        return [self.java, *memory, "-cp", f"{self._libs}/*", *arguments]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            command = self._command("kafka.Kafka", self._settings)
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"Kafka did not get ready:\n{(self.folder / 'log').read_text()[-3_000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException

        with suppress(KafkaException):
            return bool(self.admin().list_topics(timeout=1).brokers)
        return False

    def admin(self) -> Any:
        """Return a client that changes topics and groups."""
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.brokers, "log_level": 0, "reconnect.backoff.max.ms": 200})

    @property
    def pid(self) -> int:
        """Its number, while it runs."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    close = kill  # nobody will read these files again


def running(**properties: str) -> AbstractContextManager[KafkaBroker]:
    """Run a broker for as long as the block lasts."""
    return programs.in_a_folder(lambda folder: KafkaBroker(folder, **properties))


@pytest.fixture(scope="session", name="kafka")
def kafka_fixture() -> Iterator[KafkaBroker]:
    """A broker that all tests share: make topics with a prefix of your own in it, and leave it running."""
    with running() as broker:
        yield broker


@pytest.fixture(name="own_kafka")
def own_kafka_fixture() -> Iterator[KafkaBroker]:
    """A broker for one test, which may kill it."""
    with running() as broker:
        yield broker

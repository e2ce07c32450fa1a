"""The Collector's Kafka exporter and receiver at both ends of the topics: what one writes the other reads."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.backends import builds
from tests.backends.kafka_broker import KafkaBroker
from tests.backends.process import Process, free_port
from tests.exporters.otlp_receiver import Receiver, grpc_receiver
from tests.faults.checks import check_rows
from tests.faults.kafka_gateway import KafkaGateway, new_topics
from tests.faults.load import make_request
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)
PROTOBUF = {"content-type": "application/x-protobuf"}
Collector = Callable[[str, Any, Any], Process]


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """Return `collector(name, receivers, exporters)`, a running Collector that hands traces from one to the other."""
    program = builds.built(builds.KAFKA_COLLECTOR)
    with ExitStack() as stack:

        def start(name: str, receivers: Any, exporters: Any) -> Process:
            port = free_port()
            reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": port}}}}
            pipeline = {"receivers": list(receivers), "exporters": list(exporters)}
            config = {
                "receivers": receivers,
                "exporters": exporters,
                "service": {"pipelines": {"traces": pipeline}, "telemetry": {"metrics": {"readers": [reader]}}},
            }
            folder = tmp_path / name
            folder.mkdir()
            (folder / "config.yaml").write_text(yaml.safe_dump(config))
            command: list[str | Path] = [program, "--config", str(folder / "config.yaml")]
            return stack.enter_context(Process(command, folder, f"http://127.0.0.1:{port}/metrics"))

        yield start


def test_what_the_collectors_exporter_writes_becomes_rows_redacted(
    kafka: KafkaBroker, collector: Collector, tmp_path: Path
) -> None:
    config = new_topics(kafka)
    port = free_port()
    collector(
        "exporting",
        {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        {
            "kafka": {
                "brokers": [kafka.brokers],
                "traces": {"topic": f"{config.topic_prefix}spans", "encoding": "otlp_proto"},
                "partition_traces_by_id": True,
            }
        },
    )
    sent = {os.urandom(16) for _ in range(30)}
    for trace_id in sent:
        body = make_request(trace_id)
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/traces", content=body, headers=PROTOBUF, timeout=30)
        assert answer.status_code == 200
    with KafkaGateway(tmp_path / "deliver", config, "--role", "deliver") as running:
        eventually(lambda: running.total("otel_telemetry_delivered_total", exporter="request_log") >= 150, "rows", 90)
        eventually(running.has_all, "the topics are read to their ends", 90)
        check_rows(running, sent)
        assert b"anna@example.com" not in (tmp_path / "deliver" / "rows.db").read_bytes()


def test_what_a_receiver_writes_the_collectors_receiver_reads_redacted(
    kafka: KafkaBroker, collector: Collector, tmp_path: Path
) -> None:
    config = new_topics(kafka)
    with grpc_receiver(Receiver()) as backend, KafkaGateway(tmp_path / "g", config, "--role", "receive") as running:
        collector(
            "receiving",
            {
                "kafka": {
                    "brokers": [kafka.brokers],
                    "group_id": "collector",
                    "initial_offset": "earliest",
                    "traces": {"topics": [f"{config.topic_prefix}spans"], "encoding": "otlp_proto"},
                    "message_marking": {"after": True, "on_error": False},
                }
            },
            {
                "otlp_grpc": {
                    "endpoint": f"127.0.0.1:{backend.port}",
                    "tls": {"insecure": True},
                    "sending_queue": {"enabled": False},
                }
            },
        )
        sent = [os.urandom(16) for _ in range(30)]
        for trace_id in sent:
            url = f"http://127.0.0.1:{running.http}/v1/traces"
            assert httpx.post(url, content=make_request(trace_id), headers=PROTOBUF, timeout=30).status_code == 200
        eventually(lambda: all(any(one in body for body in backend.bodies) for one in sent), "all of it comes out", 90)
        whole = b"".join(backend.bodies)
        assert b"anna@example.com" not in whole
        assert b"[REDACTED_EMAIL]" in whole

"""The Go module collector/: its own tests, and a Collector built from its manifest that redacts in its pipelines."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.backends import builds
from tests.backends.observability import fetch
from tests.backends.redactor import Redactor
from tests.e2e import redacting, sending
from tests.e2e.redacting import EXAMPLE, MAIL, Collector, Exported, Load
from tests.e2e.scenario import scenario

pytestmark = pytest.mark.timeout(600)


@dataclass
class Running:
    """A Collector with a redactor beside it, and what it has exported."""

    redactor: Redactor
    collector: Collector
    exported: Exported


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    redactor = Redactor(tmp_path / "redactor")
    with redacting.keeping() as (target, exported):
        collector = Collector(tmp_path / "collector", redactor, target)
        with redactor, collector:
            yield Running(redactor, collector, exported)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("command", [["vet", "-p", "1", "./..."], ["test", "-p", "1", "./..."]], ids=["vet", "test"])
def test_the_module_passes_its_own_tests(command: list[str]) -> None:
    go = shutil.which("go") or "/usr/local/go/bin/go"
    done = subprocess.run([go, *command], cwd=builds.COMPONENTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_that_an_sdk_sends_goes_on_redacted(running: Running, tmp_path: Path) -> None:
    made = scenario("python")
    collector = running.collector
    sending.send(made, tmp_path, {"grpc": collector.grpc, "http": collector.http})
    paths = {"/v1/traces", "/v1/logs", "/v1/metrics"}
    wait_until(lambda: {path for path, _ in running.exported.bodies} == paths and len(running.exported.span_ids()) == 5)
    everything = running.exported.everything()
    assert not [value for value in made.planted.values() if value.encode() in everything]
    assert b"REDACTED" in everything
    assert running.exported.keys == {"k1"}
    logs = [ExportLogsServiceRequest.FromString(body) for path, body in running.exported.bodies if path == "/v1/logs"]
    assert sum(len(s.log_records) for one in logs for part in one.resource_logs for s in part.scope_logs) == 2
    points = [ExportMetricsServiceRequest.FromString(b) for path, b in running.exported.bodies if path == "/v1/metrics"]
    names = {m.name for one in points for part in one.resource_metrics for s in part.scope_metrics for m in s.metrics}
    assert names == {"shop.orders", "shop.latency", "shop.temperature"}
    counted = fetch(collector.metrics).decode()
    assert re.search(r'otelcol_processor_otel_telemetry_items\w*\{[^}]*outcome="redacted"', counted)


def _more_than(load: Load, count: int) -> bool:
    return len(load.acknowledged) > count


def test_nothing_raw_leaves_and_nothing_acknowledged_is_lost_while_both_are_killed(running: Running) -> None:
    with Load(running.collector.http) as load:
        for _ in range(3):
            wanted = len(load.acknowledged) + 500
            wait_until(partial(_more_than, load, wanted))
            running.redactor.kill()
            time.sleep(1)
            running.redactor.start()
        running.collector.kill()
        running.collector.start()
        sent = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > sent + 500)
        running.redactor.kill()
        silent, refused = len(load.acknowledged), load.refused
        wait_until(lambda: load.refused > refused)  # the processor's own time is up: senders are told to come again
        assert len(load.acknowledged) <= silent + 4 * 50, "what was redacted already may still be answered"
        running.redactor.start()
    wait_until(lambda: load.acknowledged <= running.exported.span_ids())
    assert MAIL.encode() not in running.exported.everything()
    queued = b"".join(file.read_bytes() for file in running.collector.folder.rglob("queue/*") if file.is_file())
    assert MAIL.encode() not in queued, "raw data is on no disk"


def test_a_file_that_leads_data_around_the_processor_is_refused(tmp_path: Path) -> None:
    program = builds.built(builds.REDACTING_COLLECTOR)
    leak = "    metrics: {receivers: [otlp], processors: [memory_limiter], exporters: [request_log]}\n"
    text = EXAMPLE.read_text().splitlines(keepends=True)
    around = tmp_path / "around.yaml"
    around.write_text("".join(leak if line.startswith("    metrics: {receivers") else line for line in text))
    good, bad = (
        subprocess.run(
            [program, "validate", "--config", file],
            cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, check=False,
        )
        for file in (EXAMPLE, around)
    )  # fmt: skip
    assert good.returncode == 0, good.stderr
    assert bad.returncode != 0
    assert 'service::pipelines::metrics: exports what receiver "otlp" receives without the processor' in bad.stderr

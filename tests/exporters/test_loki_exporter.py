"""The exporter that an app's SDK uses: real providers and processors, against a server that stands for Loki."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExportResult, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from otel_telemetry.base import metrics
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.loki.exporter import LokiLogRecordExporter
from tests.exporters.otlp_receiver import Answer, Received, Receiver


@pytest.fixture
def make(loki: Receiver) -> Iterator[Callable[..., LokiLogRecordExporter]]:
    made: list[LokiLogRecordExporter] = []

    def exporter(**settings: Any) -> LokiLogRecordExporter:
        made.append(LokiLogRecordExporter(endpoint=f"http://127.0.0.1:{loki.port}", **settings))
        return made[-1]

    yield exporter
    for each in made:
        each.shutdown()


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """Return what was counted as dropped, by reason."""
    reader = InMemoryMetricReader()
    counter = MeterProvider([reader]).get_meter("test").create_counter("dropped")
    monkeypatch.setattr(metrics, "dropped", counter)

    def counts() -> dict[str, Any]:
        data: Any = reader.get_metrics_data()
        found = data.resource_metrics if data else []
        points = [p for r in found for s in r.scope_metrics for m in s.metrics for p in m.data.data_points]
        return {point.attributes["reason"]: point.value for point in points}

    return counts


def some(count: int = 1, **fields: Any) -> Any:
    """Return log records as an exporter gets them."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(Resource({"service.name": "chat"}), shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    for number in range(count):
        given = {
            "timestamp": time.time_ns(),
            "body": f"line {number}",
            "severity_number": SeverityNumber.INFO,
            **fields,
        }
        provider.get_logger("lib").emit(LogRecord(**given))
    return exporter.get_finished_logs()


def texts(loki: Receiver) -> list[str]:
    return [v[1] for got in loki.got for s in json.loads(got.body)["streams"] for v in s["values"]]


def test_log_records_of_an_app_become_lines(loki: Receiver, make: Any) -> None:
    assert make().export(some(2, attributes={"http.route": "/a"})) is LogRecordExportResult.SUCCESS
    (stream,) = json.loads(loki.got[0].body)["streams"]
    assert stream["stream"] == {"service_name": "chat", "level": "info"}
    assert [value[1] for value in stream["values"]] == ["line 0", "line 1"]
    assert stream["values"][0][2] == {"http_route": "/a", "scope_name": "lib"}


def test_otlp_serves_the_app_too(loki: Receiver, make: Any) -> None:
    assert make(protocol="otlp").export(some()) is LogRecordExportResult.SUCCESS
    assert loki.got[0].path == "/otlp/v1/logs"


@pytest.mark.parametrize("protocol", ["push", "otlp"])
def test_a_loki_that_is_back_in_time_gets_everything(loki: Receiver, make: Any, dropped: Any, protocol: str) -> None:
    answers = [Answer(503), Answer(429, headers={"retry-after": "1"})]
    loki.answer = lambda got: answers.pop(0) if answers else Answer(204)
    assert make(protocol=protocol).export(some()) is LogRecordExportResult.SUCCESS
    assert len(loki.got) == 3
    assert dropped() == {}


def test_a_loki_that_stays_away_costs_the_timeout_at_most_and_the_loss_is_counted(
    loki: Receiver, make: Any, dropped: Any, caplog: pytest.LogCaptureFixture
) -> None:
    loki.answer = lambda got: Answer(503)
    exporter = make(timeout=0.5)
    assert exporter.export(some(3)) is LogRecordExportResult.FAILURE
    assert exporter.export(some(2)) is LogRecordExportResult.FAILURE
    assert dropped() == {"destination_away": 5}
    assert caplog.text.count("do not reach Loki") == 1


def test_a_wish_beyond_the_deadline_is_not_waited_for(loki: Receiver, make: Any, dropped: Any) -> None:
    loki.answer = lambda got: Answer(429, headers={"retry-after": "60"})
    started = time.monotonic()
    make().export(some())
    assert time.monotonic() - started < 5
    assert len(loki.got) == 1
    assert dropped() == {"destination_away": 1}


def test_a_line_that_loki_never_keeps_is_counted_and_the_others_arrive(loki: Receiver, make: Any, dropped: Any) -> None:
    batch = [*some(2), *some(body="old", timestamp=1)]
    assert make().export(batch) is LogRecordExportResult.FAILURE
    assert texts(loki) == ["line 0", "line 1"]
    assert dropped() == {"too_old": 1}


def test_a_refusal_over_otlp_is_counted_by_its_reason(loki: Receiver, make: Any, dropped: Any) -> None:
    loki.answer = lambda got: Answer(400, b"no")
    assert make(protocol="otlp").export(some(2)) is LogRecordExportResult.FAILURE
    assert dropped() == {"invalid": 2}


def test_whatever_goes_wrong_nothing_is_raised(make: Any, dropped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = make()
    monkeypatch.setattr(exporter, "_export", lambda *args: 1 / 0)
    assert exporter.export(some()) is LogRecordExportResult.FAILURE
    assert dropped() == {"export_failed": 1}


def test_shutdown_ends_the_waiting_and_what_comes_later_is_counted(loki: Receiver, make: Any, dropped: Any) -> None:
    exporter = make(timeout=60)

    def answer(got: Received) -> Answer:
        exporter.shutdown()
        return Answer(503, headers={"retry-after": "30"})

    loki.answer = answer
    started = time.monotonic()
    assert exporter.export(some()) is LogRecordExportResult.FAILURE
    assert time.monotonic() - started < 20
    assert exporter.export(some()) is LogRecordExportResult.FAILURE
    assert dropped() == {"destination_away": 1, "shutdown": 1}
    assert exporter.force_flush()


def _export_in_child(exporter: LokiLogRecordExporter, batch: Any) -> None:
    os._exit(0 if exporter.export(batch) is LogRecordExportResult.SUCCESS else 1)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_uses_a_connection_of_its_own(loki: Receiver, make: Any) -> None:
    exporter = make()
    exporter.export(some())
    children = [
        multiprocessing.get_context("fork").Process(target=_export_in_child, args=(exporter, some())) for _ in range(2)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
    exporter.export(some())
    assert [child.exitcode for child in children] == [0, 0]
    assert len({got.connection for got in loki.got}) == 3
    assert loki.got[0].connection == loki.got[3].connection


def test_without_an_endpoint_it_says_so_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"loki\.endpoint"):
        LokiLogRecordExporter()


def test_it_is_an_exporter_by_name() -> None:
    (entry_point,) = metadata.entry_points(group="opentelemetry_logs_exporter", name="loki")
    assert issubclass(entry_point.load(), LokiLogRecordExporter)


PROGRAM = """
import logging
logging.getLogger("shop").warning("paid by jane@example.com")
"""


def test_an_app_that_knows_nothing_of_it_sends_its_logs_to_loki_redacted(loki: Receiver, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "loki",
        "OTEL_TELEMETRY_LOKI__ENDPOINT": f"http://127.0.0.1:{loki.port}",
    }
    command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, "-c", PROGRAM]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    (stream,) = json.loads(loki.got[0].body)["streams"]
    assert stream["stream"] == {"service_name": "shop", "level": "warn"}
    assert stream["values"][0][1] == "paid by [REDACTED_EMAIL]"


CONFIGURED = """
import logging, os, otel_telemetry
otel_telemetry.configure(service_name="shop", exporter="none", loki={"endpoint": os.environ["LOKI"]})
logging.getLogger("shop").warning("paid by jane@example.com")
"""


def test_an_app_can_say_in_code_where_loki_is(loki: Receiver, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "loki",
        "LOKI": f"http://127.0.0.1:{loki.port}",
    }
    command = [sys.executable, "-c", CONFIGURED]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert texts(loki) == ["paid by [REDACTED_EMAIL]"]


FILE = """
file_format: "1.0"
resource:
  attributes: [{name: service.name, value: shop}]
logger_provider:
  processors:
    - batch:
        exporter:
          loki: {endpoint: "${LOKI}", tenant: team-a}
"""


def test_a_configuration_file_can_name_it(loki: Receiver, tmp_path: Path) -> None:
    (tmp_path / "otel.yaml").write_text(FILE)
    environment = {**os.environ, "OTEL_CONFIG_FILE": "otel.yaml", "LOKI": f"http://127.0.0.1:{loki.port}"}
    command = [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, "-c", PROGRAM]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert texts(loki) == ["paid by [REDACTED_EMAIL]"], ran.stderr
    assert loki.got[0].headers["x-scope-orgid"] == "team-a"

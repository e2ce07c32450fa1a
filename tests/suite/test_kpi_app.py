"""Users' own figures in an app without a gateway: metrics of its own MeterProvider, and the report of its rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

from otel_telemetry.exporters.request_log.kpis import definitions
from otel_telemetry.exporters.request_log.operate.report import ReportQueries
from otel_telemetry.settings import load

FILE = """
[request_log]
url = "sqlite:///rows.db"
[kpi.words]
source = "requests"
kind = "histogram"
value = "meta.words"
buckets = [10, 100]
[kpi.steps]
source = "spans"
kind = "counter"
[kpi.steps.labels]
who = { path = "who", most = 5 }
[kpi.lines]
source = "logs"
kind = "counter"
"""
APP = """
import json, logging, otel_telemetry
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider, LogRecord
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
otel_telemetry.configure(service_name="shop", exporter="request_log")
tracer = trace.get_tracer("app")
with tracer.start_as_current_span("a", attributes={"request_log.words": 40, "who": "ann@example.com"}):
    with tracer.start_as_current_span("b", attributes={"who": "bob@example.com"}):
        pass
get_logger_provider().get_logger("app").emit(LogRecord(body="hello"))
otel_telemetry.flush()
found = {}
for of_resource in reader.get_metrics_data().resource_metrics:
    for scope in of_resource.scope_metrics:
        for metric in scope.metrics:
            found[metric.name] = [[dict(p.attributes), getattr(p, "value", None) or getattr(p, "count", 0)]
                                  for p in metric.data.data_points]
print(json.dumps({name: found.get(name) for name in ("words", "steps", "lines")}))
"""


def test_an_app_measures_behind_redaction_and_its_report_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "otel-telemetry.toml").write_text(FILE)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "OTEL"))}
    done = subprocess.run(
        [sys.executable, "-c", APP], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {
        "words": [[{}, 1]],
        "steps": [[{"who": "[REDACTED_EMAIL]"}, 2]],
        "lines": [[{}, 1]],
    }
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    kpis = definitions.compiled(load(kpi=json.loads(json.dumps(_defined(tmp_path)))).kpi)
    with ReportQueries(load(request_log={"url": url}).request_log) as answers:
        (row,) = answers.kpis(kpis, ())
    assert (row["words"], row["steps"], row["lines"]) == (40, 2, 1)


def _defined(folder: Path) -> object:
    import tomllib

    return tomllib.loads((folder / "otel-telemetry.toml").read_text())["kpi"]

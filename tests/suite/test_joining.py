"""Where somebody else has registered the SDK's providers first, rows are written, and all exporters get clean spans."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.suite.another_distro import DISTRO, other_distro
from tests.suite.test_zero_code import BIN, PLANTED, environment, nothing_planted, rows, run_script

REGISTER = """
import sys
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class Others(SpanExporter):
    def export(self, spans):
        with open("others", "a") as file:
            file.writelines(span.to_json(indent=None) + chr(10) for span in spans)
        return SpanExportResult.SUCCESS

class Provider(TracerProvider):
    replaces = False
    def add_span_processor(self, processor):
        if self.replaces:  # as Phoenix's does
            self._active_span_processor._span_processors = ()
        super().add_span_processor(processor)

provider = Provider(resource=Resource.create({"service.name": "theirs"}))
provider.add_span_processor(BatchSpanProcessor(Others()))
trace.set_tracer_provider(provider)
"""
ALL = "metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()])); _logs.set_logger_provider(LoggerProvider())"
WORK = """
import os, httpx
with trace.get_tracer("script").start_as_current_span("work for jane.roe@example.com"):
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    httpx.post(os.environ["MODEL"] + "/v1/chat/completions", json=body)
"""
CONFIGURE = "\nimport otel_telemetry\notel_telemetry.configure({arguments})\n"
ROWS = 'service_name="ours", exporter="request_log"'


def spans_of_others(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "others").read_text().splitlines()]


def rows_and_clean_spans(folder: Path) -> bool:
    assert rows(folder, "SELECT llm_calls, ok, prompt_tokens > 0 FROM request_log") == [(1, 1, 1)]
    assert rows(folder, "SELECT count(*) FROM llm_call") == [(1,)]
    seen = [span["name"] for span in spans_of_others(folder)]
    assert "work for [REDACTED_EMAIL]" in seen
    return nothing_planted(folder) and PLANTED not in (folder / "others").read_text()


@pytest.mark.parametrize("more", ["", ALL + "\nprovider.replaces = True\n"])
def test_configure_adds_rows_and_redaction_to_providers_of_others(tmp_path: Path, model: str, more: str) -> None:
    script = REGISTER + more + CONFIGURE.format(arguments=ROWS) + WORK
    done = run_script(tmp_path, model, sys.executable, "script.py", script=script)
    assert done.returncode == 0, done.stderr
    assert rows_and_clean_spans(tmp_path)
    assert "'theirs'" in done.stderr  # whose service name the rows have
    assert "Overriding" not in done.stderr
    assert "OTEL_SERVICE_NAME=ours" in done.stderr


def test_zero_code_does_so_too(tmp_path: Path, model: str) -> None:
    """Another distribution was found first; its configurator knows no OTEL_TRACES_EXPORTER."""
    packages = other_distro(tmp_path)
    body = REGISTER.replace("\n", "\n        ").replace("\n        \n", "\n\n")
    configurator = f"class Configurator(_BaseConfigurator):\n    def _configure(self, **kwargs):{body}"
    distro = DISTRO.partition("class Configurator")[0].replace("_OTelSDKConfigurator", "_BaseConfigurator")
    (Path(packages) / "another_distro.py").write_text(distro + configurator)
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    more = {"OTEL_TRACES_EXPORTER": "request_log", "OTEL_METRICS_EXPORTER": "none", "PYTHONPATH": packages}
    done = run_script(tmp_path, model, *command, script="from opentelemetry import trace" + WORK, **more)
    assert done.stdout == "the other distro\n", done.stderr
    assert rows_and_clean_spans(tmp_path)


LOOK = """
from otel_telemetry.app.joining import _KINDS
from otel_telemetry.base.within import fields_and_items, within
def exporters(provider):
    found = [type(each) for each in within(provider, 8, fields_and_items) if isinstance(each, _KINDS)]
    return sorted(f"{each.__module__.split('.')[0]}.{each.__name__}" for each in found)
from otel_telemetry.app import lifecycle
import os
print(*[exporters(each) for each in lifecycle.providers()], sep="|")
os._exit(0)
"""
PERIODIC, OTHERS = "opentelemetry.PeriodicExportingMetricReader", "__main__.Others"
SPANS, LOGS, METRICS = (f"opentelemetry.OTLP{kind}Exporter" for kind in ("Span", "Log", "Metric"))


#: Exporters that send to where ours would: by OTLP's other protocol, and into the same database.
OTLP_HTTP = """
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter("http://127.0.0.1:4318/v1/traces")))
"""
SAME_ROWS = """
import os
from otel_telemetry.exporters.request_log import RequestLogSpanExporter
url = os.environ["OTEL_TELEMETRY_REQUEST_LOG__URL"]
provider.add_span_processor(BatchSpanProcessor(RequestLogSpanExporter(url=url)))
"""


@pytest.mark.parametrize(
    ("more", "arguments", "found"),
    [
        ("", "", [[OTHERS, SPANS], [LOGS], [METRICS, PERIODIC]]),
        (ALL, "", [[OTHERS, SPANS], [LOGS], ["opentelemetry.InMemoryMetricReader", METRICS, PERIODIC]]),
        (OTLP_HTTP, "", [[OTHERS, SPANS], [LOGS], [METRICS, PERIODIC]]),
        (
            SAME_ROWS,
            ROWS,
            [[OTHERS, "otel_telemetry.RequestLogSpanExporter"], ["otel_telemetry.RequestLogLogExporter"], []],
        ),
    ],
)
def test_exporters_are_those_of_our_own_providers_and_none_twice(
    tmp_path: Path, more: str, arguments: str, found: list[list[str]]
) -> None:
    script = REGISTER + more + CONFIGURE.format(arguments=arguments) + LOOK
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(tmp_path, ""),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["|".join(map(str, found))], done.stderr

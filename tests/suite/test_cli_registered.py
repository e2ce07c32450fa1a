"""`doctor` and `run` say which provider that the environment registers is out of redaction's reach."""

from pathlib import Path

import pytest

from tests.suite.test_cli_doctor import BIN, doctor, run

#: A vendor's providers: they make spans, records and metrics of their own, or hand on to the SDK's.
VENDOR = """
from opentelemetry import metrics, trace, _logs
from opentelemetry.sdk.trace import TracerProvider

class Span(trace.NonRecordingSpan):
    def is_recording(self):
        return True

class Tracer(trace.NoOpTracer):
    def start_span(self, *args, **kwargs):
        return Span(trace.INVALID_SPAN_CONTEXT)

class Spans(trace.TracerProvider):
    def get_tracer(self, *args, **kwargs):
        return Tracer()

class Records(_logs.LoggerProvider):
    def get_logger(self, *args, **kwargs):
        return _logs.NoOpLogger("own")

class Measures(metrics.MeterProvider):
    def get_meter(self, *args, **kwargs):
        return metrics.NoOpMeter("own")

class Leading(trace.TracerProvider):
    def __init__(self):
        self.behind = TracerProvider()
    def get_tracer(self, *args, **kwargs):
        return self.behind.get_tracer(*args, **kwargs)
"""
ENTRY_POINTS = """
[opentelemetry_tracer_provider]
vendor = vendor_sdk:Spans
leading = vendor_sdk:Leading
[opentelemetry_logger_provider]
vendor = vendor_sdk:Records
[opentelemetry_meter_provider]
vendor = vendor_sdk:Measures
"""
KINDS = {
    "OTEL_PYTHON_TRACER_PROVIDER": ("Spans", "spans"),
    "OTEL_PYTHON_LOGGER_PROVIDER": ("Records", "log records"),
    "OTEL_PYTHON_METER_PROVIDER": ("Measures", "metrics"),
}


@pytest.fixture(name="vendor")
def vendor_fixture(tmp_path: Path) -> str:
    """Installs the vendor's package; names where."""
    info = tmp_path / "packages" / "vendor_sdk-1.0.dist-info"
    info.mkdir(parents=True)
    (info.parent / "vendor_sdk.py").write_text(VENDOR)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor-sdk\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return str(info.parent)


@pytest.mark.parametrize("variable", KINDS)
def test_doctor_names_a_provider_that_is_not_reached(tmp_path: Path, vendor: str, variable: str) -> None:
    code, found = doctor(tmp_path, PYTHONPATH=vendor, **{variable: "vendor"})
    (check,) = found["providers"]
    name, what = KINDS[variable]
    assert (code, check["state"]) == (1, "problem")
    assert f"vendor_sdk.{name} exports {what} that otel-telemetry cannot reach" in check["detail"]
    assert "start without that provider" in check["next"]


def test_doctor_is_content_with_one_that_leads_to_the_sdk(tmp_path: Path, vendor: str) -> None:
    code, found = doctor(tmp_path, PYTHONPATH=vendor, OTEL_PYTHON_TRACER_PROVIDER="leading")
    assert (code, [check["state"] for check in found["providers"]]) == (0, ["ok"])


@pytest.mark.parametrize("variable", ["OTEL_PYTHON_LOGGER_PROVIDER", "OTEL_PYTHON_TRACER_PROVIDER"])
def test_doctor_says_of_one_that_cannot_be_loaded_what_to_do(tmp_path: Path, variable: str) -> None:
    code, found = doctor(tmp_path, **{variable: "nobodys"})
    (check,) = found["providers"]
    assert (code, check["state"]) == (1, "problem")
    assert "unset OTEL_PYTHON_TRACER_PROVIDER" in check["next"]


def test_run_says_it_before_the_program_starts(tmp_path: Path, vendor: str) -> None:
    command: list[str | Path] = [BIN / "otel-telemetry", "run", "--", "python", "-c", "pass"]
    exporter = {"OTEL_TRACES_EXPORTER": "request_log", "PYTHONPATH": vendor}
    printed = run(tmp_path, *command, **exporter, OTEL_PYTHON_TRACER_PROVIDER="vendor").stderr
    (line,) = [line for line in printed.splitlines() if "not reached" in line]
    assert "vendor_sdk.Spans exports spans that otel-telemetry cannot reach" in line
    assert "not reached" not in run(tmp_path, *command, **exporter).stderr

"""Nothing raw leaves beside the distributions of Azure Monitor, Traceloop, Phoenix and Datadog: `make matrix`.

Each runs in an environment of its own: started before us, after us, and in an app under `otel-telemetry run`.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.company import environments

pytestmark = [
    pytest.mark.skipif("MATRIX" not in os.environ, reason="installs neighbours: make matrix"),
    pytest.mark.timeout(600),
]
HEAD = (Path(__file__).parent / "what_leaves.py").read_text(encoding="utf-8")
RUN = ("otel-telemetry", "run", "--quiet", "--")

AZURE = """
os.environ["APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL"] = "true"
os.environ["APPLICATIONINSIGHTS_CONNECTION_STRING"] = (
    f"InstrumentationKey=00000000-0000-0000-0000-000000000000;IngestionEndpoint={URL}/;LiveEndpoint={URL}/"
)
from azure.monitor.opentelemetry import configure_azure_monitor
from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter, AzureMonitorTraceExporter
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
def azure():
    configure_azure_monitor(logger_name="shop", enable_live_metrics=False, disable_offline_storage=True)
def exporters():
    trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(AzureMonitorTraceExporter()))
    _logs.get_logger_provider().add_log_record_processor(BatchLogRecordProcessor(AzureMonitorLogExporter()))
"""
TRACELOOP = """
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import workflow
def loop():
    Traceloop.init(app_name="x", api_endpoint=URL, api_key="k", disable_batch=True, telemetry_enabled=False)
@workflow(name="w")
def flow(text):
    return text
def looped():
    flow(f"{KNOWN} {PLANTED}")
    work()
"""
PHOENIX = """
from phoenix.otel import register
from openinference.instrumentation.langchain import LangChainInstrumentor
from langchain_core.language_models import FakeListChatModel
def phoenix():
    provider = register(endpoint=URL + "/v1/traces", protocol="http/protobuf", batch=False, verbose=False)
    LangChainInstrumentor().instrument(tracer_provider=provider)
    return provider
def ask(provider, least=2):
    FakeListChatModel(responses=[f"{KNOWN} answers {PLANTED}"]).invoke(f"{KNOWN} asks {PLANTED}")
    work(provider)
    done(provider, least=least)
"""
DATADOG = """
from ddtrace.opentelemetry import TracerProvider as Foreign
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
def datadog():
    trace.set_tracer_provider(Foreign())
    exporter = OTLPSpanExporter(endpoint=URL + "/v1/traces")
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
"""
PACKAGES = {
    "azure-monitor-opentelemetry": ("azure-monitor-opentelemetry",),
    "traceloop-sdk": ("traceloop-sdk", "httpx"),
    "phoenix": ("arize-phoenix-otel", "openinference-instrumentation-langchain", "langchain-core"),
    "ddtrace": ("ddtrace",),
}
PROGRAMS = {
    "azure before us": ("azure-monitor-opentelemetry", AZURE + "azure()\nours()\nwork()\ndone(least=2)"),
    "azure after us": ("azure-monitor-opentelemetry", AZURE + "ours()\nazure()\nwork()\ndone()"),
    "azure's exporters after us": ("azure-monitor-opentelemetry", AZURE + "ours()\nexporters()\nwork()\ndone()"),
    "traceloop before us": ("traceloop-sdk", TRACELOOP + "loop()\nours()\nlooped()\ndone()"),
    "traceloop after us": ("traceloop-sdk", TRACELOOP + "ours()\nloop()\nlooped()\ndone()"),
    "phoenix before us": ("phoenix", PHOENIX + "p = phoenix()\nours()\nask(p)"),
    "phoenix after us": ("phoenix", PHOENIX + "ours()\np = phoenix()\nask(p)"),
    "datadog after us": ("ddtrace", DATADOG + "ours()\ndatadog()\nwork()\ndone()"),
}
UNDER_RUN = {
    "azure": ("azure-monitor-opentelemetry", AZURE + "azure()\nexporters()\nwork()\ndone()"),
    "traceloop": ("traceloop-sdk", TRACELOOP + "loop()\nlooped()\ndone()"),
    "datadog": ("ddtrace", DATADOG + "datadog()\nwork()\ndone()"),
    "phoenix": ("phoenix", PHOENIX + "ask(phoenix(), least=1)"),
}


def run(folder: Path, neighbour: str, program: str, *before: str) -> None:
    python = environments.environment(neighbour, *PACKAGES[neighbour], "--editable", str(environments.ROOT))
    file = folder / "program.py"
    file.write_text(HEAD + program, encoding="utf-8")
    command = [str(python.parent / before[0]), *before[1:], str(python)] if before else [str(python)]
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "DD_", "PYTHONPATH"))
    }
    inherited |= {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "LOGS", "METRICS")} if before else {}
    result = subprocess.run(
        [*command, str(file)], cwd=folder, env=inherited, capture_output=True, text=True, timeout=300, check=False
    )
    assert "clean" in result.stdout.splitlines(), result.stdout + result.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_raw_leaves_before_or_after_us(name: str, tmp_path: Path) -> None:
    run(tmp_path, *PROGRAMS[name])


@pytest.mark.parametrize("name", UNDER_RUN)
def test_nothing_raw_leaves_an_app_under_run(name: str, tmp_path: Path) -> None:
    run(tmp_path, *UNDER_RUN[name], *RUN)

"""Redaction beside the real Logfire, Langfuse and ddtrace, each in an environment of its own: `make matrix`."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.company import environments

pytestmark = [
    pytest.mark.skipif("MATRIX" not in os.environ, reason="installs neighbours: make matrix"),
    pytest.mark.timeout(600),
]
PLANTED = "erika.muster@example.org"

HEAD = f"""
import otel_telemetry
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
PLANTED = {PLANTED!r}
mem = InMemorySpanExporter()
def ours():
    otel_telemetry.configure(service_name="x", exporter="request_log", request_log={{"url": "sqlite:///rows.db"}})
def done(least=1):
    seen = [span.to_json() for span in mem.get_finished_spans()]
    assert len(seen) >= least, seen
    assert all(PLANTED not in each and "REDACTED" in each for each in seen), seen
    print("clean")
"""
LOGFIRE = """
import logfire
def logfire_s(*more):
    more = [*more, SimpleSpanProcessor(mem)]
    logfire.configure(send_to_logfire=False, console=False, additional_span_processors=more)
def work():
    with logfire.span("to {who}", who=PLANTED): pass
"""
OUTSIDE = "\nwith trace.get_tracer('t').start_as_current_span('x', attributes={'note': PLANTED}): pass\n"
LANGFUSE = """
import os
os.environ.update(LANGFUSE_PUBLIC_KEY="pk", LANGFUSE_SECRET_KEY="sk", LANGFUSE_BASE_URL="http://127.0.0.1:9")
from langfuse import Langfuse
def work(own=None):
    client = Langfuse(tracer_provider=own)
    (own or trace.get_tracer_provider()).add_span_processor(SimpleSpanProcessor(mem))
    return client
def say(client):
    with client.start_as_current_observation(name="to " + PLANTED, input=PLANTED, as_type="span"): pass
    done()
    os._exit(0)
"""
DDTRACE = """
from otel_telemetry.base.errors import ConfigurationError
from ddtrace.opentelemetry import TracerProvider as Foreign
trace.set_tracer_provider(Foreign())
try:
    ours()
except ConfigurationError as error:
    assert "ddtrace" in str(error)
    print("clean")
"""
PROGRAMS = {
    "logfire: the processor alone, first": (
        "logfire",
        LOGFIRE
        + "from otel_telemetry.processors.span import RedactionSpanProcessor\n"
        + "logfire_s(RedactionSpanProcessor())\nwork()\ndone()",
    ),
    "logfire before us": ("logfire", LOGFIRE + "logfire_s()\nours()\nwork()" + OUTSIDE + "done(2)"),
    "logfire after us": ("logfire", LOGFIRE + "ours()\nlogfire_s()\nwork()\ndone()"),
    "langfuse before us": ("langfuse", LANGFUSE + "c = work()\nours()\nsay(c)"),
    "langfuse after us": ("langfuse", LANGFUSE + "ours()\nc = work()\nsay(c)"),
    "langfuse with its own provider": ("langfuse", LANGFUSE + "ours()\nc = work(TracerProvider())\nsay(c)"),
    "ddtrace is refused by name": (
        "ddtrace",
        DDTRACE,
    ),
}


def run(tmp_path: Path, neighbour: str, program: str, *before: str) -> str:
    python = environments.environment(neighbour, neighbour, "--editable", str(environments.ROOT))
    file = tmp_path / "program.py"
    file.write_text(HEAD + program)
    command = [str(python.parent / before[0]), *before[1:], str(python)] if before else [str(python)]
    result = subprocess.run(
        [*command, str(file)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "clean" in result.stdout, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_raw_comes_to_an_exporter(name: str, tmp_path: Path) -> None:
    run(tmp_path, *PROGRAMS[name])


def test_logfire_in_an_app_under_run(tmp_path: Path) -> None:
    run(tmp_path, "logfire", LOGFIRE + "logfire_s()\nwork()\ndone()", "otel-telemetry", "run", "--quiet", "--")

"""SIGTERM ends an instrumented process as ever, but not before its telemetry is out."""

import signal
import subprocess
import sys
import time
from pathlib import Path

APP = """
import signal, sys, time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from otel_telemetry.app import lifecycle

class ToFile(SpanExporter):
    def export(self, spans):
        with open(sys.argv[1], "a") as file:
            file.writelines(span.name + chr(10) for span in spans)
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ToFile(), schedule_delay_millis=60_000))
trace.set_tracer_provider(provider)
{install}
provider.get_tracer("app").start_span("last words").end()
print("ready", flush=True)
time.sleep(60)
"""


def end(folder: Path, install: str) -> tuple[int, str]:
    """Run the app, end it with SIGTERM, and return its exit code and what it exported."""
    exported = folder / "exported"
    exported.touch()
    command = [sys.executable, "-c", APP.format(install=install), str(exported)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()
    return process.returncode, exported.read_text()


def test_without_it_the_last_spans_are_lost(tmp_path: Path) -> None:
    assert end(tmp_path, "") == (-signal.SIGTERM, "")


def test_the_last_spans_go_out_and_the_process_still_ends_by_the_signal(tmp_path: Path) -> None:
    assert end(tmp_path, "lifecycle.flush_on_signals()") == (-signal.SIGTERM, "last words\n")


def test_a_flush_that_hangs_or_raises_does_not_keep_the_process(tmp_path: Path) -> None:
    hangs = "provider.shutdown = lambda: time.sleep(60); lifecycle._FLUSH_SECONDS = 0.2; lifecycle.flush_on_signals()"
    assert end(tmp_path, hangs)[0] == -signal.SIGTERM
    raises = "provider.shutdown = lambda: 1 / 0; lifecycle.flush_on_signals()"
    assert end(tmp_path, raises)[0] == -signal.SIGTERM


def test_a_handler_of_the_app_is_left_alone(tmp_path: Path) -> None:
    install = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); lifecycle.flush_on_signals()"
    assert end(tmp_path, install) == (7, "last words\n")  # by the SDK's own exit function


SCRIPT = """
import sys, threading, time
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from otel_telemetry.app import lifecycle

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=lambda span: span.name + chr(10))))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider())
lifecycle.flush_at_end()
tracer = provider.get_tracer("app")
{rest}
tracer.start_span("last words").end()
"""


def run(rest: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT.format(rest=rest)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)


def test_a_script_ends_when_all_is_out() -> None:
    done = run("")
    assert (done.stdout, done.stderr) == ("last words\n", "")


def test_what_threads_say_after_the_script_goes_out_too() -> None:
    late = "threading.Thread(target=lambda: (time.sleep(0.3), tracer.start_span('later').end())).start()"
    assert run(late).stdout == "last words\nlater\n"


def test_an_exporter_without_anybody_to_listen_does_not_keep_a_script() -> None:
    hangs = "provider.shutdown = lambda: time.sleep(60); lifecycle._FLUSH_SECONDS = 0.2"
    done = run("provider._atexit_handler = None; import atexit; atexit.unregister(provider.shutdown); " + hangs)
    assert done.stderr == ""  # the app took the exit handler out: this provider is its own business
    done = run(hangs)
    assert "the last flush was stopped after 0.2 s" in done.stderr


def test_providers_that_the_app_shut_down_itself_are_left_alone() -> None:
    done = run("tracer.start_span('first').end(); provider.shutdown(); metrics.get_meter_provider().shutdown()")
    assert done.stdout == "first\n"
    assert "can only be called once" not in done.stderr


ASKED_AGAIN = """
import signal, sys, time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from otel_telemetry.app import lifecycle

class Slowly(SpanExporter):
    def export(self, spans):
        print("begins", flush=True)
        time.sleep(0.5)
        print(*(span.name for span in spans), flush=True)
        return SpanExportResult.SUCCESS

signal.signal(signal.SIGQUIT, lambda *_: sys.exit(0))  # as in a worker of gunicorn
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Slowly(), schedule_delay_millis=60_000))
trace.set_tracer_provider(provider)
lifecycle.flush_at_end()
provider.get_tracer("app").start_span("last words").end()
"""


def test_a_handler_that_ends_the_process_does_not_cut_off_the_last_flush() -> None:
    with subprocess.Popen([sys.executable, "-c", ASKED_AGAIN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        for _ in range(3):
            process.send_signal(signal.SIGQUIT)
            time.sleep(0.05)
        assert process.stdout.read() == "last words\n"
        assert process.wait(10) == 0


INTERRUPTED = """
import os, signal, sys, threading
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, BatchSpanProcessor
from otel_telemetry.app import lifecycle

def interrupted(thread, start=threading.Thread.start):
    if thread.name == "otel-telemetry-flush" and signal.getsignal(signal.SIGQUIT) is ends:
        os.kill(os.getpid(), signal.SIGQUIT)
    start(thread)

def ends(number, frame):
    signal.signal(number, signal.SIG_IGN)
    sys.exit(0)

signal.signal(signal.SIGQUIT, ends)
threading.Thread.start = interrupted
provider = TracerProvider()
out = ConsoleSpanExporter(formatter=lambda span: span.name + chr(10))
provider.add_span_processor(BatchSpanProcessor(out, schedule_delay_millis=60_000))
trace.set_tracer_provider(provider)
lifecycle.flush_at_end()
provider.get_tracer("app").start_span("last words").end()
"""


def test_a_handler_that_ends_the_process_while_the_last_flush_is_prepared_leaves_no_trace() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("last words\n", "", 0)

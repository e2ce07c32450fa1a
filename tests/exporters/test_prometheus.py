"""An app shows its metrics itself: all its workers at one port, whoever of them lives, and never to its own cost."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otel_telemetry import assemble, settings
from otel_telemetry.exporters.prometheus.workers import folder_of
from tests.backends.process import free_port
from tests.waiting import eventually

APP = """
import os, signal, socket, sys, threading, time
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from otel_telemetry.exporters.prometheus.reader import PrometheusReader

port, workers = map(int, sys.argv[1:3])
awaited = sys.argv[3]
opened = threading.Event()

def leaves_time_to_fork(function):
    def called(*arguments):
        done = function(*arguments)
        if awaited and awaited in str(arguments[0]):
            opened.set()
            time.sleep(0.5)
        return done
    return called

os.open = leaves_time_to_fork(os.open)
socket.socket.listen = leaves_time_to_fork(socket.socket.listen)
metrics.set_meter_provider(MeterProvider([PrometheusReader("127.0.0.1", port, "shop")], shutdown_on_exit=False))
counter = metrics.get_meter("app").create_counter("app.jobs")
children = []
if awaited:
    opened.wait()
for number in range(1, workers + 1):
    child = os.fork()
    if child == 0:
        counter.add(number, {"kind": "fork"})
        signal.pause()
    children.append(child)
print(*children, flush=True)
counter.add(100, {"kind": "parent"})
signal.pause()
"""


@pytest.fixture(name="start")
def start_fixture(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []

    def start(port: int, workers: int = 0, awaited: str = "") -> "subprocess.Popen[str]":
        command = [sys.executable, "-W", "ignore", "-c", APP, str(port), str(workers), awaited]
        with (tmp_path / "log").open("a") as log:
            app = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True, cwd=tmp_path
            )
        started.append(app)
        return app

    yield start
    for app in started:
        os.killpg(app.pid, signal.SIGKILL)
        app.wait(10)
        assert app.stdout is not None
        app.stdout.close()
    sys.stderr.write((tmp_path / "log").read_text())  # pytest shows it where a test fails


def jobs(port: int) -> Counter[str]:
    """Return what was counted, by process; nothing where nobody answers."""
    found: Counter[str] = Counter()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
    except OSError:
        return found
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "app_jobs_total":
                found[sample.labels["process"]] += int(sample.value)
    return found


def forked(app: "subprocess.Popen[str]") -> list[int]:
    assert app.stdout is not None
    return [int(word) for word in app.stdout.readline().split()]


def test_forked_workers_are_shown_together_each_with_its_number(start: Callable[..., "subprocess.Popen[str]"]) -> None:
    port = free_port()
    forked(start(port, 3))
    seen = eventually(lambda: (found := jobs(port)).total() == 106 and found)
    assert sorted(seen.values()) == [1, 2, 3, 100]
    assert set(seen) == {"1", "2", "3", "4"}


def test_another_worker_speaks_where_the_one_that_did_is_killed(
    start: Callable[..., "subprocess.Popen[str]"],
) -> None:
    port = free_port()
    app = start(port, 2)
    forked(app)
    eventually(lambda: jobs(port).total() == 103)
    app.kill()  # it had the port before it forked
    app.wait(10)
    eventually(lambda: sorted(jobs(port).values()) == [1, 2])


@pytest.mark.parametrize("opened", ["1.lock", "speaker.lock", "1.sock", "127.0.0.1"])
def test_a_worker_that_is_forked_in_the_middle_of_it_holds_nothing_of_its_parents(
    start: Callable[..., "subprocess.Popen[str]"], opened: str
) -> None:
    port = free_port()
    app = start(port, 1, opened)
    forked(app)
    eventually(lambda: jobs(port).total() == 101)
    app.kill()
    app.wait(10)
    eventually(lambda: jobs(port) == {"2": 1})
    start(port)
    eventually(lambda: jobs(port) == {"1": 100, "2": 1})


def test_a_new_worker_goes_on_with_the_number_that_is_free(start: Callable[..., "subprocess.Popen[str]"]) -> None:
    port = free_port()
    app = start(port, 2)
    first, _ = forked(app)
    eventually(lambda: jobs(port).total() == 103)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: jobs(port).total() == 102)
    start(port)
    eventually(lambda: set(jobs(port)) == {"1", "2", "3"} and jobs(port).total() == 202)


def test_a_port_that_somebody_else_has_costs_the_app_nothing_and_is_taken_once_it_is_free(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        start(port)
        log = eventually((tmp_path / "log").read_text)
    assert "set prometheus.port to a free one" in log
    eventually(lambda: jobs(port).total() == 100)
    assert (tmp_path / "log").read_text().count("not shown") == 1


def test_other_paths_are_not_found(start: Callable[..., "subprocess.Popen[str]"]) -> None:
    port = free_port()
    start(port)
    eventually(lambda: jobs(port).total() == 100)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60)


def test_a_folder_that_others_could_have_prepared_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    safe = folder_of("shop", 9464)
    assert safe is not None
    assert safe.stat().st_mode & 0o777 == 0o700
    assert folder_of("shop", 9464) == safe
    assert folder_of("other", 9464) != safe
    safe.chmod(0o755)
    assert folder_of("shop", 9464) is None
    safe.rmdir()
    safe.symlink_to(tmp_path)
    assert folder_of("shop", 9464) is None


@pytest.mark.parametrize(
    ("given", "port", "exporter", "chosen"),
    [
        (None, None, "request_log", "none"),
        (None, 9464, "request_log", assemble.PROMETHEUS),
        (None, 9464, None, assemble.PROMETHEUS),
        (None, None, None, "otlp"),
        ("prometheus", None, "request_log", assemble.PROMETHEUS),
        ("otlp, prometheus", None, None, f"otlp,{assemble.PROMETHEUS}"),
        ("console", 9464, "request_log", "console"),
    ],
)
def test_which_exporter_of_metrics_there_is(
    monkeypatch: pytest.MonkeyPatch, given: str | None, port: int | None, exporter: str | None, chosen: str
) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    if given is not None:
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", given)
    before = dict(os.environ)
    try:
        assemble.default_environment(settings.load(**({"prometheus": {"port": port}} if port else {})), exporter)
        assert os.environ["OTEL_METRICS_EXPORTER"] == chosen
    finally:
        os.environ.clear()
        os.environ.update(before)

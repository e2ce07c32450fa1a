"""Every process that serves requests, however it was started and however it ends, leaves one row for each of them.

The batch processor waits for half a minute, so that what is written here was written by the last flush.
`make test` runs some of the combinations, `make matrix` all of them.
"""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.backends.process import free_port
from tests.long import fewer, only_in
from tests.waiting import eventually

BIN = Path(sys.executable).parent
REQUESTS = [f"r{number}" for number in range(12)]

APP = """
import contextlib, os, threading, time
import fastapi, otel_telemetry

@contextlib.asynccontextmanager
async def ready(app: fastapi.FastAPI):
    open(f"ready.{os.getpid()}", "w").close()
    yield

app = fastapi.FastAPI(lifespan=ready)

@app.get("/{route}")
async def ask(route: str) -> int:
    with otel_telemetry.request(route=route):
        return os.getpid()

def wsgi(environ, start_response):
    with otel_telemetry.request(route=environ["PATH_INFO"].strip("/")):
        start_response("200 OK", [("content-type", "text/plain")])
        return [str(os.getpid()).encode()]
"""

# What a worker of gunicorn 27.0.1 receives between its fork and its first own handler, is lost.
READY = """
def post_worker_init(worker):
    open(f"ready.{worker.pid}", "w").close()
"""

End = Callable[[subprocess.Popen[bytes]], None]
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "2", "--log-level", "warning"]
UVICORN = ["uvicorn", "app:app", "--port", "{port}", "--log-level", "warning"]
UVICORN_WORKER = ["--worker-class", "uvicorn_worker.UvicornWorker"]
SERVERS = {
    "gunicorn": [*GUNICORN, "app:wsgi"],
    "gunicorn --preload": [*GUNICORN, "--preload", "app:wsgi"],
    "gunicorn, threads": [*GUNICORN, "--worker-class", "gthread", "--threads", "2", "app:wsgi"],
    "gunicorn, its ASGI worker": [*GUNICORN, "--worker-class", "asgi", "app:app"],
    "gunicorn, uvicorn's worker": [*GUNICORN, *UVICORN_WORKER, "app:app"],
    "gunicorn --preload, uvicorn's worker": [*GUNICORN, *UVICORN_WORKER, "--preload", "app:app"],
    "uvicorn": UVICORN,
    "uvicorn --workers": [*UVICORN, "--workers", "2", "--timeout-worker-healthcheck", "60"],  # a busy machine is slow
}


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {**inherited, "OTEL_SERVICE_NAME": "asker", "OTEL_TELEMETRY_REQUEST_LOG__DEBOUNCE": "30", **more}


def direct(folder: Path) -> dict[str, str]:
    url = f"sqlite:///{folder / 'rows.db'}"
    return environment(OTEL_TRACES_EXPORTER="request_log", OTEL_TELEMETRY_REQUEST_LOG__URL=url)


@contextmanager
def running(
    folder: Path, command: list[str], env: dict[str, str], end: End = subprocess.Popen.terminate
) -> Iterator[str]:
    """Run a server under opentelemetry-instrument, and end it, by SIGTERM by default."""
    (folder / "app.py").write_text(APP)
    (folder / "gunicorn.conf.py").write_text(READY)
    port = str(free_port())
    words = [word.format(port=port) for word in command]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "opentelemetry-instrument", BIN / words[0], *words[1:]],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(int(port), process)
        wait_for_workers(folder, words)
        yield f"http://127.0.0.1:{port}"
        wait_for_workers(folder, words)
    finally:
        end(process)
        try:
            assert process.wait(60) in (0, -signal.SIGTERM, -signal.SIGINT), (folder / "log").read_text()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)
            raise
    if end is not interrupt_all:  # Python and gunicorn print where they were
        assert "Traceback" not in (folder / "log").read_text()


def interrupt_all(process: subprocess.Popen[bytes]) -> None:
    """Do what a terminal does: SIGINT to the server and all its workers."""
    os.killpg(process.pid, signal.SIGINT)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    def listens() -> bool:
        assert process.poll() is None
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        return False

    eventually(listens, "the server listens")


def wait_for_workers(folder: Path, words: list[str]) -> None:
    """Wait until as many workers as were asked for are alive and ready.

    uvicorn's supervisor asks a worker that is still importing whether it is alive, and waits for its answer up to
    `--timeout-worker-healthcheck`, also when that worker was ended by the same SIGINT.
    """
    wanted = int(words[words.index("--workers") + 1]) if "--workers" in words else 1

    def living() -> int:
        ready = (file.suffix.removeprefix(".") for file in folder.glob("ready.*"))
        return sum(Path("/proc", pid).exists() for pid in ready)

    eventually(lambda: living() >= wanted, "the workers are ready")


def ask(base: str) -> set[str]:
    """Ask for everything once, each time over a new connection; return the ids of the processes that answered."""
    return {answer(f"{base}/{route}") for route in REQUESTS}


def answer(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as response:
        text: str = response.read().decode()
        return text


def ask_slowly(url: str) -> str:
    """Ask at a pace at which workers notice that they have served enough; one that is just ending may refuse."""
    for _ in range(100):
        time.sleep(0.1)
        with suppress(URLError, ConnectionError):
            return answer(url)
    raise AssertionError("nobody answers any more")


def routes(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        found = [route for (route,) in connection.execute("SELECT route FROM request_log")]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return sorted(found, key=lambda route: (len(route), route))


@pytest.mark.parametrize("server", fewer(SERVERS, ("gunicorn --preload", "uvicorn --workers"), "matrix"))
def test_each_request_gives_one_row_when_the_server_writes_them_itself(tmp_path: Path, server: str) -> None:
    with running(tmp_path, SERVERS[server], direct(tmp_path)) as base:
        ask(base)
    assert routes(tmp_path / "rows.db") == REQUESTS


# Not with uvicorn's worker: it sometimes waits out gunicorn's graceful timeout at SIGINT, without telemetry too.
@pytest.mark.parametrize("server", fewer(["gunicorn", "uvicorn --workers"], ("gunicorn",), "matrix"))
def test_control_c_in_a_terminal_loses_no_row(tmp_path: Path, server: str) -> None:
    with running(tmp_path, SERVERS[server], direct(tmp_path), end=interrupt_all) as base:
        ask(base)
    assert routes(tmp_path / "rows.db") == REQUESTS


@only_in("matrix")
@pytest.mark.parametrize("server", ["gunicorn", "gunicorn, uvicorn's worker"])
def test_workers_that_are_replaced_after_some_requests_lose_no_row(tmp_path: Path, server: str) -> None:
    command = [*SERVERS[server][:-1], "--max-requests", "3", SERVERS[server][-1]]
    with running(tmp_path, command, direct(tmp_path)) as base:
        assert len({ask_slowly(f"{base}/{route}") for route in REQUESTS}) > 2
        time.sleep(0.5)  # now whoever has served enough has ended
    assert set(routes(tmp_path / "rows.db")) == set(REQUESTS)  # one asked for twice may be there twice


@pytest.mark.parametrize(
    "server", fewer(["gunicorn --preload, uvicorn's worker", "uvicorn --workers"], ("uvicorn --workers",), "matrix")
)
def test_workers_show_their_metrics_at_one_port_and_lose_no_row(tmp_path: Path, server: str) -> None:
    port = free_port()
    env = direct(tmp_path) | {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    count = "http_server_request_duration_seconds_count{"
    with running(tmp_path, SERVERS[server], env) as base:
        ask(base)
        lines = answer(f"http://127.0.0.1:{port}/metrics").splitlines()
    assert sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(count)) == len(REQUESTS)
    assert routes(tmp_path / "rows.db") == REQUESTS


class Gateway:
    """`otel-telemetry serve` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "rows.db"
        self.grpc, self.http = free_port(), free_port()
        ports = ["--grpc-port", str(self.grpc), "--http-port", str(self.http)]
        command = [str(BIN / "otel-telemetry"), "serve", *ports, "--db", f"sqlite:///{self.database}"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment(), stderr=log)
        wait_for(self.http, self.process)

    def routes(self) -> list[str]:
        """Return the routes of the rows, once as many are there as were asked for."""
        eventually(lambda: self.database.exists() and len(routes(self.database)) >= len(REQUESTS), "the rows are there")
        return routes(self.database)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    folder = tmp_path / "gateway"
    folder.mkdir()
    made = Gateway(folder)
    yield made
    made.process.terminate()
    made.process.wait(20)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize(
    "server", fewer(["gunicorn", "gunicorn --preload, uvicorn's worker", "uvicorn --workers"], ("gunicorn",), "matrix")
)
def test_each_request_gives_one_row_through_a_gateway(
    tmp_path: Path, gateway: Gateway, server: str, protocol: str
) -> None:
    port = gateway.grpc if protocol == "grpc" else gateway.http
    env = environment(
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
        OTEL_LOGS_EXPORTER="none",
    )
    with running(tmp_path, SERVERS[server], env) as base:
        ask(base)
    assert gateway.routes() == REQUESTS


SCRIPT = """
import multiprocessing, os, signal, sys, threading, time
import otel_telemetry
from opentelemetry import trace

def work(route):
    with otel_telemetry.request(route=route):
        pass

def written():
    assert trace.get_tracer_provider().force_flush()

if __name__ == "__main__":
    work("r0")
"""
ENDINGS = {
    "it ends": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an exception": ("raise RuntimeError('over')", 1),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)", -signal.SIGTERM),
    "SIGTERM while a thread works": (
        "threading.Thread(target=time.sleep, args=(30,)).start(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)",
        -signal.SIGTERM,
    ),
    # Python forgets that it was interrupted where an exit handler imports; after the first write ours does not.
    "SIGINT": ("written(); os.kill(os.getpid(), signal.SIGINT); time.sleep(30)", -signal.SIGINT),
}


def run_script(folder: Path, ending: str) -> subprocess.CompletedProcess[str]:
    lines = [f"    {line}" for line in ending.splitlines()]
    (folder / "script.py").write_text(SCRIPT + "\n".join(lines) + "\n")
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "script.py"]
    return subprocess.run(
        command, cwd=folder, env=direct(folder), capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize("ending", fewer(ENDINGS, ("it ends", "SIGTERM while a thread works", "SIGINT"), "matrix"))
def test_a_script_leaves_its_row_and_its_own_exit_code_whatever_ends_it(tmp_path: Path, ending: str) -> None:
    code, expected = ENDINGS[ending]
    done = run_script(tmp_path, code)
    assert done.returncode == expected, done.stderr
    assert routes(tmp_path / "rows.db") == ["r0"]


FORKS = {
    "processes of multiprocessing": """
many = multiprocessing.get_context("fork")
children = [many.Process(target=work, args=(f"r{number}",)) for number in range(1, 4)]
for child in children: child.start()
for child in children: child.join()
""",
    "a pool that is closed": """
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(work, ["r1", "r2", "r3"])
    pool.close()
    pool.join()
""",
    "a pool that is terminated": """
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(work, ["r1", "r2", "r3"])
""",
    "os.fork and sys.exit": """
for number in range(1, 4):
    if os.fork() == 0:
        work(f"r{number}")
        sys.exit(0)
for number in range(1, 4): os.wait()
""",
}


@pytest.mark.parametrize("before", ["", "written()\n"], ids=["unopened", "opened"])
@pytest.mark.parametrize("fork", fewer(FORKS, ("a pool that is terminated", "os.fork and sys.exit"), "matrix"))
def test_forked_processes_leave_their_rows_over_connections_of_their_own(
    tmp_path: Path, fork: str, before: str
) -> None:
    done = run_script(tmp_path, before + FORKS[fork])
    assert done.returncode == 0, done.stderr
    assert routes(tmp_path / "rows.db") == ["r0", "r1", "r2", "r3"]

"""Workers lose no row: Celery's, also where they are replaced, RQ's, which end with each job, Dramatiq's, AWS Lambda.

Each runs its own program in an environment of its own; `make matrix` runs them.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.backends.redis_server import RedisServer
from tests.company import environments

pytestmark = [
    pytest.mark.skipif("MATRIX" not in os.environ, reason="installs job queues: make matrix"),
    pytest.mark.timeout(900),
]
JOBS = 5
ANSWER = {"id": "c", "model": "m-1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
ASK = """
import os
import httpx

def ask(number):
    body = {"model": "m-1", "messages": [{"role": "user", "content": str(number)}]}
    return httpx.post(os.environ["MODEL_URL"] + "/v1/chat/completions", json=body).status_code
"""
CELERY = """
from celery import Celery
from ask import ask

app = Celery("jobs", broker="filesystem://", backend=None)
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue"}
task = app.task(ask, name="ask")
send = task.delay
"""
RQ = """
import os
import redis, rq
from ask import ask

queue = rq.Queue("telemetry", connection=redis.from_url(os.environ["REDIS_URL"]))
def send(number):
    queue.enqueue(ask, number)
"""
DRAMATIQ = """
import os
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from ask import ask

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))
send = dramatiq.actor(ask).send
"""
LAMBDA = """
import otel_telemetry
from ask import ask

def handler(event, context):
    try:
        with otel_telemetry.request(route="handler"):
            return ask(event["number"])
    finally:
        otel_telemetry.flush(5)
"""
Served = list[bytes]


@contextlib.contextmanager
def serve(answer: Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]]) -> Iterator[str]:
    """Run a server on a free port that answers with what `answer` returns; yield its host and port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who was killed while it waited
                self.end_headers()
                self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(name="model")
def model_fixture() -> Iterator[tuple[str, Served]]:
    """A model server: its address, and what it was asked."""
    asked: Served = []

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        asked.append(request.rfile.read(int(request.headers["content-length"])))
        return 200, {"content-type": "application/json"}, json.dumps(ANSWER).encode()

    with serve(answer) as address:
        yield f"http://{address}", asked


class Jobs:
    """A folder with jobs in it, and the environment in which they run."""

    def __init__(self, folder: Path, url: str, **variables: str) -> None:
        packages = ("celery", "rq", "redis", "dramatiq[redis]", "awslambdaric", "httpx")
        self._bin = environments.environment("workers", *packages, "--editable", str(environments.ROOT)).parent
        self._folder = folder
        self._db = folder / "rows.db"
        own = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
        self._environment = {**own, "MODEL_URL": url, "PYTHONPATH": str(folder), **variables}
        (folder / "ask.py").write_text(ASK)

    def holds(self, jobs: str) -> "Jobs":
        """Put the module with the jobs there."""
        (self._folder / "jobs.py").write_text(jobs)
        return self

    def start(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a program under `otel-telemetry run`."""
        run = [self._bin / "otel-telemetry", "run", "--quiet", "--db", f"sqlite:///{self._db}", "--"]
        with (self._folder / "log").open("ab") as log:
            command = [str(word) for word in (*run, self._bin / program, *arguments)]
            return subprocess.Popen(command, cwd=self._folder, env=self._environment, stdout=log, stderr=log)

    def send(self) -> None:
        """Give the queue its jobs."""
        program = f"import jobs\nfor number in range({JOBS}):\n    jobs.send(number)"
        command = [str(self._bin / "python"), "-c", program]
        subprocess.run(command, cwd=self._folder, env=self._environment, check=True, timeout=120)

    def rows(self) -> int:
        connection = sqlite3.connect(self._db)
        try:
            return int(connection.execute("SELECT count(*) FROM llm_call").fetchone()[0])
        finally:
            connection.close()

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-3_000:]


def work_off(jobs: Jobs, asked: Served, *command: str) -> None:
    """Let a worker do all jobs, end it as a service manager does, and look at the rows."""
    worker = jobs.start(*command)
    try:
        jobs.send()
        until = time.monotonic() + 300
        while len(asked) < JOBS and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(0.5)  # the last answer is on its way
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(180)
        finally:
            worker.kill()
    assert len(asked) == JOBS, jobs.log()
    assert jobs.rows() == JOBS, jobs.log()


def test_celery_s_workers_that_are_replaced_lose_no_row(tmp_path, model):
    url, asked = model
    (tmp_path / "queue").mkdir()
    options = ("-c", "2", "--max-tasks-per-child", "2", "--pool", "prefork")
    work_off(Jobs(tmp_path, url).holds(CELERY), asked, "celery", "-A", "jobs", "worker", *options)


def test_rq_s_jobs_lose_no_row(tmp_path, model, shared_redis: RedisServer):
    url, asked = model
    jobs = Jobs(tmp_path, url, REDIS_URL=shared_redis.url).holds(RQ)
    jobs.send()
    worker = jobs.start("rq", "worker", "--burst", "--url", shared_redis.url, "telemetry")
    try:
        assert worker.wait(300) == 0, jobs.log()
    finally:
        worker.kill()
    assert (len(asked), jobs.rows()) == (JOBS, JOBS), jobs.log()


def test_dramatiq_s_workers_lose_no_row(tmp_path, model, shared_redis: RedisServer):
    url, asked = model
    jobs = Jobs(tmp_path, url, REDIS_URL=shared_redis.url).holds(DRAMATIQ)
    work_off(jobs, asked, "dramatiq", "jobs", "--processes", "2", "--threads", "2")


def test_a_lambda_that_is_frozen_after_each_answer_loses_no_row(tmp_path, model):
    """The runtime's own client asks the emulated interface for events, and is killed in the end, as Lambda does."""
    url, asked = model
    done: list[str] = []
    over, killed = threading.Event(), threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if request.path.endswith("/next"):
            if len(done) == JOBS:
                over.set()
                killed.wait(60)  # frozen: nothing more comes
            headers = {"lambda-runtime-aws-request-id": str(len(done)), "lambda-runtime-deadline-ms": "9999999999999"}
            headers["lambda-runtime-invoked-function-arn"] = "arn:aws:lambda:eu-west-1:1:function:f"
            headers["content-type"] = "application/json"  # the runtime's client crashes without one
            return 200, headers, json.dumps({"number": len(done)}).encode()
        request.rfile.read(int(request.headers["content-length"] or 0))
        done.append(request.path)
        return 202, {}, b"{}"

    with serve(answer) as interface:
        jobs = Jobs(tmp_path, url, AWS_LAMBDA_RUNTIME_API=interface, AWS_LAMBDA_FUNCTION_NAME="f").holds(LAMBDA)
        function = jobs.start("python", "-m", "awslambdaric", "jobs.handler")
        try:
            assert over.wait(300), jobs.log()
        finally:
            function.kill()
            function.wait()
            killed.set()
    assert [path.rpartition("/")[2] for path in done] == ["response"] * JOBS, jobs.log()
    assert (len(asked), jobs.rows()) == (JOBS, JOBS), jobs.log()

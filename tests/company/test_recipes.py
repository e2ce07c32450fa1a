"""docs/recipes.md: the code of each section is run, with local addresses in the place of the others (`make matrix`)."""

import gzip
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.backends.process import Process, free_port
from tests.backends.redis_server import RedisServer
from tests.company import environments

pytestmark = [
    pytest.mark.skipif("MATRIX" not in os.environ, reason="installs neighbours: make matrix"),
    pytest.mark.timeout(1200),
]
PAGE: Final = (environments.ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
MAIL: Final = "jane.roe@example.com"
PACKAGES: Final = ("openai", "datasette", "nbclient", "ipykernel", "celery", "redis", "awslambdaric", "logfire")
NPM: Final = (
    *("ai", "@ai-sdk/openai-compatible", "zod", "@opentelemetry/api", "@opentelemetry/resources"),
    *("@opentelemetry/sdk-trace-node", "@opentelemetry/exporter-trace-otlp-proto"),
)
CHOICE: Final = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
USAGE: Final = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
ANSWER: Final = {
    "id": "c-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "choices": [CHOICE], "usage": USAGE,
}  # fmt: skip
SPRING: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <parent>
    <groupId>org.springframework.boot</groupId>
    <artifactId>spring-boot-starter-parent</artifactId>
    <version>3.5.7</version>
  </parent>
  <groupId>shop</groupId>
  <artifactId>shop</artifactId>
  <version>1</version>
  <properties><java.version>17</java.version></properties>
  <dependencies>
    <dependency>
      <groupId>org.springframework.boot</groupId>
      <artifactId>spring-boot-starter-actuator</artifactId>
    </dependency>
    <dependency>
      <groupId>org.springframework.ai</groupId>
      <artifactId>spring-ai-starter-model-openai</artifactId>
      <version>1.0.3</version>
    </dependency>
    <dependency>
      <groupId>io.micrometer</groupId>
      <artifactId>micrometer-tracing-bridge-otel</artifactId>
    </dependency>
    <dependency><groupId>io.opentelemetry</groupId><artifactId>opentelemetry-exporter-otlp</artifactId></dependency>
  </dependencies>
  <build><plugins><plugin>
    <groupId>org.springframework.boot</groupId>
    <artifactId>spring-boot-maven-plugin</artifactId>
  </plugin></plugins></build>
</project>
"""
Posted = list[tuple[str, dict[str, str], bytes]]


def blocks(section: str, language: str) -> list[str]:
    """Return the code of a section of the page."""
    text = re.split(r"^## ", PAGE.partition(f"\n## {section}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, f"{section} has no {language}"
    return found


@contextmanager
def server(answer: Callable[[str, bytes], tuple[int, dict[str, str], bytes]]) -> Iterator[tuple[str, Posted]]:
    """Run an HTTP server; yield its address and what was posted."""
    posted: Posted = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            if self.command == "POST":
                posted.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            status, headers, answered = answer(self.path, body)
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(answered))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answered)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", posted
    finally:
        running.shutdown()
        running.server_close()


@pytest.fixture(name="model")
def model_fixture() -> Iterator[tuple[str, Posted]]:
    """A model server: its address, and what it was asked."""
    with server(lambda *_: (200, {"content-type": "application/json"}, json.dumps(ANSWER).encode())) as running:
        yield running


@pytest.fixture(scope="module", name="python")
def python_fixture() -> Path:
    """The Python of an environment with all neighbours of the page that are in Python."""
    return environments.environment("recipes", *PACKAGES, "--editable", str(environments.ROOT))


def variables(model: str, python: Path | None = None, **more: str) -> dict[str, str]:
    """Return the environment of a program: none of ours, the model server in the place of OpenAI."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
    path = f"{python.parent}:{own['PATH']}" if python else own["PATH"]
    return {**own, "PATH": path, "OPENAI_BASE_URL": f"{model}/v1", "OPENAI_API_KEY": "none", **more}


def rows(database: Path) -> list[tuple[Any, ...]]:
    """Return route and prompt tokens of all requests."""
    with sqlite3.connect(database) as connection:
        return connection.execute("SELECT route, prompt_tokens FROM request_log").fetchall()


def until(there: Callable[[], Any], seconds: float = 120) -> Any:
    """Return what `there` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := there()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def run(folder: Path, environment: dict[str, str], *command: str | Path) -> str:
    """Run a program to its end; return what it printed."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


class Gateway(Process):
    """`otel-telemetry serve`, with rows in rows.db of its folder."""

    def __init__(self, folder: Path) -> None:
        self.grpc, self.http = free_port(), free_port()
        serve = [sys.executable, "-m", "otel_telemetry.cli", "serve", "--db", "sqlite:///rows.db"]
        ports = ["--grpc-port", str(self.grpc), "--http-port", str(self.http)]
        super().__init__([*serve, *ports], folder, f"http://127.0.0.1:{self.http}/health", variables("-"))

    def local(self, text: str) -> str:
        """Return a command with the gateway's ports in it."""
        return text.replace("127.0.0.1:4317", f"127.0.0.1:{self.grpc}").replace(
            "127.0.0.1:4318", f"127.0.0.1:{self.http}"
        )


@pytest.fixture(name="gateway")
def gateway_fixture(tmp_path: Path) -> Iterator[Gateway]:
    with Gateway(tmp_path / "gateway") as running:
        yield running


def test_jupyter(python, model, tmp_path):
    cells = blocks("Jupyter", "python")
    program = (
        "import json, nbformat, nbclient\n"
        f"book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in {cells!r}])\n"
        "nbclient.NotebookClient(book, timeout=300, kernel_name='python3').execute()\n"
        "print(book.cells[-1].outputs[0]['data']['text/plain'])"
    )
    printed = run(tmp_path, variables(model[0], python), python, "-c", program)
    assert "('notebook', 11, " in printed
    assert rows(tmp_path / "rows.db") == [("notebook", 11)]


def test_datasette(python, gateway, tmp_path):
    span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": f"mail to {MAIL}"}
    span["attributes"] = [{"key": "request_log.route", "value": {"stringValue": "direct"}}]  # type: ignore[assignment]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    send = ["curl", "-sS", "-H", "content-type: application/json", "-d", body]
    run(tmp_path, variables("-"), *send, gateway.local("http://127.0.0.1:4318/v1/traces"))
    until(lambda: (gateway.folder / "rows.db").exists() and rows(gateway.folder / "rows.db"))
    port = str(free_port())
    serve, look = (line.replace("8001", port) for line in blocks("Datasette", "sh")[0].splitlines())
    words = serve.split()
    environment = variables("-", python)
    with Process([python.parent / words[0], *words[1:]], gateway.folder, f"http://127.0.0.1:{port}/-/versions.json"):
        found = json.loads(run(tmp_path, environment, "bash", "-c", look.replace("curl ", "curl -sS ")))
    assert found == [{"route": "direct", "prompt_tokens": None}] or found[0]["route"] == "direct"


def test_celery(python, model, tmp_path, shared_redis: RedisServer):
    url, asked = model
    (code,), (start,) = blocks("Celery", "python"), blocks("Celery", "sh")
    (tmp_path / "jobs.py").write_text(code.replace("redis://127.0.0.1:6379/0", shared_redis.url))
    environment = variables(url, python, PYTHONPATH=str(tmp_path))
    log = (tmp_path / "log").open("ab")
    worker = subprocess.Popen(["bash", "-c", f"exec {start}"], cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        send = "import jobs\nfor number in range(3): jobs.reply.delay('hello')"
        run(tmp_path, environment, python, "-c", send)
        until(lambda: len(asked) == 3)
    finally:
        worker.terminate()
        worker.wait(180)
        log.close()
    assert [tokens for _, tokens in rows(tmp_path / "rows.db")] == [11] * 3, (tmp_path / "log").read_text()


def test_aws_lambda(python, model, gateway, tmp_path):
    (code,) = blocks("AWS Lambda", "python")
    (tmp_path / "jobs.py").write_text(code)
    done = threading.Event()
    events = iter([{"question": "hello"}])

    def answer(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        del body
        if not path.endswith("/next"):
            return 202, {}, b"{}"
        event = next(events, None)
        if event is None:  # frozen: nothing more comes
            done.set()
            time.sleep(600)
        headers = {"lambda-runtime-aws-request-id": "1", "lambda-runtime-deadline-ms": "9999999999999"}
        headers["lambda-runtime-invoked-function-arn"] = "arn:aws:lambda:eu-west-1:1:function:f"
        return 200, {**headers, "content-type": "application/json"}, json.dumps(event).encode()

    with server(answer) as (interface, _):
        more = {"AWS_LAMBDA_RUNTIME_API": interface.removeprefix("http://"), "AWS_LAMBDA_FUNCTION_NAME": "f"}
        more["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{gateway.grpc}"
        environment = variables(model[0], python, **more)
        function = subprocess.Popen([python, "-m", "awslambdaric", "jobs.handler"], cwd=tmp_path, env=environment)
        try:
            assert done.wait(300)
        finally:
            function.kill()
            function.wait()
    assert until(lambda: rows(gateway.folder / "rows.db")) == [("handler", 11)]


def test_logfire(python, model, tmp_path):
    (code,) = blocks("Logfire", "python")
    program = (
        f"{code}\nfrom openai import OpenAI\n"
        f"with otel_telemetry.request(route='logfire'), logfire.span('to {MAIL}'):\n"
        "    OpenAI().chat.completions.create(model='gpt-4o-mini', messages=[{'role': 'user', 'content': 'hello'}])\n"
        "otel_telemetry.flush(20)\n"
    )
    environment = variables(model[0], python, LOGFIRE_SEND_TO_LOGFIRE="false", LOGFIRE_CONSOLE="false")
    run(tmp_path, environment, python, "-c", program)
    assert rows(tmp_path / "rows.db") == [("logfire", 11)]
    assert MAIL.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("rows.db*"))


def test_phoenix_langfuse_and_grafana_cloud(tmp_path):
    (settings,) = blocks("Phoenix, Langfuse, Grafana Cloud", "toml")
    with server(lambda *_: (200, {"content-type": "application/x-protobuf"}, b"")) as (url, posted):
        folder = tmp_path / "gateway"
        folder.mkdir()
        local = re.sub(r'endpoint = "https?://[^/"]+', f'endpoint = "{url}', settings)
        (folder / "otel-telemetry.toml").write_text(local)
        with Gateway(folder) as gateway:
            span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": f"to {MAIL}"}
            body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
            send = ["curl", "-sS", "-H", "content-type: application/json", "-d", body]
            run(tmp_path, variables("-"), *send, gateway.local("http://127.0.0.1:4318/v1/traces"))
            until(lambda: len(posted) == 3)
    found = {path: headers.get("authorization") for path, headers, _ in posted}
    assert found == {
        "/v1/traces": None,
        "/api/public/otel/v1/traces": "Basic cGstbGYtMTpzay1sZi0x",
        "/otlp/v1/traces": "Basic MTIzNDU2OmdsY190b2tlbg==",
    }
    for _, headers, sent in posted:
        plain = gzip.decompress(sent) if headers.get("content-encoding") == "gzip" else sent
        (span_,) = ExportTraceServiceRequest.FromString(plain).resource_spans[0].scope_spans[0].spans
        assert span_.name == "to [REDACTED_EMAIL]"


def test_vercel_ai_sdk(model, gateway):
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    (code,), (start,) = blocks("Vercel AI SDK", "js"), blocks("Vercel AI SDK", "sh")
    folder = environments.cache() / "recipes-npm"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules").exists():
        install = ["npm", "install", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix", ".", *NPM]
        subprocess.run(install, cwd=folder, check=True, capture_output=True)
    (folder / "app.mjs").write_text(code)  # modules are looked up beside the file
    run(folder, variables(model[0]), "bash", "-c", gateway.local(start))
    assert until(lambda: rows(gateway.folder / "rows.db")) == [("ask", 11)]


def test_go(gateway, tmp_path):
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    (code,), (start,) = blocks("Go", "go"), blocks("Go", "sh")
    for name in ("go.mod", "go.sum"):
        shutil.copy(environments.ROOT / "tests" / "e2e" / "senders" / "go" / name, tmp_path)
    (tmp_path / "main.go").write_text(code)
    run(tmp_path, variables("-"), "bash", "-c", gateway.local(start))
    assert until(lambda: rows(gateway.folder / "rows.db")) == [("ask", 100)]


def test_spring_ai(model, gateway):
    if shutil.which("mvn") is None:
        pytest.skip("Maven is not installed")
    (code,), (settings,) = blocks("Spring AI", "java"), blocks("Spring AI", "properties")
    folder = environments.cache() / "recipes-spring"
    sources, resources = folder / "src" / "main" / "java" / "shop", folder / "src" / "main" / "resources"
    for one in (sources, resources):
        one.mkdir(parents=True, exist_ok=True)
    (folder / "pom.xml").write_text(SPRING)
    (sources / "Shop.java").write_text(code)
    (resources / "application.properties").write_text(gateway.local(settings))
    run(folder, variables(model[0]), "mvn", "--quiet", "--batch-mode", "package")
    for_test = ["--spring.main.web-application-type=none", "--spring.ai.openai.api-key=none"]
    java: list[str | Path] = [
        "java",
        "-jar",
        folder / "target" / "shop-1.jar",
        *for_test,
        f"--spring.ai.openai.base-url={model[0]}",
    ]
    run(folder, variables(model[0]), *java)
    assert until(lambda: rows(gateway.folder / "rows.db")) == [("ask", 11)]


def test_the_proxy_of_litellm(model, gateway, tmp_path):
    """Its newest version whose parts can all be had."""
    packages = ("litellm[proxy]<1.109", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
    python = environments.environment("litellm-proxy", *packages)
    settings = {"model": "openai/gpt-4o-mini", "api_key": "none", "api_base": f"{model[0]}/v1"}
    models = json.dumps([{"model_name": "small", "litellm_params": settings}])
    (tmp_path / "config.yaml").write_text(f"model_list: {models}\n{blocks('LiteLLM proxy', 'yaml')[0]}")
    port, key = str(free_port()), "sk-" + "4d7" * 12
    own = {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = f"exec env {gateway.local(blocks('LiteLLM proxy', 'sh')[0].strip())} --host 127.0.0.1 --port {port}"
    there = f"http://127.0.0.1:{port}"
    with Process(["bash", "-c", command], tmp_path, f"{there}/health/liveliness", variables("-", python, **own)):
        asked = json.dumps({"model": "small", "messages": [{"role": "user", "content": f"mail {MAIL}"}]})
        send = ["curl", "-sS", "-f", "-H", f"authorization: Bearer {key}", "-H", "content-type: application/json"]
        run(tmp_path, variables("-"), *send, "-d", asked, f"{there}/v1/chat/completions")
        assert until(lambda: rows(gateway.folder / "rows.db")) == [("/v1/chat/completions", 11)]
    with sqlite3.connect(gateway.folder / "rows.db") as connection:
        calls = connection.execute("SELECT provider, operation, model, completion_tokens, cost_source FROM llm_call")
        assert calls.fetchall() == [("openai", "chat", "small", 3, "given")]  # the name that the proxy gave the model
    stored = b"".join(path.read_bytes() for path in gateway.folder.rglob("*") if path.is_file())
    assert MAIL.encode() not in stored
    assert key.encode() not in stored


def test_litellm(model, gateway, tmp_path):
    (code,) = blocks("LiteLLM proxy", "python")
    packages = ("litellm", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
    python = environments.environment("litellm", *packages)
    endpoint = f"http://127.0.0.1:{gateway.http}/v1/traces"
    environment = variables(model[0], python, OTEL_EXPORTER="otlp_http", OTEL_ENDPOINT=endpoint)
    environment |= {"OPENAI_API_BASE": f"{model[0]}/v1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    flush = "\nimport time\nfrom opentelemetry import trace\ntime.sleep(3)\ntrace.get_tracer_provider().force_flush()\n"
    run(tmp_path, environment, python, "-c", code + flush)
    assert [tokens for _, tokens in until(lambda: rows(gateway.folder / "rows.db"))] == [11]

"""`otel-telemetry serve` as a user runs it: what exporters and curl send is stored redacted and survives stops."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from otel_telemetry import settings
from otel_telemetry.commands import serve
from tests.backends.process import free_port

EXAMPLES = Path(__file__).parents[1] / "otlp_examples"
COMMAND = [sys.executable, "-m", "otel_telemetry.cli"]
PLANTED = "jane.roe@example.com"


class Served:
    """A gateway in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.grpc_port, self.http_port = free_port(), free_port()
        self.http = f"http://127.0.0.1:{self.http_port}"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        ports = ["--grpc-port", str(self.grpc_port), "--http-port", str(self.http_port)]
        database = f"sqlite:///{self.folder / 'rows.db'}"
        command = [*COMMAND, "serve", *ports, "--db", database, "--spool-dir", str(self.folder / "spool")]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, cwd=self.folder, stderr=log)
        for _ in range(1200):
            try:
                self.health()
            except OSError:
                assert process.poll() is None, self.logged()
                time.sleep(0.05)
            else:
                return process
        raise AssertionError("the gateway did not become healthy")

    def restart(self) -> None:
        self.process = self._start()

    def health(self) -> Any:
        with urllib.request.urlopen(f"{self.http}/health", timeout=20) as answer:
            return json.load(answer)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def logged(self) -> str:
        return (self.folder / "log").read_text()

    def delivered(self) -> None:
        for _ in range(1200):
            if self.health()["parts"]["exporters"]["request_log"]["lag"]["batches"] == 0:
                return
            time.sleep(0.05)
        raise AssertionError("the rows were not written")

    def spooled(self) -> str:
        command = [*COMMAND, "spool", "cat", "--spool-dir", str(self.folder / "spool")]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.folder / "rows.db") as connection:
            rows = connection.execute(query).fetchall()
        connection.close()
        return rows


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    gateway = Served(tmp_path)
    yield gateway
    if gateway.process.poll() is None:
        gateway.stop(signal.SIGKILL)


def send_model_call(exporter: SpanExporter, text: str = PLANTED) -> None:
    """Send one model call with a plain SDK: no part of ours is in it."""
    provider = TracerProvider(resource=Resource({"service.name": "stock"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 10,
        "note": f"for {text}",
    }
    with provider.get_tracer("stock").start_as_current_span(f"chat with {text}", attributes=attributes):
        pass
    provider.shutdown()


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_a_span_of_the_stock_exporter_is_stored_redacted_and_becomes_a_row(served: Served, transport: str) -> None:
    exporter: SpanExporter
    if transport == "grpc":
        exporter = GrpcExporter(endpoint=f"http://127.0.0.1:{served.grpc_port}", insecure=True)
    else:
        exporter = HttpExporter(endpoint=f"{served.http}/v1/traces")
    send_model_call(exporter)
    served.delivered()
    assert served.rows("SELECT model, prompt_tokens, completion_tokens FROM request_log") == [("gpt-4o-mini", 100, 10)]
    assert "chat with [REDACTED_EMAIL]" in served.spooled()
    assert served.stop() == 0
    stored = [path.read_bytes() for path in served.folder.rglob("*") if path.is_file()]
    assert len(stored) >= 2
    assert not any(PLANTED.encode() in data for data in stored)


def test_the_otlp_json_examples_posted_with_curl_are_stored(served: Served) -> None:
    for name, path in (("trace", "traces"), ("logs", "logs"), ("metrics", "metrics"), ("events", "logs")):
        curl = ["curl", "-sS", "-w", " %{http_code}", "-H", "content-type: application/json"]
        body = (EXAMPLES / f"{name}.json").read_text().replace("planted note", PLANTED).replace("planted line", PLANTED)
        answer = subprocess.run(
            [*curl, "--data-binary", "@-", f"{served.http}/v1/{path}"],
            input=body,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        assert answer.stdout == "{} 200"
    stored = served.spooled()
    assert PLANTED not in stored
    assert stored.count("[REDACTED_EMAIL]") >= 3
    assert [next(iter(json.loads(line))) for line in stored.splitlines()] == [
        "resourceSpans",
        "resourceLogs",
        "resourceMetrics",
        "resourceLogs",
    ]


def test_a_malformed_request_is_refused_and_the_good_one_after_it_goes_on(served: Served) -> None:
    request = urllib.request.Request(
        f"{served.http}/v1/traces", b"not protobuf", {"content-type": "application/x-protobuf"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 400
    caught.value.close()
    send_model_call(HttpExporter(endpoint=f"{served.http}/v1/traces"))
    served.delivered()
    assert served.rows("SELECT count(*) FROM request_log") == [(1,)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_acknowledged_is_there_after_a_stop_of_any_kind(served: Served, number: int) -> None:
    for _ in range(5):
        send_model_call(GrpcExporter(endpoint=f"http://127.0.0.1:{served.grpc_port}", insecure=True))
    code = served.stop(number)
    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    served.restart()
    served.delivered()
    assert served.rows("SELECT count(*), count(DISTINCT trace_id) FROM request_log") == [(5, 5)]


def refused(folder: Path, *arguments: str, **environment: str) -> str:
    """Run `serve` with something wrong; return what it says."""
    import os

    result = subprocess.run(
        [*COMMAND, "serve", "--grpc-port", "0", "--http-port", "0", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "COLUMNS": "400", **environment},
    )
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_port_in_use_is_named_with_the_next_step(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        printed = refused(tmp_path, "--http-port", str(port))
    assert f"port {port} is in use" in printed
    assert "gateway.http_port" in printed
    assert "next:" in printed


def test_a_spool_that_another_gateway_uses_is_named_with_its_process(served: Served) -> None:
    printed = refused(served.folder, "--spool-dir", str(served.folder / "spool"))
    assert f"in use by another gateway (process {served.process.pid})" in printed


def test_a_database_that_cannot_be_is_named_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    printed = refused(tmp_path, "--db", f"sqlite:///{tmp_path}/file/rows.db")
    assert "request_log.url" in printed
    assert "next:" in printed


def test_a_spool_folder_that_cannot_be_is_named_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    printed = refused(tmp_path, "--spool-dir", str(tmp_path / "file" / "spool"))
    assert "gateway.spool_dir" in printed
    assert "next:" in printed


def test_an_open_address_without_keys_is_refused(tmp_path: Path) -> None:
    assert "gateway.host" in refused(tmp_path, "--host", "0.0.0.0")


def test_a_mistyped_setting_stops_the_start_and_is_named(tmp_path: Path) -> None:
    printed = refused(tmp_path, OTEL_TELEMETRY_GATEWAY__HOTS="127.0.0.1")
    assert "OTEL_TELEMETRY_GATEWAY__HOTS" in printed
    assert "did you mean OTEL_TELEMETRY_GATEWAY__HOST?" in printed


def test_the_start_says_where_things_go_and_shows_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    given = {
        "request_log": {"url": "postgresql://telemetry:secret-word@db/rows"},
        "forward": {"tempo": {"endpoint": "https://tempo.example.com/secret-word", "protocol": "http"}},
        "loki": {"endpoint": "http://loki:3100"},
    }
    lines = serve._where_to(settings.load(**given))
    for text in (
        "postgresql://telemetry:***@db/rows",
        "tempo at tempo.example.com",
        "log lines to loki:3100",
        "otel-spool",
    ):
        assert text in lines
    assert "secret-word" not in lines
    alone = serve._where_to(settings.load(**given, gateway={"role": "receive"}))
    assert "rows go to" not in alone
    assert "--role deliver" in alone


@pytest.mark.parametrize(
    ("gateway", "url", "warned"),
    [
        ({"workers": 2}, None, True),
        ({"workers": 2}, "redis://127.0.0.1:1/0", False),
        ({"workers": 2, "role": "deliver"}, None, False),
        ({"workers": 1}, None, False),
    ],
)
def test_several_receivers_without_redis_say_that_each_has_a_cache_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gateway: dict[str, Any], url: str | None, warned: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = serve._what_is_not_shared(settings.load(gateway=gateway, cache={"url": url}))
    assert ("cache.url makes it one" in lines) is warned


def test_where_half_a_name_is_given_all_that_may_be_meant_are_named(tmp_path: Path) -> None:
    printed = refused(tmp_path, OTEL_TELEMETRY_GATEWAY__PORT="4317")
    assert "OTEL_TELEMETRY_GATEWAY__GRPC_PORT or OTEL_TELEMETRY_GATEWAY__HTTP_PORT?" in " ".join(printed.split())


def test_an_address_with_the_path_of_its_api_is_refused_with_what_is_too_much(tmp_path: Path) -> None:
    printed = refused(tmp_path, OTEL_TELEMETRY_LOKI__ENDPOINT="http://127.0.0.1:3100/loki/api/v1/push")
    assert "error loki.endpoint: must end before /loki/api/v1/push" in " ".join(printed.split())


def test_a_key_is_made_by_the_command_that_the_refusal_names(tmp_path: Path) -> None:
    assert "`otel-telemetry key`" in refused(tmp_path, "--host", "0.0.0.0")


def test_a_secret_that_is_too_short_is_named_and_not_shown(tmp_path: Path) -> None:
    printed = refused(tmp_path, OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET="hunter2")
    assert "secret" in printed
    assert "hunter2" not in printed


def test_a_missing_secret_is_said_at_the_start(served: Served) -> None:
    assert "redaction.pseudonyms.secret is not set" in served.logged()

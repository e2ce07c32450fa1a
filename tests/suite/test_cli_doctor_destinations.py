"""`otel-telemetry doctor` asks the gateway's destinations whether they would take what they are sent."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.backends.observability import VictoriaLogs
from tests.backends.process import free_port
from tests.exporters.certificates import authority
from tests.exporters.forwarded import serving
from tests.exporters.otlp_receiver import Answer, Received, Receiver, grpc_receiver, http_receiver
from tests.faults.gateway_process import GatewayProcess

BIN = Path(sys.executable).parent
KEY = "hunter2-key"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaLogs]:
    with VictoriaLogs(tmp_path_factory.mktemp("loki-doctor")) as running:
        yield running


def doctor(folder: Path, paths: str = "", **sections: Any) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Return the exit code, and what was found by name; `sections` are settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHONPATH"))}
    env = {
        **environment,
        "OTEL_TRACES_EXPORTER": "request_log",
        "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": "a secret of the tests",
        **{f"OTEL_TELEMETRY_{name.upper()}": json.dumps(given) for name, given in sections.items()},
        **({"PYTHONPATH": paths} if paths else {}),
    }
    command = [str(BIN / "otel-telemetry"), "doctor", "--json"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert KEY not in done.stdout + done.stderr
    found: dict[str, list[dict[str, str]]] = {}
    for check in json.loads(done.stdout):
        found.setdefault(check["name"], []).append(check)
    return done.returncode, found


def only(found: dict[str, list[dict[str, str]]], name: str) -> dict[str, str]:
    (check,) = found[name]
    return check


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_destination_that_takes_an_empty_request_of_each_signal_is_well(tmp_path: Path, protocol: str) -> None:
    with serving(protocol, Receiver()) as there:
        endpoint = f"http://127.0.0.1:{there.port}"
        given = {"endpoint": endpoint, "protocol": protocol, "headers": {"x-api-key": KEY}, "compression": "gzip"}
        code, found = doctor(tmp_path, forward={"there": given})
        assert there.bodies == [b""] * 3
        assert {got.headers["x-api-key"] for got in there.got} == {KEY}
    assert code == 0, found
    check = only(found, "forward.there")
    detail = f"{protocol} {endpoint} (traces, logs, metrics): takes what it is sent"
    assert (check["state"], check["detail"], check["next"]) == ("ok", detail, "")


def test_a_gateway_of_ours_takes_an_empty_request_over_both_protocols(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as running:
        given = {
            "one": {"endpoint": f"http://127.0.0.1:{running.grpc}"},
            "two": {"endpoint": f"http://127.0.0.1:{running.http}", "protocol": "http"},
        }
        code, found = doctor(tmp_path, forward=given)
    assert code == 0, found
    assert [only(found, f"forward.{name}")["state"] for name in given] == ["ok", "ok"]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_one_that_is_not_there_is_a_problem_with_its_next_step_and_hides_no_other(
    tmp_path: Path, protocol: str
) -> None:
    with grpc_receiver(Receiver()) as there:
        given = {
            "gone": {"endpoint": f"http://127.0.0.1:{free_port()}", "protocol": protocol},
            "there": {"endpoint": f"http://127.0.0.1:{there.port}"},
        }
        code, found = doctor(tmp_path, forward=given)
    assert code == 1
    gone = only(found, "forward.gone")
    assert gone["state"] == "problem"
    assert "refused" in gone["detail"]
    assert gone["next"].startswith("start it, or correct forward.gone.endpoint")
    assert only(found, "forward.there")["state"] == "ok"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_headers_that_it_does_not_know_are_named(tmp_path: Path, protocol: str) -> None:
    with serving(protocol, Receiver()) as there:
        there.answer = lambda got: Answer(401, code=grpc.StatusCode.UNAUTHENTICATED)
        given = {"endpoint": f"http://127.0.0.1:{there.port}", "protocol": protocol, "headers": {"x-api-key": KEY}}
        code, found = doctor(tmp_path, forward={"there": given})
    assert code == 1
    assert only(found, "forward.there")["next"].startswith("check its headers (forward.there.headers")


def test_signals_that_it_does_not_take_are_told_apart_from_those_that_it_takes(tmp_path: Path) -> None:
    def answer(got: Received) -> Answer:
        return Answer() if "Trace" in got.path else Answer(code=grpc.StatusCode.UNIMPLEMENTED)

    with grpc_receiver(Receiver()) as there:
        there.answer = answer
        code, found = doctor(tmp_path, forward={"there": {"endpoint": f"http://127.0.0.1:{there.port}"}})
    assert code == 1
    well, wrong = found["forward.there"]
    assert (well["state"], "(traces)" in well["detail"]) == ("ok", True)
    assert (wrong["state"], "(logs, metrics)" in wrong["detail"]) == ("problem", True)
    assert "leave signals out that it does not take" in wrong["next"]


@pytest.mark.parametrize(("there", "asked"), [("grpc", "http"), ("http", "grpc")])
def test_a_protocol_that_is_the_other_one_is_a_problem(tmp_path: Path, there: str, asked: str) -> None:
    with serving(there, Receiver()) as receiver:
        given = {"endpoint": f"http://127.0.0.1:{receiver.port}", "protocol": asked}
        code, found = doctor(tmp_path, forward={"there": given})
    assert code == 1
    assert "forward.there.protocol" in only(found, "forward.there")["next"]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_certificate_that_nobody_trusts_leads_to_ca_file(tmp_path: Path, protocol: str) -> None:
    certificate, key = authority(tmp_path, "server")
    receiver = Receiver()
    if protocol == "grpc":
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
        serve = grpc_receiver(receiver, credentials=credentials)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        serve = http_receiver(receiver, tls=context)
    with serve:
        given = {"endpoint": f"https://localhost:{receiver.port}", "protocol": protocol}
        code, found = doctor(tmp_path, forward={"there": given})
        assert (code, receiver.got) == (1, [])
        assert "forward.there.ca_file" in only(found, "forward.there")["next"]
        code, found = doctor(tmp_path, forward={"there": {**given, "ca_file": str(certificate)}})
        assert (code, only(found, "forward.there")["state"]) == (0, "ok")


def test_certificates_that_cannot_be_read_are_named_and_hide_no_other(tmp_path: Path) -> None:
    with grpc_receiver(Receiver()) as there:
        given = {
            "wrong": {"endpoint": "https://127.0.0.1:1", "ca_file": "gone.pem"},
            "there": {"endpoint": f"http://127.0.0.1:{there.port}"},
        }
        code, found = doctor(tmp_path, forward=given)
    assert (code, only(found, "forward.wrong")["state"], only(found, "forward.there")["state"]) == (1, "problem", "ok")
    assert "its certificates cannot be used" in only(found, "forward.wrong")["detail"]


def test_one_that_refuses_only_an_empty_request_is_noted(tmp_path: Path) -> None:
    with http_receiver(Receiver()) as there:
        there.answer = lambda got: Answer(400, b"nothing in it")
        given = {"endpoint": f"http://127.0.0.1:{there.port}", "protocol": "http"}
        code, found = doctor(tmp_path, forward={"there": given})
    check = only(found, "forward.there")
    assert (code, check["state"]) == (0, "note")
    assert "nothing in it" in check["detail"]


# --- Loki -----------------------------------------------------------------------------------------------------------
def test_a_store_of_loki_s_push_api_is_well_and_gets_no_line(tmp_path: Path, store: VictoriaLogs) -> None:
    code, found = doctor(tmp_path, loki={"endpoint": store.push})
    assert code == 0, found
    assert only(found, "loki")["detail"] == f"push {store.push}: takes what it is sent"
    assert store.records("*") == []


def test_a_loki_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, loki={"endpoint": f"http://127.0.0.1:{free_port()}"})
    assert (code, only(found, "loki")["state"]) == (1, "problem")
    assert only(found, "loki")["next"].startswith("start it, or correct loki.endpoint")


@pytest.mark.parametrize(
    ("ready", "push", "code", "printed"),
    [
        (Answer(503, b"Ingester not ready"), Answer(204), 1, "Ingester not ready"),
        (Answer(404), Answer(204), 0, "takes what it is sent"),
        (Answer(200), Answer(401), 1, "HTTP 401"),
        (Answer(200), Answer(404), 1, "HTTP 404"),
        (
            Answer(200),
            Answer(422, b"error at least one valid stream is required for ingestion"),
            0,
            "takes what it is sent",
        ),
    ],
)
def test_what_loki_answers_is_told(tmp_path: Path, ready: Answer, push: Answer, code: int, printed: str) -> None:
    with http_receiver(Receiver()) as there:
        there.answer = lambda got: ready if got.path == "/ready" else push
        given = {"endpoint": f"http://127.0.0.1:{there.port}", "tenant": "team-a", "bearer_token": KEY}
        exit_code, found = doctor(tmp_path, loki=given)
        assert {got.headers["x-scope-orgid"] for got in there.got} == {"team-a"}
    assert exit_code == code, found
    assert printed in only(found, "loki")["detail"]


# --- engines --------------------------------------------------------------------------------------------------------
def test_without_a_quick_engine_both_are_named(tmp_path: Path) -> None:
    for name in ("hyperscan", "re2"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    code, found = doctor(tmp_path, paths=str(tmp_path))
    engine, advice = found["redaction"]
    assert (code, engine["detail"].startswith("engine re,"), advice["state"]) == (0, True, "note")
    assert "hyperscan" in advice["next"]
    assert "google-re2" in advice["next"]

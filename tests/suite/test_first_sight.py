"""What a person sees first: texts by one switch, the README's set-up as printed, one request as a tree, the banner."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.cli import app
from otel_telemetry.commands import surroundings
from tests.backends.process import free_port
from tests.suite.test_zero_code import BIN, ROOT, environment, nothing_planted, rows, run_script

TEXTS = """
import os
import httpx, otel_telemetry
otel_telemetry.configure(service_name="script", exporter="request_log")
with otel_telemetry.request(route="ask"):
    body = {"model": "gpt-4o-mini", "messages": [
        {"role": "system", "content": "be brief"}, {"role": "user", "content": "who is jane.roe@example.com?"}]}
    httpx.post(os.environ["MODEL"] + "/v1/chat/completions", json=body)
"""
STORE = {"OTEL_TELEMETRY_REQUEST_LOG__STORE_TEXT": "true"}
STANDARD = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SETUP = """
import os
import httpx
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider, logger_provider = TracerProvider(), LoggerProvider()
trace.set_tracer_provider(provider)
{printed}
with trace.get_tracer("mine").start_as_current_span("work for jane.roe@example.com"):
    body = {{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "hello"}}]}}
    httpx.post(os.environ["MODEL"] + "/v1/chat/completions", json=body)
provider.shutdown()
"""


def texts(folder: Path, model: str, **more: str) -> tuple[Any, ...]:
    done = run_script(folder, model, sys.executable, "script.py", script=TEXTS, **more)
    assert done.returncode == 0, done.stderr
    assert nothing_planted(folder)
    asked, answered = rows(folder, "SELECT query_text, answer_text FROM request_log")[0]
    ((request, response),) = rows(folder, "SELECT chat_request, chat_response FROM llm_call")
    return asked, bool(answered), request is not None, response is not None


def test_one_switch_stores_what_was_asked_and_answered_redacted(tmp_path: Path, model: str) -> None:
    assert texts(tmp_path, model, **STORE) == ("who is [REDACTED_EMAIL]?", True, True, True)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({}, False),
        ({STANDARD: "true"}, False),
        ({**STORE, STANDARD: "NO_CONTENT"}, False),
        ({**STORE, STANDARD: "SPAN_ONLY"}, True),
        ({**STORE, "OTEL_TELEMETRY_INSTRUMENT__CAPTURE_CONTENT": "false"}, False),
    ],
)
def test_no_text_is_stored_unless_rows_may_keep_it_and_spans_may_carry_it(
    tmp_path: Path, model: str, given: dict[str, str], stored: bool
) -> None:
    asked = "who is [REDACTED_EMAIL]?" if stored else None
    assert texts(tmp_path, model, **given) == (asked, stored, stored, stored)


def test_the_set_up_of_the_readme_gives_rows_as_it_is_printed(tmp_path: Path, model: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("**Your own OpenTelemetry set-up.**")[2]
    found = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    (tmp_path / "setup.py").write_text(SETUP.format(printed=found[1]))
    done = subprocess.run(
        [sys.executable, "setup.py"], cwd=tmp_path, env=environment(tmp_path, model), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tmp_path / "telemetry.db").rename(tmp_path / "rows.db")
    assert rows(tmp_path, "SELECT llm_calls, model, prompt_tokens > 0 FROM request_log") == [(1, "gpt-4o-mini", 1)]
    assert nothing_planted(tmp_path)


# --- show -----------------------------------------------------------------------------------------------------------


def shown(folder: Path, *words: str) -> str:
    result = CliRunner().invoke(
        app, ["show", "--db", f"sqlite:///{folder / 'rows.db'}", *words], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_a_request_is_shown_as_a_tree_with_stages_calls_costs_and_texts(tmp_path: Path, model: str) -> None:
    staged = TEXTS.replace('request(route="ask"):', 'request(route="ask") as r, r.stage("final"):')
    run_script(tmp_path, model, sys.executable, "script.py", script=staged, **STORE)
    ((request_id, trace_id),) = rows(tmp_path, "SELECT id, trace_id FROM request_log")
    ((call_id, cost),) = rows(tmp_path, "SELECT id, cost_usd FROM llm_call")
    tree = shown(tmp_path, request_id)
    lines = [line.strip("│├└─ ") for line in tree.splitlines()]
    assert lines[0].startswith("ask  ")
    assert f"{cost:.6f} USD (computed" in lines[0]
    assert f"id {request_id}  trace {trace_id}" in lines
    stage = next(n for n, line in enumerate(lines) if line.startswith("final  "))
    assert lines[stage + 1].startswith("gpt-4o-mini  openai chat")
    assert "asked: who is [REDACTED_EMAIL]?" in lines
    for name in (trace_id, call_id, request_id[:6]):
        assert shown(tmp_path, name) == tree
    (found,) = json.loads(shown(tmp_path, request_id, "--json"))
    assert (found["route"], found["calls"][0]["id"], found["cached_tokens"]) == ("ask", call_id, found["cached_tokens"])


def test_an_id_that_nobody_has_is_named_with_the_next_step(tmp_path: Path, model: str) -> None:
    run_script(tmp_path, model, sys.executable, "script.py", script=TEXTS)
    with pytest.raises(ConfigurationError, match="no request is of-nobody"):
        CliRunner().invoke(
            app, ["show", "--db", f"sqlite:///{tmp_path / 'rows.db'}", "of-nobody"], catch_exceptions=False
        )


# --- the banner -----------------------------------------------------------------------------------------------------


def banner(folder: Path, **more: str) -> str:
    done = subprocess.run(
        [BIN / "otel-telemetry", "run", "--", "true"],
        cwd=folder, env=environment(folder, "", COLUMNS="300", OTEL_EXPORTER_OTLP_TIMEOUT="1", **more),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return " ".join(done.stderr.split())


def test_the_banner_says_where_nobody_listens(tmp_path: Path) -> None:
    port = free_port()
    printed = banner(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
    assert f"nobody listens http://127.0.0.1:{port}: Connection refused: start a gateway there" in printed
    assert printed.count("nobody listens") == 1
    assert "nobody listens" not in banner(tmp_path, OTEL_TRACES_EXPORTER="request_log")


def test_the_banner_says_whether_texts_are_kept(tmp_path: Path) -> None:
    rows_only = {"OTEL_TRACES_EXPORTER": "request_log"}
    assert "texts prompts and answers are not kept" in banner(tmp_path, **rows_only)
    assert "texts redacted, on spans and in rows" in banner(tmp_path, **rows_only, **STORE)


def test_what_is_not_seen_is_named_with_the_packages_that_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"flask": "3.1", "click": "8", "celery": "5.5", "opentelemetry-instrumentation-celery": "0.66b2"}
    monkeypatch.setattr(surroundings, "_version", versions.get)
    assert surroundings.uninstrumented() == {"flask": "opentelemetry-instrumentation-flask"}


UNSEEN = """
import os
import httpx, otel_telemetry
otel_telemetry.configure(service_name="script", exporter="request_log")
with otel_telemetry.request(route="ask"):
    for _ in range(3):
        httpx.post(os.environ["MODEL"].replace("127.0.0.1", "localhost") + "/ask", json={"model": "m", "prompt": "hi"})
"""


def test_what_looked_like_model_calls_and_matched_nothing_is_told_at_the_next_start(tmp_path: Path, model: str) -> None:
    done = run_script(tmp_path, model, sys.executable, "script.py", script=UNSEEN)
    assert done.stderr.count("looks like a model call") == 1
    printed = banner(tmp_path, OTEL_TRACES_EXPORTER="request_log")
    assert "unseen calls localhost (3): name those that speak like OpenAI's API in instrument.llm_hosts" in printed
    doctor = subprocess.run(
        [BIN / "otel-telemetry", "doctor"], cwd=tmp_path, env=environment(tmp_path, "", COLUMNS="300"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "was not understood: localhost (3)" in doctor.stdout

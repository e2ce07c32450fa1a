"""Zero code: lookups of redis-py are on spans, and hits of the response cache mark their request's row."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.backends.redis_server import RedisServer

PLANTED = "jane.roe@example.com"
BIN = Path(sys.executable).parent

SCRIPT = """
import os
import httpx, redis
import otel_telemetry

cache = otel_telemetry.cache.ResponseCache()

@cache.cached(tool="ask", ttl=60)
def ask(question):
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}]}
    with httpx.Client() as client:
        return client.post(os.environ["MODEL"] + "/v1/chat/completions", json=body).json()["choices"][0]["message"]

@cache.cached(tool="unpriced")
def lookup(word):
    return [word]

for number in (1, 2):
    with otel_telemetry.request(route="direct", id=f"asked-{number}"):
        print(ask("who is jane.roe@example.com?")["role"])
for number in (1, 2):
    with otel_telemetry.request(route="looked", id=f"looked-{number}"):
        lookup("x")
with redis.Redis.from_url(os.environ["REDIS"]) as client, client.pipeline() as pipeline:
    client.set("user:jane.roe@example.com:1", "of hers")
    client.get("user:jane.roe@example.com:1")
    pipeline.get("user:jane.roe@example.com:1").mget("user:jane.roe@example.com:2", "user:jane.roe@example.com:1")
    pipeline.execute()
"""


def run(
    folder: Path, model: str, server: RedisServer, url: str, *, configured: bool = False, **more: str
) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text("import otel_telemetry; otel_telemetry.configure()\n" * configured + SCRIPT)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    env = {
        **environment,
        "MODEL": model,
        "REDIS": server.url,
        "OTEL_TRACES_EXPORTER": "request_log,console",
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_TELEMETRY_INSTRUMENT__LLM_PROVIDERS": '{"127.0.0.1": "openai"}',
        "OTEL_TELEMETRY_CACHE__URL": url,
        "OTEL_TELEMETRY_REQUEST_LOG__URL": f"sqlite:///{folder / 'rows.db'}",
        "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": "a secret of the tests",
    }
    command = [*([] if configured else [str(BIN / "opentelemetry-instrument")]), sys.executable, "script.py"]
    return subprocess.run(command, cwd=folder, env=env | more, capture_output=True, text=True, timeout=90, check=True)


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    connection = sqlite3.connect(folder / "rows.db")
    connection.row_factory = sqlite3.Row
    try:
        found = connection.execute("SELECT * FROM request_log").fetchall()
    finally:
        connection.close()
    return {row["id"]: {**row, "meta": json.loads(row["meta"] or "{}")} for row in found}


@pytest.mark.parametrize("where", ["redis", "memory"])
def test_a_hit_marks_its_row_with_what_it_saved(
    tmp_path: Path, model: str, redis_server: RedisServer, where: str
) -> None:
    done = run(tmp_path, model, redis_server, redis_server.url if where == "redis" else "")
    assert done.stdout.count("assistant\n") == 2
    found = rows(tmp_path)
    assert set(found) == {"asked-1", "asked-2", "looked-1", "looked-2"}
    miss, hit = found["asked-1"], found["asked-2"]
    assert (miss["llm_calls"], miss["cache_hit"], miss["cost_usd"] > 0) == (1, 0, True)
    assert (hit["llm_calls"], hit["cache_hit"], hit["cost_usd"]) == (0, 1, None)
    assert hit["meta"]["cache_saved_usd"] == pytest.approx(float(miss["cost_usd"]))
    assert 0 < hit["meta"]["cache_saved_ms"] <= miss["latency_ms"]
    assert not any(key.startswith("cache_") for key in miss["meta"])
    assert found["looked-2"]["cache_hit"] == 1
    assert "cache_saved_usd" not in found["looked-2"]["meta"]  # no model was asked: nothing is known to be saved
    assert PLANTED not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("configured", [False, True], ids=["zero code", "configure()"])
def test_lookups_of_the_app_are_on_its_spans_and_those_of_the_cache_are_not(
    tmp_path: Path, model: str, redis_server: RedisServer, configured: bool
) -> None:
    done = run(tmp_path, model, redis_server, redis_server.url, configured=configured)
    decoder, spans, text = json.JSONDecoder(), [], done.stdout
    position = text.find("{")
    while position >= 0:
        value, end = decoder.raw_decode(text, position)
        spans += [value] if "context" in value else []
        position = text.find("{", end)
    commands = [span for span in spans if span["attributes"].get("db.system") == "redis"]
    assert [span["name"] for span in commands] == ["SET", "GET", "PIPELINE"]
    assert commands[1]["attributes"]["cache.hit"] is True
    assert commands[1]["attributes"]["cache.family"] == "user"
    assert (commands[2]["attributes"]["cache.hits"], commands[2]["attributes"]["cache.misses"]) == (2, 1)
    assert '"telemetry_cache.cache_hits"' in text
    assert PLANTED not in text
    assert "of hers" not in text


def test_configure_starts_no_instrumentation_that_the_environment_switches_off(
    tmp_path: Path, model: str, redis_server: RedisServer
) -> None:
    off = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis, otel_telemetry_redis_cache"}
    done = run(tmp_path, model, redis_server, redis_server.url, configured=True, **off)
    assert '"db.system"' not in done.stdout
    assert '"cache.family"' not in done.stdout
    assert set(rows(tmp_path)) == {"asked-1", "asked-2", "looked-1", "looked-2"}

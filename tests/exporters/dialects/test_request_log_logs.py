"""Model calls recorded by log records: rows of their own, or what a span leaves out, in any order."""

import json
import random

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base import records
from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.dialects.dialects import DETAILS_EVENT
from otel_telemetry.exporters.request_log.read import logs, span_facts
from otel_telemetry.exporters.request_log.sink import RequestLogSink

CASES = ("chat", "stream", "tools", "error")
ONLY_IN_EVENT = ("gen_ai.input.messages", "gen_ai.output.messages")


@pytest.fixture(name="tables_of")
def tables_fixture(tmp_path, rows):
    """Delivers bodies to a sink and returns (requests, calls by time)."""

    def tables_of(*deliveries, **settings):
        path = tmp_path / f"{random.random()}.db"  # noqa: S311  # a name
        sink = RequestLogSink(RequestLogSettings(url=f"sqlite:///{path}", **settings))
        for signal, body in deliveries:
            sink.deliver(signal, [body])
        sink.close()
        return rows(path, "request_log"), sorted(rows(path, "llm_call"), key=lambda call: call["ts"])

    return tables_of


def without(body, *names):
    """Spans without some attributes, as apps send them that leave these to the event."""
    message = ExportTraceServiceRequest.FromString(body)
    for of_resource in message.resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                left = [pair for pair in span.attributes if pair.key not in names]
                del span.attributes[:]
                span.attributes.extend(left)
    return message.SerializeToString()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("store_text", [False, True])
def test_a_call_told_of_by_span_and_event_is_one_row_in_either_order(case_of, tables_of, case, store_text):
    found = case_of("genai_events", case)
    traces, events = ("traces", found.traces()), ("logs", found.logs())
    alone = tables_of(traces, store_text=store_text)
    assert tables_of(traces, events, store_text=store_text) == alone
    assert tables_of(events, traces, events, store_text=store_text) == alone
    assert len(alone[1]) == len(found.served)


def test_messages_that_only_the_event_has_reach_the_span_s_row(case_of, tables_of):
    found = case_of("genai_events", "chat")
    traces, events = ("traces", without(found.traces(), *ONLY_IN_EVENT)), ("logs", found.logs())
    first, last = tables_of(events, traces, store_text=True), tables_of(traces, events, store_text=True)
    assert first == last
    for call in first[1]:
        assert "careful engineer" in call["chat_request"]
        assert "You asked" in call["chat_response"]
        assert call["total_latency_ms"] > 1
    assert "careful engineer" not in json.dumps(tables_of(events, traces))


def test_usage_that_only_the_event_has_reaches_the_span_s_row_and_its_request(case_of, tables_of):
    found = case_of("genai_events", "chat")
    whole = tables_of(("traces", found.traces()))
    usage = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.reasoning.output_tokens")
    bare = without(found.traces(), *usage, "gen_ai.usage.cache_read.input_tokens", "gen_ai.response.finish_reasons")
    for deliveries in ((("traces", bare), ("logs", found.logs())), (("logs", found.logs()), ("traces", bare))):
        requests, calls = tables_of(*deliveries)
        assert requests == whole[0]
        assert calls == whole[1]
    assert tables_of(("traces", bare))[0][0]["cost_source"] == "unpriced"


def test_a_call_whose_span_never_comes_has_its_row_from_the_event(case_of, tables_of):
    found = case_of("genai_events", "chat")
    requests, calls = tables_of(("logs", found.logs()))
    assert requests == []  # which request they are of, only the span that never came could tell
    assert [call["prompt_tokens"] for call in calls] == [served["usage"]["prompt"] for served in found.served]
    assert [call["provider_request_id"] for call in calls] == [served["id"] for served in found.served]
    assert {(call["total_latency_ms"], call["cost_source"]) for call in calls} == {(None, "computed")}


def event(attributes, *, trace_id=b"", span_id=b"", time=5, **fields):
    message = ExportLogsServiceRequest()
    record = (
        message.resource_logs.add()
        .scope_logs.add()
        .log_records.add(trace_id=trace_id, span_id=span_id, time_unix_nano=time, **fields)
    )
    for key, value in attributes.items():
        pair = record.attributes.add(key=key)
        if isinstance(value, int):
            pair.value.int_value = value
        else:
            pair.value.string_value = value
    return message.SerializeToString()


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 2,
}


def test_an_event_outside_of_any_span_is_a_request_of_its_own_once(tables_of):
    body = event(CHAT, event_name=DETAILS_EVENT)
    requests, calls = tables_of(
        ("logs", body), ("logs", event(CHAT, event_name=DETAILS_EVENT, observed_time_unix_nano=9))
    )
    assert (len(requests), len(calls)) == (1, 1)
    assert (requests[0]["prompt_tokens"], calls[0]["request_id"]) == (10, requests[0]["id"])
    assert len(tables_of(("logs", body), ("logs", event(CHAT, event_name=DETAILS_EVENT, time=6)))[0]) == 2


def test_events_of_two_calls_in_one_span_that_is_no_call_are_two_calls(tables_of):
    where = {"trace_id": b"\1" * 16, "span_id": b"\2" * 8, "event_name": DETAILS_EVENT}
    events = [("logs", event({**CHAT, "gen_ai.response.id": each}, **where)) for each in ("a", "b", "a")]
    assert len(tables_of(*events)[1]) == 2


def test_the_older_form_of_the_event_is_read_from_its_attribute_of_that_name_and_its_body(tables_of):
    message = ExportLogsServiceRequest.FromString(event({"event.name": DETAILS_EVENT}, trace_id=b"\1" * 16))
    record = message.resource_logs[0].scope_logs[0].log_records[0]
    for key in ("gen_ai.operation.name", "gen_ai.request.model"):
        pair = record.body.kvlist_value.values.add(key=key)
        pair.value.string_value = str(CHAT[key])
    _, calls = tables_of(("logs", message.SerializeToString()))
    assert [(call["operation"], call["model"], call["trace_id"]) for call in calls] == [
        ("chat", "gpt-4o-mini", "01" * 16)
    ]


def test_other_logs_make_no_rows_and_broken_bodies_are_malformed_only_if_they_could_matter(tables_of):
    assert tables_of(("logs", event({**CHAT, "event.name": "gen_ai.choice"}, event_name="gen_ai.choice"))) == ([], [])
    assert list(logs.from_otlp(b"\xff\xff")) == []
    with pytest.raises(MalformedTelemetry):
        list(logs.from_otlp(b"\xff\xff" + DETAILS_EVENT.encode()))


def test_an_event_on_the_span_itself_says_what_the_span_leaves_out(case_of):
    found = case_of("genai_events", "chat")
    message = ExportTraceServiceRequest.FromString(found.traces())
    expected = [span_facts.fact(span, store_text=True).call for span in span_facts.from_otlp(found.traces())]
    for of_resource in message.resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                left = [pair for pair in span.attributes if pair.key == "gen_ai.operation.name"]
                event = span.events.add(name=DETAILS_EVENT, time_unix_nano=span.end_time_unix_nano)
                event.attributes.extend(span.attributes)
                del span.attributes[:]
                span.attributes.extend(left)
    placed = span_facts.condensed_from_otlp(message.SerializeToString())
    moved = [span_facts.fact(span, store_text=True).call for span in placed if isinstance(span, records.Span)]
    assert moved == expected


# --- calls within calls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inner_id", "counted"), [("one", ["3"]), (None, ["3"]), ("two", ["2", "3"])])
def test_a_second_call_within_one_is_told_from_a_second_look_at_it_by_the_id_of_its_answer(  # noqa: PLR0917  # fixtures
    store, span, chat, rows, tmp_path, inner_id, counted
):
    spans = [
        span(1, None, {"request_log.route": "a"}),
        span(2, 1, chat(gen_ai__response__id="one")),
        span(9, 2, {}),
        span(3, 9, chat(gen_ai__response__id=inner_id)),
    ]
    random.Random(str(inner_id)).shuffle(spans)  # noqa: S311  # an order that can be had again
    for each in spans:
        store.write([each])
    calls = rows(tmp_path / "log.db", "llm_call")
    assert [call["span_id"][-1] for call in calls] == counted
    request = rows(tmp_path / "log.db", "request_log")[0]
    assert (request["llm_calls"], request["prompt_tokens"]) == (len(counted), 100 * len(counted))


def test_an_event_of_a_call_further_up_is_no_second_call_and_leaves_that_row_alone(store, span, chat, rows, tmp_path):
    call = span(2, 1, chat(tokens=(100, 20)))
    event = span(7, 9, {**chat(), "gen_ai.response.finish_reasons": ["stop"]}, kind="LOG", local_root=False)
    store.write([span(1, None, {"request_log.route": "a"}), event, span(9, 2, {})])
    store.write([call])
    calls = rows(tmp_path / "log.db", "llm_call")
    assert [(call["span_id"][-1], call["finish_reason"]) for call in calls] == [("2", None)]

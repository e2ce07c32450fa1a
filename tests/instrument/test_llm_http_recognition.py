"""Which requests are model calls, whose they are, and which ones are left to others."""

import io
import json
from typing import Any

import httpx
import httpx2
import openai
import pytest
import wrapt
from openai.resources import responses
from opentelemetry import context, trace
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider

from otel_telemetry.instrument import active
from otel_telemetry.instrument.llm_http import LlmHttpInstrumentor
from otel_telemetry.instrument.llm_http.endpoints import recognise
from otel_telemetry.instrument.llm_http.outgoing import OutgoingRequest
from tests.instrument.conftest import ModelServer, Telemetry

ANSWER = {"id": "c", "model": "m-1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


def found(url: str, *hosts: str, **headers: str) -> tuple[str, str] | None:
    parsed = httpx.URL(url)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    request = OutgoingRequest(parsed.scheme, parsed.host, parsed.port, parsed.path, named.get, None)
    endpoint = recognise(request, frozenset(hosts))
    return (endpoint.provider, endpoint.dialect.operation) if endpoint else None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com/v1/chat/completions", ("openai", "chat")),
        ("https://api.openai.com/v1/responses", ("openai", "chat")),
        ("https://api.openai.com/v1/embeddings", ("openai", "embeddings")),
        ("https://api.openai.com/v1/completions", ("openai", "text_completion")),
        ("https://eu.api.openai.com/v1/chat/completions", ("openai", "chat")),
        ("https://x.openai.azure.com/openai/deployments/d/chat/completions", ("azure.ai.openai", "chat")),
        ("https://api.mistral.ai/v1/chat/completions", ("mistral_ai", "chat")),
        ("https://api.groq.com/openai/v1/chat/completions", ("groq", "chat")),
        ("https://api.deepseek.com/chat/completions", ("deepseek", "chat")),
        ("https://api.together.xyz/v1/chat/completions", ("together", "chat")),
        ("https://openrouter.ai/api/v1/chat/completions", ("openrouter", "chat")),
        ("https://api.x.ai/v1/chat/completions", ("x_ai", "chat")),
        ("https://api.perplexity.ai/chat/completions", ("perplexity", "chat")),
        ("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", ("gcp.gemini", "chat")),
        ("http://127.0.0.1:8000/v1/chat/completions", ("_OTHER", "chat")),
        ("http://vllm.internal/v1/chat/completions/", ("_OTHER", "chat")),
        ("http://vllm.internal/v1/embeddings", ("_OTHER", "embeddings")),
        ("http://app.internal/chat/completions", None),
        ("http://app.internal/api/responses", None),
        ("http://app.internal/v1/responses/r1/cancel", None),
        ("https://api.openai.com/v1/models", None),
        ("https://api.openai.com/v1/files", None),
        ("https://notapi.openai.com.evil.example/chat/completions", None),
        ("http://app.internal/", None),
        ("http://app.internal", None),
    ],
)
def test_a_path_and_the_evidence_for_it_make_a_model_call(url: str, expected: Any) -> None:
    assert found(url) == expected


def test_the_settings_name_further_hosts_for_the_shorter_paths() -> None:
    assert found("http://app.internal/chat/completions", "app.internal") == ("_OTHER", "chat")
    assert found("http://app.internal/chat/completions", "*") == ("_OTHER", "chat")
    assert found("http://app.internal/chat/completions", "other.internal") is None


def test_azure_names_the_deployment_in_the_path(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer(ANSWER)
    path = "/openai/deployments/my%20deploy/v1/chat/completions?api-version=2024-10-21"
    with httpx.Client() as client:
        client.post(f"{server.url}{path}", json={"messages": []})
    assert telemetry.attributes("chat my deploy")["gen_ai.request.model"] == "my deploy"


def test_other_requests_make_no_span(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer({"ok": True})
    with httpx.Client() as client:
        client.post(f"{server.url}/api/orders", json={"model": "car"})
        client.get(f"{server.url}/v1/chat/completions")
    telemetry.spans(0)


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_a_streamed_request_body_is_neither_read_nor_held_up(
    telemetry: Telemetry, server: ModelServer, module: Any
) -> None:
    server.answer(ANSWER)
    sent = []

    def body() -> Any:
        for piece in (b'{"model":', b'"m"}'):
            sent.append(piece)
            yield piece

    with module.Client() as client:
        request = client.build_request(
            "POST", f"{server.url}/v1/chat/completions", content=body(), headers={"content-type": "application/json"}
        )
        assert client.send(request).status_code == 200
    assert len(sent) == 2
    assert server.requests[0][2] == b'{"model":"m"}'
    attributes = telemetry.attributes("chat")
    assert "gen_ai.request.model" not in attributes
    assert attributes["gen_ai.response.model"] == "m-1"


def test_of_a_form_nothing_but_the_model_is_read(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer(ANSWER)
    with httpx.Client() as client:
        form = {"model": "m", "temperature": "0.5"}
        client.post(f"{server.url}/v1/chat/completions", files={"file": io.BytesIO(b"model")}, data=form)
    attributes = telemetry.attributes("chat")
    assert attributes["gen_ai.request.model"] == "m"
    assert "gen_ai.request.temperature" not in attributes


@pytest.mark.parametrize("position", ["first", "last"])
def test_a_gigantic_prompt_still_tells_its_model(telemetry: Telemetry, server: ModelServer, position: str) -> None:
    server.answer(ANSWER)
    prompt = {"messages": [{"role": "user", "content": 'say "model": "no" ' + "x" * 2_000_000}]}
    settings = {"model": "big", "stream": False}
    body = settings | prompt if position == "first" else prompt | settings
    with httpx.Client() as client:
        client.post(f"{server.url}/v1/chat/completions", json=body)
    assert telemetry.attributes()["gen_ai.request.model"] == "big"


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b"{", b'{"model": 3, "stream": "yes", "temperature": "hot"}', b"\xff"]
)
def test_a_request_that_is_no_proper_json_goes_out_as_it_is(
    telemetry: Telemetry, server: ModelServer, body: bytes
) -> None:
    server.answer(ANSWER)
    with httpx.Client() as client:
        client.post(f"{server.url}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert server.requests[0][2] == body
    assert "gen_ai.request.model" not in telemetry.attributes()


def test_the_http_span_of_the_client_becomes_a_child(telemetry: Telemetry, server: ModelServer) -> None:
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    server.answer(ANSWER)
    HTTPXClientInstrumentor().instrument(tracer_provider=telemetry.tracers)
    try:
        with httpx.Client() as client:
            client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    finally:
        HTTPXClientInstrumentor().uninstrument()
    http, chat = telemetry.spans(2)
    assert (http.name, chat.name) == ("POST", "chat m")
    assert http.parent.span_id == chat.context.span_id
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize(
    ("attributes", "spans"),
    [
        ({"gen_ai.operation.name": "chat"}, 1),
        ({"gen_ai.operation.name": "embeddings"}, 1),
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"}, 2),
        ({"openinference.span.kind": "LLM"}, 1),
        ({"openinference.span.kind": "AGENT", "llm.model_name": "m"}, 2),
        ({"llm.request.type": "chat"}, 1),
        ({"gen_ai.system": "openai", "gen_ai.request.model": "m"}, 1),
        ({"http.route": "/"}, 2),
    ],
)
def test_a_call_that_another_instrumentation_sees_gets_no_second_span(
    telemetry: Telemetry, server: ModelServer, attributes: Any, spans: int
) -> None:
    server.answer(ANSWER)
    tracer = telemetry.tracers.get_tracer("another")
    with httpx.Client() as client, tracer.start_as_current_span("theirs", attributes=attributes):
        client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    telemetry.spans(spans)


@pytest.mark.parametrize(
    ("module", "agent", "path", "spans"),
    [
        ("opentelemetry.instrumentation.openai.utils", "OpenAI/Python 3.52.0", "responses", 0),
        ("opentelemetry.instrumentation.openai.utils", "AsyncOpenAI/Python 3.52.0", "responses", 0),
        ("opentelemetry.instrumentation.openai.utils", "python-httpx/0.28", "responses", 1),
        ("opentelemetry.instrumentation.openai.utils", "OpenAI/Python 3.52.0", "chat/completions", 1),
        ("an.app.of.its.own", "OpenAI/Python 3.52.0", "responses", 1),
    ],
)
def test_a_call_of_which_another_makes_a_span_afterwards_gets_none_from_us(  # noqa: PLR0917 - parameters
    telemetry: Telemetry, server: ModelServer, module: str, agent: str, path: str, spans: int
) -> None:
    def theirs(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    theirs.__module__ = module
    server.answer(ANSWER)
    original = responses.Responses.__dict__["create"]
    wrapt.wrap_function_wrapper("openai.resources.responses", "Responses.create", theirs)
    try:
        with httpx.Client(headers={"user-agent": agent}) as client:
            client.post(f"{server.url}/v1/{path}", json={"model": "m"})
    finally:
        responses.Responses.create = original  # type: ignore[method-assign]  # as it was
    telemetry.spans(spans)


def test_a_call_inside_a_transport_of_a_call_is_one_call(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer(ANSWER)

    class Relay(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            with httpx2.Client() as inner:
                answer = inner.post(str(request.url), content=request.read(), headers=dict(request.headers))
            return httpx.Response(answer.status_code, content=answer.content)

    with httpx.Client(transport=Relay()) as client:
        client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    assert telemetry.attributes()["gen_ai.usage.input_tokens"] == 1


@pytest.mark.parametrize("suppress", [suppress_instrumentation, suppress_http_instrumentation])
def test_suppressed_instrumentation_makes_no_span(telemetry: Telemetry, server: ModelServer, suppress: Any) -> None:
    server.answer(ANSWER)
    with httpx.Client() as client, suppress():
        client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    telemetry.spans(0)


def test_a_call_that_was_marked_as_not_to_be_seen_is_not(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer(ANSWER)
    token = context.attach(context.set_value("suppress_language_model_instrumentation", True))
    try:
        with httpx.Client() as client:
            client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    finally:
        context.detach(token)
    telemetry.spans(0)


def test_a_setting_switches_it_off(uninstrumented: Telemetry, server: ModelServer) -> None:
    uninstrumented.instrument(llm_http=False)
    server.answer(ANSWER)
    with httpx.Client() as client:
        client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    uninstrumented.spans(0)


def test_it_needs_no_arguments(server: ModelServer) -> None:
    server.answer(ANSWER)
    LlmHttpInstrumentor().instrument()
    try:
        with httpx.Client() as client:
            assert client.post(f"{server.url}/v1/chat/completions", json={"model": "m"}).json() == ANSWER
    finally:
        LlmHttpInstrumentor().uninstrument()


def test_a_stage_is_named_on_the_calls_within_it(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer(ANSWER)
    active.stage.set("router")
    try:
        with httpx.Client() as client:
            client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    finally:
        active.stage.set(None)
    assert telemetry.attributes()["request_log.stage"] == "router"


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_an_answer_that_never_was_a_stream_is_seen_too(telemetry: Telemetry, module: Any) -> None:
    transport = module.MockTransport(lambda _: module.Response(200, json=ANSWER))
    with module.Client(transport=transport) as client:
        assert client.post("http://model/v1/chat/completions", json={"model": "m"}).json() == ANSWER
        with client.stream("POST", "http://model/v1/chat/completions", json={"model": "m"}) as answer:
            assert json.loads(answer.read()) == ANSWER
    for span in telemetry.spans(2):
        assert span.attributes["gen_ai.usage.input_tokens"] == 1
        assert "gen_ai.response.time_to_first_chunk" not in span.attributes


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_a_hook_that_reads_the_answer_first_changes_nothing_for_the_app(
    telemetry: Telemetry, server: ModelServer, module: Any
) -> None:
    server.answer(ANSWER)
    hooks = {"response": [lambda response: response.read()]}
    with module.Client(event_hooks=hooks) as client:
        answer = client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    assert answer.json() == ANSWER
    assert answer.elapsed.total_seconds() > 0
    assert telemetry.attributes()["gen_ai.response.model"] == "m-1"


@pytest.mark.parametrize("module", [httpx, httpx2])
def test_what_the_client_knows_of_an_answer_stays_the_same(
    telemetry: Telemetry, server: ModelServer, module: Any
) -> None:
    server.answer(ANSWER)
    with module.Client() as client:
        answer = client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
        with client.stream("POST", f"{server.url}/v1/chat/completions", json={"model": "m"}) as streamed:
            streamed.read()
    for seen in (answer, streamed):
        assert seen.is_closed
        assert seen.is_stream_consumed
        assert seen.elapsed.total_seconds() > 0
        assert seen.num_bytes_downloaded == len(json.dumps(ANSWER))
    telemetry.spans(2)


def test_a_redirect_stays_inside_one_call(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer(ANSWER)
    server.replies = [
        type(server.replies[0])([b""], 307, {"location": f"{server.url}/v1/chat/completions"}),
        *server.replies,
    ]
    with httpx.Client(follow_redirects=True) as client:
        answer = client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    assert len(answer.history) == 1
    assert telemetry.attributes()["http.response.status_code"] == 200


MESSAGES: Any = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": [{"type": "text", "text": "Where is Anna?"}, {"type": "image_url", "image_url": {}}]},
    {"role": "assistant", "tool_calls": [{"id": "t1", "function": {"name": "find", "arguments": '{"who":"Anna"}'}}]},
    {"role": "tool", "tool_call_id": "t1", "content": "At home."},
]


def ask(server: ModelServer, **more: Any) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="k") as client:
        list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True, **more))


def delta(**fields: Any) -> Any:
    return {"id": "c", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def test_messages_are_not_on_the_span_unless_asked_for(telemetry: Telemetry, server: ModelServer) -> None:
    server.stream(delta(content="At home"))
    ask(server)
    attributes = json.dumps(telemetry.attributes(), default=str)
    assert "Anna" not in attributes
    assert "home" not in attributes


def test_messages_are_on_the_span_in_the_conventions_shape_when_asked_for(
    uninstrumented: Telemetry, server: ModelServer
) -> None:
    uninstrumented.instrument(capture_content=True)
    call = {"index": 0, "id": "t2", "function": {"name": "find", "arguments": '{"a":'}}
    server.stream(
        delta(content="At "),
        delta(reasoning_content="hm"),
        delta(content="home"),
        delta(tool_calls=[call]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    )
    ask(server)
    attributes = uninstrumented.attributes()
    given = json.loads(attributes["gen_ai.input.messages"])
    assert [message["role"] for message in given] == ["system", "user", "assistant", "tool"]
    assert given[1]["parts"] == [{"type": "text", "content": "Where is Anna?"}, {"type": "image_url"}]
    assert given[2]["parts"][0]["arguments"] == '{"who":"Anna"}'
    assert given[3]["parts"] == [{"type": "tool_call_response", "id": "t1", "response": "At home."}]
    assert json.loads(attributes["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "text", "content": "At home"},
                {"type": "tool_call", "id": "t2", "name": "find", "arguments": '{"a":1}'},
            ],
            "finish_reason": "stop",
        }
    ]


def test_captured_messages_are_bounded_and_whole(uninstrumented: Telemetry, server: ModelServer) -> None:
    uninstrumented.instrument(capture_content=True)
    server.stream(*[delta(content="y" * 10_000)] * 50)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="k") as client:
        messages: Any = [{"role": "user", "content": "x" * 30_000}] * 5
        list(client.chat.completions.create(model="m", messages=messages, stream=True))
    attributes = uninstrumented.attributes()
    assert len(json.loads(attributes["gen_ai.input.messages"])) == 2
    assert len(attributes["gen_ai.input.messages"]) <= 65_536
    assert len(attributes["gen_ai.output.messages"]) <= 70_000
    assert json.loads(attributes["gen_ai.output.messages"])[0]["parts"][0]["content"].startswith("yyy")


def test_a_call_below_a_span_of_another_provider_has_a_span_of_ours(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer(ANSWER)
    theirs = TracerProvider().get_tracer("elsewhere")
    with theirs.start_as_current_span("chat m", attributes={"gen_ai.operation.name": "chat"}), httpx.Client() as client:
        client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    telemetry.spans(1)


class WithoutIds(trace.NonRecordingSpan):
    """A span as MLflow makes it where it cannot make one."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # as it does


@pytest.mark.parametrize("current", [WithoutIds(), trace.NonRecordingSpan(trace.SpanContext(7, 9, is_remote=False))])
def test_a_call_below_what_is_no_span_of_its_request_stays_in_it(
    telemetry: Telemetry, server: ModelServer, current: trace.Span
) -> None:
    server.answer(ANSWER)
    span = telemetry.tracers.get_tracer("t").start_span("request")
    before = active.root.get()
    active.root.set(active.Root(span))
    token = context.attach(trace.set_span_in_context(current))
    try:
        with httpx.Client() as client:
            client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    finally:
        context.detach(token)
        active.root.set(before)
    assert telemetry.span("chat").parent == span.get_span_context()

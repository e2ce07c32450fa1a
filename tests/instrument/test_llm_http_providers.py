"""Every provider's dialect: recorded answers replayed by a real server, and the shapes that no recording has."""

import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import yaml

from otel_telemetry.instrument.llm_http.endpoints import recognise
from otel_telemetry.instrument.llm_http.outgoing import OutgoingRequest
from tests.instrument.conftest import ModelServer, Reply, Telemetry

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "provider-responses"

#: file, interaction -> response model, input, output, cache read, cache creation, reasoning, finish reasons.
EXPECTED: dict[tuple[str, int], tuple[Any, ...]] = {
    ("anthropic-messages", 0): ("claude-3-opus-20240229", 17, 220, None, None, None, ("end_turn",)),
    ("anthropic-messages-stream", 0): ("claude-3-haiku-20240307", 17, 171, None, None, None, ("end_turn",)),
    ("anthropic-prompt-caching-stream", 0): ("claude-3-5-sonnet-20240620", 1169, 201, 0, 1165, None, ("end_turn",)),
    ("anthropic-prompt-caching-stream", 1): ("claude-3-5-sonnet-20240620", 1169, 221, 1165, 0, None, ("end_turn",)),
    ("cohere-v2-chat-stream", 0): (None, 7, 109, None, None, None, ("COMPLETE",)),
    ("gemini-generate-content", 0): ("gemini-2.5-flash", 5, 1935, None, None, 1058, ("STOP",)),
    ("groq-chat-stream", 0): ("llama3-8b-8192", 18, 73, None, None, None, ("stop",)),
    ("mistral-chat-cache-tokens", 0): ("mistral-tiny", 20, 18, 10, None, None, ("stop",)),
    ("mistral-chat-stream", 0): ("mistral-tiny", 11, 80, None, None, None, ("stop",)),
    ("ollama-chat-stream", 0): ("llama3", 17, 50, None, None, None, ("stop",)),
    ("openai-chat", 0): ("gpt-5-2025-08-07", 8, 82, 0, None, 64, ("stop",)),
    ("openai-chat", 1): ("gpt-5-2025-08-07", 8, 11, 0, None, 0, ("stop",)),
    ("openai-chat-stream", 0): ("gpt-3.5-turbo-0125", None, None, None, None, None, ("stop",)),
    ("openai-responses", 0): ("gpt-4.1-nano-2025-04-14", 14, 8, 0, None, 0, ("completed",)),
    ("openai-responses-reasoning", 0): ("gpt-5-nano-2025-08-07", 11, 327, 0, None, 320, ("completed",)),
    ("openai-responses-reasoning", 1): ("gpt-5-nano-2025-08-07", 11, 131, 0, None, 64, ("completed",)),
}
USAGE = (
    "input_tokens",
    "output_tokens",
    "cache_read.input_tokens",
    "cache_creation.input_tokens",
    "reasoning.output_tokens",
)


def known(attributes: dict[str, Any]) -> tuple[Any, ...]:
    return (
        attributes.get("gen_ai.response.model"),
        *(attributes.get(f"gen_ai.usage.{name}") for name in USAGE),
        attributes.get("gen_ai.response.finish_reasons"),
    )


def recorded(name: str, number: int) -> dict[str, Any]:
    path = RECORDED / f"{name}.yaml"
    if not path.exists():
        pytest.skip("the recordings are not here")
    interaction: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"][number]
    return interaction


def replay(server: ModelServer, module: Any, interaction: dict[str, Any], size: int) -> bytes:
    """Send a recorded request to a server that answers as recorded, in pieces of some size; return the answer."""
    response, request = interaction["response"], interaction["request"]
    body = response["body"]["string"]
    data = body if isinstance(body, bytes) else body.encode()
    names = {"content-type", "content-encoding"}
    headers = {key.lower(): value[0] for key, value in response["headers"].items() if key.lower() in names}
    headers["content-encoding"] = "gzip" if data[:2] == b"\x1f\x8b" else "identity"
    server.replies = [Reply([data[at : at + size] for at in range(0, len(data), size)], 200, headers)]
    path = "/" + request["uri"].split("/", 3)[3]
    sent = {key: value[0] for key, value in request["headers"].items() if key.lower() not in ("host", "content-length")}
    with module.Client() as client:
        answer = client.post(f"{server.url}{path}", content=request["body"], headers=sent)
    got: bytes = answer.content
    return got


@pytest.mark.parametrize(("module", "size"), [(httpx, 11), (httpx2, 11), (httpx, 100_000)])
@pytest.mark.parametrize(("name", "number"), EXPECTED)
def test_a_recorded_answer_is_understood(  # noqa: PLR0917 - parameters
    uninstrumented: Telemetry, server: ModelServer, module: Any, name: str, number: int, size: int
) -> None:
    uninstrumented.instrument(llm_hosts=("*",))
    interaction = recorded(name, number)
    answer = replay(server, module, interaction, size)
    body = interaction["response"]["body"]["string"]
    plain = body.encode() if isinstance(body, str) else gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    assert answer == plain
    attributes = uninstrumented.attributes()
    assert known(attributes) == EXPECTED[name, number]
    streamed = "-stream" in name
    assert ("gen_ai.response.time_to_first_chunk" in attributes) is streamed
    asked = json.loads(interaction["request"]["body"])
    assert attributes["gen_ai.request.model"] == asked.get("model", "gemini-2.5-flash")


def test_a_recorded_answer_is_captured_whole_when_asked_for(uninstrumented: Telemetry, server: ModelServer) -> None:
    uninstrumented.instrument(llm_hosts=("*",), capture_content=True)
    beginnings = {
        "anthropic-messages-stream": "Here's an OpenTelemet",
        "anthropic-messages": "Sure, here's a joke",
        "cohere-v2-chat-stream": "Arrrr, matey",
        "gemini-generate-content": "AI stands for",
        "groq-chat-stream": "A joke about OpenTelemetry",
        "ollama-chat-stream": "Why did the",
        "openai-chat-stream": "Why did the",
        "openai-responses": "The capital of France is Paris",
    }
    for name, beginning in beginnings.items():
        replay(server, httpx, recorded(name, 0), 10_000)
        attributes = uninstrumented.attributes()
        messages = json.loads(attributes["gen_ai.output.messages"])
        assert messages[0]["role"] == "assistant"
        assert messages[0]["parts"][0]["content"].startswith(beginning), name
        asked = json.loads(attributes["gen_ai.input.messages"])
        assert asked[0]["parts"][0]["content"]
        uninstrumented.exporter.clear()


def sse(*events: Any, named: bool = False) -> bytes:
    lines = []
    for event in events:
        lines += [f"event: {event.get('type')}"] * named + [f"data: {json.dumps(event, separators=(',', ':'))}", ""]
    return "\n".join([*lines, ""]).encode()


def ask(server: ModelServer, path: str, body: Any, **headers: str) -> None:
    with httpx.Client() as client:
        client.post(f"{server.url}{path}", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_anthropic_tools_thinking_and_parameters_are_seen(uninstrumented: Telemetry, server: ModelServer) -> None:
    uninstrumented.instrument(capture_content=True)
    server.raw(
        sse(
            {"type": "message_start", "message": {"id": "m1", "model": "claude-x", "usage": {"input_tokens": 3}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "tool_use", "id": "t1", "name": "find", "input": {}},
            },
            {
                "type": "content_block_delta",
                "index": 1,
                "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'},
            },
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
            {"type": "message_stop"},
            named=True,
        ),
        content_type="text/event-stream",
    )
    body = {
        "model": "claude-x",
        "max_tokens": 10,
        "stop_sequences": ["END"],
        "system": "Be short.",
        "stream": True,
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t0", "name": "find", "input": {"b": 2}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t0", "content": "there"}]},
        ],
    }
    ask(server, "/v1/messages", body, anthropic_version="2023-06-01")
    attributes = uninstrumented.attributes("chat claude-x")
    assert attributes["gen_ai.provider.name"] == "_OTHER"
    assert attributes["gen_ai.request.max_tokens"] == 10
    assert attributes["gen_ai.request.stop_sequences"] == ("END",)
    assert known(attributes) == ("claude-x", 3, 9, None, None, None, ("tool_use",))
    parts = json.loads(attributes["gen_ai.output.messages"])[0]["parts"]
    assert [part["type"] for part in parts] == ["reasoning", "tool_call"]
    assert parts[1] == {"type": "tool_call", "id": "t1", "name": "find", "arguments": '{"a":1}'}
    asked = json.loads(attributes["gen_ai.input.messages"])
    assert [part["type"] for message in asked for part in message["parts"]] == [
        "text",
        "tool_call",
        "tool_call_response",
    ]
    assert json.loads(attributes["gen_ai.system_instructions"])[0]["content"] == "Be short."


def test_anthropic_is_recognised_by_its_host_a_header_or_all_that_it_demands(
    telemetry: Telemetry, server: ModelServer
) -> None:
    server.answer({"id": "m"})
    ask(server, "/v1/messages", {"text": "to a friend"})
    ask(server, "/v1/messages", {"model": "letter", "messages": "to a friend", "max_tokens": 3})
    telemetry.spans(0)
    asked = {"model": "claude-x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    ask(server, "/anthropic/v1/messages", asked)
    assert telemetry.attributes("chat claude-x")["gen_ai.provider.name"] == "_OTHER"


def test_an_anthropic_error_names_itself(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529)
    ask(server, "/v1/messages", {"model": "m"}, anthropic_version="2023-06-01")
    assert telemetry.attributes()["error.type"] == "overloaded_error"


GEMINI = "/v1beta/models/gemini-x:streamGenerateContent"


def gemini(text: str, **more: Any) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": len(text), "cachedContentTokenCount": 2},
        "modelVersion": "gemini-x-001",
    }


@pytest.mark.parametrize("events", [True, False])
def test_gemini_streams_as_events_or_as_one_list(telemetry: Telemetry, server: ModelServer, events: bool) -> None:
    values = [gemini("a"), gemini("bcd", finishReason="STOP")]
    if events:
        server.raw(sse(*values), content_type="text/event-stream")
    else:
        server.raw(json.dumps(values, indent=2).encode(), content_type="application/json")
    body = {"contents": [], "generationConfig": {"temperature": 1, "topP": 0.5, "maxOutputTokens": 9, "seed": 4}}
    ask(server, f"{GEMINI}?alt=sse&key=secret", body)
    attributes = telemetry.attributes("generate_content gemini-x")
    assert known(attributes) == ("gemini-x-001", 5, 3, 2, None, None, ("STOP",))
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.request.temperature"] == 1.0
    assert attributes["gen_ai.request.top_p"] == 0.5
    assert attributes["gen_ai.request.max_tokens"] == 9
    assert attributes["gen_ai.request.seed"] == 4
    assert ("gen_ai.response.time_to_first_chunk" in attributes) is events
    assert "secret" not in str(attributes)


def test_a_gemini_error_names_its_status(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer({"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}, 429)
    ask(server, GEMINI, {})
    assert telemetry.attributes()["error.type"] == "RESOURCE_EXHAUSTED"


def test_a_prompt_that_gemini_blocks_ends_with_the_reason(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}})
    ask(server, "/v1/models/gemini-x:generateContent", {})
    assert known(telemetry.attributes()) == (None, 4, None, None, None, None, ("SAFETY",))


@pytest.mark.parametrize("stream", [True, False])
def test_ollama_is_recognised_by_its_client_and_may_not_stream(
    telemetry: Telemetry, server: ModelServer, stream: bool
) -> None:
    last = {"model": "l", "done": True, "done_reason": "stop", "prompt_eval_count": 4, "eval_count": 2}
    if stream:
        lines = [{"model": "l", "response": "a", "done": False}, {"model": "l", "response": "b", "done": False}, last]
    else:
        lines = [last | {"response": "ab"}]
    server.raw("\n".join(map(json.dumps, lines)).encode(), content_type="application/x-ndjson")
    body = {"model": "l", "prompt": "hi", "stream": stream, "options": {"num_predict": 7, "temperature": 0.1}}
    ask(server, "/api/generate", body, user_agent="ollama-python/0.6 (x86_64)")
    attributes = telemetry.attributes("text_completion l")
    assert attributes["gen_ai.provider.name"] == "ollama"
    assert attributes["gen_ai.request.max_tokens"] == 7
    assert attributes["gen_ai.request.temperature"] == 0.1
    assert known(attributes) == ("l", 4, 2, None, None, None, ("stop",))
    assert ("gen_ai.response.time_to_first_chunk" in attributes) is stream


def test_an_apps_own_chat_endpoint_is_no_model_call(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer({})
    for path in ("/api/chat", "/api/generate", "/v1/chat", "/v2/chat", "/api/embed", "/invoke"):
        ask(server, path, {"model": "m"})
    telemetry.spans(0)


def test_cohere_without_a_stream_reports_billed_units(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer(
        {
            "id": "c1",
            "finish_reason": "TOOL_CALL",
            "message": {"tool_plan": "I will look", "tool_calls": [{"id": "t", "function": {"name": "f"}}]},
            "usage": {"billed_units": {"input_tokens": 7, "output_tokens": 3}, "tokens": {"input_tokens": 70}},
        }
    )
    ask(server, "/v2/chat", {"model": "command-r", "p": 0.3}, x_fern_sdk_name="cohere")
    attributes = telemetry.attributes("chat command-r")
    assert known(attributes) == (None, 7, 3, None, None, None, ("TOOL_CALL",))
    assert attributes["gen_ai.request.top_p"] == 0.3


def test_cohere_version_1_streams_lines(telemetry: Telemetry, server: ModelServer) -> None:
    end = {"response_id": "r", "meta": {"billed_units": {"input_tokens": 7, "output_tokens": 3}}}
    lines = [
        {"event_type": "stream-start", "generation_id": "g"},
        {"event_type": "text-generation", "text": "Hi"},
        {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": end},
    ]
    server.raw("\n".join(map(json.dumps, lines)).encode(), content_type="application/stream+json")
    ask(server, "/v1/chat", {"model": "command-r", "message": "hi", "stream": True}, x_fern_sdk_name="cohere")
    attributes = telemetry.attributes("chat command-r")
    assert known(attributes) == (None, 7, 3, None, None, None, ("COMPLETE",))
    assert "gen_ai.response.time_to_first_chunk" in attributes


GENERATED = {
    "id": "g",
    "generations": [{"id": "1", "text": "Hi", "finish_reason": "COMPLETE"}],
    "meta": {"billed_units": {"input_tokens": 7, "output_tokens": 3}},
}


@pytest.mark.parametrize("stream", [False, True])
def test_cohere_generates_whole_or_in_lines(telemetry: Telemetry, server: ModelServer, stream: bool) -> None:
    lines = [{"event_type": "text-generation", "text": "Hi", "is_finished": False}]
    lines += [{"event_type": "stream-end", "is_finished": True, "finish_reason": "COMPLETE", "response": GENERATED}]
    sent = lines if stream else [GENERATED]
    server.raw("\n".join(map(json.dumps, sent)).encode(), content_type="application/stream+json")
    ask(server, "/v1/generate", {"model": "command-r", "prompt": "hi", "stream": stream}, x_fern_sdk_name="cohere")
    attributes = telemetry.attributes("text_completion command-r")
    assert known(attributes) == (None, 7, 3, None, None, None, ("COMPLETE",))
    assert attributes["gen_ai.response.id"] == "g"


@pytest.mark.parametrize(
    ("url", "provider", "model"),
    [
        ("https://api.anthropic.com/v1/messages", "anthropic", None),
        (
            "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/claude-x:streamRawPredict",
            "gcp.vertex_ai",
            "claude-x",
        ),
        (
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-x-v1%3A0/invoke",
            "aws.bedrock",
            "us.anthropic.claude-x-v1:0",
        ),
        ("https://generativelanguage.googleapis.com/v1beta/models/g-x:generateContent", "gcp.gemini", "g-x"),
        ("https://aiplatform.googleapis.com/v1/publishers/google/models/g-x:generateContent", "gcp.vertex_ai", "g-x"),
        ("https://proxy.example/v1/models/g-x:generateContent", "_OTHER", "g-x"),
        ("http://localhost:11434/api/chat", "ollama", None),
        ("https://api.cohere.com/v2/chat", "cohere", None),
        ("https://api.cohere.com/v2/embed", "cohere", None),
    ],
)
def test_a_provider_is_known_by_its_host(url: str, provider: str, model: str | None) -> None:
    parsed = httpx.URL(url)
    path = parsed.raw_path.decode()
    request = OutgoingRequest(parsed.scheme, parsed.host, parsed.port, path, lambda _: None, None)
    endpoint = recognise(request, frozenset())
    assert endpoint is not None
    assert (endpoint.provider, endpoint.model) == (provider, model)


PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions", GEMINI, "/v1/messages")
NONSENSE: tuple[Any, ...] = (
    {},
    {"error": 3},
    {"error": {"code": None, "message": []}},
    {"usage": {"input_tokens": {}, "output_tokens": -1}, "content": "x", "choices": {"a": 1}, "output": [[1]]},
    {"type": 5, "message": [], "delta": 3, "index": "x", "candidates": [{"content": {"parts": [3, None]}}]},
    {"choices": [{"index": 10**30, "delta": {"tool_calls": [{"function": 3, "index": {}}]}, "finish_reason": []}]},
    [{"usageMetadata": [1]}, 3, None],
)


@pytest.mark.parametrize("path", [*PATHS, "/api/chat", "/api/generate", "/v1/chat", "/v2/chat", "/v2/embed"])
def test_no_dialect_stumbles_over_nonsense(uninstrumented: Telemetry, server: ModelServer, path: str) -> None:
    uninstrumented.instrument(llm_hosts=("*",), capture_content=True)
    with httpx.Client() as client:
        for value in NONSENSE:
            text = json.dumps(value).encode()
            for body in (text, b"data: " + text + b"\n\n", text + b"\n" + text):
                server.raw(body)
                assert client.post(f"{server.url}{path}", json=value).content == body
    uninstrumented.spans(3 * len(NONSENSE))
    assert uninstrumented.faults() == 0

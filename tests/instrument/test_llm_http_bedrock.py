"""Bedrock by boto3: converse and invoke, whole and as event streams, with what each model says of its counts."""

import base64
import binascii
import json
import struct
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from otel_telemetry.instrument.llm_http import eventstream
from tests.instrument.conftest import ModelServer, Telemetry

STREAM: Any = {"content_type": "application/vnd.amazon.eventstream", "x_amzn_requestid": "req-1"}
MODEL = "eu.amazon.nova-lite-v1:0"
ASKED: Any = [{"role": "user", "content": [{"text": "hello"}]}]
USAGE = {"inputTokens": 10, "outputTokens": 3, "totalTokens": 113, "cacheReadInputTokens": 100}
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


def message(kind: str, payload: Any, *, failing: bool = False) -> bytes:
    """Return an event as AWS frames it."""
    names = {
        ":exception-type" if failing else ":event-type": kind,
        ":message-type": "exception" if failing else "event",
    }
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in {**names, ":content-type": "application/json"}.items()
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    framed = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + body
    return framed + struct.pack(">I", binascii.crc32(framed))


def chunk(value: Any) -> bytes:
    return message("chunk", {"bytes": base64.b64encode(json.dumps(value).encode()).decode()})


@pytest.fixture(name="bedrock")
def bedrock_fixture(server: ModelServer) -> Iterator[Any]:
    client = boto3.client(
        "bedrock-runtime",
        region_name="eu-central-1",
        endpoint_url=server.url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


EVENTS = (
    message("messageStart", {"role": "assistant"}),
    message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hel"}, "p": "abc"}),
    message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo"}, "p": "abcd"}),
    message("contentBlockStop", {"contentBlockIndex": 0}),
    message("messageStop", {"stopReason": "end_turn"}),
    message("metadata", {"usage": USAGE, "metrics": {"latencyMs": 12}}),
)


def test_converse_is_seen(telemetry: Telemetry, server: ModelServer, bedrock: Any) -> None:
    content = [{"text": "hello"}]
    answer = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "end_turn",
        "usage": USAGE,
    }
    server.answer({**answer, "metrics": {"latencyMs": 12}}, x_amzn_requestid="req-1")
    got = bedrock.converse(modelId=MODEL, messages=ASKED, inferenceConfig={"maxTokens": 9, "temperature": 0.5})
    assert got["output"]["message"]["content"] == content
    seen = telemetry.attributes(f"chat {MODEL}")
    assert (seen["gen_ai.provider.name"], seen["gen_ai.request.model"]) == ("aws.bedrock", MODEL)
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.cache_read.input_tokens"]) == (110, 100)
    assert (seen["gen_ai.usage.output_tokens"], seen["gen_ai.response.finish_reasons"]) == (3, ("end_turn",))
    assert (seen["gen_ai.request.max_tokens"], seen["gen_ai.response.id"]) == (9, "req-1")
    assert telemetry.faults() == 0


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_converse_stream_is_seen_however_its_bytes_come(
    telemetry: Telemetry, server: ModelServer, bedrock: Any, size: int
) -> None:
    whole = b"".join(EVENTS)
    server.raw(*(whole[at : at + size] for at in range(0, len(whole), size)), pause=0.0005, **STREAM)
    events = list(bedrock.converse_stream(modelId=MODEL, messages=ASKED)["stream"])
    assert "".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e) == "hello"
    seen = telemetry.attributes()
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (110, 3)
    assert seen["gen_ai.response.time_to_first_chunk"] > 0
    assert seen["gen_ai.response.finish_reasons"] == ("end_turn",)
    assert "error.type" not in seen
    assert telemetry.faults() == 0


def test_a_stream_that_is_left_early_ends_its_call(telemetry: Telemetry, server: ModelServer, bedrock: Any) -> None:
    server.raw(*EVENTS, pause=0.02, **STREAM)
    stream = bedrock.converse_stream(modelId=MODEL, messages=ASKED)["stream"]
    next(iter(stream))
    stream.close()
    seen = telemetry.attributes()
    assert "error.type" not in seen
    assert "gen_ai.usage.input_tokens" not in seen


def test_an_exception_in_a_stream_and_a_refusal_are_told(
    telemetry: Telemetry, server: ModelServer, bedrock: Any
) -> None:
    server.raw(*EVENTS[:2], message("throttlingException", {"message": "secret"}, failing=True), **STREAM)
    stream = bedrock.converse_stream(modelId=MODEL, messages=ASKED)["stream"]
    with pytest.raises(EventStreamError):
        list(stream)
    assert telemetry.attributes()["error.type"] == "throttlingException"
    stream.close()
    server.answer({"message": "no such model"}, 404, x_amzn_errortype="ResourceNotFoundException")
    with pytest.raises(ClientError):
        bedrock.converse(modelId=MODEL, messages=ASKED)
    assert telemetry.spans(2)[1].attributes["http.response.status_code"] == 404


@pytest.mark.parametrize(
    ("model", "body", "answer", "headers", "expected"),
    [
        (
            CLAUDE,
            {"anthropic_version": "bedrock-2023-05-31", "messages": [], "max_tokens": 5},
            {
                "id": "msg_1",
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 4, "output_tokens": 2, "cache_read_input_tokens": 1},
            },
            {},
            (5, 2, "end_turn"),
        ),
        (MODEL, {"messages": []}, {"output": {}, "stopReason": "end_turn", "usage": USAGE}, {}, (110, 3, "end_turn")),
        (
            "amazon.titan-text-lite-v1",
            {"inputText": "x"},
            {"inputTextTokenCount": 4, "results": [{"tokenCount": 2, "outputText": "y", "completionReason": "FINISH"}]},
            {},
            (4, 2, "FINISH"),
        ),
        (
            "meta.llama3-8b-instruct-v1:0",
            {"prompt": "x", "max_gen_len": 7},
            {"generation": "y", "prompt_token_count": 4, "generation_token_count": 2, "stop_reason": "stop"},
            {},
            (4, 2, "stop"),
        ),
        (
            "mistral.mistral-7b-instruct-v0:2",
            {"prompt": "x"},
            {"outputs": [{"text": "y", "stop_reason": "stop"}]},
            {"x_amzn_bedrock_input_token_count": "4", "x_amzn_bedrock_output_token_count": "2"},
            (4, 2, "stop"),
        ),
        (
            "anthropic.claude-v2:1",
            {"prompt": "x", "max_tokens_to_sample": 5},
            {"type": "completion", "completion": " y", "stop_reason": "stop_sequence"},
            {"x_amzn_bedrock_input_token_count": "4", "x_amzn_bedrock_output_token_count": "2"},
            (4, 2, "stop_sequence"),
        ),
        (
            "openai.gpt-oss-20b-1:0",
            {"messages": []},
            {"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 4, "completion_tokens": 2}},
            {},
            (4, 2, "stop"),
        ),
    ],
)
def test_invoke_is_seen_in_the_shape_of_each_model(  # noqa: PLR0917 - parameters
    telemetry: Telemetry,
    server: ModelServer,
    bedrock: Any,
    model: str,
    body: Any,
    answer: Any,
    headers: Any,
    expected: Any,
) -> None:
    server.answer(answer, **headers)
    assert json.loads(bedrock.invoke_model(modelId=model, body=json.dumps(body))["body"].read()) == answer
    seen = telemetry.attributes(f"chat {model}")
    counts = seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]
    assert (*counts, seen["gen_ai.response.finish_reasons"][0]) == expected
    assert telemetry.faults() == 0


def test_invoke_streams_have_the_models_own_events_in_them(
    telemetry: Telemetry, server: ModelServer, bedrock: Any
) -> None:
    metrics = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 4, "outputTokenCount": 2}}
    server.raw(chunk({"generation": "y", "stop_reason": None}), chunk({"stop_reason": "stop", **metrics}), **STREAM)
    list(bedrock.invoke_model_with_response_stream(modelId="meta.llama3-8b-instruct-v1:0", body="{}")["body"])
    start = {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 4}}}
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "y"}}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
    server.raw(chunk(start), chunk(delta), chunk(ended), chunk({"type": "message_stop", **metrics}), **STREAM)
    list(bedrock.invoke_model_with_response_stream(modelId=CLAUDE, body="{}")["body"])
    server.raw(chunk({"completion": " y", "stop_reason": "stop_sequence", **metrics}), **STREAM)
    list(bedrock.invoke_model_with_response_stream(modelId="anthropic.claude-v2:1", body="{}")["body"])
    for span in telemetry.spans(3):
        assert span.attributes["gen_ai.request.stream"] is True
        assert (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.usage.output_tokens"]) == (4, 2)
        assert "error.type" not in span.attributes
    assert telemetry.faults() == 0


def test_embeddings_are_embeddings(telemetry: Telemetry, server: ModelServer, bedrock: Any) -> None:
    server.answer({"embedding": [0.1], "inputTextTokenCount": 4})
    bedrock.invoke_model(modelId="amazon.titan-embed-text-v2:0", body='{"inputText": "x"}')["body"].read()
    assert telemetry.attributes("embeddings amazon.titan-embed")["gen_ai.usage.input_tokens"] == 4


def test_a_rerank_has_its_own_operation_and_no_price(telemetry: Telemetry, server: ModelServer, bedrock: Any) -> None:
    server.answer({"results": [{"index": 0, "relevance_score": 0.9}]})
    asked = json.dumps({"query": "x", "documents": ["y"], "api_version": 2})
    bedrock.invoke_model(modelId="cohere.rerank-v3-5:0", body=asked)["body"].read()
    assert telemetry.attributes("rerank cohere.rerank")["gen_ai.usage.details.unpriced_feature"] == "rerank by searches"


def test_texts_are_captured_where_they_are_asked_for(
    uninstrumented: Telemetry, server: ModelServer, bedrock: Any
) -> None:
    uninstrumented.instrument(capture_content=True)
    server.raw(*EVENTS, **STREAM)
    list(bedrock.converse_stream(modelId=MODEL, messages=ASKED, system=[{"text": "be brief"}])["stream"])
    seen = uninstrumented.attributes()
    assert json.loads(seen["gen_ai.input.messages"])[0]["parts"] == [{"type": "text", "content": "hello"}]
    assert json.loads(seen["gen_ai.system_instructions"]) == [{"type": "text", "content": "be brief"}]
    assert json.loads(seen["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "hello"}]


class Sink:
    """Keeps what a reader finds."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def boring(self, line: bytes) -> bool:
        del line
        return False

    def event(self, value: Any) -> None:
        self.found.append(value)

    document = salvaged = event


@pytest.mark.parametrize(
    "bad",
    [b"\x00" * 40, b"data: x\n\n" * 9, struct.pack(">II", 1 << 31, 5) + b"x" * 99, struct.pack(">II", 20, 30) * 3],
)
def test_bytes_that_are_no_events_raise_nothing_and_are_not_kept(bad: bytes) -> None:
    sink = Sink()
    reader = eventstream.Reader(sink, lambda: None)
    for _ in range(100):
        reader.feed(bad)
    assert len(reader._held) < 4096
    reader.end()
    reader.feed(EVENTS[0])
    assert sink.found == []


def test_an_event_that_is_too_large_is_passed_over_and_the_next_one_seen() -> None:
    sink = Sink()
    reader = eventstream.Reader(sink, lambda: None)
    whole = message("contentBlockDelta", {"delta": {"text": "x" * 300_000}}) + EVENTS[4]
    for at in range(0, len(whole), 10_007):
        reader.feed(whole[at : at + 10_007])
    assert sink.found == [{"messageStop": {"stopReason": "end_turn"}}]

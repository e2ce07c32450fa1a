"""Real OpenAI SDK and bare clients against a real server: what a model call's span and metrics say."""

import asyncio
import gzip
import json
import zlib
from typing import Any

import httpx
import httpx2
import openai
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from tests.instrument.conftest import ModelServer, Telemetry

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 12},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
MESSAGES: Any = [{"role": "user", "content": "Say hello"}]


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {
        "id": "chatcmpl-2",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


LAST = {**chunk(), "choices": [], "usage": USAGE}
STREAM = (chunk(""), chunk("Hel"), chunk("lo"), chunk("!"), chunk(finish="stop"), LAST)


@pytest.fixture
def client(server: ModelServer) -> Any:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as made:
        yield made


def expect_usage(attributes: dict[str, Any]) -> None:
    assert attributes["gen_ai.usage.input_tokens"] == 20
    assert attributes["gen_ai.usage.output_tokens"] == 9
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 12
    assert attributes["gen_ai.usage.reasoning.output_tokens"] == 4
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["gen_ai.response.model"] == "gpt-4o-2024-08-06"


def test_a_chat_call_is_one_client_span_with_model_tokens_and_finish_reason(
    telemetry: Telemetry, server: ModelServer, client: openai.OpenAI
) -> None:
    server.answer(ANSWER)
    answer = client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, temperature=0.5, top_p=1, seed=7, max_tokens=50, stop=["END"], n=2
    )
    assert answer.choices[0].message.content == "Hello!"
    span = telemetry.span()
    assert span.name == "chat gpt-4o"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes)
    expect_usage(attributes)
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.provider.name"] == "_OTHER"
    assert attributes["gen_ai.request.model"] == "gpt-4o"
    assert attributes["gen_ai.request.temperature"] == 0.5
    assert attributes["gen_ai.request.top_p"] == 1.0
    assert attributes["gen_ai.request.seed"] == 7
    assert attributes["gen_ai.request.max_tokens"] == 50
    assert attributes["gen_ai.request.stop_sequences"] == ("END",)
    assert attributes["gen_ai.request.choice.count"] == 2
    assert attributes["gen_ai.response.id"] == "chatcmpl-1"
    assert attributes["server.address"] == "127.0.0.1"
    assert f":{attributes['server.port']}" in server.url
    assert attributes["http.response.status_code"] == 200
    assert "gen_ai.response.time_to_first_chunk" not in attributes
    assert "error.type" not in attributes


def test_a_streamed_chat_call_shows_the_same_and_when_the_first_text_came(
    telemetry: Telemetry, server: ModelServer, client: openai.OpenAI
) -> None:
    server.stream(*STREAM, pause=0.03)
    pieces = [
        part.choices[0].delta.content
        for part in client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        if part.choices
    ]
    assert "".join(piece or "" for piece in pieces) == "Hello!"
    attributes = telemetry.attributes("chat gpt-4o")
    expect_usage(attributes)
    assert attributes["gen_ai.request.stream"] is True
    # The first chunk is empty: two pauses pass before there is text, and four more until the end.
    span = telemetry.span()
    assert 0.06 <= attributes["gen_ai.response.time_to_first_chunk"] <= (span.end_time - span.start_time) / 1e9 - 0.09


async def test_the_asynchronous_sdk_shows_the_same_streamed_or_not(telemetry: Telemetry, server: ModelServer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as client:
        server.answer(ANSWER)
        await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        server.stream(*STREAM)
        summaries = [
            part async for part in await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        ]
    assert len(summaries) == len(STREAM)
    plain, streamed = telemetry.spans(2)
    expect_usage(dict(plain.attributes))
    expect_usage(dict(streamed.attributes))
    assert "gen_ai.response.time_to_first_chunk" in streamed.attributes


def test_embeddings_are_a_model_call_without_output(
    telemetry: Telemetry, server: ModelServer, client: openai.OpenAI
) -> None:
    server.answer(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}],
            "model": "text-embedding-3-small",
            "usage": {"prompt_tokens": 5, "total_tokens": 5},
        }
    )
    client.embeddings.create(model="text-embedding-3-small", input="hi", dimensions=2, encoding_format="float")
    attributes = telemetry.attributes("embeddings text-embedding-3-small")
    assert attributes["gen_ai.operation.name"] == "embeddings"
    assert attributes["gen_ai.usage.input_tokens"] == 5
    assert attributes["gen_ai.embeddings.dimension.count"] == 2
    assert "gen_ai.usage.output_tokens" not in attributes


def test_an_embeddings_answer_of_any_size_still_tells_model_and_usage(
    telemetry: Telemetry, server: ModelServer
) -> None:
    body = {
        "object": "list",
        "data": [{"index": i, "embedding": [0.125] * 1536} for i in range(100)],
        "model": "big",
        "usage": {"prompt_tokens": 500, "total_tokens": 500},
    }
    server.answer(body)
    with httpx.Client() as client:
        answer = client.post(f"{server.url}/v1/embeddings", json={"model": "b", "input": ["x"]})
    assert answer.json() == body
    attributes = telemetry.attributes()
    assert attributes["gen_ai.response.model"] == "big"
    assert attributes["gen_ai.usage.input_tokens"] == 500


def test_plain_completions_are_text_completions(
    telemetry: Telemetry, server: ModelServer, client: openai.OpenAI
) -> None:
    server.answer(
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": "davinci-002",
            "choices": [{"text": "yes", "index": 0, "finish_reason": "length", "logprobs": None}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        }
    )
    client.completions.create(model="davinci-002", prompt="Well?")
    attributes = telemetry.attributes("text_completion davinci-002")
    assert attributes["gen_ai.response.finish_reasons"] == ("length",)
    assert attributes["gen_ai.usage.output_tokens"] == 1


def test_an_sdks_retries_are_calls_of_their_own_with_their_number(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer(ANSWER)
    limited = {"error": {"message": "slow down alice@example.com", "type": "requests", "code": "rate_limit_exceeded"}}
    server.answer(limited, 429, retry_after="0", x_should_retry="true")
    first = server.replies
    server.answer(ANSWER)
    server.replies = [*first, *server.replies]
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=2) as client:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    refused, answered = telemetry.spans(2)
    assert refused.status.status_code is StatusCode.ERROR
    assert refused.status.description == "HTTP 429 rate_limit_exceeded"
    assert refused.attributes["error.type"] == "rate_limit_exceeded"
    assert refused.attributes["http.response.status_code"] == 429
    assert refused.attributes["http.response.header.retry-after"] == ("0",)
    assert "http.request.resend_count" not in refused.attributes
    assert answered.attributes["http.request.resend_count"] == 1
    assert answered.status.status_code is StatusCode.UNSET


def test_an_error_without_a_code_is_named_by_its_status(
    telemetry: Telemetry, server: ModelServer, client: openai.OpenAI
) -> None:
    server.raw(b"<html><body>Bad gateway</body></html>", status=502, content_type="text/html")
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    span = telemetry.span()
    assert span.attributes["error.type"] == "502"
    assert span.status.description == "HTTP 502"


def test_an_error_in_the_middle_of_a_stream_makes_the_span_one(
    telemetry: Telemetry, server: ModelServer, client: openai.OpenAI
) -> None:
    server.stream(chunk("Hel"), {"error": {"message": "overloaded", "type": "server_error", "code": None}})
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    span = telemetry.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "server_error"
    assert span.attributes["gen_ai.response.model"] == "gpt-4o-2024-08-06"


def test_tool_calls_count_as_content_and_end_with_their_reason(
    telemetry: Telemetry, server: ModelServer, client: openai.OpenAI
) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "search", "arguments": ""}}
    first = chunk()
    first["choices"][0]["delta"] = {"role": "assistant", "content": None, "tool_calls": [call]}
    server.stream(first, chunk(finish="tool_calls"))
    list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    attributes = telemetry.attributes()
    assert attributes["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert "gen_ai.response.time_to_first_chunk" in attributes


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 4, "completion_tokens": 2, "prompt_cache_hit_tokens": 3}, (4, 2, 3, None)),  # DeepSeek
        ({"prompt_tokens": 4, "completion_tokens": 2, "cached_tokens": 1}, (4, 2, 1, None)),  # Moonshot
        (  # xAI counts reasoning beside the completion
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            (32, 103, None, 94),
        ),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0, None, None)),
        ({"prompt_tokens": -1, "completion_tokens": "9"}, (None, None, None, None)),
        ({"prompt_tokens": None, "completion_tokens": True}, (None, None, None, None)),
        ({"prompt_tokens": 5.0, "completion_tokens": 1.5, "prompt_tokens_details": None}, (5, None, None, None)),
        (None, (None, None, None, None)),
        ("many", (None, None, None, None)),
        ([], (None, None, None, None)),
    ],
)
def test_usage_is_taken_as_the_provider_means_it_and_nothing_is_made_of_nonsense(
    telemetry: Telemetry, server: ModelServer, usage: Any, expected: Any
) -> None:
    server.answer({**ANSWER, "usage": usage})
    with httpx2.Client() as client:
        client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    attributes = telemetry.attributes()
    names = ("input_tokens", "output_tokens", "cache_read.input_tokens", "reasoning.output_tokens")
    assert tuple(attributes.get(f"gen_ai.usage.{name}") for name in names) == expected


def test_groq_puts_a_streams_usage_elsewhere(telemetry: Telemetry, server: ModelServer) -> None:
    server.stream(chunk("a"), chunk(finish="stop", x_groq={"usage": {"prompt_tokens": 18, "completion_tokens": 73}}))
    with httpx.Client() as client:
        client.post(f"{server.url}/openai/v1/chat/completions", json={"model": "llama", "stream": True})
    assert telemetry.attributes()["gen_ai.usage.output_tokens"] == 73


@pytest.mark.parametrize("module", [httpx, httpx2])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_may_be_cut_anywhere_and_end_their_lines_either_way(
    telemetry: Telemetry, server: ModelServer, module: Any, ending: str, size: int
) -> None:
    server.stream(*STREAM, ending=ending)
    whole = b": comment" + 2 * ending.encode() + b"".join(server.replies[0].chunks)
    server.raw(*(whole[at : at + size] for at in range(0, len(whole), size)), content_type="text/event-stream")
    with module.Client() as client:
        answer = client.post(f"{server.url}/v1/chat/completions", json={"model": "gpt-4o", "stream": True})
    assert answer.content == whole
    expect_usage(telemetry.attributes())


def deflated(data: bytes) -> bytes:
    raw = zlib.compressobj(wbits=-15)
    return raw.compress(data) + raw.flush()


@pytest.mark.parametrize("module", [httpx, httpx2])
@pytest.mark.parametrize(
    ("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", deflated)]
)
def test_encoded_answers_are_seen_and_left_as_they_are(
    telemetry: Telemetry, server: ModelServer, module: Any, encoding: str, encode: Any
) -> None:
    data = encode(json.dumps(ANSWER).encode())
    server.raw(*(data[at : at + 5] for at in range(0, len(data), 5)), content_encoding=encoding)
    with (
        module.Client() as client,
        client.stream("POST", f"{server.url}/v1/chat/completions", json={"model": "gpt-4o"}) as answer,
    ):
        assert b"".join(answer.iter_raw()) == data
    expect_usage(telemetry.attributes())


def test_an_encoded_stream_shows_when_its_text_came(telemetry: Telemetry, server: ModelServer) -> None:
    server.stream(*STREAM)
    packer = zlib.compressobj(wbits=31)
    chunks = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in server.replies[0].chunks]
    server.raw(*chunks, packer.flush(), content_encoding="gzip", content_type="text/event-stream", pause=0.02)
    with httpx.Client() as client:
        client.post(f"{server.url}/v1/chat/completions", json={"model": "gpt-4o", "stream": True})
    attributes = telemetry.attributes()
    expect_usage(attributes)
    assert attributes["gen_ai.response.time_to_first_chunk"] >= 0.04


def test_metrics_have_the_conventions_names_units_buckets_and_attributes(
    telemetry: Telemetry, server: ModelServer, client: openai.OpenAI
) -> None:
    server.stream(*STREAM, pause=0.001)
    list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    telemetry.span()
    points = telemetry.points()
    assert set(points) == {
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
        "telemetry_cache.ttfb",  # and no rate: how many of its tokens came before the text, nobody knows
    }
    tokens = {point.attributes["gen_ai.token.type"]: point for point in points["gen_ai.client.token.usage"]}
    assert (tokens["input"].sum, tokens["output"].sum) == (20, 9)
    assert tuple(tokens["input"].explicit_bounds) == tuple(4**n for n in range(14))
    duration = points["gen_ai.client.operation.duration"][0]
    assert duration.explicit_bounds[0] == 0.01
    assert duration.explicit_bounds[-1] == 81.92
    assert duration.attributes["gen_ai.request.model"] == "gpt-4o"
    assert duration.attributes["gen_ai.response.model"] == "gpt-4o-2024-08-06"
    assert duration.attributes["gen_ai.provider.name"] == "_OTHER"
    assert points["gen_ai.client.operation.time_to_first_chunk"][0].count == 1
    assert points["gen_ai.client.operation.time_per_output_chunk"][0].count >= 1


def test_calls_side_by_side_do_not_mix(telemetry: Telemetry, server: ModelServer) -> None:
    async def ask(client: httpx2.AsyncClient, number: int) -> None:
        body = {"model": f"m{number}", "stream": True}
        await client.post(f"{server.url}/v1/chat/completions", json=body)

    async def ask_many() -> None:
        async with httpx2.AsyncClient() as client:
            await asyncio.gather(*(ask(client, number) for number in range(20)))

    server.stream(*STREAM, pause=0.002)
    asyncio.run(ask_many())
    spans = telemetry.spans(20)
    assert {span.name for span in spans} == {f"chat m{number}" for number in range(20)}
    assert len({span.context.trace_id for span in spans}) == 20
    for span in spans:
        expect_usage(dict(span.attributes))

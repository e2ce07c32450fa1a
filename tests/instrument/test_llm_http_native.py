"""Providers with a format of their own: DashScope, Cloudflare, Snowflake, Mistral's conversations, Replicate."""

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.instrument.conftest import Telemetry
from tests.instrument.test_llm_http_costs import (
    Ask,
    ask_fixture,  # noqa: F401 - a fixture
    chat,
    counts,
)
from tests.instrument.test_llm_http_units import Json, reason, stream, unit

DASHSCOPE = "https://dashscope-intl.aliyuncs.com/api/v1/services/"
CLOUDFLARE = "https://api.cloudflare.com/client/v4/accounts/0a1b/ai/run/"
SNOWFLAKE = "https://org-account.snowflakecomputing.com/api/v2/cortex/inference:complete"
CONVERSATIONS = "https://api.mistral.ai/v1/conversations"
REPLICATE = "https://api.replicate.com/v1/"


# --- DashScope ----------------------------------------------------------------------------------------------------


def qwen(**more: Any) -> Json:
    asked = {"messages": [{"role": "user", "content": "Who are you?"}]}
    return {
        "model": "qwen-plus",
        "input": asked,
        "parameters": {"result_format": "message", "temperature": 0.7},
        **more,
    }


def generated(text: str, finish: str | None, usage: Json) -> Json:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"request_id": "902fee3b", "output": {"choices": [choice]}, "usage": usage}


def test_dashscope_answers_with_counts_and_without_a_model(ask: Ask) -> None:
    usage = {"input_tokens": 22, "output_tokens": 17, "total_tokens": 39, "prompt_tokens_details": {"cached_tokens": 8}}
    url = f"{DASHSCOPE}aigc/text-generation/generation"
    call = ask(url, generated("I am a model.", "stop", usage), request=qwen())
    assert call is not None
    assert (call.provider, call.operation, call.model) == ("alibaba_cloud", "chat", "qwen-plus")
    assert (call.prompt_tokens, call.cached_tokens, call.completion_tokens) == (22, 8, 17)
    assert (call.provider_request_id, call.finish_reason, call.error) == ("902fee3b", "stop", None)
    assert call.cost_usd is None
    assert "alibaba_cloud" in reason(call)


def test_a_stream_of_dashscope_tells_the_counts_so_far(ask: Ask) -> None:
    pieces = [
        generated("Hel", "null", {"input_tokens": 92, "output_tokens": 1}),
        generated("Hello", "null", {"input_tokens": 92, "output_tokens": 2}),
    ]
    events = [*pieces, generated("Hello!", "stop", {"input_tokens": 92, "output_tokens": 10, "image_tokens": 64})]
    url = f"{DASHSCOPE}aigc/multimodal-generation/generation"
    call = ask(url, stream(*events), request=qwen(model="qwen-vl-plus"))
    assert call is not None
    assert (call.prompt_tokens, call.completion_tokens, call.finish_reason) == (92, 10, "stop")
    assert (unit(call, "input_image_tokens"), call.error) == (64, None)
    cut = ask(url, stream(*pieces), request=qwen(model="qwen-vl-plus"))
    assert cut is not None
    assert (cut.completion_tokens, cut.error) == (2, "incomplete_response")


def test_dashscope_in_its_older_format_and_with_thoughts(ask: Ask) -> None:
    usage = {"input_tokens": 10, "output_tokens": 40, "output_tokens_details": {"reasoning_tokens": 30}}
    answer = {"output": {"text": "So be it.", "finish_reason": "length"}, "usage": usage, "request_id": "7"}
    call = ask(f"{DASHSCOPE}aigc/text-generation/generation", answer, request=qwen(input={"prompt": "Why?"}))
    assert call is not None
    assert (call.completion_tokens, call.reasoning_tokens, call.finish_reason) == (40, 30, "length")


def test_dashscope_refuses_and_embeds_and_orders(ask: Ask) -> None:
    refused = {"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "fb53c4ec"}
    call = ask(f"{DASHSCOPE}aigc/text-generation/generation", refused, request=qwen(), status=401)
    assert call is not None
    assert (call.error, call.provider_request_id) == ("HTTP 401 InvalidApiKey", "fb53c4ec")
    answer = {"output": {"embeddings": []}, "usage": {"total_tokens": 23}, "request_id": "1"}
    for path, model, operation in (
        ("embeddings/text-embedding/text-embedding", "text-embedding-v4", "embeddings"),
        ("rerank/text-rerank/text-rerank", "gte-rerank-v2", "rerank"),
    ):
        call = ask(f"{DASHSCOPE}{path}", answer, request={"model": model, "input": {"texts": ["a"]}})
        assert call is not None
        assert (call.operation, call.model, call.prompt_tokens) == (operation, model, 23)


# --- Cloudflare ---------------------------------------------------------------------------------------------------


def wrapped(result: Json | None, *errors: Json) -> Json:
    return {"result": result, "success": not errors, "errors": list(errors), "messages": []}


LLAMA = "@cf/meta/llama-3.1-8b-instruct"
ASKED = {"messages": [{"role": "user", "content": "What is two and two?"}]}


@pytest.mark.parametrize(
    "url", [f"{CLOUDFLARE}{LLAMA}", f"https://gateway.ai.cloudflare.com/v1/0a1b/mine/workers-ai/{LLAMA}"]
)
def test_workers_ai_is_priced_by_the_model_in_its_path(ask: Ask, url: str) -> None:
    call = ask(url, wrapped({"response": "Four.", "usage": counts(20, 4)}), request=ASKED)
    assert call is not None
    assert (call.provider, call.operation, call.model_requested) == ("cloudflare", "chat", LLAMA)
    assert (call.prompt_tokens, call.completion_tokens, call.error) == (20, 4, None)
    assert call.cost_usd is not None
    assert call.cost_usd > 0


def test_a_stream_of_workers_ai_ends_in_its_counts(ask: Ask) -> None:
    texts = [{"response": piece, "p": "abcdef"} for piece in ("Fo", "ur", ".")]
    events = stream(*texts, {"response": "", "usage": counts(20, 4)}) + "data: [DONE]\n\n"
    call = ask(f"{CLOUDFLARE}{LLAMA}", events, request={**ASKED, "stream": True})
    assert call is not None
    assert (call.prompt_tokens, call.completion_tokens, call.error) == (20, 4, None)


@pytest.mark.parametrize(
    ("model", "result"),
    [
        ("@cf/qwen/qwen3-30b-a3b-fp8", chat("@cf/qwen/qwen3-30b-a3b-fp8", counts(20, 4))),
        (
            "@cf/openai/gpt-oss-120b",
            {"id": "r", "object": "response", "status": "completed", "usage": {"input_tokens": 20, "output_tokens": 4}},
        ),
    ],
)
def test_models_of_workers_ai_may_answer_as_openai_does(ask: Ask, model: str, result: Json) -> None:
    call = ask(f"{CLOUDFLARE}{model}", wrapped(result), request=ASKED)
    assert call is not None
    assert (call.operation, call.prompt_tokens, call.completion_tokens) == ("chat", 20, 4)
    assert call.cost_usd is not None


def test_workers_ai_embeds_refuses_and_has_models_that_read_no_text(ask: Ask) -> None:
    call = ask(
        f"{CLOUDFLARE}@cf/baai/bge-base-en-v1.5", wrapped({"shape": [1, 768], "data": []}), request={"text": "x"}
    )
    assert call is not None
    assert (call.operation, call.prompt_tokens, call.cost_usd) == ("embeddings", None, None)
    refused = wrapped(None, {"code": 5007, "message": "No such model"})
    call = ask(f"{CLOUDFLARE}@cf/meta/llama-9", refused, request=ASKED, status=400)
    assert call is not None
    assert call.error == "HTTP 400 5007"
    assert ask(f"{CLOUDFLARE}@cf/openai/whisper-large-v3-turbo", wrapped({"text": "x"}), request={}) is None
    assert ask(f"{CLOUDFLARE}@cf/black-forest-labs/flux-1-schnell", wrapped({"image": "x"}), request={}) is None


# --- Snowflake ----------------------------------------------------------------------------------------------------


def test_snowflake_answers_as_openai_and_ends_its_streams_without_a_mark(ask: Ask) -> None:
    asked = {"model": "mistral-large2", "messages": ASKED["messages"], "stream": True, "max_tokens": 9}
    chunk = {"id": "65c5", "model": "mistral-large2", "choices": [{"delta": {"type": "text", "content": "Co"}}]}
    call = ask(SNOWFLAKE, stream({**chunk, "usage": counts(57, 1)}, {**chunk, "usage": counts(57, 2)}), request=asked)
    assert call is not None
    assert (call.provider, call.model, call.operation) == ("snowflake", "mistral-large2", "chat")
    assert (call.prompt_tokens, call.completion_tokens, call.error) == (57, 2, None)
    assert call.cost_usd is None
    call = ask(SNOWFLAKE, chat("mistral-large2", counts(57, 9)), request={**asked, "stream": False})
    assert call is not None
    assert (call.completion_tokens, call.error) == (9, None)


# --- Mistral's conversations --------------------------------------------------------------------------------------


def conversation(usage: Json, *outputs: Json) -> Json:
    return {
        "object": "conversation.response",
        "conversation_id": "conv_1",
        "outputs": [
            *outputs,
            {"type": "message.output", "id": "msg_1", "model": "mistral-medium-2505", "content": "x"},
        ],
        "usage": usage,
    }


@pytest.mark.parametrize("path", ["", "/conv_0683", "/conv_0683/restart"])
def test_a_conversation_is_a_call_with_the_id_of_its_message(ask: Ask, path: str) -> None:
    asked = {"inputs": "Who won?", "model": "mistral-medium-latest", "completion_args": {"temperature": 0.1}}
    usage = {**counts(91, 29), "connector_tokens": None, "connectors": None}
    call = ask(f"{CONVERSATIONS}{path}", conversation(usage), request=asked)
    assert call is not None
    assert (call.provider, call.model, call.provider_request_id) == ("mistral_ai", "mistral-medium-2505", "msg_1")
    assert (call.prompt_tokens, call.completion_tokens, call.error) == (91, 29, None)
    assert call.cost_usd == Decimal("0.0000944")  # 0.4 and 2 USD a million


def test_what_connectors_use_is_counted_and_has_no_price(ask: Ask) -> None:
    usage = {"prompt_tokens": 188, "completion_tokens": 55, "total_tokens": 7_355, "connector_tokens": 7_112}
    searched = {"type": "tool.execution", "name": "web_search", "id": "tool_exec_1"}
    answer = conversation({**usage, "connectors": {"web_search": 1}}, searched)
    call = ask(CONVERSATIONS, answer, request={"inputs": "Who won?", "agent_id": "ag_1"})
    assert call is not None
    assert (call.prompt_tokens, call.completion_tokens, unit(call, "connector_tokens")) == (188, 55, 7_112)
    assert reason(call) == "what connectors use is in no price table"
    assert "usage_problems" not in (call.meta or {})


def test_a_stream_of_a_conversation_ends_in_its_counts(ask: Ask) -> None:
    piece = {"type": "message.output.delta", "id": "msg_1", "model": "mistral-medium-2505", "output_index": 0}
    begun = {"type": "conversation.response.started", "conversation_id": "conv_1"}
    done = {"type": "conversation.response.done", "usage": counts(7, 4)}
    pieces = [{**piece, "content": "Hel"}, {**piece, "content": {"type": "text", "text": "lo"}}]
    asked = {"inputs": "x", "agent_id": "ag_1", "stream": True}
    call = ask(CONVERSATIONS, stream(begun, *pieces, done), request=asked)
    assert call is not None
    assert (call.provider_request_id, call.model, call.error) == ("msg_1", "mistral-medium-2505", None)
    assert (call.prompt_tokens, call.completion_tokens) == (7, 4)
    cut = ask(CONVERSATIONS, stream(begun, *pieces), request=asked)
    assert cut is not None
    assert (cut.error, cut.cost_usd) == ("incomplete_response", None)
    failed = {"type": "conversation.response.error", "code": 3_505, "message": "x"}
    call = ask(CONVERSATIONS, stream(begun, failed), request=asked)
    assert call is not None
    assert call.error == "3505"


# --- Replicate ----------------------------------------------------------------------------------------------------


def prediction(status: str, **more: Any) -> Json:
    return {"id": "gm3q", "model": "meta/meta-llama-3-8b-instruct", "version": "hidden", "status": status, **more}


METRICS = {"input_token_count": 17, "output_token_count": 42, "predict_time": 0.6, "total_time": 0.7}


def test_a_prediction_that_is_waited_for_has_its_tokens_and_no_price(ask: Ask) -> None:
    url = f"{REPLICATE}models/meta/meta-llama-3-8b-instruct/predictions"
    answer = prediction("succeeded", output=["Hel", "lo"], metrics=METRICS)
    call = ask(url, answer, request={"input": {"prompt": "x", "max_tokens": 50}}, status=201)
    assert call is not None
    assert (call.provider, call.operation) == ("replicate", "generate_content")
    assert (call.model_requested, call.model) == ("meta/meta-llama-3-8b-instruct",) * 2
    assert (call.prompt_tokens, call.completion_tokens, call.finish_reason) == (17, 42, "succeeded")
    assert call.cost_usd is None
    assert "replicate" in reason(call)


def test_a_prediction_fails_without_a_word_of_its_message(ask: Ask) -> None:
    answer = prediction("failed", error="CUDA out of memory: my prompt", model="")
    call = ask(f"{REPLICATE}predictions", answer, request={"version": "me/mine:5c7d5dc6", "input": {}}, status=201)
    assert call is not None
    assert (call.model_requested, call.error) == ("me/mine", "failed")


def test_a_prediction_that_is_fetched_is_one_call(telemetry: Telemetry) -> None:
    answers = [prediction(status) for status in ("starting", "processing")]
    answers.append(prediction("succeeded", output="Hello", metrics=METRICS))

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(201 if request.method == "POST" else 200, json=answers.pop(0))

    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        client.post(f"{REPLICATE}deployments/me/mine/predictions", json={"input": {"prompt": "x"}})
        for _ in range(2):
            client.get(f"{REPLICATE}predictions/gm3q")
    begun, fetched = sorted(telemetry.spans(2), key=lambda span: span.parent is not None)
    assert begun.attributes["gen_ai.response.finish_reasons"] == ("in_progress",)
    assert begun.attributes["gen_ai.request.model"] == "me/mine"
    assert fetched.parent.span_id == begun.context.span_id
    assert fetched.attributes["gen_ai.usage.output_tokens"] == 42


# --- all of them --------------------------------------------------------------------------------------------------

URLS = (
    f"{DASHSCOPE}aigc/text-generation/generation",
    f"{DASHSCOPE}embeddings/text-embedding/text-embedding",
    f"{CLOUDFLARE}{LLAMA}",
    f"{CLOUDFLARE}@cf/baai/bge-m3",
    SNOWFLAKE,
    CONVERSATIONS,
    f"{REPLICATE}predictions",
)
NONSENSE: tuple[Any, ...] = (
    {},
    {"error": 3, "errors": [3, {}], "code": [], "object": "error"},
    {"result": {"response": {"a": 1}, "tool_calls": [{"arguments": 3}], "usage": [1]}, "type": 5},
    {"result": [3], "usage": {"input_tokens": {}, "output_tokens": -1, "connectors": 3}, "output": "x"},
    {"output": {"choices": [{"message": {"content": [{"text": 3}, None], "tool_calls": [{"function": 3}]}}]}},
    {"outputs": [{"type": "function.call", "arguments": {}, "content": 4}], "conversation_id": {}},
    {"type": "message.output.delta", "content": {"type": 3}, "id": [], "name": 3, "arguments": None},
    {"input": 3, "inputs": [3], "parameters": [], "completion_args": 3, "messages": 3, "version": 3, "metrics": []},
    {"status": ["x"], "output": [3, None], "input": {"messages": [3], "prompt": [], "system_prompt": {}}},
)


@pytest.mark.parametrize("url", URLS)
def test_none_stumbles_over_nonsense(uninstrumented: Telemetry, url: str) -> None:
    uninstrumented.instrument(capture_content=True)
    bodies = [json.dumps(value).encode() for value in NONSENSE]
    bodies += [b"data: " + body + b"\n\n" for body in bodies]

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=bodies[int(request.headers["number"])])

    with httpx.Client(transport=httpx.MockTransport(handle)) as client:
        for number in range(len(bodies)):
            client.post(url, content=bodies[number % len(NONSENSE)], headers={"number": str(number)})
    uninstrumented.spans(len(bodies))
    assert uninstrumented.faults() == 0


TOLD = ["Hel", "Hello"]
PIECE = {"type": "message.output.delta", "id": "msg_1"}


def test_tools_of_dashscope_are_captured_as_their_pieces_come(uninstrumented: Telemetry) -> None:
    uninstrumented.instrument(capture_content=True)
    calls = [{"id": "c1", "function": {"name": "look", "arguments": '{"a"'}}, {"function": {"arguments": ": 1}"}}]
    events = [{"output": {"choices": [{"message": {"content": "", "tool_calls": [call]}}]}} for call in calls]
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, text=stream(*events)))) as client:
        client.post(URLS[0], json=qwen())
    (message,) = json.loads(uninstrumented.attributes()["gen_ai.output.messages"])
    assert message["parts"] == [{"type": "tool_call", "id": "c1", "name": "look", "arguments": '{"a": 1}'}]


@pytest.mark.parametrize(
    ("url", "asked", "answer"),
    [
        (URLS[0], qwen(), stream(*(generated(text, "null", {}) for text in TOLD))),
        (URLS[0], qwen(), stream(*(generated(text, "null", {}) for text in ("Hel", "lo")))),
        (URLS[2], {"prompt": "Who are you?"}, stream({"response": "Hel"}, {"response": "lo"})),
        (SNOWFLAKE, ASKED, chat("m", counts(1, 1))),
        (CONVERSATIONS, {"inputs": "Who are you?"}, stream({**PIECE, "content": "Hel"}, {**PIECE, "content": "lo"})),
        (URLS[6], {"input": {"prompt": "Who are you?"}}, prediction("succeeded", output=["Hel", "lo"])),
    ],
)
def test_texts_are_captured_where_that_is_wanted(
    uninstrumented: Telemetry, url: str, asked: Json, answer: Json | str
) -> None:
    uninstrumented.instrument(capture_content=True)
    text = answer if isinstance(answer, str) else json.dumps(answer)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, text=text))) as client:
        client.post(url, json=asked)
    attributes = uninstrumented.attributes()
    assert json.loads(attributes["gen_ai.input.messages"])[0]["parts"][0]["content"]
    (part,) = json.loads(attributes["gen_ai.output.messages"])[0]["parts"]
    assert part["content"] == ("ok" if url == SNOWFLAKE else "Hello")

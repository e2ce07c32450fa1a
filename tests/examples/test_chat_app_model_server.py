"""The demo's model server is one that real clients accept, and fails exactly as it is asked to."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from examples.chat_app import model_text
from examples.chat_app.model_server import create_app
from tests.waiting import eventually

LONG = "You are a helpful assistant that answers shortly, plainly and without any invention. " * 4


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def base_url(journal: Path) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(journal), port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()


def ask(question: str, model: str = "gpt-4o-mini", **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": LONG}, {"role": "user", "content": question}]
    return {"model": model, "messages": messages, **more}


def post(base_url: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    with httpx.Client(timeout=60) as client:
        return client.post(f"{base_url}/chat/completions", json=body, headers=headers)


def calls(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.read_text().splitlines()]


def test_the_openai_sdk_reads_an_answer_and_its_usage(base_url: str, journal: Path) -> None:
    with openai.OpenAI(base_url=base_url, api_key="k") as client:
        answer = client.chat.completions.create(**ask("Why is the sky blue?"))
    assert "Why is the sky blue?" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    (call,) = calls(journal)
    assert (call["outcome"], call["id"]) == ("answered", answer.id)
    assert call["usage"]["prompt"] == answer.usage.prompt_tokens > len(LONG.split())
    assert call["usage"]["completion"] == answer.usage.completion_tokens > 0


def test_the_openai_sdk_reads_a_stream_whose_text_and_usage_equal_the_plain_answer(base_url: str) -> None:
    with openai.OpenAI(base_url=base_url, api_key="k") as client:
        plain = client.chat.completions.create(**ask("Why?"))
        stream = list(
            client.chat.completions.create(**ask("Why?", stream=True, stream_options={"include_usage": True}))
        )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == plain.choices[0].message.content
    assert stream[-1].choices == []
    assert stream[-1].usage is not None
    assert plain.usage is not None
    assert stream[-1].usage.completion_tokens == plain.usage.completion_tokens
    assert len(stream) > 5


def test_a_stream_carries_usage_only_when_it_is_asked_for(base_url: str, journal: Path) -> None:
    text = post(base_url, ask("Why?", stream=True)).text
    assert "usage" not in text
    assert text.endswith("data: [DONE]\n\n")
    assert calls(journal)[0]["usage"] is None


def test_a_repeated_prompt_counts_as_cached_from_the_second_time_in_whole_blocks(base_url: str) -> None:
    seen = [post(base_url, ask(question)).json()["usage"] for question in ("One?", "One?", "Another?")]
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in seen]
    assert cached[0] == 0
    assert cached[1] >= cached[2] > 0
    assert all(count % model_text.BLOCK == 0 for count in cached)
    assert all(count <= usage["prompt_tokens"] for count, usage in zip(cached, seen, strict=True))


def test_the_cache_of_one_model_is_not_the_cache_of_another(base_url: str) -> None:
    post(base_url, ask("One?"))
    usage = post(base_url, ask("One?", model="gpt-4o")).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0


def test_only_reasoning_models_use_reasoning_tokens_and_they_are_part_of_the_completion(base_url: str) -> None:
    plain = post(base_url, ask("Why?")).json()["usage"]
    thinking = post(base_url, ask("Why?", model="o4-mini")).json()["usage"]
    assert plain["completion_tokens_details"]["reasoning_tokens"] == 0
    reasoning = thinking["completion_tokens_details"]["reasoning_tokens"]
    assert reasoning > 0
    assert thinking["completion_tokens"] == plain["completion_tokens"] + reasoning


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_when_fresh_facts_are_asked_for_and_its_result_is_used(base_url: str, stream: bool) -> None:
    tool = {"type": "function", "function": {"name": "search", "parameters": {"properties": {"query": {}}}}}
    question = ask("What is the weather today?", tools=[tool])
    with openai.OpenAI(base_url=base_url, api_key="k") as client:
        if stream:
            deltas = [c.choices[0].delta for c in client.chat.completions.create(**question, stream=True) if c.choices]
            call = next(delta.tool_calls[0] for delta in deltas if delta.tool_calls)
        else:
            call = client.chat.completions.create(**question).choices[0].message.tool_calls[0]
    assert call.function.name == "search"
    assert json.loads(call.function.arguments) == {"query": "What is the weather today?"}
    question["messages"] += [{"role": "tool", "tool_call_id": call.id, "content": "It rains in Bergen."}]
    answer = post(base_url, question).json()["choices"][0]["message"]["content"]
    assert "It rains in Bergen." in answer


def test_an_answer_longer_than_max_tokens_is_cut_and_says_so(base_url: str) -> None:
    body = post(base_url, ask("Why?", max_tokens=7)).json()
    assert body["usage"]["completion_tokens"] == 7
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("how", ["header", "marker", "marker of this model"])
def test_a_fault_is_told_by_header_or_marker(base_url: str, journal: Path, how: str) -> None:
    marker = {"header": "", "marker": "[[fault:500]]", "marker of this model": "[[fault:500@gpt-4o-mini]]"}[how]
    response = post(base_url, ask(f"Why? {marker}"), **({"x-model-fault": "500"} if how == "header" else {}))
    assert response.status_code == 500
    assert calls(journal)[0]["outcome"] == "refused"


def test_a_fault_of_another_model_leaves_this_one_well(base_url: str) -> None:
    assert post(base_url, ask("Why? [[fault:500@gpt-4o]]")).status_code == 200


def test_429_says_when_to_come_back_and_429_once_answers_the_second_time(base_url: str) -> None:
    first = post(base_url, ask("Why? [[fault:429-once]]"))
    assert (first.status_code, first.headers["retry-after"]) == (429, "1")
    assert post(base_url, ask("Why? [[fault:429-once]]")).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_dropped_connection_is_a_protocol_error_at_the_client(base_url: str, journal: Path, stream: bool) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        post(base_url, ask("Why? [[fault:drop]]", stream=stream))
    assert (calls(journal)[0]["outcome"], calls(journal)[0]["usage"]) == ("dropped", None)


def test_a_truncated_answer_is_half_of_its_json_and_a_truncated_stream_ends_early(base_url: str, journal: Path) -> None:
    with pytest.raises(json.JSONDecodeError):
        post(base_url, ask("Why? [[fault:truncate]]")).json()
    stream = post(base_url, ask("Why? [[fault:truncate]]", stream=True)).text
    assert "data: " in stream
    assert "[DONE]" not in stream
    assert [call["outcome"] for call in calls(journal)] == ["truncated", "truncated"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_stall_lasts_until_the_client_leaves(base_url: str, journal: Path, stream: bool) -> None:
    with httpx.Client(timeout=httpx.Timeout(30, read=2)) as client, pytest.raises(httpx.ReadTimeout):
        client.post(f"{base_url}/chat/completions", json=ask("Why? [[fault:stall]]", stream=stream))
    (call,) = eventually(lambda: journal.exists() and calls(journal), "the journal's line")
    assert call["outcome"] == "stalled"


def test_the_journal_says_when_the_first_chunk_of_a_stream_went_out_and_whose_trace_it_was(
    base_url: str, journal: Path
) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    post(base_url, ask("Why?", stream=True), traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")
    (call,) = calls(journal)
    assert call["trace_id"] == trace_id
    assert 0 < call["first_chunk_ms"] < call["total_ms"]


def test_what_is_no_chat_request_is_refused(base_url: str) -> None:
    assert post(base_url, {"model": "gpt-4o"}).status_code == 400
    assert post(base_url, {"model": "gpt-4o", "messages": []}).status_code == 400
    assert post(base_url, ask("Why?", model="no-such-model")).status_code == 404


def test_the_models_are_listed(base_url: str) -> None:
    with openai.OpenAI(base_url=base_url, api_key="k") as client:
        assert "gpt-4o-mini" in {model.id for model in client.models.list()}


def test_embeddings_come_as_the_openai_client_unpacks_them_and_count_their_tokens(base_url, journal):
    client = openai.OpenAI(base_url=base_url, api_key="none")
    answer = client.embeddings.create(model="text-embedding-3-small", input=["two words", "one"])
    assert [len(item.embedding) for item in answer.data] == [model_text.EMBEDDING_SIZE] * 2
    plain = httpx.post(f"{base_url}/embeddings", json={"model": "text-embedding-3-small", "input": "one"}).json()
    assert plain["data"][0]["embedding"] == answer.data[1].embedding
    served = [json.loads(line)["usage"]["prompt"] for line in journal.read_text().splitlines()]
    assert served == [answer.usage.prompt_tokens, plain["usage"]["prompt_tokens"]]

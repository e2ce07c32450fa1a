"""OpenAI's Responses API, whole and streamed."""

from typing import Any

import openai
import pytest

from tests.instrument.conftest import ModelServer, Telemetry


@pytest.fixture
def client(server: ModelServer) -> Any:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="k", max_retries=0) as made:
        yield made


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-5-nano-2025-08-07",
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Paris", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 14,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 22,
    },
}


def expect_response(attributes: dict[str, Any]) -> None:
    assert attributes["gen_ai.response.id"] == "resp_1"
    assert attributes["gen_ai.response.model"] == "gpt-5-nano-2025-08-07"
    assert attributes["gen_ai.usage.input_tokens"] == 14
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 3
    assert attributes["gen_ai.usage.output_tokens"] == 8
    assert attributes["gen_ai.usage.reasoning.output_tokens"] == 5
    assert attributes["gen_ai.response.finish_reasons"] == ("completed",)


def test_the_responses_api_tells_model_tokens_and_status(
    telemetry: Telemetry, server: ModelServer, client: openai.OpenAI
) -> None:
    server.answer(RESPONSE)
    assert client.responses.create(model="gpt-5-nano", input="Capital of France?").output_text == "Paris"
    expect_response(telemetry.attributes("chat gpt-5-nano"))


def test_a_streamed_response_is_read_from_its_events(
    telemetry: Telemetry, server: ModelServer, client: openai.OpenAI
) -> None:
    events = (
        {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "usage": None}},
        {
            "type": "response.output_text.delta",
            "sequence_number": 1,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": "Par",
            "logprobs": [],
        },
        {
            "type": "response.output_text.delta",
            "sequence_number": 2,
            "item_id": "msg_1",
            "output_index": 0,
            "content_index": 0,
            "delta": "is",
            "logprobs": [],
        },
        {"type": "response.completed", "sequence_number": 3, "response": RESPONSE},
    )
    server.stream(*events)
    kinds = [event.type for event in client.responses.create(model="gpt-5-nano", input="?", stream=True)]
    assert kinds[-1] == "response.completed"
    attributes = telemetry.attributes("chat gpt-5-nano")
    expect_response(attributes)
    assert "gen_ai.response.time_to_first_chunk" in attributes

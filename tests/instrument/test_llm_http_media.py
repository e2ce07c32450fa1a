"""Media and other calls that are not counted by tokens of texts, interactions, and answers that are fetched later."""

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest
from opentelemetry import trace

from otel_telemetry.exporters.request_log.derive.chunks import facts_of
from otel_telemetry.exporters.request_log.derive.trace import Trace
from otel_telemetry.exporters.request_log.read import span_facts
from otel_telemetry.instrument.llm_http import later
from tests.instrument.conftest import Telemetry

Json = dict[str, Any]
OPENAI = "https://api.openai.com/v1/"
DETAILS = "gen_ai.usage.details."


def send(url: str, answer: Any, method: str = "POST", **given: Any) -> None:
    content, kind = (
        (answer, "text/event-stream") if isinstance(answer, bytes) else (json.dumps(answer), "application/json")
    )
    reply = httpx.Response(200, headers={"content-type": kind}, content=content)
    with httpx.Client(transport=httpx.MockTransport(lambda _: reply)) as client:
        client.request(method, url, **given)


def rows(telemetry: Telemetry) -> list[Any]:
    """Return the rows that follow from the spans so far."""
    trace_of = Trace()
    assert telemetry.tracers.force_flush()
    spans = map(span_facts.from_sdk, telemetry.exporter.get_finished_spans())
    trace_of.add(facts_of([span_facts.to_fact(span, store_text=False) for span in spans]))
    return [fact.row for fact in trace_of.facts.values() if fact.row is not None and fact.is_counted]


def row(telemetry: Telemetry) -> Any:
    (found,) = rows(telemetry)
    return found


# --- units --------------------------------------------------------------------------------------------------------


def test_a_rerank_by_searches_has_them_on_its_row_and_no_price(telemetry):
    answer = {"id": "r", "results": [], "meta": {"billed_units": {"search_units": 2}}}
    send("https://api.cohere.com/v2/rerank", answer, json={"model": "rerank-v3.5", "query": "q", "documents": ["a"]})
    call = row(telemetry)
    assert (call.provider, call.operation, call.model, call.cost_usd) == ("cohere", "rerank", "rerank-v3.5", None)
    assert call.response_meta == {f"{DETAILS}search_units": 2}
    assert call.meta["unpriced"] == "rerank by searches is in no price table"


@pytest.mark.parametrize(("host", "provider"), [("api.jina.ai", "jina_ai"), ("api.voyageai.com", "voyageai")])
def test_a_rerank_by_tokens_counts_them_as_input(host, provider, telemetry):
    asked = {"model": "rerank-2.5", "query": "q", "documents": ["a", "b"]}
    send(f"https://{host}/v1/rerank", {"data": [], "usage": {"total_tokens": 26}}, json=asked)
    call = row(telemetry)
    assert (call.provider, call.operation, call.prompt_tokens, call.completion_tokens) == (provider, "rerank", 26, None)


@pytest.mark.parametrize(("host", "model"), [("api.jina.ai", "jina-embeddings-v3"), ("api.voyageai.com", "voyage-3.5")])
def test_embeddings_of_which_only_the_total_is_told_are_all_input(host, model, telemetry):
    answer = {"data": [], "model": model, "usage": {"total_tokens": 18}}
    send(f"https://{host}/v1/embeddings", answer, json={"model": model, "input": "x"})
    call = row(telemetry)
    assert (call.operation, call.prompt_tokens, call.completion_tokens) == ("embeddings", 18, None)


def test_a_stream_that_comes_in_one_large_piece_is_read_like_any_other(telemetry):
    """As from a gateway or a recorder that waits for the end."""
    pieces: list[Json] = [{"id": "c", "model": "gpt-4o", "choices": [{"delta": {"content": "x" * 200}}]}] * 1_500
    pieces.append({"id": "c", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1_500}})
    body = b"".join(b"data: %s\n\n" % json.dumps(piece).encode() for piece in pieces) + b"data: [DONE]\n\n"
    assert len(body) > 256 << 10
    send(f"{OPENAI}chat/completions", body, json={"model": "gpt-4o", "messages": [], "stream": True})
    call = row(telemetry)
    assert (call.prompt_tokens, call.completion_tokens, call.error) == (7, 1_500, None)


def test_images_are_priced_by_their_tokens_of_each_kind(telemetry):
    usage = {
        "input_tokens": 60,
        "output_tokens": 400,
        "total_tokens": 460,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 50},
    }
    send(
        f"{OPENAI}images/generations",
        {"data": [{"b64_json": "aa"}], "usage": usage},
        json={"model": "gpt-image-1", "prompt": "a cat"},
    )
    call = row(telemetry)
    assert (call.operation, call.prompt_tokens, call.completion_tokens) == ("image_generation", 60, 400)
    assert call.cost_usd == (10 * Decimal(5) + 50 * Decimal(10) + 400 * Decimal(40)) / 1_000_000
    assert call.response_meta[f"{DETAILS}images"] == 1


def test_images_without_tokens_are_counted_and_have_no_price(telemetry):
    send(
        f"{OPENAI}images/generations",
        {"data": [{"url": "u"}, {"url": "v"}]},
        json={"model": "dall-e-3", "prompt": "a cat"},
    )
    call = row(telemetry)
    assert (call.cost_usd, call.cost_source, call.meta["unpriced"]) == (None, "unpriced", "images is in no price table")
    assert call.response_meta == {f"{DETAILS}images": 2}


def test_speech_is_priced_by_its_characters(telemetry):
    reply = httpx.Response(200, headers={"content-type": "audio/mpeg"}, content=b"\xff\xf3" * 9_000)
    with httpx.Client(transport=httpx.MockTransport(lambda _: reply)) as client:
        speech = client.post(f"{OPENAI}audio/speech", json={"model": "tts-1", "input": "hello there", "voice": "alloy"})
    assert speech.content == b"\xff\xf3" * 9_000
    call = row(telemetry)
    assert (call.operation, call.model, call.ok) == ("speech", "tts-1", True)
    assert call.cost_usd == Decimal(11) * 15 / 1_000_000


@pytest.mark.parametrize(
    ("model", "answer", "cost"),
    [
        ("whisper-1", {"text": "hi", "usage": {"type": "duration", "seconds": 30}}, Decimal("0.003")),
        ("whisper-1", {"text": "hi", "duration": 60.0, "segments": []}, Decimal("0.006")),
        (
            "gpt-4o-transcribe",
            {
                "text": "hi",
                "usage": {
                    "type": "tokens",
                    "input_tokens": 14,
                    "output_tokens": 40,
                    "total_tokens": 54,
                    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
                },
            },
            (4 * Decimal("2.5") + 10 * Decimal(6) + 40 * Decimal(10)) / 1_000_000,
        ),
    ],
)
def test_a_transcription_is_priced_by_its_time_or_tokens(model, answer, cost, telemetry):
    send(f"{OPENAI}audio/transcriptions", answer, data={"model": model}, files={"file": ("a.wav", b"RIFF" * 999)})
    call = row(telemetry)
    assert (call.operation, call.model, call.cost_usd) == ("transcription", model, cost)


def test_the_model_of_a_form_that_is_in_memory_is_read(telemetry):
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    send(f"{OPENAI}audio/translations", {"text": "hi"}, content=form, headers=headers)
    assert row(telemetry).model == "whisper-1"


def test_a_moderation_is_a_row_without_a_price(telemetry):
    send(
        f"{OPENAI}moderations", {"id": "modr-1", "model": "omni-moderation-latest", "results": []}, json={"input": "x"}
    )
    call = row(telemetry)
    assert (call.operation, call.provider_request_id, call.cost_usd) == ("moderation", "modr-1", None)
    assert call.meta["unpriced"] == "moderation is in no price table"


# --- further wires ------------------------------------------------------------------------------------------------

INTERACTIONS = "https://generativelanguage.googleapis.com/v1beta/interactions"
INTERACTION = {
    "id": "int-1",
    "model": "gemini-2.5-flash",
    "status": "completed",
    "usage": {"total_input_tokens": 7, "total_output_tokens": 20, "total_thought_tokens": 30, "total_tokens": 57},
}


def streamed(*events: Json) -> bytes:
    return b"".join(f"event: {event['event_type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


@pytest.mark.parametrize(
    "answer",
    [
        {**INTERACTION, "steps": [{"type": "model_output", "content": [{"type": "text", "text": "hi"}]}]},
        streamed(
            {"event_type": "interaction.created", "interaction": {"id": "int-1", "status": "in_progress"}},
            {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "hi"}},
            {"event_type": "interaction.completed", "interaction": INTERACTION},
        ),
    ],
)
def test_an_interaction_counts_thoughts_beside_its_output(answer, telemetry):
    send(INTERACTIONS, answer, json={"model": "gemini-2.5-flash", "input": "hello"})
    call = row(telemetry)
    assert (call.provider, call.model, call.provider_request_id) == ("gcp.gemini", "gemini-2.5-flash", "int-1")
    assert (call.prompt_tokens, call.completion_tokens, call.reasoning_tokens) == (7, 50, 30)
    assert call.cost_source == "computed"


def test_thoughts_that_the_total_does_not_add_are_inside_the_output(telemetry):
    usage = {"total_input_tokens": 7, "total_output_tokens": 50, "total_thought_tokens": 30, "total_tokens": 57}
    send(INTERACTIONS, {**INTERACTION, "usage": usage}, json={"model": "gemini-2.5-flash", "input": "hello"})
    assert row(telemetry).completion_tokens == 50


def test_compaction_and_writers_chat_are_calls(telemetry):
    usage = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
    compacted = {"id": "c1", "object": "response.compaction", "output": [], "usage": usage}
    send(f"{OPENAI}responses/compact", compacted, json={"model": "gpt-5", "input": "x"})
    answer = {"id": "w1", "model": "palmyra-x5", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
    send("https://api.writer.com/v1/chat", answer, json={"model": "palmyra-x5", "messages": []})
    found = [(call.provider, call.model, call.prompt_tokens, call.completion_tokens) for call in rows(telemetry)]
    assert found == [("openai", "gpt-5", 5, 3), ("writer", "palmyra-x5", 5, 3)]


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://models.github.ai/inference/chat/completions", "github"),
        ("https://models.inference.ai.azure.com/chat/completions", "github"),
        ("https://api.deepinfra.com/v1/openai/chat/completions", "deepinfra"),
        ("https://gateway.ai.cloudflare.com/v1/acc/gw/openai/chat/completions", "openai"),
        ("https://gateway.ai.cloudflare.com/v1/acc/gw/compat/chat/completions", "cloudflare-gateway"),
        ("https://api.cloudflare.com/client/v4/accounts/acc/ai/v1/chat/completions", "cloudflare"),
        ("https://dbc-1.cloud.databricks.com/serving-endpoints/chat/completions", "databricks"),
        ("https://dbc-1.cloud.databricks.com/serving-endpoints/my-model/invocations", "databricks"),
        ("https://ai-gateway.vercel.sh/v1/chat/completions", "vercel"),
        ("https://api.portkey.ai/v1/chat/completions", "portkey"),
        ("https://portkey.internal/gw/chat/completions", "_OTHER"),
    ],
)
def test_gateways_are_known_by_host_or_by_path_and_body(url, provider, telemetry):
    usage = {"prompt_tokens": 5, "completion_tokens": 3}
    asked = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}
    send(url, {"id": "c", "model": "m-1", "choices": [], "usage": usage}, json=asked)
    call = row(telemetry)
    assert (call.provider, call.prompt_tokens, call.completion_tokens) == (provider, 5, 3)


# --- answers that are fetched later -------------------------------------------------------------------------------

QUEUED: dict[str, Any] = {"id": "resp_9", "status": "queued", "model": "gpt-5", "output": [], "usage": None}
TO_COME = "the answer is made in the background, and was not seen being fetched"
DONE = {**QUEUED, "status": "completed", "usage": {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200}}


def test_a_background_answer_that_is_fetched_later_is_one_row(telemetry):
    tracer = telemetry.tracers.get_tracer("app")
    with tracer.start_as_current_span("request"):
        send(f"{OPENAI}responses", QUEUED, json={"model": "gpt-5", "input": "x", "background": True})
    first = row(telemetry)
    assert (first.finish_reason, first.cost_usd, first.meta["unpriced"]) == ("queued", None, TO_COME)
    for answer in (QUEUED, {**QUEUED, "status": "in_progress"}, DONE, DONE):  # from anywhere else, and once more
        send(f"{OPENAI}responses/resp_9", answer, "GET")
    call = row(telemetry)
    assert (call.trace_id, call.model_requested, call.finish_reason) == (first.trace_id, "gpt-5", "completed")
    assert (call.prompt_tokens, call.completion_tokens, call.cost_source) == (1000, 200, "computed")
    assert call.ts >= first.ts
    assert call.total_latency_ms >= first.total_latency_ms
    assert telemetry.faults() == 0


def test_a_background_answer_that_another_process_fetches_leaves_a_row_that_says_so(telemetry):
    send(f"{OPENAI}responses", QUEUED, json={"model": "gpt-5", "input": "x", "background": True})
    later._begun.clear()  # what another process knows of this one's calls
    for answer in (QUEUED, DONE, DONE):
        send(f"{OPENAI}responses/resp_9", answer, "GET")
    call = row(telemetry)
    assert (call.finish_reason, call.prompt_tokens, call.cost_source) == ("queued", None, "unpriced")
    assert call.meta["unpriced"] == TO_COME
    assert telemetry.faults() == 0


def test_a_get_of_an_answer_that_nobody_waits_for_is_no_call(telemetry):
    send(f"{OPENAI}responses/resp_8", DONE, "GET")
    assert rows(telemetry) == []


def test_a_fetch_that_fails_leaves_the_answer_to_be_fetched(telemetry):
    send(f"{OPENAI}responses", QUEUED, json={"model": "gpt-5", "input": "x", "background": True})
    with pytest.raises(httpx.ConnectError), httpx.Client(transport=httpx.MockTransport(_refuse)) as client:
        client.get(f"{OPENAI}responses/resp_9")
    send(f"{OPENAI}responses/resp_9", {**DONE, "status": "failed", "error": {"code": "server_error"}}, "GET")
    call = row(telemetry)
    assert (call.ok, call.error, call.prompt_tokens) == (False, "server_error", 1000)


def test_no_more_than_a_thousand_answers_are_waited_for(telemetry, monkeypatch):
    monkeypatch.setattr(later, "_MOST", 2)
    for number in range(3):
        send(f"{OPENAI}responses", {**QUEUED, "id": f"resp_{number}"}, json={"model": "gpt-5", "background": True})
    assert [later.fetched(f"/v1/responses/resp_{number}") is None for number in range(3)] == [True, False, False]


def _refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@pytest.fixture(autouse=True)
def nothing_waits():
    """Forget what other tests wait for."""
    later._begun.clear()
    assert trace.get_current_span() is trace.INVALID_SPAN

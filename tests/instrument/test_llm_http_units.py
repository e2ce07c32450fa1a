"""Calls that are charged by pages, images or seconds, models of others in their owner's format, and usage in pieces."""

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.instrument.test_llm_http_costs import (
    ANTHROPIC,
    GEMINI,
    OPENAI,
    Ask,
    ask_fixture,  # noqa: F401 - a fixture
    chat,
    counts,
    gemini,
    message,
    usd,
)

Json = dict[str, Any]
DETAILS = "gen_ai.usage.details."
MISTRAL = "https://api.mistral.ai/v1/"
VERTEX = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/"
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model/"
WATSONX = "https://us-south.ml.cloud.ibm.com/ml/v1/text/"


def stream(*events: Json) -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


def unit(call: Any, name: str) -> Any:
    """Return a count that has no column, from where priced ones are, or from the others."""
    return ((call.meta or {}).get("usage") or {}).get(name, (call.response_meta or {}).get(f"{DETAILS}{name}"))


def reason(call: Any) -> Any:
    """Return why a call has no cost."""
    return (call.meta or {}).get("unpriced")


# --- pages --------------------------------------------------------------------------------------------------------


def scanned(number: int, **more: Any) -> Json:
    pages = [{"index": index, "markdown": "x", "images": []} for index in range(number)]
    return {"pages": pages, "model": "mistral-ocr-2505", "usage_info": {"pages_processed": number}, **more}


@pytest.mark.parametrize(
    ("answer", "name", "cost"),
    [
        (scanned(29), "pages", "0.029"),
        (scanned(2, document_annotation="{}"), "annotated_pages", "0.006"),
        (scanned(400, pages=["x" * 1_000] * 400), "pages", "0.4"),  # too large to be read whole
    ],
)
def test_ocr_is_priced_by_its_pages(ask: Ask, answer: Json, name: str, cost: str) -> None:
    asked = {"model": "mistral-ocr-latest", "document": {"type": "document_url", "document_url": "https://d"}}
    call = ask(f"{MISTRAL}ocr", answer, request=asked)
    assert call is not None
    assert (call.operation, call.provider, call.model) == ("ocr", "mistral_ai", "mistral-ocr-2505")
    assert (unit(call, name), call.cost_usd) == (answer["usage_info"]["pages_processed"], Decimal(cost))


def test_ocr_elsewhere_is_a_row_without_the_price_of_mistral(ask: Ask) -> None:
    asked = {"model": "mistral-ocr-2505", "document": {"type": "document_url"}}
    for url in (
        f"{VERTEX}mistralai/models/mistral-ocr-2505:rawPredict",
        "https://x.services.ai.azure.com/providers/mistral/azure/ocr",
    ):
        call = ask(url, scanned(2), request=asked)
        assert call is not None
        assert (call.operation, unit(call, "pages"), call.cost_usd) == ("ocr", 2, None)
        assert "price list" in reason(call)


def test_a_page_of_the_app_itself_that_is_called_ocr_is_no_model_call(ask: Ask) -> None:
    assert ask("https://app.example/ocr", {"pages": []}, request={"document": {"id": 7}}) is None


# --- images and videos --------------------------------------------------------------------------------------------

IMAGEN = f"{VERTEX}google/models/imagen-4.0-generate-001:predict"
PICTURE = {"mimeType": "image/png", "bytesBase64Encoded": "A" * 64}


@pytest.mark.parametrize(
    ("url", "request_body", "answer", "images"),
    [
        (IMAGEN, {"parameters": {"sampleCount": 4}}, {"predictions": [PICTURE, PICTURE]}, 2),
        (IMAGEN, {}, {"predictions": [PICTURE, {"raiFilteredReason": "x"}]}, 1),
        (f"{BEDROCK}amazon.nova-canvas-v1%3A0/invoke", {"taskType": "TEXT_IMAGE"}, {"images": ["A", "B"]}, 2),
        ("https://api.openai.com/v1/images/variations", {"model": "dall-e-2"}, {"data": [{"url": "u"}]}, 1),
    ],
)
def test_images_are_counted_and_have_no_price(
    ask: Ask, url: str, request_body: Json, answer: Json, images: int
) -> None:
    call = ask(url, answer, request=request_body)
    assert call is not None
    assert (call.operation, unit(call, "images"), call.cost_usd) == ("image_generation", images, None)
    assert reason(call) == "images is in no price table"


def test_images_of_an_answer_that_is_too_large_to_be_read_are_those_that_were_asked_for(ask: Ask) -> None:
    large = {"predictions": [{**PICTURE, "bytesBase64Encoded": "A" * 300_000}] * 2}
    call = ask(IMAGEN, large, request={"parameters": {"sampleCount": 2}})
    assert call is not None
    assert (unit(call, "images"), reason(call)) == (2, "images is in no price table")


def test_images_that_were_refused_are_none(ask: Ask) -> None:
    refused = {"error": {"code": 400, "status": "INVALID_ARGUMENT"}}
    call = ask(IMAGEN, refused, request={"parameters": {"sampleCount": 2}}, status=400)
    assert call is not None
    assert (unit(call, "images"), call.cost_source, call.error) == (0, None, "HTTP 400 INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("url", "request_body", "answer", "seconds"),
    [
        (
            f"{VERTEX}google/models/veo-3.0-generate-001:predictLongRunning",
            {"instances": [{"prompt": "x"}], "parameters": {"durationSeconds": "8", "sampleCount": 2}},
            {"name": "projects/p/operations/o"},
            16,
        ),
        (
            "https://api.openai.com/v1/videos",
            {"model": "sora-2", "prompt": "x"},
            {"id": "video_1", "object": "video", "model": "sora-2", "status": "queued", "seconds": "4"},
            4,
        ),
    ],
)
def test_videos_have_the_seconds_that_were_asked_for(
    ask: Ask, url: str, request_body: Json, answer: Json, seconds: int
) -> None:
    call = ask(url, answer, request=request_body)
    assert call is not None
    assert (call.operation, unit(call, "output_video_ms")) == ("video_generation", seconds * 1_000)
    assert reason(call) == "videos is in no price table"


def test_embedded_images_are_not_priced_as_texts(ask: Ask) -> None:
    billed = {"meta": {"billed_units": {"input_tokens": 2, "image_tokens": 944}}}
    call = ask("https://api.cohere.com/v2/embed", billed, request={"model": "embed-v4.0", "inputs": []})
    assert call is not None
    assert (call.prompt_tokens, call.cost_usd) == (946, None)
    assert reason(call) == "embeddings of images is in no price table"


def test_speech_of_elevenlabs_is_counted_in_characters(ask: Ask) -> None:
    url = "https://api.elevenlabs.io/v1/text-to-speech/JBFqnCBsd6RMkjVDRZzb/stream"
    call = ask(url, "\x00", request={"text": "x" * 40, "model_id": "eleven_turbo_v2_5"})
    assert call is not None
    assert (call.provider, call.operation, call.model) == ("elevenlabs", "speech", "eleven_turbo_v2_5")
    assert (unit(call, "input_characters"), call.cost_source) == (40, "unpriced")


# --- models in the format of their owner --------------------------------------------------------------------------


def test_a_model_of_mistral_on_vertex_is_read_as_its_own_api_answers(ask: Ask) -> None:
    url = f"{VERTEX}mistralai/models/mistral-medium-3:rawPredict"
    call = ask(url, chat("mistral-medium-3", counts(80, 9)), request={"model": "mistral-medium-3", "messages": []})
    assert call is not None
    assert (call.provider, call.prompt_tokens, call.completion_tokens) == ("gcp.vertex_ai", 80, 9)


def test_a_count_of_tokens_on_vertex_is_no_call(ask: Ask) -> None:
    asked = {"model": "claude-sonnet-4-5@20250929", "messages": [{"role": "user", "content": "x"}]}
    assert ask(f"{VERTEX}anthropic/models/count-tokens:rawPredict", {"input_tokens": 14}, request=asked) is None


def test_moonshot_s_streams_count_in_the_last_choice(ask: Ask) -> None:
    end = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": counts(20, 30, cached_tokens=10)}
    events = ({"id": "m", "choices": [{"index": 0, "delta": {"content": "a"}}]}, {"id": "m", "choices": [end]})
    asked = {"model": "kimi-k2-0905-preview", "messages": [], "stream": True}
    call = ask("https://api.moonshot.ai/v1/chat/completions", stream(*events), request=asked)
    assert call is not None
    assert (call.prompt_tokens, call.cached_tokens, call.completion_tokens) == (20, 10, 30)


def test_watsonx_chats_and_generates(ask: Ask) -> None:
    asked = {"model_id": "ibm/granite-3-8b", "project_id": "p", "messages": [{"role": "user", "content": "x"}]}
    call = ask(f"{WATSONX}chat?version=2024-10-08", chat("ibm/granite-3-8b", counts(59, 49)), request=asked)
    assert call is not None
    assert (call.provider, call.operation, call.model) == ("ibm.watsonx.ai", "chat", "ibm/granite-3-8b")
    result = {"generated_text": "x", "input_token_count": 5, "generated_token_count": 1, "stop_reason": "not_finished"}
    last = {**result, "input_token_count": 0, "generated_token_count": 20, "stop_reason": "eos_token"}
    events = [{"model_id": "ibm/granite-3-8b", "results": [each]} for each in (result, last)]
    call = ask(f"{WATSONX}generation_stream", stream(*events), request={"model_id": "ibm/granite-3-8b", "input": "x"})
    assert call is not None
    assert (call.operation, call.model_requested) == ("text_completion", "ibm/granite-3-8b")
    assert (call.prompt_tokens, call.completion_tokens, call.finish_reason) == (5, 20, "eos_token")


def test_an_order_of_documents_by_bedrock_names_its_model(ask: Ask) -> None:
    model = "arn:aws:bedrock:us-east-1::foundation-model/cohere.rerank-v3-5:0"
    place = {"bedrockRerankingConfiguration": {"modelConfiguration": {"modelArn": model}}}
    url = "https://bedrock-agent-runtime.us-east-1.amazonaws.com/rerank"
    call = ask(url, {"results": [{"index": 0}]}, request={"queries": [], "rerankingConfiguration": place})
    assert call is not None
    assert (call.provider, call.operation, call.model) == ("aws.bedrock", "rerank", model)
    assert reason(call) == "rerank by searches is in no price table"


@pytest.mark.parametrize(
    ("url", "request_body", "answer", "operation", "prompt"),
    [
        (f"{MISTRAL}agents/completions", {"agent_id": "a"}, chat("mistral-medium-latest", counts(7, 2)), "chat", 7),
        (
            "https://api.voyageai.com/v1/multimodalembeddings",
            {"model": "voyage-multimodal-3", "inputs": []},
            {"data": [], "usage": {"text_tokens": 5, "image_pixels": 2_000_000, "total_tokens": 3_576}},
            "embeddings",
            3_576,
        ),
        (
            "https://adb-1.1.azuredatabricks.net/serving-endpoints/databricks-gte-large-en/invocations",
            {"input": ["x"]},
            {"data": [], "model": "gte-large-en-v1.5", "usage": {"prompt_tokens": 6, "total_tokens": 6}},
            "embeddings",
            6,
        ),
    ],
)
def test_a_path_that_others_do_not_have(  # noqa: PLR0917 - one case in a row
    ask: Ask, url: str, request_body: Json, answer: Json, operation: str, prompt: int
) -> None:
    call = ask(url, answer, request=request_body)
    assert call is not None
    assert (call.operation, call.prompt_tokens) == (operation, prompt)


def test_bedrock_s_deepseek_says_why_it_ended(ask: Ask) -> None:
    answer = {"choices": [{"text": "ok", "stop_reason": "length"}]}
    call = ask(f"{BEDROCK}us.deepseek.r1-v1%3A0/invoke", answer, request={"prompt": "x"})
    assert call is not None
    assert call.finish_reason == "length"


# --- a later usage that has less than an earlier one --------------------------------------------------------------


def test_cache_writes_for_an_hour_are_not_forgotten_at_a_stream_s_end(ask: Ask) -> None:
    """Only the first event of Anthropic's streams tells how long what was written stays."""
    began = message(
        "claude-sonnet-4-5-20250929",
        input_tokens=25,
        cache_creation_input_tokens=100,
        cache_read_input_tokens=0,
        cache_creation={"ephemeral_1h_input_tokens": 100, "ephemeral_5m_input_tokens": 0},
        output_tokens=1,
    )
    ended = {"cache_creation_input_tokens": 100, "cache_read_input_tokens": 0, "input_tokens": 25, "output_tokens": 15}
    events = (
        {"type": "message_start", "message": began},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ended},
        {"type": "message_stop"},
    )
    call = ask(ANTHROPIC, stream(*events), request={"model": "claude-sonnet-4-5", "stream": True})
    assert call is not None
    assert call.cost_usd == usd(read=(25, "3"), written=(100, "6"), out=(15, "15"))


def test_tokens_of_audio_are_not_forgotten_where_a_stream_s_last_value_has_the_sums_alone(ask: Ask) -> None:
    first = {"promptTokenCount": 1_000, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 1_000}]}
    last = {"promptTokenCount": 1_000, "candidatesTokenCount": 10, "totalTokenCount": 1_010}
    events = gemini("gemini-2.5-flash", first), gemini("gemini-2.5-flash", last)
    call = ask(GEMINI.format("gemini-2.5-flash"), stream(*events), request={"contents": []})
    assert call is not None
    assert call.cost_usd == usd(heard=(1_000, "1"), out=(10, "2.5"))


def test_searches_are_not_forgotten_where_a_later_value_has_none(ask: Ask) -> None:
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 10, "totalTokenCount": 20}
    searched = gemini("gemini-2.5-flash", usage, groundingMetadata={"webSearchQueries": ["a", "b"]})
    events = searched, gemini("gemini-2.5-flash", usage, groundingMetadata={"searchEntryPoint": {}})
    call = ask(GEMINI.format("gemini-2.5-flash"), stream(*events), request={"contents": []})
    assert call is not None
    assert unit(call, "web_searches") == 1


# --- what is charged without a word in the usage ------------------------------------------------------------------


def test_a_model_that_searches_always_has_searched(ask: Ask) -> None:
    call = ask(
        OPENAI, chat("gpt-4o-search-preview-2025-03-11", counts(10, 10)), request={"model": "gpt-4o-search-preview"}
    )
    assert call is not None
    assert unit(call, "web_searches") == 1
    assert call.cost_usd is None  # the table has no price for the searches of this model


def test_deep_research_without_its_bill_has_no_price(ask: Ask) -> None:
    usage = counts(10, 1_000, citation_tokens=5_000, num_search_queries=20, reasoning_tokens=50_000)
    url, asked = "https://api.perplexity.ai/chat/completions", {"model": "sonar-deep-research", "messages": []}
    call = ask(url, chat("sonar-deep-research", usage), request=asked)
    assert call is not None
    assert reason(call) == "deep research is in no price table"
    call = ask(url, chat("sonar-deep-research", {**usage, "cost": {"total_cost": 0.268}}), request=asked)
    assert call is not None
    assert (call.cost_usd, call.cost_source) == (Decimal("0.268"), "given")


def test_a_gateway_s_bill_in_a_message_of_anthropic_s_is_given(ask: Ask) -> None:
    answer = message("anthropic/claude-sonnet-4.5", input_tokens=9, output_tokens=10, cost=0.001)
    asked = {"model": "anthropic/claude-sonnet-4.5", "max_tokens": 5, "messages": []}
    call = ask("https://openrouter.ai/api/v1/messages", answer, request=asked)
    assert call is not None
    assert (call.provider, call.cost_usd, call.cost_source) == ("openrouter", Decimal("0.001"), "given")


def test_a_refused_text_to_be_spoken_costs_nothing(ask: Ask) -> None:
    asked = {"model": "tts-1", "input": "x" * 1_000, "voice": "alloy"}
    call = ask("https://api.openai.com/v1/audio/speech", {"error": {"code": "no_key"}}, request=asked, status=401)
    assert call is not None
    assert (call.cost_usd, call.cost_source, call.error) == (None, None, "HTTP 401 no_key")


@pytest.mark.parametrize("wrong", ["9", -9, 0.5, 1 << 60])
def test_a_count_of_cached_tokens_that_cannot_be_read_leaves_no_cost(ask: Ask, wrong: Any) -> None:
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": wrong}
    call = ask(ANTHROPIC, message("claude-sonnet-4-5", **usage), request={"model": "claude-sonnet-4-5"})
    assert call is not None
    assert (call.prompt_tokens, call.cost_usd) == (10, None)
    assert reason(call) == "cache_read_input_tokens cannot be used"

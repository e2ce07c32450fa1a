"""From an answer on the wire to the row: which tokens, whose bill, which price; and why there is none."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.read import span_facts
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.instrument.llm_http.instrumentor import LlmHttpInstrumentor

FIELD = Path(__file__).parents[3] / "shared" / "field" / "rows" / "http"
OPENAI = "https://api.openai.com/v1/chat/completions"
ANTHROPIC = "https://api.anthropic.com/v1/messages"
GOOGLE = "https://{}.googleapis.com/v1/projects/p/locations/l/publishers/google/models/{}"
VERTEX = "https://{}.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/claude:rawPredict"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/{}:generateContent"
Json = dict[str, Any]
Ask = Callable[..., records.LlmCall | None]


@pytest.fixture(name="ask")
def ask_fixture() -> Any:
    """Send a request to a provider that gives a certain answer; return the row of the call, None where it was none."""
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))

    def ask(url: str, answer: Json | str, *, request: Json | None = None, **more: Any) -> records.LlmCall | None:
        text = answer if isinstance(answer, str) else json.dumps(answer)
        headers = {"content-type": "text/event-stream" if text.startswith("data:") else "application/json"}
        reply = httpx.Response(more.get("status", 200), headers={**headers, **more.get("headers", {})}, content=text)
        LlmHttpInstrumentor().instrument(
            config=InstrumentSettings(llm_providers=more.get("providers", {})), tracer_provider=provider
        )
        try:
            with httpx.Client(transport=httpx.MockTransport(lambda _: reply)) as client:
                version = {"anthropic-version": "2023-06-01"} if "anthropic" in url else {}
                client.post(url, json={"model": "gpt-4o"} if request is None else request, headers=version)
        finally:
            LlmHttpInstrumentor().uninstrument()
        spans = memory.get_finished_spans()
        memory.clear()
        return span_facts.fact(span_facts.from_sdk(spans[0]), store_text=False).call if spans else None

    yield ask
    provider.shutdown()


def chat(model: str, usage: Json, **more: Any) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
    return {"id": "c-7", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage, **more}


def counts(prompt: int, completion: int, **more: Any) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


def message(model: str, **usage: Any) -> Json:
    content = [{"type": "text", "text": "ok"}]
    return {"id": "m-7", "type": "message", "model": model, "content": content, "usage": usage}


def gemini(model: str, usage: Json, **candidate: Any) -> Json:
    parts = {"content": {"parts": [{"text": "ok"}], "role": "model"}, "finishReason": "STOP", "index": 0}
    return {"candidates": [{**parts, **candidate}], "usageMetadata": usage, "modelVersion": model}


def usd(**per_million: tuple[int, str]) -> Decimal:
    """Return the sum of tokens times USD per million."""
    return sum((count * Decimal(rate) / 1_000_000 for count, rate in per_million.values()), Decimal(0))


# --- what changes the price -------------------------------------------------------------------------------------

PRICED: dict[str, tuple[str, Json, Decimal]] = {
    "half of what was written to Anthropic's cache stays for an hour": (
        ANTHROPIC,
        message(
            "claude-sonnet-4-5-20250929",
            input_tokens=200,
            output_tokens=30,
            cache_creation_input_tokens=8_000,
            cache_read_input_tokens=1_000,
            cache_creation={"ephemeral_5m_input_tokens": 3_000, "ephemeral_1h_input_tokens": 5_000},
        ),
        usd(anew=(200, "3"), short=(3_000, "3.75"), hour=(5_000, "6"), read=(1_000, "0.3"), out=(30, "15")),
    ),
    "a conversation that Anthropic's server shortened twice before it answered": (
        ANTHROPIC,
        message(
            "claude-opus-4-6",
            input_tokens=23_000,
            output_tokens=1_000,
            cache_read_input_tokens=400,
            iterations=[
                {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500, "cache_read_input_tokens": 50},
                {"type": "message", "input_tokens": 11_000, "output_tokens": 600, "cache_read_input_tokens": 200},
                {
                    "type": "compaction",
                    "input_tokens": 150_000,
                    "output_tokens": 3_000,
                    "cache_creation_input_tokens": None,
                },
                {"type": "message", "input_tokens": 12_000, "output_tokens": 400, "cache_read_input_tokens": 200},
            ],
        ),
        usd(anew=(353_000, "5"), read=(450, "0.5"), out=(7_500, "25")),
    ),
    "what Bedrock's cache keeps for an hour": (
        "https://bedrock-runtime.eu-west-1.amazonaws.com/model/global.anthropic.claude-sonnet-4-5-20250929-v1:0/converse",
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "ok"}]}},
            "stopReason": "end_turn",
            "usage": {
                "inputTokens": 200,
                "outputTokens": 30,
                "totalTokens": 9_230,
                "cacheReadInputTokens": 1_000,
                "cacheWriteInputTokens": 8_000,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 5_000}, {"ttl": "5m", "inputTokens": 3_000}],
            },
        },
        usd(anew=(200, "3"), short=(3_000, "3.75"), hour=(5_000, "6"), read=(1_000, "0.3"), out=(30, "15")),
    ),
    "Claude on Vertex AI's endpoint for the world": (
        VERTEX.format("aiplatform"),
        message("claude-sonnet-4-5-20250929", input_tokens=10, output_tokens=5),
        usd(anew=(10, "3"), out=(5, "15")),
    ),
    "an older Claude in one region of Vertex AI": (
        VERTEX.format("us-east5-aiplatform"),
        message("claude-opus-4-1-20250805", input_tokens=10, output_tokens=5),
        usd(anew=(10, "15"), out=(5, "75")),
    ),
    "an older model of OpenAI that stays in Europe": (
        "https://eu.api.openai.com/v1/chat/completions",
        chat("gpt-4.1-2025-04-14", counts(100, 20)),
        usd(anew=(100, "2"), out=(20, "8")),
    ),
    "Gemini in several regions of Vertex AI": (
        GOOGLE.format("aiplatform.us.rep", "gemini-2.5-flash:generateContent"),
        gemini("gemini-2.5-flash", {"promptTokenCount": 1_000, "candidatesTokenCount": 100, "totalTokenCount": 1_100}),
        usd(read=(1_000, "0.3"), out=(100, "2.5")),
    ),
    "texts that Vertex AI embeds": (
        GOOGLE.format("europe-west4-aiplatform", "gemini-embedding-001:predict"),
        {
            "predictions": [
                {"embeddings": {"values": [0.1, -0.2], "statistics": {"token_count": 1_200, "truncated": False}}},
                {"embeddings": {"values": [0.3, 0.4], "statistics": {"token_count": 800, "truncated": False}}},
            ],
            "metadata": {"billableCharacterCount": 8_000},
        },
        usd(read=(2_000, "0.15")),
    ),
    "web searches of Anthropic's server": (
        ANTHROPIC,
        message("claude-sonnet-4-5", input_tokens=700, output_tokens=90, server_tool_use={"web_search_requests": 3}),
        usd(anew=(700, "3"), out=(90, "15")) + 3 * Decimal("0.01"),
    ),
    "web searches in OpenAI's responses, without the pages that were opened": (
        "https://api.openai.com/v1/responses",
        {
            "id": "r-7",
            "status": "completed",
            "model": "gpt-4.1-2025-04-14",
            "output": [
                {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}},
                {"type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": "u"}},
                {"type": "web_search_call", "status": "failed", "action": {"type": "search", "query": "q"}},
                {"type": "file_search_call", "status": "completed"},
                {"type": "message", "content": [{"type": "output_text", "text": "ok"}]},
            ],
            "usage": {"input_tokens": 300, "output_tokens": 50, "total_tokens": 350},
        },
        usd(anew=(300, "2"), out=(50, "8")) + Decimal("0.01") + Decimal("0.0025"),
    ),
    "OpenAI's flex tier": (
        OPENAI,
        chat("gpt-5-2025-08-07", counts(4_000, 500), service_tier="flex"),
        usd(anew=(4_000, "0.625"), out=(500, "5")),
    ),
    "OpenAI's priority tier": (
        OPENAI,
        chat("gpt-5-2025-08-07", counts(4_000, 500), service_tier="priority"),
        usd(anew=(4_000, "2.5"), out=(500, "20")),
    ),
    "a fine-tuned model": (
        OPENAI,
        chat("ft:gpt-4o-2024-08-06:acme:support:9xYz", counts(1_000, 200)),
        usd(anew=(1_000, "3.75"), out=(200, "15")),
    ),
    "spoken input to Gemini, some of it cached": (
        GEMINI.format("gemini-2.5-flash"),
        gemini(
            "gemini-2.5-flash",
            {
                "promptTokenCount": 5_000,
                "candidatesTokenCount": 40,
                "cachedContentTokenCount": 1_500,
                "promptTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 4_000},
                    {"modality": "TEXT", "tokenCount": 1_000},
                ],
                "cacheTokensDetails": [
                    {"modality": "AUDIO", "tokenCount": 1_000},
                    {"modality": "TEXT", "tokenCount": 500},
                ],
            },
        ),
        usd(audio=(3_000, "1"), text=(500, "0.3"), heard=(1_000, "0.1"), read=(500, "0.03"), out=(40, "2.5")),
    ),
    "an image by Gemini": (
        GEMINI.format("gemini-2.5-flash-image"),
        gemini(
            "gemini-2.5-flash-image",
            {
                "promptTokenCount": 20,
                "candidatesTokenCount": 1_300,
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1_290}],
            },
        ),
        usd(anew=(20, "0.3"), image=(1_290, "30"), out=(10, "2.5")),
    ),
    "an answer of Gemini 2.5 that searched the web twice is one grounded answer": (
        GEMINI.format("gemini-2.5-flash"),
        gemini(
            "gemini-2.5-flash",
            {"promptTokenCount": 100, "candidatesTokenCount": 20},
            groundingMetadata={"webSearchQueries": ["a", "b"]},
        ),
        usd(anew=(100, "0.3"), out=(20, "2.5")) + Decimal("0.035"),
    ),
    "a preview by its month": (
        GEMINI.format("gemini-2.5-flash-lite-preview-09-2025"),
        gemini("gemini-2.5-flash-lite-preview-09-2025", {"promptTokenCount": 900, "candidatesTokenCount": 70}),
        usd(anew=(900, "0.1"), out=(70, "0.4")),
    ),
    "the details of an image that OpenAI read are text's price": (
        OPENAI,
        chat("gpt-4o-mini", counts(600, 10, prompt_tokens_details={"image_tokens": 500, "cached_tokens": 0})),
        usd(anew=(600, "0.15"), out=(10, "0.6")),
    ),
    "Groq's flex tier costs what Groq's list says": (
        "https://api.groq.com/openai/v1/chat/completions",
        chat("llama-3.3-70b-versatile", counts(1_000, 100), service_tier="flex"),
        usd(anew=(1_000, "0.59"), out=(100, "0.79")),
    ),
}


@pytest.mark.parametrize("name", PRICED)
def test_what_the_answer_says_changes_the_price(ask: Ask, name: str) -> None:
    url, answer, expected = PRICED[name]
    call = ask(url, answer)
    assert call is not None
    assert (call.cost_usd, call.cost_source) == (expected, "computed"), call.meta


# --- whose bill -------------------------------------------------------------------------------------------------

ROUTER = "https://openrouter.ai/api/v1/chat/completions"
BILLED: dict[str, tuple[str, Json, Json, Decimal]] = {
    "OpenRouter": (ROUTER, chat("openai/gpt-4o-mini", counts(500, 60, cost=0.0317)), {}, Decimal("0.0317")),
    "OpenRouter, a key of one's own": (
        ROUTER,
        chat(
            "openai/gpt-4o-mini",
            counts(500, 60, cost=0.0005, is_byok=True, cost_details={"upstream_inference_cost": 0.01}),
        ),
        {},
        Decimal("0.0105"),
    ),
    "OpenRouter, free": (ROUTER, chat("some/model:free", counts(500, 60, cost=0)), {}, Decimal(0)),
    "Perplexity": (
        "https://api.perplexity.ai/chat/completions",
        chat("sonar-pro", counts(500, 60, cost={"input_tokens_cost": 0.1, "total_cost": 0.123})),
        {},
        Decimal("0.123"),
    ),
    "xAI": (
        "https://api.x.ai/v1/chat/completions",
        chat("grok-4", counts(500, 60, cost_in_usd_ticks=37_756_000)),
        {},
        Decimal("0.0037756"),
    ),
    "DeepInfra": (
        "https://api.deepinfra.com/v1/openai/chat/completions",
        chat("meta-llama/Llama-3.3-70B-Instruct", counts(500, 60, estimated_cost=0.00021)),
        {},
        Decimal("0.00021"),
    ),
    "LiteLLM's proxy": (
        "http://litellm.internal:4000/chat/completions",
        chat("gpt-4o", counts(500, 60)),
        {"x-litellm-response-cost": "0.00185"},
        Decimal("0.00185"),
    ),
}


@pytest.mark.parametrize("name", BILLED)
def test_the_bill_in_an_answer_is_the_cost(ask: Ask, name: str) -> None:
    url, answer, headers, expected = BILLED[name]
    call = ask(url, answer, headers=headers)
    assert call is not None
    assert (call.cost_usd, call.cost_source) == (expected, "given")


@pytest.mark.parametrize("bill", [-1, "free", 1e12, float("inf")])
def test_a_bill_that_is_none_is_noted_and_the_table_decides(ask: Ask, bill: Any) -> None:
    call = ask(OPENAI, chat("gpt-4o-mini", counts(100, 20, cost=bill)))
    assert call is not None
    assert (call.cost_usd, call.cost_source) == (Decimal("0.000027"), "computed")
    if bill != float("inf"):
        assert "problems" in (call.meta or {})


# --- why there is no price --------------------------------------------------------------------------------------

NO_PRICE: dict[str, tuple[str, Json, str]] = {
    "a proxy that nobody knows": (
        "https://llm.corp.example/v1/chat/completions",
        chat("gpt-4o", counts(100, 20)),
        "no price list of provider _other",
    ),
    "DeepSeek's model on Azure": (
        "https://acme.services.ai.azure.com/models/chat/completions",
        chat("DeepSeek-V3", counts(100, 20)),
        "deepseek-v3 is not in the price list of azure",
    ),
    "speech, where the table has only text": (
        OPENAI,
        chat("gpt-4o-audio-preview", counts(100, 80, completion_tokens_details={"audio_tokens": 70})),
        "no price for output_audio_tokens",
    ),
    "a tier that nobody lists": (
        OPENAI,
        chat("gpt-5", counts(100, 20), service_tier="platinum"),
        "no price for the tier platinum",
    ),
    "an image inside of a response": (
        "https://api.openai.com/v1/responses",
        {
            "id": "r",
            "model": "gpt-5",
            "status": "completed",
            "output": [{"type": "image_generation_call", "status": "completed"}],
            "usage": {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30},
        },
        "image_generation is in no price table",
    ),
    "Claude in one region of Vertex AI": (
        VERTEX.format("europe-west1-aiplatform"),
        message("claude-sonnet-4-5-20250929", input_tokens=10, output_tokens=5),
        "processing in a region is in no price table",
    ),
    "Claude in several regions of Vertex AI": (
        VERTEX.format("aiplatform.eu.rep"),
        message("claude-haiku-4-5-20251001", input_tokens=10, output_tokens=5),
        "processing in a region is in no price table",
    ),
    "a model of OpenAI that stays in Europe": (
        "https://eu.api.openai.com/v1/chat/completions",
        chat("gpt-5.4-2026-03-05", counts(100, 20)),
        "processing in a region is in no price table",
    ),
    "an advisor of another model": (
        ANTHROPIC,
        message("claude-sonnet-5", input_tokens=10, output_tokens=5, iterations=[{"type": "advisor_message"}]),
        "an advisor of another model is in no price table",
    ),
    "an answer that is still to come": (
        "https://api.openai.com/v1/responses",
        {"id": "r", "model": "gpt-5", "status": "queued", "output": [], "usage": None},
        "the answer is made in the background, and was not seen being fetched",
    ),
}


@pytest.mark.parametrize("name", NO_PRICE)
def test_without_a_price_the_cost_is_null_and_the_row_says_why(ask: Ask, name: str) -> None:
    url, answer, reason = NO_PRICE[name]
    call = ask(url, answer, request={"model": answer["model"]})
    assert call is not None
    assert (call.cost_usd, call.cost_source) == (None, "unpriced")
    assert (call.meta or {})["unpriced"] == reason


def test_the_settings_say_whose_a_proxy_is(ask: Ask) -> None:
    answer = chat("gpt-4o-mini", counts(100, 20))
    call = ask("https://llm.corp.example/v1/chat/completions", answer, providers={"LLM.corp.example": "openai"})
    assert call is not None
    assert (call.provider, call.cost_usd) == ("openai", Decimal("0.000027"))


# --- which tokens -----------------------------------------------------------------------------------------------

TOKENS: dict[str, tuple[str, Json, tuple[int | None, ...]]] = {
    "Mistral's cached tokens": (
        "https://api.mistral.ai/v1/chat/completions",
        chat("mistral-large-latest", counts(600, 30, num_cached_tokens=512)),
        (600, 512, None, 30, None),
    ),
    "Anthropic's thinking": (
        ANTHROPIC,
        message("claude-opus-5", input_tokens=12, output_tokens=90, output_tokens_details={"thinking_tokens": 71}),
        (12, None, None, 90, 71),
    ),
    "what Cohere bills, of what it counts": (
        "https://api.cohere.com/v2/chat",
        {
            "id": "c",
            "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": [{"type": "text", "text": "ok"}]},
            "usage": {
                "billed_units": {"input_tokens": 40, "output_tokens": 9},
                "tokens": {"input_tokens": 640, "output_tokens": 11},
                "cached_tokens": 576,
            },
        },
        (40, None, None, 9, None),
    ),
    "what OpenRouter read from a cache and wrote to it are parts of the prompt": (
        ROUTER,
        chat("a/b", counts(900, 20, prompt_tokens_details={"cached_tokens": 800, "cache_write_tokens": 800})),
        (900, 800, 800, 20, None),
    ),
    "reasoning that is more than the output is still within the total": (
        ROUTER,
        chat("a/b", counts(40, 10, completion_tokens_details={"reasoning_tokens": 12})),
        (40, None, None, 10, 12),
    ),
    "reasoning beside the output": (
        "https://api.x.ai/v1/chat/completions",
        chat(
            "grok-4",
            {**counts(40, 10), "total_tokens": 150, "completion_tokens_details": {"reasoning_tokens": 100}},
        ),
        (40, None, None, 110, 100),
    ),
}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_read_by_one_rule(ask: Ask, name: str) -> None:
    url, answer, expected = TOKENS[name]
    call = ask(url, answer)
    assert call is not None
    found = call.prompt_tokens, call.cached_tokens, call.cache_write_tokens, call.completion_tokens
    assert (*found, call.reasoning_tokens) == expected


# --- whose answer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://acme.azure-api.net/openai/deployments/chat-4o/chat/completions?api-version=1", "azure.ai.openai"),
        ("https://ai.acme.example/openai/deployments/chat-4o/chat/completions?api-version=1", "azure.ai.openai"),
        ("https://models.github.ai/inference/chat/completions", "github"),
        ("https://router.huggingface.co/v1/chat/completions", "huggingface"),
        ("https://router.huggingface.co/together/v1/chat/completions", "huggingface_together"),
        ("https://gateway.ai.cloudflare.com/v1/0a1b/gw/openai/chat/completions", "openai"),
        ("https://gateway.ai.cloudflare.com/v1/0a1b/gw/compat/chat/completions", "cloudflare-gateway"),
        ("https://api.cloudflare.com/client/v4/accounts/0a1b/ai/v1/chat/completions", "cloudflare"),
        ("https://adb-12.3.azuredatabricks.net/serving-endpoints/chat/completions", "databricks"),
        ("https://ai-gateway.vercel.sh/v1/chat/completions", "vercel"),
        ("https://api.portkey.ai/v1/chat/completions", "portkey"),
        ("http://litellm:4000/chat/completions", "_OTHER"),
        ("http://localhost:8000/llm/chat/completions", "_OTHER"),
    ],
)
def test_a_call_is_seen_whoever_is_in_between(ask: Ask, url: str, provider: str) -> None:
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    call = ask(url, chat("gpt-4o", counts(70, 7)), request=request)
    assert call is not None
    assert (call.provider, call.model, call.prompt_tokens) == (provider, "gpt-4o", 70)


@pytest.mark.parametrize("url", ["http://shop.example/responses", "http://shop.example/completions"])
def test_an_app_s_own_form_is_no_model_call(ask: Ask, url: str) -> None:
    assert ask(url, {"ok": True}, request={"model": "T", "colour": "red"}) is None


@pytest.mark.skipif(not FIELD.exists(), reason="the answers collected beside the repository are not here")
def test_answers_of_others_give_the_rows_that_they_should(ask: Ask) -> None:
    wrong: list[tuple[str, Json, Any]] = []
    for path in sorted(FIELD.glob("*.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        call = ask(case["url"], case["response"], request=case["request"] or {}, status=case["status"])
        wanted = case["expected"]
        names = {"prompt": "prompt_tokens", "completion": "completion_tokens", "reasoning": "reasoning_tokens"}
        found = {name: getattr(call, column) for name, column in names.items()} if call else {}
        if any(wanted[name] != found.get(name) for name in names if name in wanted):
            wrong.append((path.name, wanted, found))
        bill = wanted.get("cost_usd")
        if isinstance(bill, float) and (call is None or abs(float(call.cost_usd or 0) - bill) > 1e-12):
            wrong.append((path.name, wanted, call and call.cost_usd))
    assert wrong == []

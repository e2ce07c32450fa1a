"""Words of single instrumentations, and totals that prove nothing because the instrumentation made them itself."""

import json
from decimal import Decimal

import pytest

from otel_telemetry.exporters.request_log.read import span_facts

CAMEL = {"inputTokens": 900, "outputTokens": 1, "cachedInputTokens": 800, "totalTokens": 901}
SNAKE = {"input_tokens": 900, "output_tokens": 1, "cache_read_input_tokens": 800, "total_tokens": 901}
CLAUDE = "us.anthropic.claude-sonnet-4-20250514-v1:0"


def call_of(span):
    return span_facts.fact(span, store_text=False).call


def vercel(provider, **usage):
    named = {f"ai.usage.{name}": count for name, count in usage.items()}
    model = {"ai.model.id": "some-model", "ai.model.provider": provider}
    return {"ai.operationId": "ai.generateText.doGenerate", **model, **named}


def mlflow(form, **usage):
    return {
        "mlflow.spanType": '"CHAT_MODEL"',
        "mlflow.message.format": json.dumps(form),
        "mlflow.llm.model": '"claude-sonnet-4-5"',
        "mlflow.llm.provider": '"anthropic"',
        "mlflow.chat.tokenUsage": json.dumps(usage),
    }


@pytest.mark.parametrize(
    ("attributes", "basis", "prompt"),
    [
        (vercel("amazon-bedrock", **CAMEL), "exclusive", 1_700),
        (vercel("anthropic.messages", **CAMEL), "exclusive", 1_700),
        (vercel("openai.chat", **CAMEL), "inclusive", 900),
        (mlflow("anthropic", **SNAKE), "exclusive", 1_700),
        (mlflow("langchain", **SNAKE), "inclusive", 900),
        (mlflow("langchain", **SNAKE | {"input_tokens": 9, "total_tokens": 10}), "exclusive", 809),
    ],
)
def test_a_total_that_the_instrumentation_made_itself_proves_nothing(span, attributes, basis, prompt):
    call = call_of(span(1, None, attributes))
    assert (call.token_basis, call.prompt_tokens) == (basis, prompt)


@pytest.mark.parametrize(
    ("word", "operation"),
    [
        ("chat.completions", "chat"),
        ("chat.streaming_completions", "chat"),
        ("text.completions", "text_completion"),
        ("image", "image_generation"),
    ],
)
def test_operations_of_semantic_kernel_and_spring_ai(span, word, operation):
    counted = {"gen_ai.response.prompt_tokens": 100, "gen_ai.response.completion_tokens": 7}
    named = {"gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o", "gen_ai.response.finish_reason": "STOP"}
    call = call_of(span(1, None, {"gen_ai.operation.name": word, **named, **counted}))
    assert (call.operation, call.prompt_tokens, call.completion_tokens, call.finish_reason) == (
        operation,
        100,
        7,
        "STOP",
    )


def test_cache_writes_of_strands_are_counted_and_its_bedrock_models_priced(span):
    usage = {"input_tokens": 10, "output_tokens": 100, "total_tokens": 1_110}
    usage |= {"cache_read_input_tokens": 800, "cache_write_input_tokens": 200}
    named = {f"gen_ai.usage.{name}": count for name, count in usage.items()}
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.system": "strands-agents", "gen_ai.request.model": CLAUDE}
    call = call_of(span(1, None, {**attributes, **named}))
    assert (call.prompt_tokens, call.cached_tokens, call.cache_write_tokens) == (1_010, 800, 200)
    assert call.cost_usd == Decimal(10 * 3 + 800 * Decimal("0.3") + 200 * Decimal("3.75") + 100 * 15) / 1_000_000


def test_gemini_in_google_s_agents_is_priced(span):
    named = {"gen_ai.system": "gcp.vertex.agent", "gen_ai.request.model": "gemini-2.5-flash"}
    call = call_of(span(1, None, {**named, "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 50}))
    assert (call.cost_source, call.cost_usd) == ("computed", Decimal("0.000155"))


def test_cached_tokens_of_openlit_s_older_names(span):
    named = {"gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o"}
    usage = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.prompt_tokens_details.cache_read": 40}
    call = call_of(span(1, None, {**named, **usage}))
    assert (call.prompt_tokens, call.cached_tokens) == (100, 40)


@pytest.mark.parametrize(
    ("word", "provider"),
    [
        ("google.vertex.chat", "gcp.vertex_ai"),
        ("google.generative-ai", "gcp.gemini"),
        ("azure-openai.responses", "azure.ai.openai"),
    ],
)
def test_providers_of_vercel_s_sdk(span, word, provider):
    assert call_of(span(1, None, vercel(word, inputTokens=1, outputTokens=1))).provider == provider

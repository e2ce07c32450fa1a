"""Which entry of the price table is a call's model, and how spans of others are charged."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price

from otel_telemetry.exporters.request_log.price import cost
from otel_telemetry.exporters.request_log.read import span_facts

NOW = datetime(2026, 11, 20, tzinfo=UTC)
TOKENS = cost.Tokens(2_000, 0, 0, 300, 0)


@pytest.mark.parametrize(
    ("provider", "theirs", "model"),
    [
        ("aws.bedrock", "aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("aws.bedrock", "aws", "eu.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("aws.bedrock", "aws", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("aws.bedrock", "aws", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("aws.bedrock", "aws", "amazon.nova-lite-v1:0"),
        ("aws.bedrock", "aws", "eu.amazon.nova-micro-v1:0"),
        ("aws.bedrock", "aws", "us.meta.llama3-3-70b-instruct-v1:0"),
        ("openai", "openai", "ft:gpt-4o-mini-2024-07-18:acme::9aBc"),
        ("gcp.vertex_ai", "google", "gemini-2.5-flash-preview-09-2025"),
        ("anthropic", "anthropic", "claude-sonnet-4-20250514"),  # the table's rules end within the date,
        ("gcp.gemini", "google", "gemini-2.0-flash-001"),  # and within the number
        ("gcp.gemini", "google", "gemini-2.5-pro-preview-05-06"),
    ],
)
def test_names_with_a_region_a_vendor_or_an_owner_are_the_models_of_the_table(provider, theirs, model):
    ours = cost.price(provider, model, TOKENS, NOW)
    assert isinstance(ours, cost.Cost)
    usage = Usage(input_tokens=2_000, output_tokens=300)
    expected = calc_price(usage, model, provider_id=theirs, genai_request_timestamp=NOW)
    assert ours.total == expected.total_price


@pytest.mark.parametrize(
    ("provider", "model", "same_as"),
    [
        ("gcp.gemini", "models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("gcp.vertex_ai", "publishers/google/models/gemini-2.5-flash", "gemini-2.5-flash"),
        (
            "gcp.vertex_ai",
            "projects/p/locations/global/publishers/anthropic/models/claude-sonnet-4-5@20250929",
            "claude-sonnet-4-5",
        ),
        (
            "aws.bedrock",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0",
            "us.amazon.nova-pro-v1:0",
        ),
        ("openai", "openai/gpt-4o-mini", "gpt-4o-mini"),
    ],
)
def test_paths_and_prefixes_of_providers_do_not_hide_a_model(provider, model, same_as):
    found, plain = (cost.price(provider, name, TOKENS, NOW) for name in (model, same_as))
    assert isinstance(found, cost.Cost)
    assert isinstance(plain, cost.Cost)
    assert found.total == plain.total


@pytest.mark.parametrize(
    ("provider", "model", "reason"),
    [
        ("azure.ai.inference", "DeepSeek-R1", "deepseek-r1 is not in the price list of azure"),
        ("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-turbo-v1:0", "is not in the price list of aws"),
        ("aws.bedrock", "my-claude-3-haiku-20240307-v1:0", "is not in the price list of aws"),
        ("anthropic", "claude-sonnet-4-2025-mini", "is not in the price list of anthropic"),
        ("gcp.gemini", "gemini-2.0-flash-0-next", "is not in the price list of google"),
        ("openai", "gpt-4.1-preview-turbo", "is not in the price list of openai"),
        ("_OTHER", "gpt-4o", "no price list of provider _other"),
        ("strands-agents", "house-model", "no price list of provider strands-agents"),
        (None, "gpt-4o", "the provider is not known"),
    ],
)
def test_what_is_not_in_the_list_has_a_reason_and_no_price(provider, model, reason):
    found = cost.price(provider, model, TOKENS, NOW)
    assert isinstance(found, cost.NoPrice)
    assert found.reason.endswith(reason)


def test_a_framework_in_the_provider_s_place_is_priced_by_the_maker_of_the_model():
    assert cost.price("strands-agents", "claude-sonnet-4-5", TOKENS, NOW) == cost.price(
        "anthropic", "claude-sonnet-4-5", TOKENS, NOW
    )


def test_what_is_written_to_a_cache_for_an_hour_costs_more():
    anthropic = cost.Tokens(10_000, 0, 10_000, 1, 0, {"cache_write_1h_tokens": 10_000})
    short = cost.Tokens(10_000, 0, 10_000, 1, 0)
    hour, plain = (cost.price("anthropic", "claude-sonnet-4-5", tokens, NOW) for tokens in (anthropic, short))
    assert isinstance(hour, cost.Cost)
    assert isinstance(plain, cost.Cost)
    assert hour.total - plain.total == Decimal("0.0225")


def test_a_cached_video_is_read_from_the_cache_and_not_once_more():
    kinds = {"input_video_tokens": 1_500, "cache_video_read_tokens": 1_400, "input_audio_tokens": 200}
    kinds |= {"cache_audio_read_tokens": 200}
    found = cost.price("gcp.gemini", "gemini-2.5-flash", cost.Tokens(1_800, 1_650, 0, 10, 0, kinds), NOW)
    usage = Usage(input_tokens=1_800, cache_read_tokens=1_650, output_tokens=10)
    usage.input_audio_tokens, usage.cache_audio_read_tokens = 200, 200
    assert isinstance(found, cost.Cost)
    expected = calc_price(usage, "gemini-2.5-flash", provider_id="google", genai_request_timestamp=NOW)
    assert found.total == expected.total_price


def row_of(span):
    row = span_facts.fact(span, store_text=False).call
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("scope", "more", "prompt", "basis"),
    [
        # The total proves that cached tokens are inside, whatever the provider counts itself.
        ("opentelemetry.instrumentation.anthropic", {"gen_ai.usage.total_tokens": 1_040}, 1_000, "inclusive"),
        ("opentelemetry.instrumentation.anthropic", {"gen_ai.usage.total_tokens": 1_640}, 1_600, "exclusive"),
        # OpenLIT's total is its own sum.
        ("openlit.otel.tracing", {"gen_ai.usage.total_tokens": 1_040}, 1_600, "exclusive"),
        # Our own spans are never guessed.
        ("otel_telemetry", {"gen_ai.usage.total_tokens": 1_640}, 1_000, "inclusive"),
    ],
)
def test_the_total_of_an_answer_says_whether_cached_tokens_are_inside(  # noqa: PLR0917 - parameters
    span, chat, scope, more, prompt, basis
):
    attributes = {
        **chat("claude-sonnet-4-5", (1_000, 40)),
        "gen_ai.provider.name": "anthropic",
        "gen_ai.usage.cache_read.input_tokens": 500,
        "gen_ai.usage.cache_creation.input_tokens": 100,
        **more,
    }
    row = row_of(span(1, None, attributes, scope=scope))
    assert (row.prompt_tokens, row.token_basis) == (prompt, basis)


def test_counts_that_change_the_price_are_kept_for_pricing_again(span, chat):
    attributes = {
        **chat("gpt-4.1", (100, 10)),
        "gen_ai.usage.details.web_searches": 2,
        "gen_ai.usage.details.input_audio_tokens": -4,
        "openai.response.service_tier": "default",
    }
    row = row_of(span(1, None, attributes))
    assert row.meta["usage"] == {"web_searches": 2, "service_tier": "default"}
    assert "gen_ai.usage.details.input_audio_tokens" in row.meta["problems"]
    assert (row.cost_usd, row.meta["unpriced"]) == (None, "gen_ai.usage.details.input_audio_tokens cannot be used")


@pytest.mark.parametrize("provider", [[], {}, 7, None])
def test_a_provider_that_is_no_text_takes_no_row_along(span, chat, provider):
    row = row_of(span(1, None, chat(gen_ai__provider__name=provider, gen_ai__usage__cost=0.0)))
    assert (row.cost_usd, row.cost_source) == (None, "unpriced")

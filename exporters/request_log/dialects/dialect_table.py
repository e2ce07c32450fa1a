"""The dialects in which spans speak of model calls: data only. How it is read is in dialects.py.

Adding a dialect is adding an entry here, and a fixture made by its package (tests/exporters/dialects). docs/dialects.md
is generated from this table.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, Literal

from otel_telemetry.base import conventions as c
from otel_telemetry.exporters.request_log.dialects.words import (
    CHAT,
    CHAT_STREAM,
    CHAT_WHOLE,
    EMBEDDINGS,
    LITELLM,
    OTHER_WORDS,
    Implied,
)

# Meanings that have no current name. Reading turns them into one that has.
FIRST_CHUNK_MS: Final = "milliseconds until the first chunk"
FIRST_CHUNK_AT: Final = "time of the first chunk"
INPUT_BESIDE_CACHE: Final = "input tokens, cached ones not counted"
OUTPUT_BESIDE_REASONING: Final = "output tokens, reasoning not counted"
TOTAL_TOKENS: Final = "all tokens"
DURATION: Final = "seconds that the call took"
COST: Final = "cost in USD, as the producer gives it"
WORKFLOW_NAME: Final = "name of the workflow"
PROMPT_ID: Final = "name of the prompt template"
PROMPT_VERSION: Final = "version of the prompt template"
STATUS_MESSAGE: Final = "what went wrong"
SERVICE_TIER: Final = "service tier that answered"
UNPRICED_FEATURE: Final = "what was used that no price table has"
#: Counts that are in no column and have prices of their own (cost.py): tokens among the prompt's or the completion's,
#: searches, characters to be spoken, milliseconds of audio, pages. Their attribute is `gen_ai.usage.details.` and the
#: name.
PRICED_KINDS: Final = (
    *("input_audio_tokens", "cache_audio_read_tokens", "output_audio_tokens", "input_video_tokens"),
    "cache_video_read_tokens",
    *("input_image_tokens", "cache_image_read_tokens", "output_image_tokens", "cache_write_1h_tokens"),
    *("web_searches", "storage_searches", "input_characters", "input_audio_ms"),
    *("pages", "annotated_pages"),
)
_DETAILS: Final = c.USAGE_DETAILS

Basis = Literal["inclusive", "provider"]


@dataclass(slots=True, frozen=True, kw_only=True)
class Dialect:
    """The attribute names of one instrumentation for model calls.

    `marks`: attributes of which a span must have one to use this dialect; none are needed if empty. `names`: attribute
    -> current name (conventions.py) or one of the meanings above. `inside`: attribute that holds JSON -> path in it ->
    the same. `events`: span events of which the first gives the time of the first chunk. `kind`: the attribute with the
    kind of a span, and `calls`: those of its values that are one model call, with what they imply. A span with another
    value repeats what its children report, or is not a call at all. `spans`: what a span's name implies.
    `announced_by`: attributes of which a call that did not fail has one; without any, it is the beginning of a streamed
    call that another span reports in full. `basis`: whether input counts include cached tokens, or are the provider's
    own counts. `asked`, `answered`: attributes with messages, of which the first that exists counts; a trailing dot
    matches all that begin so. `in_parts`: which of the two is all of its attributes together. `extra_keys`: further
    attributes that go to `meta`. `own_sum`: the beginning of an attribute's value with which the total is a sum of
    input and output that the instrumentation made by itself: it proves nothing.
    """

    name: str
    about: str
    marks: AbstractSet[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    inside: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    events: AbstractSet[str] = frozenset()
    kind: str = ""
    calls: Mapping[str, Implied] = field(default_factory=dict)
    spans: Mapping[str, Implied] = field(default_factory=dict)
    announced_by: AbstractSet[str] = frozenset()
    basis: Basis = "inclusive"
    asked: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()
    in_parts: AbstractSet[str] = frozenset()
    extra_keys: tuple[str, ...] = ()
    own_sum: tuple[str, str] | None = None


_CURRENT: Final = (
    *(c.OPERATION_NAME, c.PROVIDER_NAME, c.REQUEST_MODEL, c.REQUEST_STREAM, c.RESPONSE_ID, c.RESPONSE_MODEL),
    *(c.RESPONSE_FINISH_REASONS, c.RESPONSE_TIME_TO_FIRST_CHUNK, c.USAGE_INPUT_TOKENS, c.USAGE_OUTPUT_TOKENS),
    *(c.USAGE_CACHE_READ_TOKENS, c.USAGE_CACHE_CREATION_TOKENS, c.USAGE_REASONING_TOKENS, c.CONVERSATION_ID),
    *(c.USER_ID, c.SESSION_ID),
)
#: A provider's usage object, as it came.
_RAW_USAGE: Final = {
    "prompt_tokens_details.cached_tokens": c.USAGE_CACHE_READ_TOKENS,
    "prompt_tokens_details.audio_tokens": f"{_DETAILS}input_audio_tokens",
    "completion_tokens_details.audio_tokens": f"{_DETAILS}output_audio_tokens",
    "cache_creation.ephemeral_1h_input_tokens": f"{_DETAILS}cache_write_1h_tokens",
    "server_tool_use.web_search_requests": f"{_DETAILS}web_searches",
    "service_tier": SERVICE_TIER,
    "input_tokens_details.cached_tokens": c.USAGE_CACHE_READ_TOKENS,
    "cache_read_input_tokens": c.USAGE_CACHE_READ_TOKENS,
    "cache_creation_input_tokens": c.USAGE_CACHE_CREATION_TOKENS,
    "completion_tokens_details.reasoning_tokens": c.USAGE_REASONING_TOKENS,
    "output_tokens_details.reasoning_tokens": c.USAGE_REASONING_TOKENS,
    "total_tokens": TOTAL_TOKENS,
}

DIALECTS: Final[tuple[Dialect, ...]] = (
    Dialect(
        name="gen_ai",
        about="OpenTelemetry GenAI conventions, current; attributes, span events, and the details event",
        names={
            **{name: name for name in _CURRENT},
            **c.SDK_NAMES,
            c.ENDUSER_ID: c.USER_ID,
            c.USAGE_COST: COST,
            "gen_ai.cost.total_cost": COST,  # LiteLLM's
            c.SERVICE_TIER: SERVICE_TIER,
            "gen_ai.openai.response.service_tier": SERVICE_TIER,
            c.UNPRICED_FEATURE: UNPRICED_FEATURE,
            **{f"{_DETAILS}{name}": f"{_DETAILS}{name}" for name in PRICED_KINDS},
            "gen_ai.prompt.name": PROMPT_ID,
        },
        kind=c.OPERATION_NAME,
        calls={
            **LITELLM,
            **OTHER_WORDS,
            **{name: {c.OPERATION_NAME: name} for name in sorted(c.MODEL_CALL_OPERATIONS)},
        },
        asked=(c.SYSTEM_INSTRUCTIONS, c.INPUT_MESSAGES),
        answered=(c.OUTPUT_MESSAGES,),
        in_parts=frozenset({"asked"}),
    ),
    Dialect(
        name="gen_ai.old",
        about="OpenTelemetry GenAI conventions, names before 1.37",
        names={**c.OLD_NAMES, "gen_ai.usage.total_tokens": TOTAL_TOKENS},
        basis="provider",
        asked=("gen_ai.prompt.", "gen_ai.prompt"),
        answered=("gen_ai.completion.", "gen_ai.completion"),
    ),
    Dialect(
        name="openinference",
        about="OpenInference (Arize Phoenix)",
        marks=frozenset({"openinference.span.kind"}),
        names={
            "llm.provider": c.PROVIDER_NAME,
            "llm.system": c.PROVIDER_NAME,
            "llm.request.model_name": c.REQUEST_MODEL,
            "llm.response.model_name": c.RESPONSE_MODEL,
            "llm.model_name": c.RESPONSE_MODEL,
            "embedding.model_name": c.RESPONSE_MODEL,
            "llm.finish_reason": c.RESPONSE_FINISH_REASONS,
            "llm.token_count.prompt": c.USAGE_INPUT_TOKENS,
            "llm.token_count.completion": c.USAGE_OUTPUT_TOKENS,
            "llm.token_count.prompt_details.cache_read": c.USAGE_CACHE_READ_TOKENS,
            "llm.token_count.prompt_details.cache_write": c.USAGE_CACHE_CREATION_TOKENS,
            "llm.token_count.completion_details.reasoning": c.USAGE_REASONING_TOKENS,
            "llm.token_count.prompt_details.audio": f"{_DETAILS}input_audio_tokens",
            "llm.token_count.completion_details.audio": f"{_DETAILS}output_audio_tokens",
            "llm.token_count.total": TOTAL_TOKENS,
            "llm.cost.total": COST,
            "llm.prompt_template.version": PROMPT_VERSION,
            "prompt.id": PROMPT_ID,
        },
        inside={
            "llm.invocation_parameters": {"model": c.REQUEST_MODEL, "stream": c.REQUEST_STREAM},
            "embedding.invocation_parameters": {"model": c.REQUEST_MODEL},
        },
        events=frozenset({"First Token Stream Event"}),
        kind="openinference.span.kind",
        calls={"LLM": CHAT, "EMBEDDING": EMBEDDINGS},
        asked=("llm.input_messages.", "llm.prompts.", "input.value"),
        answered=("llm.output_messages.", "llm.choices.", "output.value"),
        extra_keys=("llm.invocation_parameters", "agent.name"),
    ),
    Dialect(
        name="openllmetry",
        about="OpenLLMetry (Traceloop), model calls",
        marks=frozenset({"llm.request.type", "llm.is_streaming", "gen_ai.is_streaming"}),
        names={
            "llm.is_streaming": c.REQUEST_STREAM,
            "gen_ai.is_streaming": c.REQUEST_STREAM,
            "gen_ai.completion.0.finish_reason": c.RESPONSE_FINISH_REASONS,
            "llm.response.finish_reason": c.RESPONSE_FINISH_REASONS,
            "llm.response.stop_reason": c.RESPONSE_FINISH_REASONS,
            "llm.usage.total_tokens": TOTAL_TOKENS,
            "llm.usage.cost": COST,
            "traceloop.association.properties.user_id": c.USER_ID,
            "traceloop.association.properties.session_id": c.SESSION_ID,
            "traceloop.association.properties.conversation_id": c.CONVERSATION_ID,
            "traceloop.workflow.name": WORKFLOW_NAME,
            "traceloop.prompt.key": PROMPT_ID,
            "traceloop.prompt.version": PROMPT_VERSION,
        },
        events=frozenset({"gen_ai.content.completion.chunk", "llm.content.completion.chunk"}),
        kind="llm.request.type",
        calls={
            **LITELLM,
            "chat": CHAT,
            "completion": {c.OPERATION_NAME: "text_completion"},
        },
        extra_keys=("traceloop.entity.path",),
    ),
    Dialect(
        name="traceloop",
        about="Traceloop's workflows, tasks, agents and tools: never a model call",
        marks=frozenset({"traceloop.span.kind"}),
        kind="traceloop.span.kind",
    ),
    Dialect(
        name="vercel",
        about="Vercel AI SDK, versions 4 to 6",
        marks=frozenset({"ai.operationId"}),
        names={
            "ai.model.provider": c.PROVIDER_NAME,
            "ai.model.id": c.REQUEST_MODEL,
            "ai.response.model": c.RESPONSE_MODEL,
            "ai.response.id": c.RESPONSE_ID,
            "ai.response.finishReason": c.RESPONSE_FINISH_REASONS,
            "ai.response.msToFirstChunk": FIRST_CHUNK_MS,
            "ai.stream.msToFirstChunk": FIRST_CHUNK_MS,
            "ai.usage.inputTokens": c.USAGE_INPUT_TOKENS,
            "ai.usage.promptTokens": c.USAGE_INPUT_TOKENS,
            "ai.usage.tokens": c.USAGE_INPUT_TOKENS,
            "ai.usage.outputTokens": c.USAGE_OUTPUT_TOKENS,
            "ai.usage.completionTokens": c.USAGE_OUTPUT_TOKENS,
            "ai.usage.cachedInputTokens": c.USAGE_CACHE_READ_TOKENS,
            "ai.usage.inputTokenDetails.cacheReadTokens": c.USAGE_CACHE_READ_TOKENS,
            "ai.usage.inputTokenDetails.cacheWriteTokens": c.USAGE_CACHE_CREATION_TOKENS,
            "ai.usage.inputTokenDetails.noCacheTokens": INPUT_BESIDE_CACHE,
            "ai.usage.reasoningTokens": c.USAGE_REASONING_TOKENS,
            "ai.usage.outputTokenDetails.reasoningTokens": c.USAGE_REASONING_TOKENS,
            "ai.usage.totalTokens": TOTAL_TOKENS,
            "ai.telemetry.metadata.userId": c.USER_ID,
            "ai.telemetry.metadata.sessionId": c.SESSION_ID,
            "ai.telemetry.metadata.conversationId": c.CONVERSATION_ID,
        },
        inside={
            "ai.response.providerMetadata": {
                "anthropic.cacheReadInputTokens": c.USAGE_CACHE_READ_TOKENS,
                "anthropic.cacheCreationInputTokens": c.USAGE_CACHE_CREATION_TOKENS,
                "anthropic.usage.cache_read_input_tokens": c.USAGE_CACHE_READ_TOKENS,
                "anthropic.usage.cache_creation_input_tokens": c.USAGE_CACHE_CREATION_TOKENS,
                "bedrock.usage.cacheReadInputTokens": c.USAGE_CACHE_READ_TOKENS,
                "bedrock.usage.cacheWriteInputTokens": c.USAGE_CACHE_CREATION_TOKENS,
                "openai.cachedPromptTokens": c.USAGE_CACHE_READ_TOKENS,
                "openai.reasoningTokens": c.USAGE_REASONING_TOKENS,
            }
        },
        events=frozenset({"ai.stream.firstChunk"}),
        kind="ai.operationId",
        calls={
            "ai.generateText.doGenerate": CHAT_WHOLE,
            "ai.generateObject.doGenerate": CHAT_WHOLE,
            "ai.streamText.doStream": CHAT_STREAM,
            "ai.streamObject.doStream": CHAT_STREAM,
            "ai.embed.doEmbed": EMBEDDINGS,
            "ai.embedMany.doEmbed": EMBEDDINGS,
        },
        basis="provider",
        own_sum=("ai.operationId", "ai."),  # of Anthropic's and Bedrock's counts, in version 5
        asked=("ai.prompt.messages", "ai.prompt", "ai.values", "ai.value"),
        answered=("ai.response.text", "ai.response.object", "ai.response.toolCalls", "ai.response.reasoning"),
        in_parts=frozenset({"answered"}),
        extra_keys=("ai.telemetry.functionId",),
    ),
    Dialect(
        name="langfuse",
        about="Langfuse SDKs (OpenTelemetry based, from 3 on)",
        marks=frozenset({"langfuse.observation.type"}),
        names={
            "langfuse.observation.model.name": c.RESPONSE_MODEL,
            "langfuse.observation.completion_start_time": FIRST_CHUNK_AT,
            "langfuse.observation.metadata.finish_reason": c.RESPONSE_FINISH_REASONS,
            "langfuse.observation.status_message": STATUS_MESSAGE,
            "langfuse.observation.prompt.name": PROMPT_ID,
            "langfuse.observation.prompt.version": PROMPT_VERSION,
            "langfuse.user.id": c.USER_ID,
            "langfuse.session.id": c.SESSION_ID,
        },
        inside={
            "langfuse.observation.usage_details": {
                **_RAW_USAGE,
                "prompt_tokens": c.USAGE_INPUT_TOKENS,
                "completion_tokens": c.USAGE_OUTPUT_TOKENS,
                "input_tokens": c.USAGE_INPUT_TOKENS,
                "output_tokens": c.USAGE_OUTPUT_TOKENS,
                # Langfuse's own kinds of usage are added up, so that none contains another.
                "input": INPUT_BESIDE_CACHE,
                "output": OUTPUT_BESIDE_REASONING,
                "input_cached_tokens": c.USAGE_CACHE_READ_TOKENS,
                "input_cache_read": c.USAGE_CACHE_READ_TOKENS,
                "input_cache_creation": c.USAGE_CACHE_CREATION_TOKENS,
                "output_reasoning_tokens": c.USAGE_REASONING_TOKENS,
                "output_reasoning": c.USAGE_REASONING_TOKENS,
                "total": TOTAL_TOKENS,
            },
            "langfuse.observation.cost_details": {"total": COST},
        },
        kind="langfuse.observation.type",
        calls={"generation": CHAT, "embedding": EMBEDDINGS},
        # Its drop-in for the OpenAI client names its observations so, and says nothing else of the provider.
        spans={
            "OpenAI-generation": {c.PROVIDER_NAME: "openai"},
            "OpenAI-embedding": {c.PROVIDER_NAME: "openai"},
        },
        asked=("langfuse.observation.input",),
        answered=("langfuse.observation.output",),
        extra_keys=("langfuse.observation.model.parameters",),
    ),
    Dialect(
        name="pydantic_ai",
        about="Pydantic AI",
        marks=frozenset({"model_request_parameters", "gen_ai.agent.call.id"}),
        names={
            "gen_ai.client.operation.time_to_first_chunk": c.RESPONSE_TIME_TO_FIRST_CHUNK,
            "gen_ai.usage.details.cached_tokens": c.USAGE_CACHE_READ_TOKENS,
            "gen_ai.usage.details.cache_read_tokens": c.USAGE_CACHE_READ_TOKENS,
            "gen_ai.usage.details.cache_read_input_tokens": c.USAGE_CACHE_READ_TOKENS,
            "gen_ai.usage.details.cache_write_tokens": c.USAGE_CACHE_CREATION_TOKENS,
            "gen_ai.usage.details.cache_creation_input_tokens": c.USAGE_CACHE_CREATION_TOKENS,
            "gen_ai.usage.details.reasoning_tokens": c.USAGE_REASONING_TOKENS,
            "operation.cost": COST,
        },
    ),
    Dialect(
        name="logfire",
        about="Logfire's instrumentations of model clients",
        marks=frozenset({"logfire.msg_template"}),
        names={"duration": DURATION, "operation.cost": COST},
        inside={"gen_ai.usage.raw": _RAW_USAGE},
        # A streamed call is two spans: one until the stream begins, and a log (a span without length) of the whole.
        kind="logfire.span_type",
        calls={"log": {c.REQUEST_STREAM: True}, "span": {}},
        announced_by=frozenset({c.RESPONSE_ID, c.USAGE_INPUT_TOKENS, c.USAGE_OUTPUT_TOKENS, c.REQUEST_STREAM}),
        asked=("request_data",),
        answered=("response_data",),
    ),
    Dialect(
        name="langsmith",
        about="LangSmith's OpenTelemetry export (LangChain with LANGSMITH_OTEL_ENABLED)",
        marks=frozenset({"langsmith.span.kind"}),
        inside={
            "langsmith.metadata.usage_metadata": {
                "input_tokens": c.USAGE_INPUT_TOKENS,
                "output_tokens": c.USAGE_OUTPUT_TOKENS,
                "total_tokens": TOTAL_TOKENS,
                "input_token_details.cache_read": c.USAGE_CACHE_READ_TOKENS,
                "input_token_details.cache_creation": c.USAGE_CACHE_CREATION_TOKENS,
                "input_token_details.audio": f"{_DETAILS}input_audio_tokens",
                "output_token_details.reasoning": c.USAGE_REASONING_TOKENS,
                "output_token_details.audio": f"{_DETAILS}output_audio_tokens",
            }
        },
        kind="langsmith.span.kind",
        calls={"llm": CHAT, "embedding": EMBEDDINGS},
    ),
    Dialect(
        name="mlflow",
        about="MLflow tracing; texts stand in JSON",
        marks=frozenset({"mlflow.spanType"}),
        names={"mlflow.llm.model": c.RESPONSE_MODEL, "mlflow.llm.provider": c.PROVIDER_NAME},
        inside={
            "mlflow.chat.tokenUsage": {
                "input_tokens": c.USAGE_INPUT_TOKENS,
                "output_tokens": c.USAGE_OUTPUT_TOKENS,
                "total_tokens": TOTAL_TOKENS,
                "cache_read_input_tokens": c.USAGE_CACHE_READ_TOKENS,
                "cache_creation_input_tokens": c.USAGE_CACHE_CREATION_TOKENS,
            },
            "mlflow.llm.cost": {"total_cost": COST},
        },
        kind="mlflow.spanType",
        calls={"CHAT_MODEL": CHAT, "LLM": {c.OPERATION_NAME: "text_completion"}, "EMBEDDING": EMBEDDINGS},
        own_sum=("mlflow.message.format", '"anthropic'),
        asked=("mlflow.spanInputs",),
        answered=("mlflow.spanOutputs",),
    ),
)

#: Scopes of instrumentations whose total is their own sum of input and output, so that it proves nothing: OpenLIT
#: passes Anthropic's counts on as they are, cached tokens beside the input.
TOTAL_IS_OWN_SUM: Final = ("openlit",)

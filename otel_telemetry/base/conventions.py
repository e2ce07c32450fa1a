"""Every attribute name that the suite reads or writes, in one place.

Sources: OpenTelemetry semantic conventions (general and GenAI registries, November 2026 snapshot) and docs/contract
for the `request_log.*` names. The constants in opentelemetry-semantic-conventions are marked as moved, so we keep ours.
"""

from typing import Final

# --- resource ---------------------------------------------------------------------------------------------------
SERVICE_NAME: Final = "service.name"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
CLOUD_REGION: Final = "cloud.region"
DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment.name"
DEPLOYMENT_ENVIRONMENT_OLD: Final = "deployment.environment"
UNKNOWN_SERVICE: Final = "unknown_service"

# --- general ----------------------------------------------------------------------------------------------------
ERROR_TYPE: Final = "error.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_TYPE: Final = "exception.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
USER_ID: Final = "user.id"
ENDUSER_ID: Final = "enduser.id"
SESSION_ID: Final = "session.id"
CLIENT_ADDRESS: Final = "client.address"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_STATUS_CODE_OLD: Final = "http.status_code"
HTTP_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_ROUTE: Final = "http.route"
RPC_METHOD: Final = "rpc.method"
CELERY_TASK: Final = "celery.task_name"

#: Headers by which proxies and content networks hand on the address of a person's machine.
CLIENT_ADDRESS_HEADERS: Final = (
    *("x-forwarded-for", "x-real-ip", "forwarded", "cf-connecting-ip", "true-client-ip", "x-client-ip"),
    *("cf-connecting-ipv6", "cf-pseudo-ipv4", "fastly-client-ip", "fly-client-ip", "x-cluster-client-ip"),
    *("x-original-forwarded-for", "x-envoy-external-address", "x-appengine-user-ip", "x-azure-clientip"),
    *("x-azure-socketip", "x-vercel-forwarded-for", "x-nf-client-connection-ip", "do-connecting-ip"),
    *("ali-cdn-real-ip", "x-remote-addr", "x-remote-ip", "remote-addr", "client-ip", "forwarded-for", "x-forwarded"),
)
#: Attributes that hold the address of a person's machine, in the order in which a row looks for its client.
#: Instrumentations name it by their version of the HTTP conventions; see docs/privacy.md. Of headers these are the
#: spellings that instrumentations use; redaction knows any (processors/detect/names/client_names.py).
CLIENT_ADDRESS_KEYS: Final = (
    CLIENT_ADDRESS,
    "http.client_ip",
    "net.peer.ip",
    "net.sock.peer.addr",
    "source.address",
    "network.peer.address",
    *dict.fromkeys(
        f"http.request.header.{spelt}"
        for name in CLIENT_ADDRESS_HEADERS[:6]
        for spelt in (name.replace("-", "_"), name)
    ),
)

#: Attributes that say who asked, and in which session: by the general conventions, and by SDKs for models.
USER_ID_KEYS: Final = (
    USER_ID,
    ENDUSER_ID,
    "langfuse.user.id",
    "traceloop.association.properties.user_id",
    "ai.telemetry.metadata.userId",
)
SESSION_ID_KEYS: Final = (
    SESSION_ID,
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
    "ai.telemetry.metadata.sessionId",
)

# --- GenAI ------------------------------------------------------------------------------------------------------
GEN_AI: Final = "gen_ai."
#: How attributes begin that can make a span a model call, in any dialect.
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"  # double, seconds
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"  # includes cached ones
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"  # includes reasoning
USAGE_CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
#: Before the names of counts that have no convention but a price of their own (request_log's cost.py, `KINDS`).
USAGE_DETAILS: Final = "gen_ai.usage.details."
USAGE_COST: Final = "gen_ai.usage.cost"  # USD, as the provider's own answer states it
SERVICE_TIER: Final = "openai.response.service_tier"  # also for other providers' tiers
UNPRICED_FEATURE: Final = "gen_ai.usage.details.unpriced_feature"  # used by the call, and in no price table
USAGE_PROBLEMS: Final = "otel_telemetry.usage_problems"  # what is wrong with an answer's counts: "name: problem"
#: The problems that it may tell of.
NOT_A_MAP: Final = "not a map"
NOT_A_NUMBER: Final = "not a number"
NOT_WHOLE: Final = "not a whole number"
NEGATIVE: Final = "negative"
ABSURD: Final = "absurdly large"
NOT_THE_SUM: Final = "not the sum of input and output"
COUNT_PROBLEMS: Final = frozenset({NOT_A_MAP, NOT_A_NUMBER, NOT_WHOLE, NEGATIVE, ABSURD, NOT_THE_SUM})
CONVERSATION_ID: Final = "gen_ai.conversation.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_NAME: Final = "gen_ai.tool.name"

#: `gen_ai.operation.name` values that are one model call, hence counted and priced.
#: The others (invoke_agent, execute_tool, invoke_workflow, ...) repeat what their children report.
MODEL_CALL_OPERATIONS: Final = frozenset(
    [
        *("chat", "generate_content", "text_completion", "embeddings"),
        # no words of the conventions
        *("rerank", "image_generation", "video_generation", "speech", "transcription", "moderation", "ocr"),
    ]
)

#: Names that SDKs with spans of their own use beside the current ones, for the same things, counted the same way.
#: anthropic from version 2.11 on; see its `_tracing.py`.
SDK_NAMES: Final = {
    "gen_ai.usage.cache_write.input_tokens": USAGE_CACHE_CREATION_TOKENS,
    "anthropic.message.stop_reason": RESPONSE_FINISH_REASONS,
}

#: Older names of the same things: how spans of earlier conventions are read.
OLD_NAMES: Final = {
    "gen_ai.system": PROVIDER_NAME,
    "gen_ai.usage.prompt_tokens": USAGE_INPUT_TOKENS,
    "gen_ai.usage.completion_tokens": USAGE_OUTPUT_TOKENS,
    "gen_ai.usage.cached_tokens": USAGE_CACHE_READ_TOKENS,
    "gen_ai.usage.cache_read_input_tokens": USAGE_CACHE_READ_TOKENS,
    "gen_ai.usage.cache_creation_input_tokens": USAGE_CACHE_CREATION_TOKENS,
    "gen_ai.usage.reasoning_tokens": USAGE_REASONING_TOKENS,
    "gen_ai.usage.cache_write_input_tokens": USAGE_CACHE_CREATION_TOKENS,  # Strands
    "gen_ai.usage.prompt_tokens_details.cache_read": USAGE_CACHE_READ_TOKENS,  # OpenLIT, with the next two
    "gen_ai.usage.prompt_tokens_details.cache_write": USAGE_CACHE_CREATION_TOKENS,
    "gen_ai.usage.completion_tokens_details.reasoning": USAGE_REASONING_TOKENS,
    "gen_ai.response.prompt_tokens": USAGE_INPUT_TOKENS,  # Semantic Kernel, with the next two
    "gen_ai.response.completion_tokens": USAGE_OUTPUT_TOKENS,
    "gen_ai.response.finish_reason": RESPONSE_FINISH_REASONS,
}

#: Attributes that hold messages between people and models (docs/architecture.md, D10: off unless asked for).
CONTENT_KEYS: Final = frozenset(
    {
        INPUT_MESSAGES,
        OUTPUT_MESSAGES,
        SYSTEM_INSTRUCTIONS,
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "gen_ai.retrieval.query.text",
        "gen_ai.retrieval.documents",
        "gen_ai.prompt",
        "gen_ai.completion",
        # OpenInference
        "input.value",
        "output.value",
        "llm.prompt_template.template",
        "llm.prompt_template.variables",
        "llm.function_call",
        # OpenLLMetry, Traceloop
        "traceloop.entity.input",
        "traceloop.entity.output",
        "traceloop.prompt.template",
        "traceloop.prompt.template_variables",
        # Vercel AI SDK
        "ai.prompt",
        "ai.prompt.messages",
        "ai.response.text",
        "ai.response.object",
        "ai.response.reasoning",
        "ai.response.toolCalls",
        "ai.response.files",
        "ai.result.text",
        "ai.result.object",
        "ai.result.toolCalls",
        "ai.toolCall.args",
        "ai.toolCall.result",
        "ai.value",
        "ai.values",
        "ai.embedding",
        "ai.embeddings",
        # MLflow
        "mlflow.spanInputs",
        "mlflow.spanOutputs",
        # Langfuse
        "langfuse.observation.input",
        "langfuse.observation.output",
        "langfuse.trace.input",
        "langfuse.trace.output",
        "langfuse.experiment.item.expected_output",
        # Pydantic AI, Logfire
        "pydantic_ai.all_messages",
        "all_messages",
        "all_messages_events",
        "final_result",
        "tool_arguments",
        "tool_response",
        "request_data",
        "response_data",
        # CrewAI
        "crew_agents",
        "crew_tasks",
        "crewai.crew.agents",
        "crewai.crew.tasks",
        "crewai.crew.tasks_output",
        "crewai.task.description",
        "crewai.agent.backstory",
        "crewai.agent.goal",
        "formatted_description",
        "formatted_expected_output",
        # Google ADK
        "gcp.vertex.agent.data",
        "gcp.vertex.agent.llm_request",
        "gcp.vertex.agent.llm_response",
        "gcp.vertex.agent.tool_call_args",
        "gcp.vertex.agent.tool_response",
        # MLflow
        "mlflow.chat.messages",
        # MCP
        "mcp.request.argument",
        "mcp.response.value",
        # Haystack
        "haystack.component.input",
        "haystack.component.output",
        "haystack.pipeline.input_data",
        "haystack.pipeline.output_data",
        # LangGraph, and tools by OpenInference
        "langgraph.messages",
        "tool.parameters",
        # Events of earlier GenAI conventions
        "gen_ai.event.content",
    }
)
#: The same in `request_log.*` attributes, by which an app says what was asked and answered.
CONTENT_OF_REQUESTS: Final = frozenset(
    f"request_log.{name}" for name in ("query_text", "answer_text", "normalized", "topk", "query", "answer", "sources")
)
CONTENT_PREFIXES: Final = (
    "gen_ai.prompt.",
    "gen_ai.completion.",
    "gen_ai.memory.",
    "llm.input_messages.",
    "llm.output_messages.",
    "llm.prompts",
    "llm.completions",
    "llm.choices",
    "embedding.embeddings.",
    "retrieval.documents",
    "reranker.",
)

# --- metrics of the GenAI conventions: name -> (unit, advised buckets) ------------------------------------------
TOKEN_USAGE_METRIC: Final = "gen_ai.client.token.usage"
OPERATION_DURATION_METRIC: Final = "gen_ai.client.operation.duration"
TIME_TO_FIRST_CHUNK_METRIC: Final = "gen_ai.client.operation.time_to_first_chunk"
TIME_PER_OUTPUT_CHUNK_METRIC: Final = "gen_ai.client.operation.time_per_output_chunk"
TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_BUCKETS: Final = tuple(float(4**n) for n in range(14))
DURATION_BUCKETS: Final = tuple(round(0.01 * 2**n, 2) for n in range(14))

# --- metrics of the contract (section 5), as they are named here; Prometheus adds _seconds and _total ------------
CACHE_HITS_METRIC: Final = "telemetry_cache.cache_hits"
CACHE_MISSES_METRIC: Final = "telemetry_cache.cache_misses"
CACHE_HIT_RATE_METRIC: Final = "telemetry_cache.cache_hit_rate"
CACHE_READ_METRIC: Final = "telemetry_cache.read"
CACHE_LOOKUP_METRIC: Final = "telemetry_cache.lookup_duration"
TTFB_METRIC: Final = "telemetry_cache.ttfb"
TTFB_BUCKETS: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
TOKENS_PER_SECOND_METRIC: Final = "telemetry_cache.tokens_per_second"
REPAIRS_METRIC: Final = "telemetry_cache.repair_rate"
DRIFT_METRIC: Final = "telemetry_cache.drift_incidents"

# --- what lookups in a cache say on their span ------------------------------------------------------------------
CACHE_SPAN_HIT: Final = "cache.hit"  # bool, of a command for one value
CACHE_SPAN_HITS: Final = "cache.hits"
CACHE_SPAN_MISSES: Final = "cache.misses"
CACHE_SPAN_FAMILY: Final = "cache.family"  # what kind of keys, never a key
CACHE_SPAN_BYTES: Final = "cache.bytes"
CACHE_SPAN_DURATION: Final = "cache.duration_ms"

# --- what an app says about its request (contract section 2) ----------------------------------------------------
REQUEST_LOG: Final = "request_log."
#: Names the stage of a request (router, web, final) that a span belongs to. It alone does not make a span a request.
STAGE: Final = "request_log.stage"
#: Degraded reasons of requests that were declined on purpose, as they ought to be: none of them is an error.
SKIPS: Final = frozenset(
    {*("encrypted_room", "media", "foreign_room"), *("skip", "skipped", "declined", "ignored", "not_for_us")}
)
#: JSON text of the span's `request_log.*` maps may come as one attribute or as `request_log.stage_ms.web` and so on.
MAP_COLUMNS: Final = ("stage_ms", "models")

# --- what apps, browsers and people say in log records, as `request_log.<column>` attributes (docs/request_log.md)
#: Names of the events. A log record with one of them becomes rows of the tables beside it.
WORKFLOW_EVENT: Final = "request_log.workflow"  # workflow_run, workflow_step, workflow_event
FEEDBACK_EVENT: Final = "request_log.feedback"  # feedback
BROWSER_EVENT: Final = "request_log.browser"  # browser_event
APP_EVENTS: Final = frozenset({WORKFLOW_EVENT, FEEDBACK_EVENT, BROWSER_EVENT})
USER_AGENT: Final = "user_agent.original"
#: Types of workflow events that change a run or a step; all other types are kept as they are.
RUN_START: Final = "run:start"
RUN_UPDATE: Final = "run:update"
STEP_START: Final = "step:start"
STEP_END: Final = "step:end"
STEP_ERROR: Final = "step:error"
STEP_STATE: Final = "step:state"
RUN_TYPES: Final = frozenset({RUN_START, RUN_UPDATE})
STEP_TYPES: Final = frozenset({STEP_START, STEP_END, STEP_ERROR, STEP_STATE})
#: In which order those of one millisecond count, whoever sent which first.
EVENT_ORDER: Final = {RUN_START: 0, STEP_START: 0, RUN_UPDATE: 1, STEP_STATE: 1, STEP_END: 2, STEP_ERROR: 2}
#: Attributes of an event that came in a list: its place there; the EVENT_ORDER that it has at least, since one before
#: it has that; and its number among those of its type that are about the same and of the same time.
EVENT_PLACE: Final = "workflow_event.place"
EVENT_AFTER: Final = "workflow_event.after"
EVENT_NUMBER: Final = "workflow_event.number"
#: Events of POST /log that the contract names.
LOG_EVENTS: Final = frozenset({"tool_execution", "response_generation", "policy_violation"})
#: Headers of a request -> the column that they fill where the request itself says nothing of it.
METADATA_HEADERS: Final = {
    "x-chronicle-application": "application",
    "x-chronicle-environment": "environment",
    "x-chronicle-organization-id": "organization_id",
    "x-chronicle-project-id": "project_id",
    "x-chronicle-user-id": "user_id",
    "x-chronicle-workflow-id": "workflow_id",
    "x-chronicle-workflow-name": "workflow_name",
    "x-chronicle-run-id": "run_id",
    "x-chronicle-step-id": "step_id",
    "x-chronicle-step-index": "step_index",
    "x-chronicle-prompt-id": "prompt_id",
    "x-chronicle-prompt-version": "prompt_version",
    "x-chronicle-extra-meta": "meta",  # a JSON object
}

# --- what the suite itself adds ---------------------------------------------------------------------------------
REDACTED: Final = "otel_telemetry.redacted."  # + type -> count, only where summary attributes are switched on
ANSWERED_FROM_CACHE: Final = "otel_telemetry.answered_from_cache"  # a span of an answer for which no model was called
TOO_DEEP: Final = "[REDACTED_DEPTH]"  # in place of what is nested too deep
SCOPE_NAME: Final = "otel_telemetry"

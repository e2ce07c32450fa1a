"""Removes prompts and answers for `content: drop`, from attributes, events and bodies of log records.

Attributes that contain content by their name are removed as a whole (conventions.CONTENT_KEYS, and the names that
content_names recognises). Of lists, maps and JSON text under other names only the content in them is removed. How much
a word such as `query` or `text` means depends on its position: in the namespaces of model frameworks, in
`request_log.*` and on its own it means content; in those of other conventions (`db.query.text`) it never does;
elsewhere only unambiguous words count.
"""

import re
from typing import Any, Final

from otel_telemetry.base import content, content_names, conventions
from otel_telemetry.base.content import GONE
from otel_telemetry.base.records import AnyValue
from otel_telemetry.processors.redact.policy import is_content

#: First words of the attributes of model frameworks.
_MODELS: Final = content_names.words(
    "gen_ai llm openinference embedding reranker retrieval retriever traceloop ai langfuse langsmith langgraph"
    " langchain mlflow crewai crew mcp haystack llama_index llamaindex pydantic_ai logfire tool agent input"
    " output prompt completion document message autogen smolagents dspy semantic_kernel openai anthropic cohere"
    " mistral bedrock vertexai google_genai google_adk gcp phoenix weave opik helicone litellm strands agno"
    " promptflow conversation dify assistant chat rag inference ollama vllm groq watsonx a2a openlit genkit"
    " mastra request_log"
)
#: First words of other conventions, in which the same words mean something else.
_OTHERS: Final = content_names.words(
    "db url http messaging rpc graphql exception code event log faas k8s container host os process service"
    " telemetry network net server client source destination peer thread cloud deployment device browser error"
    " feature_flag otel test vcs cicd dns tls file system jvm nodejs aspnetcore signalr user_agent"
    " otel_telemetry"
)
#: What an app says of names of models and of times, by names of its own: `request_log.models.answer`.
_NAMED_BY_APPS: Final = tuple(f"{conventions.REQUEST_LOG}{column}." for column in conventions.MAP_COLUMNS)
#: Which template a prompt was made of.
_PROMPT_REFERENCES: Final = frozenset({"gen_ai.prompt.name", "gen_ai.prompt.id", "gen_ai.prompt.version"})
#: Last words of flattened messages (`gen_ai.completion.0.finish_reason`) that are none of the message's own.
_OF_A_MESSAGE: Final = frozenset({"finish_reason", "role", "id", "score"})
_DETAILS: Final = frozenset({"gen_ai.client.inference.operation.details", "gen_ai.evaluation.result"})
_EVENT_ENDS: Final = (".message", ".choice", ".prompt", ".completion", ".chunk")
#: What a key, an event's name or a text must hold for any of this to apply, for the scan that comes first.
TRIGGERS: Final = (
    *sorted(f"{name}\\." for name in _MODELS),
    *sorted(f"(?i){stem}" for stem in content_names.STEMS),
    "(?i)role",
    "(?i)speaker",
    "(?i)token_ids",
    *(re.escape(key) for key in sorted(conventions.CONTENT_KEYS) if "." not in key),
)


def attribute(key: str, value: AnyValue, event: str = "") -> Any:
    """Return what may stay of an attribute, the same object where all of it may; GONE where it is content.

    `event` names the span event or log record that has it.
    """
    if value is None or isinstance(value, bool | int | float) or key.startswith(_NAMED_BY_APPS):
        return value
    last = key.rpartition(".")[2]
    if key not in _PROMPT_REFERENCES and (is_content(key) or key in conventions.CONTENT_OF_REQUESTS):
        return _of_a_message(last, value) if last in _OF_A_MESSAGE else GONE
    if event and is_message(event):
        return _of_a_message(key, value)
    first, dot, _ = key.partition(".")
    if first in _OTHERS and dot:
        return content.without(value, sure=True)
    return content.without(value, key, sure=bool(dot) and first not in _MODELS)


def _of_a_message(name: str, value: AnyValue) -> Any:
    """Return what may stay of a message's member."""
    kept: Any = content.without_words({name: value})
    return kept if kept is GONE else kept[name]


def names(key: str) -> bool:
    """Return whether the name of an attribute alone says that it is content."""
    return attribute(key, "Words of any kind.") is GONE


def body(value: AnyValue, event: str, *, of_model: bool) -> AnyValue:
    """Return what may stay of a log record's body; None where all of it is content.

    `of_model`: the record has attributes of a model call.
    """
    kept: AnyValue | Any
    if event and is_message(event):
        kept = content.without_words(value)
    else:
        kept = content.without(value, sure=not (of_model or event.partition(".")[0] in _MODELS))
    return None if kept is GONE else kept


def is_message(event: str) -> bool:
    """Return whether events of that name are messages of a conversation, or pieces of one."""
    return event not in _DETAILS and event.partition(".")[0] in _MODELS and event.endswith(_EVENT_ENDS)


def is_of_model(key: str) -> bool:
    """Return whether an attribute is one of a model call."""
    return key.startswith(conventions.GEN_AI)

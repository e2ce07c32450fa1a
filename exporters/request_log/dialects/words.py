"""The words that instrumentations have for operations and providers, and what they are under current names."""

from collections.abc import Mapping
from typing import Any, Final

from otel_telemetry.base import conventions as c

Implied = Mapping[str, Any]

CHAT: Final[Implied] = {c.OPERATION_NAME: "chat"}
CHAT_STREAM: Final[Implied] = {c.OPERATION_NAME: "chat", c.REQUEST_STREAM: True}
CHAT_WHOLE: Final[Implied] = {c.OPERATION_NAME: "chat", c.REQUEST_STREAM: False}
EMBEDDINGS: Final[Implied] = {c.OPERATION_NAME: "embeddings"}
#: LiteLLM puts the name of its own function where the operation belongs: the same for an `a` in front of it.
#: Source: `CallTypes` in litellm/types/utils.py.
LITELLM: Final[Mapping[str, Implied]] = {
    f"{prefix}{name}": {c.OPERATION_NAME: operation}
    for prefix in ("", "a")
    for name, operation in {
        "completion": "chat",
        "text_completion": "text_completion",
        "responses": "chat",
        "anthropic_messages": "chat",
        "generate_content": "generate_content",
        "generate_content_stream": "generate_content",
        "embedding": "embeddings",
        "rerank": "rerank",
        "image_generation": "image_generation",
        "image_edit": "image_generation",
        "speech": "speech",
        "transcription": "transcription",
        "moderation": "moderation",
        "ocr": "ocr",
    }.items()
}
#: Semantic Kernel's words before 1.38 and those of Spring AI, where they differ.
#: Sources: semantic_kernel/utils/telemetry/model_diagnostics, AiOperationType of Spring AI.
OTHER_WORDS: Final[Mapping[str, Implied]] = {
    "chat.completions": CHAT,
    "chat.streaming_completions": CHAT_STREAM,
    "text.completions": {c.OPERATION_NAME: "text_completion"},
    "text.streaming_completions": {c.OPERATION_NAME: "text_completion", c.REQUEST_STREAM: True},
    "image": {c.OPERATION_NAME: "image_generation"},
}

#: Names that dialects have for providers -> the name of the current convention. Vercel adds the API after a dot.
PROVIDERS: Final[Mapping[str, str]] = {
    "amazon-bedrock": "aws.bedrock",
    "aws": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure-openai": "azure.ai.openai",
    "google": "gcp.gemini",
    "google.generative-ai": "gcp.gemini",
    "gemini": "gcp.gemini",
    "google.vertex": "gcp.vertex_ai",
    "vertex": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "xai": "x_ai",
}

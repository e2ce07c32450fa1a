"""What providers answer, recorded or written in the same shapes, and what a row must say of it.

sdk_readings.py reads the expected numbers off them.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.instrument.sdk_readings import Expected, anthropic, cohere, gemini, nothing, ollama, openai, responses

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "provider-responses"


@dataclass(frozen=True)
class Reply:
    """One HTTP answer; `pieces` are sent one by one, `encoding` is what the body was recorded in."""

    pieces: tuple[bytes, ...]
    kind: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    encoding: str = ""

    @property
    def values(self) -> list[Any]:
        """The JSON values of the answer: the whole document, or those of its events or lines."""
        body = b"".join(self.pieces)
        text = (gzip.decompress(body) if self.encoding else body).decode()
        try:
            return [json.loads(text)]
        except ValueError:
            lines = [line.removeprefix("data:").strip() for line in text.splitlines()]
            return [json.loads(line) for line in lines if line.startswith("{")]


def document(value: Any, status: int = 200, **headers: str) -> Reply:
    named = {key.replace("_", "-"): text for key, text in headers.items()}
    return Reply((json.dumps(value).encode(),), "application/json", status, named)


def events(*values: Any, named: bool = False, done: bool = True) -> Reply:
    names = [f"event: {value['type']}\n" if named else "" for value in values]
    texts = [f"{n}data: {json.dumps(v, separators=(',', ':'))}\n\n" for n, v in zip(names, values, strict=True)]
    return Reply(tuple(text.encode() for text in [*texts, *["data: [DONE]\n\n"] * done]), "text/event-stream")


def lines(*values: Any) -> Reply:
    return Reply(tuple(json.dumps(value).encode() + b"\n" for value in values), "application/x-ndjson")


def recorded(name: str, number: int = 0) -> Reply:
    response = yaml.safe_load((RECORDED / f"{name}.yaml").read_text(encoding="utf-8"))["interactions"][number][
        "response"
    ]
    body = response["body"]["string"]
    data: bytes = body if isinstance(body, bytes) else body.encode()
    headers = {key.lower(): value[0] for key, value in response["headers"].items()}
    if data[:2] == b"\x1f\x8b":
        return Reply((data,), headers["content-type"], encoding="gzip")
    mark = b"\n\n" if b"\n\n" in data else b"\n"
    pieces = tuple(piece + mark for piece in data.split(mark) if piece)
    return Reply(pieces, headers["content-type"])


@dataclass(frozen=True)
class Case:
    """One call of an SDK: the answers it gets, one after the other, and how to read the expected row off the last."""

    replies: tuple[Reply, ...]
    read: Callable[[list[Any]], Expected]
    provider: str
    requested: str
    operation: str = "chat"
    streamed: bool = False
    errors: tuple[str | None, ...] = (None,)  # what each row's error holds


def chat_answer(model: str, usage: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    reply = {"role": "assistant", "content": "Why not?", "refusal": None} | message
    choice = {"index": 0, "message": reply, "logprobs": None, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


def chat_chunks(model: str, *deltas: Any, usage: Any = None, finish: str = "stop") -> list[dict[str, Any]]:
    head = {"id": "c-2", "object": "chat.completion.chunk", "created": 1, "model": model}
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None} for delta in deltas
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return [*chunks, {**head, "choices": [], "usage": usage}] if usage else chunks


def usage(prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def openai_error(code: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": "Sorry, jane.roe@example.com", "type": kind, "param": None, "code": code}}


LIMITED = document(openai_error("rate_limit_exceeded", "requests"), 429, retry_after_ms="1", retry_after="1")
GPT = "gpt-4o-2024-08-06"
OK = document(chat_answer(GPT, usage(20, 9)))
LLAMA = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


def openai_cases() -> dict[str, Case]:
    def of(read: Any, requested: str, *replies: Reply, provider: str = "openai", **more: Any) -> Case:
        return Case(replies, read, provider, requested, **more)

    answer = recorded("openai-responses-reasoning").values[0]
    stream = [
        {
            "type": "response.created",
            "sequence_number": 0,
            "response": answer | {"status": "in_progress", "usage": None},
        },
        {
            "type": "response.output_text.delta",
            "sequence_number": 1,
            "item_id": "m",
            "output_index": 1,
            "content_index": 0,
            "delta": "Three",
            "logprobs": [],
        },
        {"type": "response.completed", "sequence_number": 2, "response": answer},
    ]
    tool = {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    vectors = [{"object": "embedding", "index": 0, "embedding": "AACAPwAAAEA="}]
    embedded = {"object": "list", "data": vectors, "model": "text-embedding-3-small"}
    plain = {"index": 0, "text": "hi", "finish_reason": "length", "logprobs": None}
    completed = chat_answer("gpt-3.5-turbo-instruct:20230824-v2", usage(5, 7)) | {
        "object": "text_completion",
        "choices": [plain],
    }
    filtered = chat_answer(GPT, usage(30, 8, 10)) | {"prompt_filter_results": [{"prompt_index": 0}]}
    hit = usage(40, 30, reasoning=20) | {"prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": 24}
    del hit["prompt_tokens_details"]
    thought = chat_chunks(
        "deepseek-reasoner", {"reasoning_content": "Hm", "content": None}, {"content": "4"}, usage=hit
    )
    plain_usage = {"prompt_tokens": 14, "completion_tokens": 6, "total_tokens": 20}
    return {
        "chat": of(openai, "gpt-5", recorded("openai-chat", 0)),
        "chat again": of(openai, "gpt-5", recorded("openai-chat", 1)),
        "chat with cached tokens": of(openai, "gpt-4o", document(chat_answer(GPT, usage(2006, 300, 1920)))),
        "chat stream": of(openai, "gpt-3.5-turbo", recorded("openai-chat-stream"), streamed=True),
        "chat stream with usage": of(
            openai,
            "o3",
            events(
                *chat_chunks(
                    "o3-2025-04-16",
                    {"role": "assistant", "content": ""},
                    {"content": "Hi"},
                    usage=usage(99, 88, 64, 77),
                )
            ),
            streamed=True,
        ),
        "tools": of(
            openai, "gpt-4o", document(chat_answer(GPT, usage(9, 4), "tool_calls", content=None, tool_calls=[tool]))
        ),
        "refusal": of(openai, "gpt-4o", document(chat_answer(GPT, usage(9, 4), content=None, refusal="I cannot"))),
        "rate limit": of(openai, "gpt-4o", LIMITED, OK, errors=("rate_limit_exceeded", None)),
        "bad request": of(
            nothing,
            "gpt-4o",
            document(openai_error("context_length_exceeded", "invalid_request_error"), 400),
            errors=("context_length_exceeded",),
        ),
        "error page": of(
            nothing, "gpt-4o", Reply((b"<html>jane.roe@example.com</html>",), "text/html", 502), errors=("502",)
        ),
        "null usage": of(openai, "gpt-4o", document(chat_answer(GPT, None))),
        "responses": of(responses, "gpt-4.1-nano", recorded("openai-responses")),
        "responses with reasoning": of(responses, "gpt-5-nano", recorded("openai-responses-reasoning", 1)),
        "responses stream": of(responses, "gpt-5-nano", events(*stream, named=True, done=False), streamed=True),
        "embeddings": of(
            openai,
            "text-embedding-3-small",
            document(embedded | {"usage": {"prompt_tokens": 1000, "total_tokens": 1000}}),
            operation="embeddings",
        ),
        "completions": of(openai, "gpt-3.5-turbo-instruct", document(completed), operation="text_completion"),
        "azure": of(openai, "gpt-4o", document(filtered), provider="azure.ai.openai"),
        "deepseek stream": of(openai, "deepseek-reasoner", events(*thought), provider="deepseek", streamed=True),
        "together stream": of(
            openai,
            LLAMA,
            events(*chat_chunks(LLAMA, {"content": "a"}, {"content": "b"}, usage=plain_usage, finish="eos")),
            provider="together",
            streamed=True,
        ),
        "a server of one's own": of(
            openai, "house-7b", document(chat_answer("house-7b", plain_usage)), provider="_OTHER"
        ),
    }


def raw_cases() -> dict[str, Case]:
    known = openai_cases()
    return {"raw": known["chat"], "raw stream": known["chat stream"]}


def anthropic_cases() -> dict[str, Case]:
    sonnet = "claude-3-5-sonnet-20240620"
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": sonnet,
        "stop_sequence": None,
    }
    message |= {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}
    counts = {"input_tokens": 21, "output_tokens": 90, "cache_read_input_tokens": 400}
    counts |= {"cache_creation_input_tokens": 1800}
    tool = [{"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}}]
    used = message | {"content": tool, "stop_reason": "tool_use", "usage": {"input_tokens": 5, "output_tokens": 6}}
    busy = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "r"}
    haiku = "claude-3-haiku-20240307"
    stream = recorded("anthropic-messages-stream")

    def of(requested: str, *replies: Reply, **more: Any) -> Case:
        return Case(replies, anthropic, "anthropic", requested, **more)

    return {
        "messages": of("claude-3-opus-20240229", recorded("anthropic-messages")),
        "messages stream": of(haiku, stream, streamed=True),
        "cache write stream": of(sonnet, recorded("anthropic-prompt-caching-stream", 0), streamed=True),
        "cache read stream": of(sonnet, recorded("anthropic-prompt-caching-stream", 1), streamed=True),
        "cache write": of(sonnet, document(message | {"usage": counts})),
        "tool": of(sonnet, document(used)),
        "overloaded": of(
            haiku,
            document(busy, 529, retry_after_ms="1"),
            document(used | {"model": haiku}),
            errors=("overloaded_error", None),
        ),
        "stream helper": of(haiku, stream, streamed=True),
    }


def genai_cases() -> dict[str, Case]:
    model = "gemini-2.5-flash"

    def piece(text: str, thought: bool, output_tokens: int, finish: str | None = None) -> dict[str, Any]:
        part = {"text": text} | ({"thought": True} if thought else {})
        candidate = {"content": {"parts": [part], "role": "model"}, "index": 0}
        candidate |= {"finishReason": finish} if finish else {}
        counts = {"promptTokenCount": 300, "candidatesTokenCount": output_tokens, "thoughtsTokenCount": 40}
        counts |= {"cachedContentTokenCount": 128, "totalTokenCount": 340 + output_tokens}
        return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": model, "responseId": "r"}

    stream = events(piece("Hm", True, 0), piece("AI", False, 2), piece(" is", False, 5, "STOP"), done=False)
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": model}
    blocked |= {"usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}
    quota = {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}

    def of(reply: Reply, **more: Any) -> Case:
        return Case((reply,), more.pop("read", gemini), "gcp.gemini", model, operation="generate_content", **more)

    return {
        "generate": of(recorded("gemini-generate-content")),
        "generate stream": of(stream, streamed=True),
        "blocked": of(document(blocked)),
        "quota": of(document(quota, 429), read=nothing, errors=("RESOURCE_EXHAUSTED",)),
    }


def mistral_cases() -> dict[str, Case]:
    def of(reply: Reply, **more: Any) -> Case:
        return Case((reply,), openai, "mistral_ai", "mistral-tiny", **more)

    return {
        "chat": of(recorded("mistral-chat-cache-tokens")),
        "chat stream": of(recorded("mistral-chat-stream"), streamed=True),
    }


def groq_cases() -> dict[str, Case]:
    model = "llama-3.3-70b-versatile"
    answer = document(chat_answer(model, usage(50, 12, 32)) | {"x_groq": {"id": "r"}})
    return {
        "chat": Case((answer,), openai, "groq", model),
        "chat stream": Case((recorded("groq-chat-stream"),), openai, "groq", "llama3-8b-8192", streamed=True),
        "rate limit": Case((LIMITED, answer), openai, "groq", model, errors=("rate_limit_exceeded", None)),
    }


def cohere_cases() -> dict[str, Case]:
    counts = {
        "billed_units": {"input_tokens": 7, "output_tokens": 3},
        "tokens": {"input_tokens": 70, "output_tokens": 4},
    }
    second = {"id": "c", "finish_reason": "COMPLETE", "usage": counts}
    second |= {"message": {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}}
    first = {"response_id": "r", "generation_id": "g", "text": "Hi", "finish_reason": "MAX_TOKENS", "meta": counts}
    stream = lines(
        {"is_finished": False, "event_type": "stream-start", "generation_id": "g"},
        {"is_finished": False, "event_type": "text-generation", "text": "Hi"},
        {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": first},
    )
    embedded = {
        "id": "e",
        "embeddings": {"float": [[0.1, 0.2]]},
        "texts": ["hi"],
        "response_type": "embeddings_by_type",
    }
    embedded |= {"meta": {"billed_units": {"input_tokens": 2}}}

    def of(requested: str, reply: Reply, **more: Any) -> Case:
        return Case((reply,), cohere, "cohere", requested, **more)

    return {
        "v2 chat": of("command-r", document(second)),
        "v2 chat stream": of("command", recorded("cohere-v2-chat-stream"), streamed=True),
        "v1 chat": of("command-r", document(first)),
        "v1 chat stream": of("command-r", stream, streamed=True),
        "v2 embed": of("embed-v4.0", document(embedded), operation="embeddings"),
    }


def ollama_cases() -> dict[str, Case]:
    stream = recorded("ollama-chat-stream")
    end = stream.values[-1]
    whole = end | {"message": {"role": "assistant", "content": "Why?"}}
    common = {"model": "llama3", "created_at": "2024-05-24T20:26:46.294874Z"}
    generated = lines(common | {"response": "a", "done": False}, {**end, "response": "b"})
    vectors = {"model": "all-minilm", "embeddings": [[0.1, 0.2]], "prompt_eval_count": 3}

    def of(reply: Reply, requested: str = "llama3", **more: Any) -> Case:
        return Case((reply,), ollama, "ollama", requested, **more)

    return {
        "chat": of(document(whole)),
        "chat stream": of(stream, streamed=True),
        "generate": of(document(end | {"response": "ab"}), operation="text_completion"),
        "generate stream": of(generated, operation="text_completion", streamed=True),
        "embed": of(document(vectors), "all-minilm", operation="embeddings"),
    }


CASES: dict[str, Callable[[], dict[str, Case]]] = {
    "openai": openai_cases,
    "anthropic": anthropic_cases,
    "google-genai": genai_cases,
    "mistralai": mistral_cases,
    "groq": groq_cases,
    "cohere": cohere_cases,
    "ollama": ollama_cases,
}


#: The anthropic SDK makes a span of its own for a call with all of its attempts; then we make none.
SETUPS: dict[str, tuple[str, dict[str, str]]] = {sdk: (sdk, {}) for sdk in CASES} | {
    "anthropic, its own spans off": ("anthropic", {"ANTHROPIC_OPEN_TELEMETRY": "false"})
}


def cases(sdk: str) -> dict[str, Case]:
    """Return the calls that sdk_calls.py makes with an SDK, in its order."""
    known = CASES[sdk]()
    again = {f"async {name}": case for name, case in known.items()}
    return known | again | (raw_cases() if sdk == "openai" else {})


def attempts(setup: str) -> list[tuple[str, Case, Reply, int]]:
    """Return the answers that have a row each: (name, case, answer, number of the attempt)."""
    known = cases(SETUPS[setup][0])
    found = [(name, case, *pair[::-1]) for name, case in known.items() for pair in enumerate(case.replies)]
    return [each for each in found if setup != "anthropic" or each[3] == len(each[1].replies) - 1]

"""An app that knows nothing of telemetry: it makes the calls of one SDK, sync and async, and prints what it got.

Run as `python sdk_calls.py openai`. The base URLs are the providers' own over plain HTTP; HTTP_PROXY brings them to a
server on loopback. Each line is {"name": ..., "got": ...}; the server answers call for call in this order.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

ASK: Any = [{"role": "user", "content": "Tell me a joke about OpenTelemetry"}]
Got = tuple[str, Callable[[], Any]]


def dumped(value: Any) -> Any:
    """Return everything in an SDK's object as JSON."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [dumped(item) for item in value]
    dump = getattr(value, "model_dump", None) or getattr(value, "dict", None)
    return dump(mode="json") if dump and hasattr(value, "model_dump") else dump() if dump else repr(value)


def called(call: Callable[[], Any]) -> Any:
    try:
        got = call()
        return dumped(list(got) if isinstance(got, Iterator) or hasattr(got, "__next__") else got)
    except Exception as error:  # noqa: BLE001 - what an app sees of an error is part of what must not change
        return [type(error).__name__, str(error)]


async def awaited(call: Callable[[], Any]) -> Any:
    try:
        got = call()
        got = await got if isinstance(got, Awaitable) else got
        return dumped([item async for item in got] if hasattr(got, "__aiter__") else got)
    except Exception as error:  # noqa: BLE001 - the same
        return [type(error).__name__, str(error)]


def openai_calls(*, is_async: bool) -> Iterator[Got]:
    import openai

    make: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
    azure: Any = openai.AsyncAzureOpenAI if is_async else openai.AzureOpenAI
    openai_ = make(base_url="http://api.openai.com/v1", api_key="k", max_retries=1)
    create = openai_.chat.completions.create
    yield "chat", lambda: create(model="gpt-5", messages=ASK)
    yield "chat again", lambda: create(model="gpt-5", messages=ASK)
    yield "chat with cached tokens", lambda: create(model="gpt-4o", messages=ASK)
    yield "chat stream", lambda: create(model="gpt-3.5-turbo", messages=ASK, stream=True)
    usage = {"include_usage": True}
    yield "chat stream with usage", lambda: create(model="o3", messages=ASK, stream=True, stream_options=usage)
    yield "tools", lambda: create(model="gpt-4o", messages=ASK)
    yield "refusal", lambda: create(model="gpt-4o", messages=ASK)
    yield "rate limit", lambda: create(model="gpt-4o", messages=ASK)
    yield "bad request", lambda: create(model="gpt-4o", messages=ASK)
    hasty = make(base_url="http://api.openai.com/v1", api_key="k", max_retries=0).chat.completions
    yield "error page", lambda: hasty.create(model="gpt-4o", messages=ASK)
    yield "null usage", lambda: create(model="gpt-4o", messages=ASK)
    yield "responses", lambda: openai_.responses.create(model="gpt-4.1-nano", input="What?")
    yield "responses with reasoning", lambda: openai_.responses.create(model="gpt-5-nano", input="Count r's")
    yield "responses stream", lambda: openai_.responses.create(model="gpt-5-nano", input="Count", stream=True)
    yield "embeddings", lambda: openai_.embeddings.create(model="text-embedding-3-small", input="hello")
    yield "completions", lambda: openai_.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say")
    at = azure(azure_endpoint="http://house.openai.azure.com", api_key="k", api_version="2025-01-01-preview")
    yield "azure", lambda: at.chat.completions.create(model="gpt-4o", messages=ASK)
    deepseek = make(base_url="http://api.deepseek.com", api_key="k").chat.completions
    yield "deepseek stream", lambda: deepseek.create(model="deepseek-reasoner", messages=ASK, stream=True)
    together = make(base_url="http://api.together.xyz/v1", api_key="k").chat.completions
    llama = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    yield "together stream", lambda: together.create(model=llama, messages=ASK, stream=True)
    own_model = make(base_url="http://models.house.example/v1", api_key="k").chat.completions
    yield "a server of one's own", lambda: own_model.create(model="house-7b", messages=ASK)


def raw_openai() -> Iterator[Got]:
    """Yield calls that give the very bytes and headers."""
    import openai

    client = openai.OpenAI(base_url="http://api.openai.com/v1", api_key="k", max_retries=0)

    def whole() -> Any:
        raw = client.chat.completions.with_raw_response.create(model="gpt-5", messages=ASK)
        response = raw.http_response
        return [response.content, response.num_bytes_downloaded, repr(response.headers.raw), response.is_closed]

    def streamed() -> Any:
        create = client.chat.completions.with_streaming_response.create
        with create(model="gpt-3.5-turbo", messages=ASK, stream=True) as response:
            return [b"".join(response.iter_bytes(100)), response.status_code]

    yield "raw", whole
    yield "raw stream", streamed


def anthropic_calls(*, is_async: bool) -> Iterator[Got]:
    import anthropic

    make: Any = anthropic.AsyncAnthropic if is_async else anthropic.Anthropic
    messages = make(base_url="http://api.anthropic.com", api_key="k", max_retries=1).messages
    arguments: Any = {"max_tokens": 1024, "messages": ASK}
    yield "messages", lambda: messages.create(model="claude-3-opus-20240229", **arguments)
    yield "messages stream", lambda: messages.create(model="claude-3-haiku-20240307", stream=True, **arguments)
    yield "cache write stream", lambda: messages.create(model="claude-3-5-sonnet-20240620", stream=True, **arguments)
    yield "cache read stream", lambda: messages.create(model="claude-3-5-sonnet-20240620", stream=True, **arguments)
    yield "cache write", lambda: messages.create(model="claude-3-5-sonnet-20240620", **arguments)
    yield "tool", lambda: messages.create(model="claude-3-5-sonnet-20240620", **arguments)
    yield "overloaded", lambda: messages.create(model="claude-3-haiku-20240307", **arguments)

    def helper() -> Any:
        with messages.stream(model="claude-3-haiku-20240307", **arguments) as stream:
            return list(stream.text_stream)

    async def async_helper() -> Any:
        async with messages.stream(model="claude-3-haiku-20240307", **arguments) as stream:
            return [text async for text in stream.text_stream]

    yield "stream helper", async_helper if is_async else helper


def genai_calls(*, is_async: bool) -> Iterator[Got]:
    from google import genai

    client = genai.Client(api_key="k", http_options={"base_url": "http://generativelanguage.googleapis.com"})
    models: Any = client.aio.models if is_async else client.models
    arguments = {"model": "gemini-2.5-flash", "contents": "What is ai?"}
    yield "generate", lambda: models.generate_content(**arguments)
    yield "generate stream", lambda: models.generate_content_stream(**arguments)
    yield "blocked", lambda: models.generate_content(**arguments)
    yield "quota", lambda: models.generate_content(**arguments)


def mistral_calls(*, is_async: bool) -> Iterator[Got]:
    from mistralai.client import Mistral

    chat: Any = Mistral(api_key="k", server_url="http://api.mistral.ai").chat
    complete = chat.complete_async if is_async else chat.complete
    stream = chat.stream_async if is_async else chat.stream
    yield "chat", lambda: complete(model="mistral-tiny", messages=ASK)
    yield "chat stream", lambda: stream(model="mistral-tiny", messages=ASK)


def groq_calls(*, is_async: bool) -> Iterator[Got]:
    import groq

    make: Any = groq.AsyncGroq if is_async else groq.Groq
    create = make(base_url="http://api.groq.com", api_key="k", max_retries=1).chat.completions.create
    yield "chat", lambda: create(model="llama-3.3-70b-versatile", messages=ASK)
    yield "chat stream", lambda: create(model="llama3-8b-8192", messages=ASK, stream=True)
    yield "rate limit", lambda: create(model="llama-3.3-70b-versatile", messages=ASK)


def cohere_calls(*, is_async: bool) -> Iterator[Got]:
    import cohere

    make: Any = (cohere.AsyncClientV2, cohere.AsyncClient) if is_async else (cohere.ClientV2, cohere.Client)
    second, first = (each("k", base_url="http://api.cohere.com") for each in make)
    yield "v2 chat", lambda: second.chat(model="command-r", messages=ASK)
    yield "v2 chat stream", lambda: second.chat_stream(model="command", messages=ASK)
    yield "v1 chat", lambda: first.chat(model="command-r", message="hi")
    yield "v1 chat stream", lambda: first.chat_stream(model="command-r", message="hi")
    yield (
        "v2 embed",
        lambda: second.embed(model="embed-v4.0", texts=["hi"], input_type="search_query", embedding_types=["float"]),
    )


def ollama_calls(*, is_async: bool) -> Iterator[Got]:
    import ollama

    client: Any = (ollama.AsyncClient if is_async else ollama.Client)(host="http://localhost:11434")
    yield "chat", lambda: client.chat(model="llama3", messages=ASK)
    yield "chat stream", lambda: client.chat(model="llama3", messages=ASK, stream=True)
    yield "generate", lambda: client.generate(model="llama3", prompt="hi")
    yield "generate stream", lambda: client.generate(model="llama3", prompt="hi", stream=True)
    yield "embed", lambda: client.embed(model="all-minilm", input="hi")


CALLS: dict[str, Callable[..., Iterator[Got]]] = {
    "openai": openai_calls,
    "anthropic": anthropic_calls,
    "google-genai": genai_calls,
    "mistralai": mistral_calls,
    "groq": groq_calls,
    "cohere": cohere_calls,
    "ollama": ollama_calls,
}


def report(name: str, got: Any) -> None:
    print(json.dumps({"name": name, "got": got}, default=repr), flush=True)  # noqa: T201 - its one way out


async def asynchronous(sdk: str) -> None:
    for name, call in CALLS[sdk](is_async=True):
        report(f"async {name}", await awaited(call))


def main(sdk: str) -> None:
    for name, call in CALLS[sdk](is_async=False):
        report(name, called(call))
    asyncio.run(asynchronous(sdk))
    for name, call in raw_openai() if sdk == "openai" else ():
        report(name, called(call))


if __name__ == "__main__":
    main(sys.argv[1])

"""Calls with the OpenAI client, each kind once; which package watches them is up to the app."""

import contextlib
import json

import common
import openai


def client() -> openai.OpenAI:
    return openai.OpenAI(base_url=common.BASE_URL, api_key="none", max_retries=0)


def chat(api: openai.OpenAI) -> None:
    """The same long question twice, so that the second is read from the prompt cache, and one with reasoning."""
    for model in (common.MODEL, common.MODEL, common.REASONING_MODEL):
        api.chat.completions.create(model=model, messages=common.MESSAGES)


def stream(api: openai.OpenAI) -> None:
    chunks = api.chat.completions.create(
        model=common.MODEL, messages=common.MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    for _ in chunks:
        pass


def tools(api: openai.OpenAI) -> None:
    """A call that asks for a tool, and the one that reads its result."""
    messages = [*common.FRESH_MESSAGES]
    first = api.chat.completions.create(model=common.MODEL, messages=messages, tools=[common.TOOL])
    asked = first.choices[0].message
    messages.append(asked.model_dump(exclude_none=True))
    messages.append({"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": json.dumps(common.FOUND)})
    api.chat.completions.create(model=common.MODEL, messages=messages, tools=[common.TOOL])


def error(api: openai.OpenAI) -> None:
    with contextlib.suppress(openai.RateLimitError):
        api.chat.completions.create(model=common.MODEL, messages=common.FAULT_MESSAGES)


def embeddings(api: openai.OpenAI) -> None:
    api.embeddings.create(model=common.EMBEDDING_MODEL, input=common.FRESH_QUESTION)


CASES = {case.__name__: case for case in (chat, stream, tools, error, embeddings)}

"""Pydantic AI with its own instrumentation: an agent whose tool is called, streamed and not."""

import contextlib
import sys

import common
import openai
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

tracer = common.start()
Agent.instrument_all()
if sys.argv[1] == "nested":
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()

api = openai.AsyncOpenAI(base_url=common.BASE_URL, api_key="none", max_retries=0)
model = OpenAIChatModel(common.MODEL, provider=OpenAIProvider(openai_client=api))
agent = Agent(model, system_prompt="Answer briefly.", name="assistant")


@agent.tool_plain
def web_search(query: str) -> str:
    """Look something up."""
    return common.FOUND


async def streamed() -> None:
    async with agent.run_stream(common.FRESH_QUESTION) as result:
        async for _ in result.stream_text():
            pass


with common.server_span(tracer):
    if sys.argv[1] == "stream":
        import asyncio

        asyncio.run(streamed())
    elif sys.argv[1] == "error":
        with contextlib.suppress(ModelHTTPError):
            agent.run_sync(common.FAULT)
    else:
        agent.run_sync(common.FRESH_QUESTION)

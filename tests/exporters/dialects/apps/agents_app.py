"""OpenAI's Agents SDK watched by OpenInference, alone and with its instrumentation of the client below."""

import asyncio
import contextlib
import sys

import common
import openai
from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

tracer = common.start()
OpenAIAgentsInstrumentor().instrument()
if sys.argv[1] == "nested":
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()
api = openai.AsyncOpenAI(base_url=common.BASE_URL, api_key="none", max_retries=0)


@function_tool
def web_search(query: str) -> str:
    """Look something up."""
    return common.FOUND


agent = Agent(
    name="assistant",
    instructions="Answer briefly.",
    model=OpenAIChatCompletionsModel(common.MODEL, openai_client=api),
    tools=[web_search],
)


async def ask() -> None:
    if sys.argv[1] == "stream":
        result = Runner.run_streamed(agent, common.FRESH_QUESTION)
        async for _ in result.stream_events():
            pass
    else:
        await Runner.run(agent, common.FAULT if sys.argv[1] == "error" else common.FRESH_QUESTION)


with common.server_span(tracer), contextlib.suppress(openai.RateLimitError):
    asyncio.run(ask())

"""Langfuse: its drop-in OpenAI client under an agent observation of the app's own, and a generation told by hand."""

import contextlib
import sys

import common
import openai as plain_openai
import openai_calls
from langfuse import Langfuse, propagate_attributes
from langfuse.openai import openai
from opentelemetry import trace

tracer = common.start()
langfuse = Langfuse(
    public_key="pk-none",
    secret_key="none",
    host=common.BASE_URL.removesuffix("/v1"),
    tracer_provider=trace.get_tracer_provider(),
)


def by_hand() -> None:
    """A model call that the app reports itself, with its own counts and cost."""
    with langfuse.start_as_current_observation(as_type="generation", name="own", model=common.MODEL) as generation:
        answer = plain_openai.OpenAI(base_url=common.BASE_URL, api_key="none")
        reply = answer._client.post(
            common.BASE_URL + "/chat/completions", json={"model": common.MODEL, "messages": common.MESSAGES}
        ).json()
        usage = reply["usage"]
        generation.update(
            output=reply["choices"][0]["message"],
            usage_details={"input": usage["prompt_tokens"], "output": usage["completion_tokens"]},
            cost_details={"input": 0.001, "output": 0.002, "total": 0.003},
        )


with (
    common.server_span(tracer),
    langfuse.start_as_current_observation(as_type="agent", name="assistant"),
    propagate_attributes(user_id="user-1", session_id="session-1"),
    contextlib.suppress(plain_openai.APIError),
):
    if sys.argv[1] == "by_hand":
        by_hand()
    else:
        api = openai.OpenAI(base_url=common.BASE_URL, api_key="none", max_retries=0)
        openai_calls.CASES[sys.argv[1]](api)

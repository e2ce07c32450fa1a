"""OpenInference's instrumentation of the OpenAI client."""

import sys

import common
import openai_calls
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai import OpenAIInstrumentor

tracer = common.start()
OpenAIInstrumentor().instrument()
with common.server_span(tracer), using_attributes(session_id="session-1", user_id="user-1"):
    openai_calls.CASES[sys.argv[1]](openai_calls.client())

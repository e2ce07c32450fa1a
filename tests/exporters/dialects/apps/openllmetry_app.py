"""OpenLLMetry's instrumentation of the OpenAI client."""

import sys

import common
import openai_calls
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

tracer = common.start()
OpenAIInstrumentor().instrument()
with common.server_span(tracer):
    openai_calls.CASES[sys.argv[1]](openai_calls.client())

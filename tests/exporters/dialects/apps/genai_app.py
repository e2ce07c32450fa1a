"""OpenTelemetry's own instrumentation of the OpenAI client, with and without its events."""

import sys

import common
import openai_calls
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

tracer = common.start()
OpenAIInstrumentor().instrument()
with common.server_span(tracer):
    openai_calls.CASES[sys.argv[1]](openai_calls.client())

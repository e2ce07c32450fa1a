"""Logfire's instrumentation of the OpenAI client, sent by OTLP only."""

import contextlib
import sys

import logfire
import openai_calls

logfire.configure(
    service_name="app",
    send_to_logfire=False,
    console=False,
    scrubbing=False,
)
api = openai_calls.client()
logfire.instrument_openai(api)
with logfire.span("POST /ask", _span_name="POST /ask"), contextlib.suppress(Exception):
    openai_calls.CASES[sys.argv[1]](api)
logfire.shutdown()

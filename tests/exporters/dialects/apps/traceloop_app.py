"""Traceloop's SDK: OpenLLMetry's instrumentation under spans of a workflow and a task."""

import os
import sys

import openai_calls
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import task, workflow

os.environ["TRACELOOP_TELEMETRY"] = "false"
Traceloop.init(app_name="app", exporter=OTLPSpanExporter(), disable_batch=True, telemetry_enabled=False)


@task(name="answer")
def answer() -> None:
    openai_calls.CASES[sys.argv[1]](openai_calls.client())


@workflow(name="ask")
def ask() -> None:
    Traceloop.set_association_properties({"user_id": "user-1", "session_id": "session-1"})
    answer()


ask()

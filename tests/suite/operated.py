"""A database as an app leaves it, for the tests of the commands that operators run."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_telemetry.exporters.request_log import RequestLogSpanExporter
from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.span import RedactionSpanProcessor

SECRET = "a-secret-of-the-operators-tests"
ENVIRONMENT = {"OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": SECRET, "COLUMNS": "200"}
CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
}


@contextlib.contextmanager
def app(url: str, *, redacted: bool = True) -> Iterator[Any]:
    """Give a function that handles a request with a model call, with these attributes on its span."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    if redacted:
        settings = RedactionSettings.model_validate({"pseudonyms": PseudonymSettings(secret=SECRET)})  # type: ignore[arg-type]  # pydantic makes a SecretStr of it
        provider.add_span_processor(RedactionSpanProcessor(Redactor(settings)))
    provider.add_span_processor(SimpleSpanProcessor(RequestLogSpanExporter(url=url, store_text=True)))
    tracer = provider.get_tracer("t")

    def handle(**attributes: Any) -> None:
        recorded = {
            "request_log.route": "direct",
            **{name.replace("__", "."): value for name, value in attributes.items()},
        }
        with (
            tracer.start_as_current_span("request", attributes=recorded),
            tracer.start_as_current_span("chat", attributes=CALL),
        ):
            time.sleep(0.001)

    yield handle
    provider.shutdown()


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command as a program of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "otel_telemetry.cli", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def no_bytes_of(folder: Path, *values: str) -> bool:
    """Tell whether no file in a folder holds one of the values."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return not any(value.encode() in path.read_bytes() for path in files for value in values)

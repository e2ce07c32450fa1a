"""Makes the fixtures of the dialects: runs the real packages against the model server and keeps what they send.

    python tests/exporters/dialects/make_fixtures.py [--environments FOLDER] [NAME ...]

Each name gets an environment of its own (a venv, or an npm folder for Vercel's SDK), outside of the repository, with
the newest packages of their registries, or a last version that spoke so. An app of apps/ is run once for each case;
what it exports as OTLP protobuf is received here and written to fixtures/NAME.json as OTLP JSON, with versions of the
packages and, under "served", what the model server says that it served: the truth that rows are compared with.
An environment that is there is used as it is; remove its folder to get newer packages.

Nothing is changed but folders of this machine in stack traces, attributes of the process in resources, and the ports.
"""

import argparse
import base64
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

import uvicorn
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

HERE: Final = Path(__file__).parent
REPOSITORY: Final = HERE.parents[2]
sys.path.insert(0, str(REPOSITORY))

from examples.chat_app.model_server import create_app  # noqa: E402  # the repository is no package on the path

OPENAI_CASES: Final = ("chat", "stream", "tools", "error", "embeddings")
AGENT_CASES: Final = ("agent", "stream", "error", "nested")
GENAI_EVENTS: Final = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_AND_EVENT",
    "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true",
}


@dataclass(frozen=True)
class Subject:
    """A package to observe: what to install, the app that uses it, and the cases to run."""

    packages: tuple[str, ...]
    app: str
    cases: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


EXPORTER: Final = "opentelemetry-exporter-otlp-proto-http"
SUBJECTS: Final = {
    "genai": Subject(("opentelemetry-instrumentation-genai-openai", "openai"), "genai_app.py", OPENAI_CASES),
    "genai_events": Subject(
        ("opentelemetry-instrumentation-genai-openai", "openai"), "genai_app.py", OPENAI_CASES, GENAI_EVENTS
    ),
    "openinference": Subject(("openinference-instrumentation-openai", "openai"), "openinference_app.py", OPENAI_CASES),
    "openinference_agents": Subject(
        ("openinference-instrumentation-openai-agents", "openai-agents", "openinference-instrumentation-openai"),
        "agents_app.py",
        AGENT_CASES,
    ),
    "openllmetry": Subject(("opentelemetry-instrumentation-openai", "openai"), "openllmetry_app.py", OPENAI_CASES),
    # The last of the flat gen_ai.prompt.N.
    "traceloop": Subject(("traceloop-sdk==0.45.6", "openai"), "traceloop_app.py", ("chat", "stream", "tools", "error")),
    "pydantic_ai": Subject(
        ("pydantic-ai-slim[openai]", "openinference-instrumentation-openai"), "pydantic_ai_app.py", AGENT_CASES
    ),
    "logfire": Subject(("logfire", "openai"), "logfire_app.py", OPENAI_CASES),
    "langfuse": Subject(("langfuse", "openai"), "langfuse_app.py", (*OPENAI_CASES, "by_hand")),
    "vercel": Subject(
        (
            *("ai", "@ai-sdk/openai-compatible", "zod", "@opentelemetry/api", "@opentelemetry/resources"),
            *("@opentelemetry/sdk-trace-node", "@opentelemetry/exporter-trace-otlp-proto"),
        ),
        "vercel.mjs",
        OPENAI_CASES,
    ),
    # The last with ai.usage.promptTokens.
    "vercel_4": Subject(
        (
            *("ai@4", "@ai-sdk/openai-compatible@0.2", "zod@3", "@opentelemetry/api", "@opentelemetry/resources"),
            *("@opentelemetry/sdk-trace-node", "@opentelemetry/exporter-trace-otlp-proto"),
        ),
        "vercel_4.mjs",
        ("chat", "stream", "tools", "error"),
    ),
}


class Receiver:
    """An OTLP/HTTP endpoint that keeps what it gets."""

    def __init__(self) -> None:
        self.traces = ExportTraceServiceRequest()
        self.logs = ExportLogsServiceRequest()
        self.app = Starlette(routes=[Route("/{path:path}", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if request.url.path.endswith("/v1/traces"):
            self.traces.MergeFromString(body)
        elif request.url.path.endswith("/v1/logs"):
            self.logs.MergeFromString(body)
        return Response(media_type="application/x-protobuf")


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """Run a server; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def prepare(name: str, subject: Subject, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Set up the environment of a subject; return the command that runs its app, and the versions of its packages."""
    folder.mkdir(parents=True, exist_ok=True)
    if subject.app.endswith(".mjs"):
        return _prepare_npm(subject, folder)
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        wanted = (*subject.packages, EXPORTER)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *wanted], check=True)
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True)
    installed = {item["name"]: item["version"] for item in json.loads(listed.stdout)}
    names = [re.split(r"[\[=<]", package)[0] for package in subject.packages]
    return [str(python), str(HERE / "apps" / subject.app)], {each: installed[each] for each in names}


def _prepare_npm(subject: Subject, folder: Path) -> tuple[list[str], dict[str, str]]:
    install = ["npm", "install", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix", ".", *subject.packages]
    if not (folder / "node_modules").exists():
        subprocess.run(install, cwd=folder, check=True, capture_output=True)
    app = shutil.copy(HERE / "apps" / subject.app, folder)  # modules are looked up beside the file
    versions = {}
    for package in subject.packages:
        name = re.sub(r"(?<=.)@.*", "", package)
        about = json.loads((folder / "node_modules" / name / "package.json").read_text())
        versions[name] = about["version"]
    return ["node", str(app)], versions


def run(command: list[str], case: str, environment: dict[str, str], journal: Path) -> dict[str, Any]:
    """Run an app for one case, with a model server of its own; return what it sent and what it was served."""
    journal.unlink(missing_ok=True)
    receiver = Receiver()
    with serving(receiver.app) as endpoint, serving(create_app(journal)) as models:
        inherited = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        given = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "MODEL_SERVER": models}
        process = subprocess.run(
            [*command, case],
            env={**inherited, **given, **environment},
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if process.returncode:
            raise SystemExit(f"{command[-1]} {case} failed:\n{process.stderr}")
    served = [json.loads(line) for line in journal.read_text().splitlines()]
    return {"served": served, "traces": _as_json(receiver.traces), "logs": _as_json(receiver.logs)}


def _as_json(message: Any) -> dict[str, Any]:
    """Return OTLP JSON: ids in hex, enums as numbers, and nothing that only this machine has."""
    data: dict[str, Any] = json_format.MessageToDict(message, use_integers_for_enums=True)
    clean: dict[str, Any] = _clean(data)
    return clean


_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})
_OF_PROCESS: Final = ("process.", "host.", "os.", "service.instance.id")
_FOLDER: Final = re.compile(r"(?<!\w)(?:file://)?/[^\s\"']*/(?=(?:site-packages|node_modules|apps|python3\.\d+)/)")
_HOME: Final = re.compile(r"(?<!\w)(?:file://)?/(?:tmp|home|root|work)/[^\s\"':)]*/")


def _clean(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        cleaned = {name: _clean(item, name) for name, item in value.items()}
        if key == "resource":
            attributes = [pair for pair in cleaned.get("attributes", []) if not pair["key"].startswith(_OF_PROCESS)]
            cleaned["attributes"] = attributes
        return cleaned
    if isinstance(value, list):
        return [_clean(item, key) for item in value]
    if isinstance(value, str):
        if key in _IDS:
            return base64.b64decode(value).hex()
        return _HOME.sub("", _FOLDER.sub("", value))
    return value


def make(name: str, environments: Path, fixtures: Path) -> Path:
    """Make one fixture; return its file."""
    subject = SUBJECTS[name]
    command, versions = prepare(name, subject, environments / name.replace("genai_events", "genai"))
    journal = environments / f"{name}.jsonl"
    cases = {case: run(command, case, subject.environment, journal) for case in subject.cases}
    file = fixtures / f"{name}.json"
    file.write_text(_compact({"packages": versions, "cases": cases}))
    return file


def _compact(fixture: dict[str, Any]) -> str:
    """Write one case a line for each of its parts, so that a new version gives a readable diff."""
    lines = [f'{{"packages": {json.dumps(fixture["packages"])},', '"cases": {']
    for number, (case, parts) in enumerate(fixture["cases"].items()):
        lines.append(f'{"," if number else ""}"{case}": {{')
        lines.append(f'"served": {json.dumps(parts["served"])},')
        lines.append(f'"traces": {json.dumps(parts["traces"], ensure_ascii=False)},')
        lines.append(f'"logs": {json.dumps(parts["logs"], ensure_ascii=False)}}}')
    return "\n".join([*lines, "}}"]) + "\n"


def main() -> None:
    """Make the fixtures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SUBJECTS, []], metavar="NAME")
    parser.add_argument("--environments", type=Path, default=Path(gettempdir(), "otel-telemetry-dialects"))
    parser.add_argument("--fixtures", type=Path, default=HERE / "fixtures")
    arguments = parser.parse_args()
    for name in arguments.names or SUBJECTS:
        print(make(name, arguments.environments, arguments.fixtures))  # noqa: T201  # a command


if __name__ == "__main__":
    main()

"""One run of the demo: start everything, send everything, stop everything, and gather what is left behind."""

import asyncio
import fcntl
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from . import foreign, found, traffic
from .found import Counters, Found
from .planted import Garden
from .processes import ROOT, Child, Children, DemoError, free_ports
from .store import Store
from .traffic import Case, Sent

#: Seconds that the app waits for a model. Stalls last that long.
MODEL_TIMEOUT: Final = 3.0
DELIVERY_SECONDS: Final = 30.0
#: The package that the app and its model server are in: it has another name in a wheel than in a clone.
_APPS: Final = __name__.rsplit(".", 2)[0]
_HOST: Final = "127.0.0.1"
_MARK: Final = ".made-by-demo"


@dataclass(slots=True, frozen=True)
class Ports:
    """Where everything listens."""

    grpc: int
    http: int
    model: int
    app: int
    app_metrics: int

    def url(self, name: str) -> str:
        """Return the base URL of one of them."""
        return f"http://{_HOST}:{getattr(self, name)}"


@dataclass(slots=True)
class Run:
    """One run in a folder of its own. `secret` is the key of its pseudonyms, new each time."""

    folder: Path
    garden: Garden
    wanted: list[Case]
    names: bool = False
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    ports: Ports = field(default_factory=lambda: Ports(*free_ports(5)))
    sent: list[Sent] = field(default_factory=list)
    health: dict[str, Any] = field(default_factory=dict)
    found: Found | None = None

    @property
    def store(self) -> Store:
        """Where the gateway writes rows."""
        return Store(self.folder, self.settings)

    def go(self, say: Callable[[str], None], on_each: Callable[[], None]) -> Found:
        """Do all of it and return what there is to see. Raises DemoError; nothing is left running in any case."""
        with Children(self.folder / "logs") as children:
            try:
                app, gateway = self._work(children, say, on_each)
            except httpx.HTTPError as error:
                children.check(patience=1.0)  # whose end explains it better
                raise DemoError(f"no answer from {error.request.url}: {type(error).__name__} {error}") from error
        self.found = self._gather(app, gateway)
        return self.found

    def _work(
        self, children: Children, say: Callable[[str], None], on_each: Callable[[], None]
    ) -> tuple[Counters, Counters]:
        say("starting gateway, model server and app")
        gateway, model, app = self._start(children)
        say(f"sending {len(self.wanted)} requests")
        self.sent = asyncio.run(traffic.send(self.ports.url("app"), self.wanted, on_each))
        children.check()
        say("sending telemetry of other services")
        foreign.send(self.ports.url("grpc"), self.ports.url("http"), self.garden)
        app_counters = found.scrape(f"{self.ports.url('app_metrics')}/metrics")
        say("stopping the app, which sends what it still holds")
        children.stop(app)
        children.stop(model)
        say("waiting until the gateway has delivered everything")
        self._wait_delivered(children)
        gateway_counters = found.scrape(f"{self.ports.url('http')}/metrics")
        self._stop_gateway(children, gateway)
        if self.store.is_sent_on:
            say("sending the last rows on to ClickHouse")
            children.run("relay", ["otel-telemetry", "clickhouse", "relay", "--once"], self._gateway_environment())
        return app_counters, gateway_counters

    def _prepare(self, children: Children) -> None:
        """Make what the gateway's settings ask for, by the commands that operators use."""
        if self.store.has_topics:
            create = ["otel-telemetry", "spool", "topics", "--create", "--replicas", "1"]
            children.run("topics", create, self._gateway_environment())
        if self.store.is_sent_on:
            children.run("clickhouse-init", ["otel-telemetry", "clickhouse", "init"], self._gateway_environment())

    def _start(self, children: Children) -> tuple[Child, Child, Child]:
        self._prepare(children)
        gateway = children.start("gateway", self._serve(), self._gateway_environment())
        model_command = ["uvicorn", "--factory", f"{_APPS}.model_server:create_app"]
        model = children.start(
            "model-server",
            [*model_command, *_uvicorn(self.ports.model)],
            {"MODEL_SERVER_JOURNAL": str(self.folder / "model-server.jsonl")},
        )
        children.wait_healthy(gateway, f"{self.ports.url('http')}/health")
        children.wait_healthy(model, f"{self.ports.url('model')}/v1/models")
        app_command = ["opentelemetry-instrument", "uvicorn", f"{_APPS}.app:app", "--no-proxy-headers"]
        app = children.start("app", [*app_command, *_uvicorn(self.ports.app)], self._app_environment())
        children.wait_healthy(app, f"{self.ports.url('app')}/health")
        return gateway, model, app

    @contextmanager
    def again(self) -> Iterator[tuple[Child, str]]:
        """Run the gateway once more over what the demo has made; yields it, and where its page is."""
        with Children(self.folder / "logs") as children:
            gateway = children.start("gateway-again", self._serve(), self._gateway_environment())
            children.wait_healthy(gateway, f"{self.ports.url('http')}/health")
            yield gateway, f"{self.ports.url('http')}/ui/?range=1h"
            if gateway.process.poll() is None:
                children.stop(gateway)

    def _serve(self) -> list[str]:
        ports = ["--grpc-port", str(self.ports.grpc), "--http-port", str(self.ports.http)]
        return ["otel-telemetry", "serve", *ports, "--spool-dir", str(self.folder / "spool")]

    def _gateway_environment(self) -> dict[str, str]:
        """Texts are kept here, redacted: the hardest case, and the one that can be looked at."""
        return {
            "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": self.secret,
            "OTEL_TELEMETRY_REDACTION__NAMES": str(self.names).lower(),
            "OTEL_TELEMETRY_REQUEST_LOG__STORE_TEXT": "true",
            **self.store.environment(),
        }

    def _app_environment(self) -> dict[str, str]:
        """Everything is captured that can be: headers, prompts and answers."""
        return {
            "MODEL_BASE_URL": self.ports.url("model"),
            "MODEL_TIMEOUT": str(MODEL_TIMEOUT),
            "MODEL_API_KEY": self.garden.openai_key(),
            "OTEL_SERVICE_NAME": "chat-app",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.ports.url("grpc"),
            "OTEL_METRICS_EXPORTER": "prometheus,otlp",
            "OTEL_EXPORTER_PROMETHEUS_HOST": _HOST,
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(self.ports.app_metrics),
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": ".*",
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST": ".*",
            "OTEL_TELEMETRY_INSTRUMENT__CAPTURE_CONTENT": "true",
            "OTEL_TELEMETRY_INSTRUMENT__LLM_HOSTS": f'["{_HOST}"]',
            "OTEL_TELEMETRY_INSTRUMENT__LLM_PROVIDERS": f'{{"{_HOST}": "openai"}}',
            "OTEL_TELEMETRY_INSTRUMENT__TRUSTED_PROXIES": f'["{_HOST}/32"]',
            "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": self.secret,
            "OTEL_TELEMETRY_REDACTION__NAMES": str(self.names).lower(),
        }

    def _wait_delivered(self, children: Children) -> None:
        until = time.monotonic() + DELIVERY_SECONDS
        while time.monotonic() < until:
            children.check()
            self.health = httpx.get(f"{self.ports.url('http')}/health", timeout=5).json()
            exporters = self.health["parts"]["exporters"]
            if exporters and all(part.get("lag", {}).get("batches") == 0 for part in exporters.values()):
                return
            time.sleep(0.1)
        raise DemoError(f"the gateway has not delivered everything in {DELIVERY_SECONDS:g} s: {self.health}")

    def _stop_gateway(self, children: Children, gateway: Child) -> None:
        code = children.stop(gateway)
        if code:
            raise DemoError(f"the gateway stopped with exit code {code}:\n{gateway.tail()}")

    def _gather(self, app: Counters, gateway: Counters) -> Found:
        return Found(
            requests=self.store.rows("request_log"),
            calls=self.store.rows("llm_call"),
            served=found.journal(self.folder / "model-server.jsonl"),
            app=app,
            gateway=gateway,
        )


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Make the folder, or empty the one that an earlier run made, and keep it from other runs. Raises DemoError."""
    mark = folder / _MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise DemoError(f"{folder} holds something that is not of the demo", "name another folder with --output")
    folder.mkdir(parents=True, exist_ok=True)
    with mark.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another demo is at work in {folder}", "wait for it or use --output") from None
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != mark:
                path.unlink()
        yield


def _uvicorn(port: int) -> list[str]:
    """Return uvicorn's options. Its access log would print query strings as they came."""
    return [
        "--host",
        _HOST,
        "--port",
        str(port),
        "--app-dir",
        str(ROOT),
        "--no-access-log",
        "--timeout-graceful-shutdown",
        "10",
    ]

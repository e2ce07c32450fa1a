"""The real Collector, Jaeger, VictoriaLogs and Prometheus, on free ports of loopback.

They read the very files that docker-compose.yml mounts. Ports, hosts and folders come in by the variables of those
files; Prometheus, whose file knows none, gets its targets replaced. VictoriaLogs stands where docker-compose.yml has
Loki: it takes Loki's push API and OTLP, and answers queries.
"""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.backends import builds, programs
from tests.backends.process import Process, free_port

ROOT = Path(__file__).parents[2]
COLLECTOR_CONFIG = ROOT / "collector-config.yaml"
GATEWAY_FIRST_CONFIG = ROOT / "deploy" / "collector" / "gateway-first.yaml"
JAEGER_CONFIG = ROOT / "deploy" / "jaeger" / "jaeger.yaml"
OTLP_AS_LOKI_CONFIG = Path(__file__).parent / "otlp_as_loki.yaml"
LOKI_RECEIVER_CONFIG = Path(__file__).parent / "loki_receiver.yaml"
PROMETHEUS_CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"
RULES = ROOT / "deploy" / "prometheus" / "rules"


class Collector(Process):
    """The OpenTelemetry Collector with one of our files. `variables` are those of the file, beside the ports."""

    def __init__(self, folder: Path, config: Path = COLLECTOR_CONFIG, **variables: str) -> None:
        names = ("GRPC", "HTTP", "CLEAN", "METRICS", "SELF", "HEALTH")
        self.ports = {name: free_port() for name in names}
        environment = {f"COLLECTOR_{name}_PORT": str(port) for name, port in self.ports.items()}
        environment["COLLECTOR_QUEUE_DIR"] = str(folder / "queue")
        command: list[str | Path] = [builds.built(builds.COLLECTOR), "--config", config]
        ready = f"http://127.0.0.1:{self.ports['HEALTH']}/"
        super().__init__(command, folder, ready, _environment(environment, variables))
        self.grpc = f"http://127.0.0.1:{self.ports['GRPC']}"
        self.http = f"http://127.0.0.1:{self.ports['HTTP']}"
        self.clean = f"http://127.0.0.1:{self.ports['CLEAN']}"


class Jaeger(Process):
    """Jaeger 2, storing on disk as shipped, or in memory."""

    def __init__(self, folder: Path, **variables: str) -> None:
        names = ("OTLP", "QUERY", "QUERY_GRPC", "HEALTH")
        self.ports = {name: free_port() for name in names}
        environment = {f"JAEGER_{name}_PORT": str(port) for name, port in self.ports.items()}
        environment["JAEGER_DATA_DIR"] = str(folder / "data")
        command: list[str | Path] = [builds.built(builds.JAEGER), "--config", JAEGER_CONFIG]
        ready = f"http://127.0.0.1:{self.ports['HEALTH']}/status"
        super().__init__(command, folder, ready, _environment(environment, variables))
        self.otlp = f"127.0.0.1:{self.ports['OTLP']}"
        self.url = f"http://127.0.0.1:{self.ports['QUERY']}"

    def trace(self, trace_id: str) -> bytes | None:
        """Return a trace as its API v3 tells it: OTLP as JSON, or None where it has none."""
        try:
            return fetch(f"{self.url}/api/v3/traces/{trace_id}")
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            raise


class _Relay(Process):
    """A Collector that sends the logs that it takes on as OTLP to `target`, the URL of an OTLP/HTTP receiver."""

    def __init__(self, recipe: builds.Recipe, config: Path, folder: Path, target: str) -> None:
        port, health = free_port(), free_port()
        environment = {"PORT": str(port), "HEALTH_PORT": str(health), "TARGET": target}
        command: list[str | Path] = [builds.built(recipe), "--config", config]
        super().__init__(command, folder, f"http://127.0.0.1:{health}/", _environment(environment, {}))
        self.url = f"http://127.0.0.1:{port}"


class OtlpAsLoki(_Relay):
    """The Collector's OTLP receiver where Loki has its own, /otlp/v1/logs."""

    def __init__(self, folder: Path, target: str) -> None:
        super().__init__(builds.COLLECTOR, OTLP_AS_LOKI_CONFIG, folder, target)


class LokiReceiver(_Relay):
    """The Collector's Loki receiver: it takes Loki's push API at /loki/api/v1/push."""

    def __init__(self, folder: Path, target: str) -> None:
        super().__init__(builds.LOKI_COLLECTOR, LOKI_RECEIVER_CONFIG, folder, target)


class VictoriaLogs(Process):
    """VictoriaLogs with its data on disk: a store that takes Loki's push API and OTLP."""

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        where = urllib.parse.urlsplit(self.url).netloc
        command: list[str | Path] = [
            builds.built(builds.VICTORIALOGS),
            "-storageDataPath=data",
            f"-httpListenAddr={where}",
            "-retentionPeriod=100d",
            "-loki.disableMessageParsing",
        ]
        super().__init__(command, folder, f"{self.url}/health", _environment({}, {}))
        self.push = f"{self.url}/insert"
        self.otlp = f"{self.url}/insert/opentelemetry"

    def query(self, logsql: str, limit: int = 1000) -> bytes:
        """Return the records that a query of LogsQL finds, a JSON object a line."""
        asked = urllib.parse.urlencode({"query": logsql, "limit": limit})
        return fetch(f"{self.url}/select/logsql/query?{asked}")

    def records(self, logsql: str) -> list[dict[str, str]]:
        """Return the records that a query finds: names of fields and their texts."""
        return [json.loads(line) for line in self.query(logsql).splitlines()]


class Prometheus(Process):
    """Prometheus, scraping every second what is in `targets`: the names of the file, and where they are here."""

    def __init__(self, folder: Path, targets: Mapping[str, str], key: str = "") -> None:
        program = programs.program("prometheus", "prometheus")
        folder.mkdir(parents=True, exist_ok=True)
        secret = folder / "gateway_read_key"
        secret.write_text(key)
        self.url = f"http://127.0.0.1:{free_port()}"
        config = folder / "prometheus.yml"
        config.write_text(native_prometheus(targets, secret))
        (folder / "rules").symlink_to(RULES)
        where = urllib.parse.urlsplit(self.url).netloc
        command: list[str | Path] = [
            program,
            f"--config.file={config}",
            "--storage.tsdb.path=data",
            f"--web.listen-address={where}",
            "--enable-feature=exemplar-storage",
        ]
        super().__init__(command, folder, f"{self.url}/-/ready")

    def query(self, promql: str) -> bytes:
        """Return what an instant query answers."""
        return fetch(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}")

    def exemplars(self, promql: str) -> bytes:
        """Return the exemplars of the last hour."""
        now = time.time()
        asked = urllib.parse.urlencode({"query": promql, "start": now - 3600, "end": now + 60})
        return fetch(f"{self.url}/api/v1/query_exemplars?{asked}")

    def rules(self) -> bytes:
        """Return its rules, with how each of them does."""
        return fetch(f"{self.url}/api/v1/rules")

    def result(self, promql: str) -> Any:
        """Return the result of an instant query: [{"metric": labels, "value": [time, text]}]."""
        return json.loads(self.query(promql))["data"]["result"]


def native_prometheus(targets: Mapping[str, str], secret: Path) -> str:
    """Return the shipped file for here: names of the compose network and the secret replaced, a scrape every second."""
    here = {f'"{name}"': f'"{target}"' for name, target in targets.items()}
    here |= {
        "/run/secrets/gateway_read_key": str(secret),
        "interval: 15s": "interval: 1s",
        "timeout: 10s": "timeout: 1s",
    }
    text = PROMETHEUS_CONFIG.read_text()
    for there, replacement in here.items():
        assert there in text, f"{PROMETHEUS_CONFIG} has no {there}"
        text = text.replace(there, replacement)
    return text


def fetch(url: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return what a GET answers."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=20) as answer:
        body: bytes = answer.read()
    return body


def _environment(ours: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/"), **ours, **given}

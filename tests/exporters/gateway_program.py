"""`otel-telemetry serve` in a process of its own, as a user runs it, for tests of where it delivers to."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.backends.process import free_port
from tests.waiting import eventually


class Gateway:
    """`otel-telemetry serve` in a process of its own."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._sections = {f"OTEL_TELEMETRY_{name.upper()}": json.dumps(given) for name, given in sections.items()}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "otel_telemetry.cli", "serve", "--grpc-port", "0", "--http-port"]
        environment = {**os.environ, **self._sections}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, str(self.port)], cwd=self.folder, env=environment, stdout=log, stderr=log
            )
        eventually(self.answers)

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return bool(self.get("/health", seconds=10))
        except OSError:
            return False

    def get(self, path: str, seconds: float = 60) -> str:
        with urllib.request.urlopen(self.url + path, timeout=seconds) as answer:
            text: str = answer.read().decode()
        return text

    def exporter(self, name: str) -> Any:
        return json.loads(self.get("/health"))["parts"]["exporters"][name]

    def metric(self, name: str, **labels: str) -> float:
        for line in self.get("/metrics").splitlines():
            if line.startswith(f"otel_telemetry_{name}{{") and all(f'{k}="{v}"' in line for k, v in labels.items()):
                return float(line.rpartition(" ")[2])
        return 0.0

    def send(self, body: bytes, signal: str = "traces") -> None:
        headers = {"content-type": "application/x-protobuf"}
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/v1/{signal}", body, headers), timeout=60).close()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

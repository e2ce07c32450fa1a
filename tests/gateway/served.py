"""`otel-telemetry serve` with a file of settings that a test changes while it runs."""

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.backends.process import free_port


class Served:
    """`otel-telemetry serve` with a file of settings."""

    def __init__(self, folder: Path, **gateway: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.gateway = {"grpc_port": free_port(), "http_port": self.port, **gateway}
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, **changed: Any) -> None:
        self.gateway |= changed
        lines = [f"{name} = {json.dumps(value)}" for name, value in self.gateway.items()]
        (self.folder / "otel-telemetry.toml").write_text("\n".join(["[gateway]", *lines, ""]))

    def start(self) -> None:
        self.write()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        command = [sys.executable, "-m", "otel_telemetry.cli", "serve"]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    @property
    def logged(self) -> str:
        return (self.folder / "log").read_text()

    def post(
        self,
        key: str,
        scheme: str = "http",
        context: ssl.SSLContext | None = None,
        path: str = "/v1/traces",
        body: bytes = b"{}",
    ) -> int:
        headers = {"content-type": "application/json", "x-api-key": key.partition(":")[2]}
        request = urllib.request.Request(f"{scheme}://127.0.0.1:{self.port}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def answers(self, key: str) -> bool:
        try:
            return self.post(key) == 200
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

"""The small apps in four languages, built with the official SDKs, and how each is run.

`python -m tests.e2e.sending` builds them, and the backends.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backends import builds
from tests.backends.builds import Recipe
from tests.e2e.scenario import Scenario

SOURCES = Path(__file__).parent / "senders"
GO = Recipe("sender-go", SOURCES / "go", (("go", "build", "-trimpath", "-o", "sender", "."),), "sender", "Go 1.26")
NODE = Recipe(
    "sender-node",
    SOURCES / "node",
    (("npm", "ci", "--no-audit", "--no-fund"),),
    "node_modules/.package-lock.json",
    "Node.js 20 with npm",
)
JAVA = Recipe(
    "sender-java", SOURCES / "java", (("mvn", "--batch-mode", "package"),), "target/sender.jar", "a JDK 17 and Maven"
)
RECIPES = (GO, NODE, JAVA)
#: Which of the two endpoints of OTLP each sender speaks to.
SPEAKS = {
    "python": "grpc", "go": "grpc", "node": "http", "node-grpc": "grpc",
    "java": "http", "java-jdk": "http", "java-grpc": "grpc",
}  # fmt: skip
#: The two HTTP clients of OpenTelemetry Java. That of the JDK asks for HTTP/2, with `Connection: Upgrade`.
JAVA_CLIENTS = {
    "java": "io.opentelemetry.exporter.sender.okhttp.internal.OkHttpHttpSenderProvider",
    "java-jdk": "io.opentelemetry.exporter.sender.jdk.internal.JdkHttpSenderProvider",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sender says it sent: ids by name, see scenario.py."""

    scenario: Scenario
    ids: dict[str, str]


def command(language: str) -> list[str]:
    """Return how to run a sender; skip the test where it is not built."""
    if language == "python":
        return [sys.executable, str(SOURCES / "python" / "sender.py")]
    how = "make e2e"
    if language == "go":
        return [str(builds.built(GO, how))]
    if language in {"node", "node-grpc"}:
        return ["node", str(builds.built(NODE, how).parents[1] / "sender.js")]
    jar = builds.built(JAVA, how)
    client = JAVA_CLIENTS.get(language)  # of HTTP; gRPC has OkHttp's
    chosen = [f"-Dio.opentelemetry.sdk.common.export.HttpSenderProvider={client}"] if client else []
    return ["java", *chosen, "-cp", f"{jar}:{jar.parent / 'lib'}/*", "sender.Sender"]


def send(scenario: Scenario, folder: Path, endpoints: dict[str, str], key: str = "", **more: str) -> Sent:
    """Run a sender to its end: it has handed over everything then. `more` are variables."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    speaks = SPEAKS[scenario.language]
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoints[speaks]
    if speaks == "grpc":
        environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = speaks
    if key:
        environment["OTEL_EXPORTER_OTLP_HEADERS"] = f"x-api-key={key}"
    environment |= more
    done = subprocess.run(
        [*command(scenario.language), scenario.write(folder)],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    ids: Any = json.loads(done.stdout)
    return Sent(scenario, ids)


def main() -> int:
    """Build all; say what could not be had."""
    if shutil.which("java") is None:
        sys.stdout.write("java is not on PATH: the sender in Java needs a JDK 17 and Maven.\n")
        return 1
    return builds.build_all([*builds.BACKENDS, *RECIPES])


if __name__ == "__main__":
    sys.exit(main())

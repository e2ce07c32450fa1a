"""The gateway's Dockerfile, built natively into a folder and started from there: read-only, not root, no network.

No container engine is needed: native_image.py carries out the instructions. It shows that the recipe gives a gateway
that starts, receives, redacts and stores; not that an engine builds it (the base is this machine's, not Debian's).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.company import pins, sbom
from tests.company.environments import ROOT
from tests.e2e import native_image
from tests.e2e.native_image import Stage

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0 or shutil.which("unshare") is None,
        reason="a chroot needs root on Linux, and unshare",
    ),
]
KEY = "k-0123456789abcdef"
MAIL = "jane.roe@example.com"
SEND = f"""
import json, urllib.request
def post(path, body, key):
    headers = {{"content-type": "application/json", "x-api-key": key}}
    request = urllib.request.Request("http://127.0.0.1:4318" + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return answer.status
span = {{"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "mail to {MAIL}",
        "attributes": [{{"key": "request_log.route", "value": {{"stringValue": "image"}}}}]}}
print(post("/v1/traces", {{"resourceSpans": [{{"scopeSpans": [{{"spans": [span]}}]}}]}}, "{KEY}"))
"""


@pytest.fixture(scope="module", name="image")
def image_fixture(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    try:
        return native_image.build(ROOT / "Dockerfile", tmp_path_factory.mktemp("image"))
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error.cmd[-1][-300:]}\n{error.stdout[-2000:]}\n{error.stderr[-2000:]}")


class Container:
    """The image started as `docker run` would, in a network namespace of its own."""

    def __init__(self, image: Stage, log: Path, **variables: str) -> None:
        image.new_volumes()
        self._image = image
        self._variables = variables
        self._log = log
        arguments = [*image.entrypoint, *image.command]
        with log.open("wb") as out:
            line = image.enter(arguments, variables, at_run=True, network=False)
            self.process = subprocess.Popen(line, stdout=out, stderr=out)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program beside it, as `docker exec` would."""
        within = ["nsenter", "--target", str(self.process.pid), "--net", "--"]
        line = self._image.enter(arguments, self._variables, at_run=True)
        return subprocess.run([*within, *line], capture_output=True, text=True, check=False, timeout=120)

    def until_healthy(self) -> None:
        """Wait for the image's own health check."""
        end = time.monotonic() + 300
        while self.run(*self._image.health).returncode:
            assert self.process.poll() is None, self.logged()
            assert time.monotonic() < end, self.logged()
            time.sleep(0.5)

    def stop(self) -> int:
        """Stop it as an engine does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def logged(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]


@pytest.fixture(name="container")
def container_fixture(image: Stage, tmp_path: Path) -> Iterator[Container]:
    keys = json.dumps([f"ingest:{KEY}"])
    container = Container(image, tmp_path / "log", OTEL_TELEMETRY_GATEWAY__API_KEYS=keys)
    try:
        container.until_healthy()
        yield container
    finally:
        container.process.kill()
        container.process.wait()


def test_it_receives_redacts_and_stores_as_a_user_who_may_write_only_to_the_volume(container: Container) -> None:
    sent = container.run("python", "-c", SEND)
    assert sent.stdout.strip() == "200", sent.stderr
    user = container.run("python", "-c", "import os; print(os.getuid(), os.access('/opt', os.W_OK))")
    assert user.stdout.split() == ["10001", "False"], user.stderr
    written = container.run("python", "-c", "open('/opt/otel-telemetry/x', 'w')")
    assert "Read-only file system" in written.stderr
    assert "jane" not in container.run("otel-telemetry", "spool", "cat").stdout
    assert container.stop() == 0, container.logged()
    report = container._image.enter(["otel-telemetry", "report", "--json"], at_run=True)
    rows = json.loads(subprocess.run(report, capture_output=True, text=True, check=True).stdout)
    assert [(row["route"], row["requests"]) for row in rows] == [("image", 1)]
    volumes = Path(f"{container._image.root}.volumes")
    everything = b"".join(path.read_bytes() for path in volumes.rglob("*") if path.is_file())
    assert b"REDACTED_EMAIL" in everything
    assert MAIL.encode() not in everything


def test_without_keys_it_does_not_start(image: Stage, tmp_path: Path) -> None:
    container = Container(image, tmp_path / "log")
    assert container.process.wait(120) == 2
    assert "gateway.api_keys" in container.logged()


def test_it_holds_no_sources_and_no_build_tools(image: Stage) -> None:
    assert not (image.root / "src").exists()
    assert not (image.root / "opt" / "build").exists()
    listed = image.enter(["python", "-m", "pip", "list", "--format", "freeze"], at_run=True)
    packages = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    built_with = pins.BUILD.read_text().splitlines()[1].partition(" ")[0]
    assert built_with.startswith("setuptools==")
    assert built_with not in packages
    assert "psycopg" in packages
    assert "redis" in packages


def test_its_bill_of_materials_names_every_package(image: Stage, tmp_path: Path) -> None:
    """What the release workflow attaches; `make dist` writes the wheel's the same way."""
    parts = json.loads(sbom.of(image.root / "opt" / "otel-telemetry", tmp_path / "sbom.json").read_text())["components"]
    names = {part["name"].lower() for part in parts}
    assert {"otel-telemetry", "grpcio", "sqlalchemy", "psycopg", "redis"} <= names
    assert all(part.get("version") for part in parts)

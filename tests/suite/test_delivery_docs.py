"""docs/delivery.md says what the code does: its settings are read, its metrics exist, its shell example is run."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from otel_telemetry import settings
from otel_telemetry.base import metrics
from otel_telemetry.gateway.serve import prometheus
from tests.backends.process import free_port

TEXT = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text(encoding="utf-8")


def test_the_file_of_settings_that_the_page_shows_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "otel-telemetry.toml").write_text(re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[0])
    forward = settings.load().forward
    assert forward["collector"].protocol == "grpc"
    assert forward["tempo"].header_values() == {"authorization": "Bearer ..."}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(otel_telemetry_\w+)`", TEXT))))
def test_each_metric_that_the_page_names_exists(name: str) -> None:
    source = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (metrics, prometheus))
    plain = name.removesuffix("_total").removesuffix("_seconds").removeprefix("otel_telemetry_")
    of_spool = plain.removeprefix("spool_") if plain.startswith("spool_") else "none"
    assert f'"otel_telemetry.{plain}"' in source or f'{{_PREFIX}}{of_spool}"' in source or plain == "spool_lag"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:loki|gateway)\.\w+)", TEXT))))
def test_each_setting_that_the_page_names_exists(name: str) -> None:
    assert name in {known for known, _ in settings.describe()}


def test_the_example_with_two_gateways_shows_what_the_page_says(tmp_path: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    ports = {"14317": free_port(), "14318": free_port(), "4318": free_port()}
    block = block.replace("14317 otel-telemetry serve &", "14317 otel-telemetry serve --grpc-port 0 --http-port 4318 &")
    block = re.sub(r"\b(14317|14318|4318)\b", lambda found: str(ports[found[0]]), block)
    serve, _, rest = block.partition("curl")
    send, look = f"curl -sS{rest.rstrip()}".rsplit("\n", 1)
    scripts = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": scripts}
    log = (tmp_path / "log").open("w")
    serving = subprocess.Popen(
        ["bash", "-c", f"trap 'kill $(jobs -p); wait' TERM\n{serve}wait"],
        cwd=tmp_path, env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        for port in (ports["14318"], ports["4318"]):
            until_healthy(port, tmp_path / "log")
        run(send, tmp_path, environment)
        command, shown = look.split("     # ")
        end = time.monotonic() + 30
        while shown not in run(command, tmp_path, environment):
            assert time.monotonic() < end, (tmp_path / "log").read_text()
    finally:
        serving.terminate()
        serving.wait(30)
        log.close()


def until_healthy(port: int, log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        except OSError:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        else:
            return


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout

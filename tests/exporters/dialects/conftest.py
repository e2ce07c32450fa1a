"""The fixtures of the dialects: what real packages sent, case by case."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

FIXTURES = Path(__file__).parent / "fixtures"
_IDS = ("traceId", "spanId", "parentSpanId")


def _with_bytes(value: Any) -> Any:
    """Ids as protobuf's own JSON writes them."""
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(item)).decode() if key in _IDS else _with_bytes(item)
        for key, item in value.items()
    }


def _bytes(data: dict[str, Any], message: Any) -> bytes:
    body: bytes = json_format.ParseDict(_with_bytes(data), message).SerializeToString()
    return body


class Case:
    """What a package sent in one run of its app, and what the model server says that it served."""

    def __init__(self, fixture: str, case: str, folder: Path = FIXTURES) -> None:
        found = json.loads((folder / f"{fixture}.json").read_text())["cases"][case]
        self.served: list[dict[str, Any]] = found["served"]
        self._found = found

    def traces(self) -> bytes:
        return json_format.ParseDict(
            _with_bytes(self._found["traces"]), ExportTraceServiceRequest()
        ).SerializeToString()

    def logs(self) -> bytes:
        return _bytes(self._found["logs"], ExportLogsServiceRequest())


@pytest.fixture(name="fixtures", scope="session")
def fixtures_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed fixtures, or with REGENERATE=1 those that the packages of today make. That takes the network."""
    if os.environ.get("REGENERATE") != "1":
        return FIXTURES
    made, environments = tmp_path_factory.mktemp("fixtures"), tmp_path_factory.mktemp("environments")
    maker = Path(__file__).parent / "make_fixtures.py"
    command = [sys.executable, str(maker), "--fixtures", str(made), "--environments", str(environments)]
    subprocess.run(command, check=True, timeout=3_600)
    return made


@pytest.fixture(name="case_of", scope="session")
def case_of_fixture(fixtures: Path) -> Callable[[str, str], Case]:
    return lambda fixture, case: Case(fixture, case, fixtures)

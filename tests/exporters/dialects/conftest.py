"""The fixtures of the dialects: what real packages sent, case by case."""

import base64
import json
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

    def __init__(self, fixture: str, case: str) -> None:
        found = json.loads((FIXTURES / f"{fixture}.json").read_text())["cases"][case]
        self.served: list[dict[str, Any]] = found["served"]
        self._found = found

    def traces(self) -> bytes:
        return json_format.ParseDict(
            _with_bytes(self._found["traces"]), ExportTraceServiceRequest()
        ).SerializeToString()

    def logs(self) -> bytes:
        return _bytes(self._found["logs"], ExportLogsServiceRequest())


@pytest.fixture(name="case_of", scope="session")
def case_of_fixture() -> Callable[[str, str], Case]:
    return Case

"""The OpenAPI document says what is served, and what is served keeps to it; answers that no endpoint gives fit too."""

import asyncio
import gzip
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from otel_telemetry.cache.config import CacheSettings
from otel_telemetry.cache.key_value import KeyValueCache
from otel_telemetry.cache.parts import Parts
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store.store import open_store
from otel_telemetry.gateway.receive import bodies
from otel_telemetry.gateway.receive.rest import Clients, Rest
from otel_telemetry.gateway.serve import manual
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.ui.access import Access
from otel_telemetry.ui.app import make_page
from otel_telemetry.ui.config import UiSettings
from otel_telemetry.ui.reading import Reading

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


@pytest.fixture(name="rest")
def rest_fixture() -> Rest:
    cache = KeyValueCache(Parts(CacheSettings(), Redactor(RedactionSettings()), secret=b"0123456789abcdef"))
    return Rest(cache, Clients(per_minute=0))


# --- the document ---------------------------------------------------------------------------------------------------
@pytest.mark.timeout(240)
async def test_whatever_is_made_of_the_document_is_answered_as_it_says(
    serving: Any, rest: Rest, tmp_path: Path
) -> None:
    reading = Reading(f"sqlite:///{tmp_path / 'rows.db'}")
    open_store(RequestLogSettings(url=f"sqlite:///{tmp_path / 'rows.db'}")).close()

    def page(keys: Any, insight: Any) -> Any:
        del insight
        return make_page(reading, RedactionSettings(), UiSettings(), Access(keys, b"secret"))

    async with serving(rest=rest, page=page) as running:
        schema = schemathesis.openapi.from_dict(manual.document())
        schema.config.update(base_url=running.http)
        checks = [
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
            unsupported_method,
        ]

        def try_all() -> int:
            tried = 0
            for operation in schema.get_all_operations():
                found: Any = operation.ok()  # type: ignore[union-attr] # an error has none, and fails the test

                @settings(
                    max_examples=12,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    phases=[Phase.explicit, Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=found.as_strategy())
                def check(case: Any) -> None:
                    case.call_and_validate(checks=checks)

                check()
                tried += 1
            return tried

        assert await asyncio.to_thread(try_all) == sum(len(one) for one in manual.document()["paths"].values())


async def test_every_example_is_accepted(serving: Any, rest: Rest) -> None:
    async with serving(rest=rest) as running, httpx.AsyncClient(base_url=running.http) as client:
        document = (await client.get("/openapi.json")).json()
        assert document == manual.document()
        for path, methods in document["paths"].items():
            for content in methods.get("post", {}).get("requestBody", {}).get("content", {}).values():
                if "example" in content:
                    answer = await client.post(path, json=content["example"])
                    assert answer.status_code in {200, 202}, path
                    assert not answer.json().get("partialSuccess"), path


async def test_every_route_is_in_the_document(running: Any) -> None:
    async with httpx.AsyncClient(base_url=running.http) as client:
        message = (await client.get("/nowhere")).json()["message"]
    named = set(re.findall(r"/[a-z0-9/._]+", message)) - {"/docs", "/openapi.json", "/ui"}
    assert named <= set(manual.document()["paths"])


async def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script(running: Any) -> None:
    async with httpx.AsyncClient(base_url=running.http) as client:
        page = await client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"<script|src=|href=|url\(|style=", page.text)
    assert all(path in page.text for path in manual.document()["paths"])


# --- answers that no endpoint gives ---------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/v1development/profiles", "/v1/nothing", "/v1/nothing/", "/log/more"])
async def test_an_unknown_path_is_answered_in_the_encoding_of_the_request(running: Any, path: str) -> None:
    async with httpx.AsyncClient(base_url=running.http) as client:
        binary = await client.post(path, content=b"", headers=PROTOBUF)
        text = await client.post(path, content=b"{}", headers=JSON)
    assert (binary.status_code, text.status_code) == (404, 404)
    assert binary.headers["content-type"] == "application/x-protobuf"
    assert "endpoints" in Status.FromString(binary.content).message
    assert text.json()["code"] == 12
    assert "location" not in binary.headers


async def test_a_wrong_method_is_answered_in_the_encoding_of_the_request(running: Any) -> None:
    async with httpx.AsyncClient(base_url=running.http) as client:
        for method in ("PUT", "PATCH", "DELETE", "GET"):
            binary = await client.request(method, "/v1/traces", headers=PROTOBUF)
            assert (binary.status_code, binary.headers["allow"]) == (405, "POST")
            assert Status.FromString(binary.content).code == 12
            assert (await client.request(method, "/v1/traces", headers=JSON)).json()["code"] == 12


# --- gzip -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["gzip", "x-gzip", "GZIP", "X-Gzip"])
async def test_gzip_of_several_members_is_read_whole(running: Any, make_request: Any, name: str) -> None:
    parts = [make_request("one"), make_request("two"), make_request("three")]
    packed = b"".join(map(gzip.compress, parts)) + gzip.compress(b"") + b"\0" * 8
    async with httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post("/v1/traces", content=packed, headers=PROTOBUF | {"content-encoding": name})
    assert answer.status_code == 200
    assert running.spooled()[0].items == 3


@pytest.mark.parametrize("second", ["gzip", "identity", "br"])
async def test_what_is_packed_twice_is_refused_in_one_header_or_two(
    running: Any, make_request: Any, second: str
) -> None:
    packed = gzip.compress(make_request("one"))
    for encodings in (
        [("content-encoding", "gzip"), ("content-encoding", second)],
        [("content-encoding", f"gzip, {second}")],
    ):
        async with httpx.AsyncClient(base_url=running.http) as client:
            answer = await client.post("/v1/traces", content=packed, headers=[*PROTOBUF.items(), *encodings])
        assert answer.status_code == 415
    assert running.spooled() == []


def test_gzip_is_unpacked_like_gzip_does_and_in_time() -> None:
    whole = bytes(range(256)) * 40_000
    members = [gzip.compress(whole[at : at + 65_536]) for at in range(0, len(whole), 65_536)]
    assert bodies.gunzip(b"".join(members), len(whole)) == whole
    tiny = gzip.compress(b"") * 9_999 + gzip.compress(json.dumps({}).encode())
    assert bodies.gunzip(tiny, 10) == b"{}"

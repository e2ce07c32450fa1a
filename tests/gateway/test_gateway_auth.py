"""Keys with roles, and TLS on both ports, over real connections."""

import hashlib
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import SecretStr
from typer.testing import CliRunner

from otel_telemetry import cli
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive.auth import Keys, entry, new_key
from otel_telemetry.gateway.serve.process import Gateway
from tests.gateway.certificates import Certificates

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
EMPTY = ExportTraceServiceRequest().SerializeToString()
PROTOBUF = {"content-type": "application/x-protobuf"}


def keys(*entries: str) -> Keys:
    return Keys([SecretStr(text) for text in entries])


def having(key: str) -> Any:
    return {"x-api-key": key}.get


def hashed(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


@pytest.mark.parametrize("role", ["ingest", "cache", "read", "admin"])
def test_a_plain_key_may_do_everything_and_another_nothing(role: Any) -> None:
    assert keys("one", "two").admit(having("two"), role)
    assert not keys("one", "two").admit(having("three"), role)


def test_a_digest_lets_its_key_in_and_not_itself() -> None:
    known = keys(hashed("one"), hashed("two").upper())
    assert known.admit(having("one"))
    assert known.admit(having("two"))
    assert not known.admit(having(hashed("one")))
    assert not known.admit(having(hashed("two").upper()))


@pytest.mark.parametrize("key", ["k", hashed("k")])
def test_a_key_with_roles_may_do_that_and_no_more(key: str) -> None:
    known = keys(f"ingest+cache:{key}", "read:other")
    assert [known.admit(having("k"), role) for role in ("ingest", "cache", "read", "admin")] == [
        True,
        True,
        False,
        False,
    ]
    assert known.admit(having("other"), "read")
    assert not known.admit(having("other"), "ingest")


def test_admin_may_do_everything() -> None:
    assert keys("admin:k").admit(having("k"), "cache")


def test_roles_of_one_key_in_two_entries_add_up() -> None:
    known = keys("ingest:k", "read:k")
    assert known.admit(having("k"), "ingest")
    assert known.admit(having("k"), "read")


def test_what_only_looks_like_roles_is_part_of_the_key() -> None:
    assert keys("reader:k").admit(having("reader:k"))
    assert keys("ingest+fly:k").admit(having("ingest+fly:k"))


@pytest.mark.parametrize(
    "bad",
    ["", "ingest:", "read+cache: ", "sha256:12", "read:sha256:" + "g" * 64, hashed(""), f"public:{hashed('')}"],
)
def test_an_entry_that_cannot_be_used_is_named_by_its_place_and_not_shown(bad: str, tmp_path: Path) -> None:
    config = GatewaySettings(api_keys=(SecretStr("good-key"), SecretStr(bad)), spool_dir=tmp_path / "spool")
    with pytest.raises(ConfigurationError) as refused:
        Gateway(config, None, [])
    assert refused.value.key == "gateway.api_keys"
    assert "entry 2" in refused.value.problem
    assert not bad.rpartition(":")[2].strip() or bad.rpartition(":")[2] not in str(refused.value)


def test_the_command_prints_a_new_key_and_the_entry_that_lets_it_in() -> None:
    first, second = (CliRunner().invoke(cli.app, ["key", "--role", "read", "--role", "ingest"]) for _ in range(2))
    key, line = first.stdout.splitlines()[:2]
    assert line == entry(key, ["ingest", "read"])
    assert key != second.stdout.splitlines()[0]
    assert len(key) >= 43
    assert keys(line).admit(having(key), "read")
    assert not keys(line).admit(having(key), "cache")
    assert keys(entry(new_key(), [])).admit(having(key)) is False


def test_the_command_names_the_roles_that_there_are() -> None:
    error = CliRunner().invoke(cli.app, ["key", "--role", "boss"]).exception
    assert isinstance(error, ConfigurationError)
    assert "ingest, cache, read, admin" in error.hint


async def test_each_endpoint_asks_for_its_role(serving: Any) -> None:
    async with serving(api_keys=("ingest:i", f"read:{hashed('r')}")) as running, httpx.AsyncClient() as client:

        async def asked(path: str, key: str) -> int:
            headers = {"x-api-key": key}
            if path == "/v1/traces":
                answer = await client.post(running.http + path, content=EMPTY, headers=headers | PROTOBUF)
            else:
                answer = await client.get(running.http + path, headers=headers)
            return answer.status_code

        assert [await asked("/v1/traces", key) for key in ("i", "r", "x")] == [200, 403, 401]
        assert [await asked("/metrics", key) for key in ("i", "r", "x")] == [403, 200, 401]
        shown = [await client.get(f"{running.http}/health", headers={"x-api-key": key}) for key in ("i", "r", "x")]
        assert ["parts" in answer.json() for answer in shown] == [False, True, False]
        async with grpc.aio.insecure_channel(running.grpc) as channel:
            export = channel.unary_unary(TRACES, bytes, bytes)
            await export(EMPTY, metadata=(("x-api-key", "i"),))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await export(EMPTY, metadata=(("x-api-key", "r"),))
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


# --- TLS ------------------------------------------------------------------------------------------------------------
async def over_grpc(running: Any, credentials: grpc.ChannelCredentials) -> bytes:
    async with grpc.aio.secure_channel(running.grpc, credentials) as channel:
        answer: bytes = await channel.unary_unary(TRACES, bytes, bytes)(EMPTY, timeout=5)
    return answer


async def test_with_a_certificate_both_ports_speak_tls_only(serving: Any, certificates: Certificates) -> None:
    tls = {"tls_certificate": certificates["server.pem"], "tls_key": certificates["server.key"]}
    async with serving(**tls) as running:
        secure = running.http.replace("http:", "https:")
        async with httpx.AsyncClient(verify=certificates.context()) as client:
            assert (await client.get(f"{secure}/health")).status_code == 200
            assert (await client.post(f"{secure}/v1/traces", content=EMPTY, headers=PROTOBUF)).status_code == 200
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"{running.http}/health")
        assert await over_grpc(running, grpc.ssl_channel_credentials(certificates.bytes("ca.pem"))) == b""
        with pytest.raises(grpc.aio.AioRpcError):
            async with grpc.aio.insecure_channel(running.grpc) as channel:
                await channel.unary_unary(TRACES, bytes, bytes)(EMPTY, timeout=5)


async def test_with_an_authority_for_clients_only_they_come_in(serving: Any, certificates: Certificates) -> None:
    tls = {
        "tls_certificate": certificates["server.pem"],
        "tls_key": certificates["server.key"],
        "tls_client_ca": certificates["ca.pem"],
    }
    async with serving(host="0.0.0.0", **tls) as running:  # no API keys: a certificate says who it is
        secure = running.http.replace("http:", "https:")
        async with httpx.AsyncClient(verify=certificates.context("client")) as client:
            assert (await client.get(f"{secure}/health")).status_code == 200
        async with httpx.AsyncClient(verify=certificates.context()) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"{secure}/health")
        authority, pair = (
            certificates.bytes("ca.pem"),
            (certificates.bytes("client.key"), certificates.bytes("client.pem")),
        )
        assert await over_grpc(running, grpc.ssl_channel_credentials(authority, *pair)) == b""
        with pytest.raises(grpc.aio.AioRpcError):
            await over_grpc(running, grpc.ssl_channel_credentials(authority))


@pytest.mark.parametrize(
    ("given", "key", "problem"),
    [
        ({"tls_certificate": "server.pem"}, "gateway.tls_key", "is not set"),
        ({"tls_key": "server.key"}, "gateway.tls_certificate", "is not set"),
        ({"tls_client_ca": "ca.pem"}, "gateway.tls_client_ca", "is of no use without TLS"),
        ({"tls_certificate": "none.pem", "tls_key": "server.key"}, "gateway.tls_certificate", "cannot be read"),
        ({"tls_certificate": "server.pem", "tls_key": "client.key"}, "gateway.tls_certificate", "cannot be used"),
        ({"tls_certificate": "ext", "tls_key": "server.key"}, "gateway.tls_certificate", "cannot be used"),
    ],
)
def test_tls_that_cannot_work_stops_start_up_and_names_the_setting(
    given: dict[str, str], key: str, problem: str, certificates: Certificates, tmp_path: Path
) -> None:
    files = {name: certificates[file] for name, file in given.items()}
    config = GatewaySettings.model_validate({"spool_dir": tmp_path / "spool", **files})
    with pytest.raises(ConfigurationError) as refused:
        Gateway(config, None, [])
    assert refused.value.key == key
    assert problem in refused.value.problem
    assert refused.value.hint

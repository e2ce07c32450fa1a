"""Forwarding with TLS, to receivers that ask for certificates."""

import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink
from tests.exporters.certificates import authority
from tests.exporters.forwarded import traces
from tests.exporters.otlp_receiver import Receiver, grpc_receiver, http_receiver


@pytest.mark.parametrize("given", [{"ca_file": "gone.pem"}, {"certificate_file": "a.pem", "key_file": "b.pem"}])
def test_certificates_that_cannot_be_read_are_named_at_the_start(given: Any, protocol: str) -> None:
    config = ForwardSettings(endpoint="https://127.0.0.1:1", protocol=protocol, **given)
    with pytest.raises(ConfigurationError, match=r"forward\.there: its certificates cannot be used"):
        ForwardSink("forward.there", config, "forward.there")


@pytest.mark.parametrize("given", [{}, {"certificate_file": "other.pem", "key_file": "other.key"}])
def test_a_destination_that_asks_for_a_certificate_gets_ours_or_nothing(
    given: Any, protocol: str, make: Any, tmp_path: Path
) -> None:
    ca, server, client, _ = (authority(tmp_path, name) for name in ("ca", "server", "client", "other"))
    given = {name: tmp_path / path for name, path in given.items()}
    receiver = Receiver()
    with secure(protocol, receiver, server, client):
        there = {"endpoint": f"https://localhost:{receiver.port}", "ca_file": server[0]}
        with pytest.raises(StoreUnavailable):
            make(receiver, **there, **given).deliver("traces", [traces("one")])
        assert receiver.got == []
        with pytest.raises(StoreUnavailable):  # it is not who it should be
            make(receiver, **{**there, "ca_file": ca[0]}).deliver("traces", [traces("one")])
        make(receiver, **there, certificate_file=client[0], key_file=client[1]).deliver("traces", [traces("one")])
        assert receiver.bodies == [traces("one")]


def secure(protocol: str, receiver: Receiver, own: tuple[Path, Path], trusted: tuple[Path, Path]) -> Any:
    """Serve with TLS, to those only who show the trusted certificate."""
    if protocol == "grpc":
        pair = (own[1].read_bytes(), own[0].read_bytes())
        credentials = grpc.ssl_server_credentials([pair], trusted[0].read_bytes(), require_client_auth=True)
        return grpc_receiver(receiver, credentials=credentials)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own)
    context.load_verify_locations(trusted[0])
    context.verify_mode = ssl.CERT_REQUIRED
    return http_receiver(receiver, tls=context)

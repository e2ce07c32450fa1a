"""Addresses of clients become pseudonyms in any spelling of their header; those of servers that a span calls stay."""

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from pydantic import SecretStr

from otel_telemetry.base import metrics
from otel_telemetry.base.otlp_values import to_message, to_python
from otel_telemetry.processors.config import PseudonymSettings, RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.pseudonym import Pseudonyms
from otel_telemetry.processors.redact.redactor import Redactor
from otel_telemetry.processors.span import RedactionSpanProcessor

KEYS = PseudonymSettings(secret=SecretStr("a secret of sixteen letters and more"))
REDACTOR = Redactor(RedactionSettings(pseudonyms=KEYS))
PSEUDONYMS = Pseudonyms(KEYS)
V4, V6 = "198.51.100.23", "2001:db8:7::99"
HEADERS = (
    *("http.request.header.x-forwarded-for", "http.request.header.x_forwarded_for", "X-Forwarded-For", "x-real-ip"),
    *("http.request.header.X-Real-IP", "http.request.header.cf-connecting-ip", "http.request.header.True-Client-IP"),
    *("rpc.grpc.request.metadata.x-forwarded-for", "http.request.header.fastly-client-ip", "http.client_ip"),
    *("client.address", "http.request.header.forwarded", "x-envoy-external-address"),
)


def sdk(attributes: dict[str, Any], kind: SpanKind) -> dict[str, Any]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RedactionSpanProcessor(REDACTOR, leak_check_ratio=1))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("t").start_span("s", kind=kind, attributes=attributes).end()
    return dict(exporter.get_finished_spans()[0].attributes or {})


def otlp(attributes: dict[str, Any], kind: SpanKind) -> dict[str, Any]:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    span = spans.add(trace_id=b"1" * 16, span_id=b"2" * 8, kind=kind.value + 1)
    for key, value in attributes.items():
        span.attributes.add(key=key, value=to_message(value))
    clean = OtlpRedactor(REDACTOR, leak_check_ratio=1).redact("traces", request.SerializeToString())
    (left,) = ExportTraceServiceRequest.FromString(clean.body).resource_spans[0].scope_spans[0].spans
    return {pair.key: to_python(pair.value) for pair in left.attributes}


homes = pytest.mark.parametrize("home", [sdk, otlp])


@homes
@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("address", [V4, V6, f"{V4}:51234", f"[{V6}]:443", f"::ffff:{V4}"])
def test_an_address_of_a_client_is_its_pseudonym(home: Any, name: str, address: str) -> None:
    own = PSEUDONYMS.of_ip(address)
    assert home({name: address}, SpanKind.SERVER) == {name: own}
    assert home({name: [f"{address}, 10.1.2.3"]}, SpanKind.SERVER)[name][0].startswith(f"{own}, ")


@homes
def test_headers_in_a_map_are_addresses_too(home: Any) -> None:
    given = {"headers": {"X-Forwarded-For": f"{V4}, {V6}", "Accept": "*/*"}}
    assert REDACTOR.item("request", given) == (
        "request",
        {"headers": {"X-Forwarded-For": f"{PSEUDONYMS.of_ip(V4)}, {PSEUDONYMS.of_ip(V6)}", "Accept": "*/*"}},
    )
    forwarded = home({"http.request.header.forwarded": f'for={V4};proto=http;by="[{V6}]:80"'}, SpanKind.SERVER)
    left = forwarded["http.request.header.forwarded"]
    assert PSEUDONYMS.of_ip(V4) in left
    assert PSEUDONYMS.of_ip(V6) in left
    assert "proto=http" in left
    assert V6 not in left


PEERS = ("server.address", "network.peer.address", "net.peer.ip", "net.sock.peer.addr", "net.peer.name")


@homes
@pytest.mark.parametrize("kind", [SpanKind.CLIENT, SpanKind.PRODUCER])
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("address", [V4, V6, "10.20.30.40", "api.provider.example"])
def test_the_server_that_a_span_calls_stays(
    home: Any, name: str, address: str, kind: SpanKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaks: list[Any] = []
    monkeypatch.setattr(metrics.leaks, "add", lambda *counted: leaks.append(counted))
    given = {name: address, "note": "jane@example.com"}
    assert home(given, kind) == {name: address, "note": "[REDACTED_EMAIL]"}
    assert leaks == []


@homes
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("kind", [SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.CONSUMER])
def test_on_other_spans_the_other_side_may_be_a_person(home: Any, name: str, kind: SpanKind) -> None:
    assert V4 not in str(home({name: V4}, kind))


@homes
def test_what_is_no_address_is_redacted_as_ever(home: Any) -> None:
    left = home({"server.address": "jane@example.com", "url.full": f"http://{V4}/x"}, SpanKind.CLIENT)
    assert "jane" not in str(left)
    assert V4 not in left["url.full"]

"""Both HTTP clients of OpenTelemetry Java, and those of Java and curl: what is acknowledged is stored."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e import sending
from tests.e2e.one_gateway import OneGateway, serving
from tests.e2e.scenario import scenario

PLAIN_JAVA = """
import java.net.URI; import java.net.http.*; import java.nio.file.*;
public class Plain {
  public static void main(String[] given) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    for (int n = 0; n < 3; n++) {
      var request = HttpRequest.newBuilder(URI.create(given[0])).header("content-type", "application/x-protobuf")
          .POST(HttpRequest.BodyPublishers.ofFile(Path.of(given[1]))).build();
      System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
    }
  }
}
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[OneGateway]:
    with serving(tmp_path) as made:
        yield made


@pytest.mark.parametrize("language", sending.JAVA_CLIENTS)
def test_all_that_the_java_sdk_sends_is_stored_whichever_client_it_uses(
    gateway: OneGateway, tmp_path: Path, language: str
) -> None:
    made = scenario(language)
    sending.send(made, tmp_path, {"http": gateway.url})
    gateway.has_all_of(made)


def one_span() -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name="asked for HTTP/2")
    encoded: bytes = request.SerializeToString()
    return encoded


def test_clients_that_ask_for_http_2_are_served_in_http_1(gateway: OneGateway, tmp_path: Path) -> None:
    (tmp_path / "span.pb").write_bytes(one_span())
    (tmp_path / "Plain.java").write_text(PLAIN_JAVA)
    url = f"{gateway.url}/v1/traces"
    java = subprocess.run(
        ["java", "Plain.java", url, "span.pb"], cwd=tmp_path, capture_output=True, text=True, timeout=90, check=True
    )
    assert java.stdout.split() == ["200"] * 3
    sent = 3
    curl = shutil.which("curl")
    if curl and "HTTP2" in subprocess.run([curl, "--version"], capture_output=True, text=True, check=True).stdout:
        kind = "content-type: application/x-protobuf"
        form = (
            "--silent",
            "--fail",
            "--http2",
            "--header",
            kind,
            "--data-binary",
            "@span.pb",
            "--write-out",
            "%{http_code}",
        )
        done = subprocess.run([curl, *form, url], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout == "200"
        sent += 1
    assert gateway.span_names() == ["asked for HTTP/2"] * sent

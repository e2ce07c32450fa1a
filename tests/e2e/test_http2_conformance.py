"""h2spec (github.com/summerwind/h2spec) against the HTTP/2 under the gRPC listener."""

import asyncio
import re
import socket
from collections.abc import Mapping

import pytest

from otel_telemetry.gateway.receive.http2 import Stream
from otel_telemetry.gateway.receive.http2_call import Call
from otel_telemetry.gateway.receive.http2_server import Http2Server
from tests.backends import builds

#: h2spec takes it that no frame may have more than 16,384 bytes, and we allow 65,536: header fields have to be as long.
HEADER_BYTES = "14000"


class Greeting:
    """A call that is answered once its request is complete. gRPC refuses what is no gRPC before that."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def receive(self, data: memoryview) -> None:
        """Throw it away."""

    def end(self) -> None:
        self._stream.answer(((b":status", b"200"),), b"good day", ((b"x-end", b"here"),))

    def lost(self) -> None:
        """Nothing is kept of it."""


def greet(stream: Stream, headers: Mapping[str, str]) -> Call:
    assert headers
    return Greeting(stream)


@pytest.mark.parametrize("strictness", [(), ("--strict",)], ids=["all", "strict"])
async def test_h2spec_finds_no_fault(strictness: tuple[str, ...]) -> None:
    h2spec = builds.built(builds.H2SPEC, "make e2e")
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    port = listening.getsockname()[1]
    server = Http2Server(greet, max_connections=64)
    await server.start(listening, None)
    try:
        asking = ("--port", str(port), "--max-header-length", HEADER_BYTES, *strictness)
        process = await asyncio.create_subprocess_exec(h2spec, *asking, stdout=asyncio.subprocess.PIPE)
        output, _ = await asyncio.wait_for(process.communicate(), 300)
    finally:
        server.stop_listening()
        await server.close()
    report = output.decode()
    counts = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", report)
    assert counts is not None, report
    assert int(counts[2]) > 140, report
    assert counts[4] == "0", report[report.find("Failures") :]

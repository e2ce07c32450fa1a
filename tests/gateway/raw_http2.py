"""A client of raw HTTP/2, for what no gRPC library would do."""

import asyncio
import struct
from typing import Any

import h2.config
import h2.connection
import h2.events

from otel_telemetry.gateway.receive import http2

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Client:
    """A client of raw HTTP/2, which does what no gRPC library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.statuses: dict[int, str] = {}
        self.resets: set[int] = set()
        self.closed = False
        self.h2.initiate_connection()

    @classmethod
    async def connect(cls, running: Any) -> "Client":
        client = cls(*await asyncio.open_connection(*running.grpc.split(":")))
        running.clients.append(client.writer)
        await client.flush()
        while client.h2.remote_settings.max_concurrent_streams != http2.MAX_STREAMS:
            await client.read()
        return client

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def read(self, seconds: float = 5.0) -> bool:
        """Take what comes in; False once the connection is closed."""
        try:
            data = await asyncio.wait_for(self.reader.read(1 << 16), seconds)
        except ConnectionError:
            data = b""
        self.closed = self.closed or not data
        for event in self.h2.receive_data(data) if data else ():
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                fields: Any = event.headers  # text, as header_encoding asks
                status = dict(fields).get("grpc-status")
                if status:
                    self.statuses[event.stream_id] = status
            elif isinstance(event, h2.events.StreamReset):
                self.resets.add(event.stream_id)
        if not self.closed:
            await self.flush()
        return not self.closed

    def begin(self, encoding: str = "identity", **more: str) -> int:
        stream = int(self.h2.get_next_available_stream_id())
        headers = {":method": "POST", ":scheme": "http", ":path": EXPORT, ":authority": "x", "te": "trailers"}
        headers |= {"content-type": "application/grpc", "grpc-encoding": encoding} | more
        self.h2.send_headers(stream, list(headers.items()))
        return stream

    async def send(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Send a request's bytes as far as the windows allow, until it is answered."""
        while data and stream not in self.statuses:
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            if size:
                self.h2.send_data(stream, data[:size], end_stream=end and size == len(data))
                data = data[size:]
                await self.flush()
            else:
                await self.read()

    async def answered(self, *streams: int) -> list[str]:
        while not set(streams) <= self.statuses.keys():
            assert await self.read(), "the connection was closed"
        return [self.statuses[stream] for stream in streams]


def message(body: bytes, *, packed: int = 0) -> bytes:
    return struct.pack(">BI", packed, len(body)) + body

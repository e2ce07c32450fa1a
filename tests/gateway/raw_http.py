"""Bytes to and from an HTTP port, as no HTTP client would send them."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

PROTOBUF = "application/x-protobuf"


@dataclass
class Answer:
    """One answer: its status, its headers by lower-case name, its body."""

    status: int
    headers: dict[str, str]
    body: bytes


def head(method: str, path: str, *headers: str, version: str = "1.1", host: str = "127.0.0.1") -> bytes:
    """Return the head of a request, with a Host where `host` is not empty."""
    lines = [f"{method} {path} HTTP/{version}", *([f"Host: {host}"] if host else ()), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(path: str, body: bytes, *headers: str, content_type: str = PROTOBUF) -> bytes:
    """Return a whole request."""
    return head("POST", path, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers) + body


async def talk(port: int, *parts: bytes | float, end: bool = False, seconds: float = 60.0) -> bytes:
    """Send parts (numbers are pauses in seconds), and return all that comes until the server closes.

    `end`: say that nothing more will be sent, after which the server closes once it has answered.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()
    reading = asyncio.create_task(_read(reader, received))
    try:
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            elif not writer.is_closing():
                writer.write(part)
                await writer.drain()
        if end and not writer.is_closing():
            writer.write_eof()
    except ConnectionError:
        pass
    await asyncio.wait([reading], timeout=seconds)
    reading.cancel()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return bytes(received)


async def _read(reader: asyncio.StreamReader, into: bytearray) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(1 << 16):
            into += chunk


def answers(received: bytes, methods: Sequence[str] = ()) -> list[Answer]:
    """Return the answers that were received, those of 1xx left out; `methods` of their requests where one was HEAD."""
    found: list[Answer] = []
    while received:
        start, _, received = received.partition(b"\r\n\r\n")
        first, *lines = start.decode("latin-1").split("\r\n")
        status = int(first.split(" ")[1])
        if status < 200:
            continue
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        is_head = len(found) < len(methods) and methods[len(found)] == "HEAD"
        if headers.get("transfer-encoding") == "chunked" and not is_head:
            body, received = _unchunked(received)
        else:
            length = 0 if is_head else int(headers.get("content-length", "0"))
            body, received = received[:length], received[length:]
        found.append(Answer(status, headers, body))
    return found


def _unchunked(received: bytes) -> tuple[bytes, bytes]:
    """Return a chunked body, as far as it came, and what is behind it."""
    body = b""
    while received:
        size, _, received = received.partition(b"\r\n")
        length = int(size, 16)
        body += received[:length]
        received = received[length + 2 :]
        if not length:
            break
    return body, received


async def ask(port: int, *parts: bytes | float, end: bool = False, seconds: float = 60.0) -> list[int]:
    """Send parts and return the statuses of the answers."""
    return [one.status for one in answers(await talk(port, *parts, end=end, seconds=seconds))]

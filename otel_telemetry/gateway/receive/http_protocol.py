"""One connection of HTTP/1.x: uvicorn's protocol on httptools, made strict about where a request ends.

Differences from uvicorn's own:

- `Upgrade` is ignored, as RFC 9110 (7.8) allows: the request is read as if it did not ask. uvicorn's own drops its body
  and runs what follows as the next request (Kludex/uvicorn#2722).
- HTTP/1.1 without exactly one Host, one that is not a name or address, a Transfer-Encoding other than `chunked`,
  CONNECT, and endless heads are refused.
- Trailers are not treated as headers.
- A success is not sent before all of the body is here, also where the application does not look at it.
- An error is answered only if no other answer is still to come.
- Each state has a deadline, which `expire` enforces: the head, the body, and a client that does not read its answer.
- Few requests wait for their turn, and a body that nobody reads is not held: a thousand connections may do so at once.
"""

import asyncio
import math
import re
from collections import deque
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
from google.rpc import code_pb2
from uvicorn import Config
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from otel_telemetry.gateway.receive.auth import HEALTH_PATHS
from otel_telemetry.gateway.receive.callers import Caller
from otel_telemetry.gateway.receive.status import JSON, Refusal

CALLER: Final = "otel_telemetry.caller"
"""Where an ASGI scope has the Caller of its request."""

HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 40.0  # the application gives up after 30, and says so: this is for what it does not read
WRITE_SECONDS: Final = 30.0
IDLE_SECONDS: Final = 15  # between two requests; not 5, at which SDKs export
_MOST_HEAD: Final = 64 << 10
_MOST_TARGET: Final = 8 << 10  # as common servers: decoded and as it came, it takes up to ten times its bytes
_MOST_HEADERS: Final = 100  # of one request: each takes some hundred bytes of memory, however short it is
_MOST_TRAILER: Final = 8 << 10
_MOST_CHUNKS: Final = 1_000  # of a body whose chunks are small, of which each takes time, however short it is
_SMALL_CHUNK: Final = 32
_MOST_PIPELINED: Final = 8  # requests that wait for their turn on one connection, each with its headers in memory
_HOP_BY_HOP: Final = frozenset({b"upgrade", b"http2-settings"})
_OF_BODIES: Final = frozenset({b"content-length", b"transfer-encoding"})
#: What a connection is for that was let in beyond the bound: to see how the gateway is.
_ALWAYS_SERVED: Final = frozenset(path.encode() for path in (*HEALTH_PATHS, "/metrics"))

#: A name or address, and a port (RFC 3986, 3.2.2 and 3.2.3).
_HOST: Final = re.compile(rb"(?:\[[0-9A-Za-z:._~%-]{2,}\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]{0,5})?")

_MALFORMED: Final = "the request is not valid HTTP/1.1"


class _BadRequest(Exception):
    """Ends the parsing of a request, with what is answered."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)


def _bad(message: str, http_status: int = 400) -> Refusal:
    return Refusal("malformed", code_pb2.INVALID_ARGUMENT, http_status, message)


_TOO_LONG: Final = _bad(f"the head of the request is larger than {_MOST_HEAD} bytes", 431)
_TARGET_TOO_LONG: Final = _bad(f"the target of the request is longer than {_MOST_TARGET} bytes", 414)
_SMALL_CHUNKS: Final = _bad(f"the body has over {_MOST_CHUNKS} chunks of fewer than {_SMALL_CHUNK} bytes", 413)
_TOO_MANY: Final = _bad(f"the request has more than {_MOST_HEADERS} headers", 431)


class HttpProtocol(HttpToolsProtocol):
    """A connection. `extra`: it was let in beyond the bound, and only gets to see how the gateway is.

    `deadline` is when, on the event loop's clock, its state must have changed; `certificate_ends` when the client's
    certificate expires.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        extra: bool = False,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = httptools.HttpRequestParser(self)  # without the leniency that uvicorn gives its own
        self.extra = extra
        self.served = 0
        self.deadline = self.loop.time() + HEAD_SECONDS
        self.certificate_ends = math.inf
        self._in_head = True
        self._head_size = 0
        self._trailer_size = 0
        self._chunks = self._body_size = 0
        self._unanswered = 0
        self._callers: deque[Caller] = deque()
        self._upgrading = False
        self._closing = False
        self._stalled_until = math.inf

    # --- states -----------------------------------------------------------------------------------------------------
    @property
    def waiting(self) -> bool:
        """Whether no answer is still to come: it may be closed without harm, also while an unread body trickles in."""
        return not self._unanswered

    def expire(self, now: float) -> str:
        """Close the connection where it took too long; return why, or nothing."""
        if self._stalled_until == math.inf and self.transport.is_closing():
            self._stalled_until = now + WRITE_SECONDS
        if now >= self._stalled_until:
            why = "answer_not_read"
        elif now < self.deadline or (self._in_head and self._unanswered):
            return ""
        else:
            why = "head_too_slow" if self._in_head else "body_too_slow"
        self.transport.abort()
        return why

    def pause_writing(self) -> None:
        """Give the client some time to read its answer."""
        super().pause_writing()
        self._stalled_until = self.loop.time() + WRITE_SECONDS

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        super().resume_writing()
        self._stalled_until = math.inf

    # --- bytes in ---------------------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._unset_keepalive_if_required()
        if self._closing:
            return
        if self._in_head:
            if not self._head_size:
                self.deadline = self.loop.time() + HEAD_SECONDS
            self._head_size += len(data)
        self._feed(data)
        if self._in_head and self._head_size > _MOST_HEAD:
            self._refuse(_TOO_LONG)

    def eof_received(self) -> bool | None:  # type: ignore[override] # uvicorn has no use for what asyncio offers here
        """Let a client that has sent all it wants to send read its answer."""
        self._note_leaving()
        if self._unanswered and self._in_head and not self._closing and self.scheme == "http":
            self.cycle.keep_alive = False
            return True
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nobody waits any more."""
        super().connection_lost(exc)
        self._note_leaving()

    def _note_leaving(self) -> None:
        for caller in self._callers:
            caller.leave()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.refusal if isinstance(cause, _BadRequest) else _bad(_MALFORMED))

    def _read_without_upgrade(self, rest: bytes) -> None:
        """Parse the head again as if it had not asked for another protocol, then what came after it."""
        self._upgrading = False
        head = self._head_without_upgrade()
        self.parser = httptools.HttpRequestParser(self)
        self._feed(head + rest)

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b" ".join((self.parser.get_method(), self.url, b"HTTP/" + version))]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in _HOP_BY_HOP)  # noqa: PLW2901
            if name not in _HOP_BY_HOP:
                lines.append(name + b": " + value)
        return b"\r\n".join((*lines, b"", b""))

    # --- callbacks of the parser ------------------------------------------------------------------------------------
    def on_url(self, url: bytes) -> None:
        """Take a part of the request's target."""
        super().on_url(url)
        if len(self.url) > _MOST_TARGET:
            raise _BadRequest(_TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers come here, too, and are only counted."""
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))  # the parser leaves what may stand behind it
            if len(self.headers) > _MOST_HEADERS:
                raise _BadRequest(_TOO_MANY)
            return
        self._trailer_size += len(name) + len(value)
        if self._trailer_size > _MOST_TRAILER:
            raise _BadRequest(_bad("the trailers are too long"))

    def on_headers_complete(self) -> None:
        """Check the head, and begin the request."""
        if self._head_size > _MOST_HEAD:
            _check_size(self.url, self.headers)
        _check_head(self.parser.get_http_version(), self.parser.get_method(), self.headers)
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        if self._unanswered >= _MOST_PIPELINED:
            raise _BadRequest(_bad("too many requests at once on one connection", 429))
        self._take_authority()
        path = self.url.partition(b"?")[0]
        loaded = self.config.loaded_app
        if self.extra and path not in _ALWAYS_SERVED:
            loaded = _refuse_for_want_of_room
        elif self.expect_100_continue or (self.parser.get_method() != b"POST" and _has_body(self.headers)):
            loaded = _succeeding_once_read(loaded)  # what takes a POST reads it
        self.app = loaded
        self._in_head = False
        self._trailer_size = self._chunks = self._body_size = 0
        self._unanswered += 1
        self.deadline = self.loop.time() + BODY_SECONDS
        self._callers.append(Caller())
        scope: Any = self.scope
        scope[CALLER] = self._callers[-1]
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Count a chunk; the parser calls this for bodies in chunks only."""
        self._chunks += 1

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_size += len(body)
        small = self._body_size < self._chunks * _SMALL_CHUNK
        if self._chunks > _MOST_CHUNKS and (small or self.cycle.response_complete):
            raise _BadRequest(_SMALL_CHUNKS)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that all of the request is here."""
        if self._upgrading:
            return
        super().on_message_complete()
        if self._unanswered == 1:
            self.flow.resume_reading()  # the body's last piece may have paused it: that the sender leaves is to be seen
        self._in_head = True
        self._head_size = 0
        self.deadline = math.inf if self._unanswered else self.loop.time() + HEAD_SECONDS

    def on_response_complete(self) -> None:
        """Note that the answer is written, and go on with the next request."""
        self._unanswered -= 1
        self._callers.popleft()
        self.served += 1
        if self.cycle.response_complete:
            self._let_go()
        if self._closing and not self._unanswered:
            self.transport.close()
        if self._in_head:
            self.deadline = self.loop.time() + IDLE_SECONDS + HEAD_SECONDS
        super().on_response_complete()

    def _let_go(self) -> None:
        """Keep nothing of a request that was answered: its connection may be idle for long."""
        if self.scope is self.cycle.scope:  # no other has begun
            self.scope, self.headers, self.url = cast("Any", {}), [], b""
        self.cycle.scope = cast("Any", {})
        self.cycle.body = bytearray()  # it may have been answered before it was read

    def _take_authority(self) -> None:
        """Put the host of an absolute request target in place of Host (RFC 9112, 3.2.2)."""
        if self.url.startswith(b"/"):
            return
        target = httptools.parse_url(self.url)
        if target.host is None or target.path is None:
            raise _BadRequest(_bad("the request target must be a path"))
        host = target.host if target.port is None else b"%b:%d" % (target.host, target.port)
        self.headers[:] = [(name, host if name == b"host" else value) for name, value in self.headers]

    # --- errors -----------------------------------------------------------------------------------------------------
    def _refuse(self, refusal: Refusal) -> None:
        """Answer an error and close; where earlier requests wait for their answers, those come, and this one not."""
        self._closing = True
        cut = not self._in_head and not self.cycle.response_complete
        if cut:
            self._unanswered -= 1
            self.cycle.disconnected = True  # the application sees that its client is gone: nothing is acknowledged
            self.cycle.message_event.set()
        if self._unanswered:
            return
        if self._in_head or (cut and not self.cycle.response_started):
            self.transport.write(_answer(refusal))
        self.transport.close()


def _check_size(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raise _BadRequest for a head that is too long, though all of it came at once."""
    if len(target) + sum(len(name) + len(value) for name, value in headers) > _MOST_HEAD:
        raise _BadRequest(_TOO_LONG)


def _check_head(version: str, method: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raise _BadRequest for a head whose target or body length is not clear."""
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                raise _BadRequest(_bad("the Host is no name or address"))
        elif name == b"transfer-encoding" and (value.lower() != b"chunked" or version != "1.1"):
            raise _BadRequest(_bad("the only transfer encoding is chunked, in HTTP/1.1", 501))
    if hosts != 1 and (hosts or version == "1.1"):
        raise _BadRequest(_bad("exactly one Host header is needed"))
    if version not in {"1.0", "1.1"}:
        raise _BadRequest(_bad("this server speaks HTTP/1.1", 505))
    if method == b"CONNECT":
        raise _BadRequest(_bad("this is no proxy", 501))


def _has_body(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    return any(name in _OF_BODIES and value != b"0" for name, value in headers)


def _answer(refusal: Refusal) -> bytes:
    body = refusal.body(JSON)
    head = (
        f"HTTP/1.1 {refusal.http_status} {HTTPStatus(refusal.http_status).phrase}\r\ncontent-type: {JSON}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


async def _refuse_for_want_of_room(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    del scope, receive
    refusal = Refusal(
        "no_room", code_pb2.UNAVAILABLE, 503, "there are too many connections; try again later", retry_after=2.0
    )
    body = refusal.body(JSON)
    headers = {**refusal.headers(), "content-type": JSON, "content-length": str(len(body)), "connection": "close"}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.http_status, "headers": encoded})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _succeeding_once_read(app: Any) -> Any:
    """Return an application whose success waits until all of the request's body is here, though it does not ask for it.

    An error to a client that keeps its body back until it is asked for closes the connection: that body never comes,
    so whatever the client sends next must not be taken for it.
    """

    async def serve(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        asked = complete = False

        async def receiving() -> Any:
            nonlocal asked, complete
            asked = True
            message = await receive()
            complete = complete or not message.get("more_body", False)
            return message

        async def sending(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start":
                while message["status"] < HTTPStatus.BAD_REQUEST and not complete:
                    await receiving()
                if not asked:
                    message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await app(scope, receiving, sending)

    return serve

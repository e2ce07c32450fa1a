"""HTTP/2 for calls of one request and one answer each, as gRPC makes them, with a limit on every resource.

The `h2` library implements the protocol; here are the sockets, and the rules for clients: they may not keep a
connection without using it, open more streams than allowed, send control frames without end, or let unread answers pile
up. The bytes of a request are passed to the call as they arrive, and nothing of them is kept here. A refused call costs
its header fields only, and until a call on a connection is accepted, all its header fields together are bounded.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import DenialOfServiceError, ProtocolError
from h2.settings import SettingCodes, Settings
from h2.stream import StreamState
from hyperframe.frame import GoAwayFrame

from otel_telemetry.gateway.receive import http2_settings, tls
from otel_telemetry.gateway.receive.addresses import origin
from otel_telemetry.gateway.receive.http2_call import Call, Headers
from otel_telemetry.gateway.receive.http2_fields import FieldDecoder, FieldEncoder

MAX_STREAMS: Final = 64  # requests of one connection at once; further ones wait in the client
_MAX_EARLY_STREAMS: Final = 256  # of a client that does not know that number yet
_FRAME_BYTES: Final = 64 << 10
_STREAM_WINDOW: Final = 1 << 20
_CONNECTION_WINDOW: Final = 8 << 20
_HEADER_BYTES: Final = 16 << 10  # of one request, as we tell clients; some more than that is still answered
_UNFINISHED_BYTES: Final = 32 << 10  # of header fields that another frame is to complete
_CONTROL_FRAMES: Final = 1000  # more than that within ...
_CONTROL_SECONDS: Final = 10.0  # ... so many seconds is an attack, ...
_UNTRUSTED: Final = 10  # so many does one count for, and a refused call, until a call was accepted
_FRAMES_AT_ONCE: Final = 64  # handed to `h2` before they are counted
_READ_COST: Final = 1 << 10  # what a read costs beside its header fields, as if it were so many bytes of them
_EARNED: Final = 4  # ... beyond so many for each call that was answered: clients ping to measure the line
_WRITE_BUFFER: Final = 64 << 10
_LAST_STREAM: Final = 2**31 - 1
_GOAWAY_SECONDS: Final = 1.0  # between the first and the last word of a graceful end: what is on its way gets in
_OF_CALLS: Final = (DataReceived, RequestReceived, StreamEnded)  # all else that a client sends is counted

_SETTINGS: Final = {
    SettingCodes.MAX_CONCURRENT_STREAMS: _MAX_EARLY_STREAMS,
    SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
    SettingCodes.MAX_FRAME_SIZE: _FRAME_BYTES,
    SettingCodes.MAX_HEADER_LIST_SIZE: _HEADER_BYTES,
}

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD: Final = 9  # bytes before a frame's payload: length, type, flags, stream
_OF_HEADERS: Final = (1, 9)  # types of frames: HEADERS and CONTINUATION
_SILENT: Final = (0, 1, 3, 8)  # DATA, HEADERS, RST_STREAM, WINDOW_UPDATE: `h2` reports none of a stream that is over
_SETTINGS_FRAME: Final = 4
_ALTERNATIVES: Final = 10  # ALTSVC, which `h2` reports to nobody here
_STRAY_BYTES: Final = 1 << 10  # a frame as large as that is worth its work: it is of a large request that was refused
_STRAY_COST: Final = 256  # of a smaller one, in bytes of header fields
_END_HEADERS: Final = 4  # their flag
_PLAIN_DATA: Final = b"\0\0"  # type and flags of a DATA frame without padding that does not end its stream


class Clients(Protocol):
    """All connections of a server."""

    def add(self, connection: "Connection") -> bool:
        """Take a new one in; False where there are too many."""

    def remove(self, connection: "Connection") -> None:
        """Forget one that is closed."""

    def note_calmed(self, address: str, why: str) -> None:
        """Count and log a connection that is closed because its client makes too much work for nothing."""

    def charge(self, size: int) -> None:
        """Note work for clients that are not trusted yet, by the bytes of header fields that cost as much."""

    def lifetime(self) -> float:
        """Return how many seconds a new connection may live."""


#: Makes a call of a request's header fields; it may answer at once.
Open = Callable[["Stream", Mapping[str, str]], Call]


class Stream:
    """The place that a call's answer goes to. Event loop only."""

    def __init__(self, connection: "Connection", number: int) -> None:
        self._connection = connection
        self._number = number
        self.trusted = False  # set by the call once it knows who sends
        self.answered = False

    def answer(self, headers: Headers, body: bytes = b"", trailers: Headers = ()) -> None:
        """Send the whole answer; header fields alone end the call, also while its request is still coming in."""
        if not self.answered:
            self.answered = True
            if self.trusted:
                self._connection.earn()
            self._connection.send(self._number, headers, body, trailers)


class Connection(asyncio.Protocol):
    """One client's connection.

    `trusted`: a call on it was taken; `used`: when the last one was; `expires`: when it is time to connect anew;
    `certificate_ends`: when, by the wall clock, the client's certificate expires.
    """

    def __init__(self, open_call: Open, clients: "Clients") -> None:
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._open = open_call
        self._clients = clients
        self._h2 = H2Connection(config)
        self._fields = FieldDecoder()
        self._calls: dict[int, Call] = {}
        self._waiting: dict[int, tuple[bytes, Headers]] = {}  # answers that the client's window has no room for
        self._transport: asyncio.Transport | None = None
        self._preface = len(PREFACE)  # bytes of it that are still to come
        self._partial = b""  # the beginning of a frame
        self._unfinished = 0
        self._held = False
        self._full = False  # answers wait to be read
        self._control = 0
        self._control_since = 0.0
        self._final = False  # a graceful end has had its last word: no further call is taken
        self._blocked_since = math.inf
        self.address = ""
        self.leaving = False
        self.trusted = False
        self.used = time.monotonic()
        self.expires = self.used + clients.lifetime()
        self.certificate_ends = math.inf

    # --- what asyncio calls -----------------------------------------------------------------------------------------
    def connection_made(self, transport: Any) -> None:
        """Announce our limits."""
        self._transport = transport
        self.address = origin(transport.get_extra_info("peername"))
        self.certificate_ends = tls.client_ends(transport)
        if tls.is_over(self.certificate_ends) or not self._clients.add(self):
            transport.abort()
            return
        tls.bound_backlog(transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self._h2.local_settings = Settings(client=False, initial_values=_SETTINGS)
        self._h2.max_inbound_frame_size = _FRAME_BYTES
        self._h2.decoder = self._fields
        self._h2.encoder = FieldEncoder()
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS})  # holds once the client knows it
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take what came in."""
        left = self._fields.left
        try:
            self._split(data)
            self._flush()
        except DenialOfServiceError:  # of `h2`, for header fields only
            self._clients.note_calmed(self.address, "header_fields")
            self._end()
        except ProtocolError:
            self._end()
        if not self.trusted:
            self._clients.charge(_READ_COST + int(left - self._fields.left))

    def connection_lost(self, error: Exception | None) -> None:
        """Notify all calls in progress that their client is gone."""
        del error
        self._clients.remove(self)
        calls, self._calls = self._calls, {}
        self._waiting.clear()
        for call in calls.values():
            call.lost()

    def pause_writing(self) -> None:
        """Take nothing more from a client that does not read its answers."""
        self._full = True
        self._read_or_wait()

    def resume_writing(self) -> None:
        """Go on."""
        self._full = False
        self._read_or_wait()

    def hold(self, *, held: bool) -> None:
        """Read nothing from the client, or go on."""
        self._held = held
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        if self._transport and not self._transport.is_closing():
            if self._full or self._held:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # --- frames -----------------------------------------------------------------------------------------------------
    def _split(self, data: bytes) -> None:
        """Cut what came into frames; hand plain DATA frames to their calls at once, all else to `h2`.

        Nearly all bytes of a request are in such frames, and `h2` takes 40 microseconds for each.
        """
        data = self._partial + data if self._partial else data
        view = memoryview(data)  # a request's bytes are copied once, into its message
        at = start = min(self._preface, len(data))
        frames = 0
        self._pass(data[:at])
        self._preface -= at
        while len(data) - at >= _HEAD:
            length = int.from_bytes(data[at : at + 3])
            end = at + _HEAD + length
            if length > _FRAME_BYTES:  # `h2` would refuse it too, once it had held all of it
                self._pass(data[start:at])
                self._h2.close_connection(ErrorCodes.FRAME_SIZE_ERROR)
                raise ProtocolError
            if end > len(data):
                break
            if data[at + 3 : at + 5] == _PLAIN_DATA and length:
                self._pass(data[start:at])
                start = at
                if self._take(int.from_bytes(data[at + 5 : at + _HEAD]), view[at + _HEAD : end]):
                    start = end
            elif data[at + 3] == _SETTINGS_FRAME and length:
                self._pass(data[start:at])
                if length > http2_settings.MOST_BYTES:
                    self._calm("control_frames")
                self._pass(http2_settings.known(data[at:end]))
                start = end
            else:
                self._bound(data[at + 3], length, data[at + 4])
            if start < end and data[at + 3] in _SILENT and length < _STRAY_BYTES:
                self._count_stray(int.from_bytes(data[at + 5 : at + _HEAD]))
            at = end
            frames += 1
            if not self.trusted or frames % _FRAMES_AT_ONCE == 0:
                self._pass(data[start:at])
                start = at
        self._pass(data[start:at])
        self._partial = data[at:]

    def _pass(self, data: bytes) -> None:
        """Hand bytes to `h2`, and do what comes of them."""
        for event in self._h2.receive_data(data) if data else ():
            self._handle(event)

    def _bound(self, kind: int, length: int, flags: int) -> None:
        """End a connection of frames that `h2` does not report, or whose header fields do not end: it holds them."""
        if kind == _ALTERNATIVES:
            self._count_control()
        if kind not in _OF_HEADERS:
            return
        self._unfinished = 0 if flags & _END_HEADERS else self._unfinished + length
        if self._unfinished > _UNFINISHED_BYTES:
            self._calm("header_fields")

    def _calm(self, why: str) -> NoReturn:
        self._clients.note_calmed(self.address, why)
        self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
        raise ProtocolError

    def _take(self, number: int, data: memoryview) -> bool:
        """Hand the data of one frame to its call; False where `h2` has to see the frame: to refuse it, mostly."""
        call, stream, size = self._calls.get(number), self._h2.streams.get(number), len(data)
        if call is None or stream is None or stream._expected_content_length is not None:  # noqa: SLF001 - see below
            return False
        if stream.state_machine.state is not StreamState.OPEN:  # its request has ended
            return False
        # Private, as `h2` has no way to count bytes that it was not given; both windows are as it would leave them.
        windows = self._h2._inbound_flow_control_window_manager, stream._inbound_window_manager  # noqa: SLF001
        if any(window.current_window_size < size for window in windows):
            return False
        for window in windows:
            window.window_consumed(size)
        self._h2.acknowledge_received_data(size, number)
        call.receive(data)
        return True

    def _handle(self, event: Any) -> None:
        match event:
            case DataReceived():
                self._receive(event)
            case RequestReceived():
                self._begin(event)
            case StreamEnded():
                call = self._calls.get(event.stream_id)
                if call:
                    call.end()
            case StreamReset():
                self._forget(event.stream_id)
            case WindowUpdated() | RemoteSettingsChanged():
                self._send_waiting()
        if not isinstance(event, _OF_CALLS):
            self._count_control()

    def _begin(self, event: Any) -> None:
        headers = {name.decode("latin-1"): value.decode("utf-8", "surrogateescape") for name, value in event.headers}
        if self._final:  # the client was told: it sends this again, on another connection
            self._h2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        stream = Stream(self, event.stream_id)
        call = self._open(stream, headers)
        if stream.trusted:
            self.trusted = True
            self._fields.trust()
            self.used = time.monotonic()
        else:
            self._count_control()
        if not stream.answered:
            self._calls[event.stream_id] = call

    def _receive(self, event: Any) -> None:
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        call = self._calls.get(event.stream_id)
        if not event.data:
            self._count_control()
        elif call:
            call.receive(memoryview(event.data))

    def _count_control(self, weight: int = _UNTRUSTED) -> None:
        """Count what costs us work and the client nothing; of too much of it, end the connection."""
        now = time.monotonic()
        if now - self._control_since > _CONTROL_SECONDS:
            self._control, self._control_since = 0, now
        self._control += 1 if self.trusted else weight
        if self._control > _CONTROL_FRAMES:
            self._calm("control_frames")

    def _count_stray(self, number: int) -> None:
        """Count a frame of a stream that is over: it was on its way when the answer was sent, or is an attack."""
        if 0 < number <= self._h2.highest_inbound_stream_id and not (number in self._calls or number in self._waiting):
            self._count_control(1)
            if not self.trusted:
                self._clients.charge(_STRAY_COST)

    def earn(self) -> None:
        """Allow a client some more control frames for a call that it waited for."""
        self._control = max(0, self._control - _EARNED)

    def _forget(self, number: int) -> None:
        self._waiting.pop(number, None)
        call = self._calls.pop(number, None)
        if call:
            call.lost()

    # --- answers ----------------------------------------------------------------------------------------------------
    def send(self, number: int, headers: Headers, body: bytes, trailers: Headers) -> None:
        """Send the answer of a call, as far as the client's windows have room for it."""
        self._calls.pop(number, None)
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._h2.send_headers(number, headers, end_stream=not trailers)
            if trailers:
                self._waiting[number] = (body, trailers)
                self._send_waiting()
            else:
                self._stop_sender(number)
        except ProtocolError:  # the client has ended the stream or the connection meanwhile
            self._waiting.pop(number, None)
        self._flush()

    def _stop_sender(self, number: int) -> None:
        """Have a client stop that is still sending the request."""
        stream = self._h2.streams.get(number)
        if stream and not stream.closed:
            self._h2.reset_stream(number, ErrorCodes.NO_ERROR)

    def _send_waiting(self) -> None:
        for number, (body, trailers) in list(self._waiting.items()):
            try:
                rest = self._send_some(number, body)
                if rest:
                    self._waiting[number] = (rest, trailers)
                    continue
                self._h2.send_headers(number, trailers, end_stream=True)
            except ProtocolError:
                pass
            del self._waiting[number]
        if not self._waiting:
            self._blocked_since = math.inf
        elif self._blocked_since == math.inf:
            self._blocked_since = time.monotonic()

    def _send_some(self, number: int, body: bytes) -> bytes:
        """Send as much of a body as the client's windows have room for; return the rest."""
        while body:
            room = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)
            if room <= 0:
                break
            self._h2.send_data(number, body[:room])
            body = body[room:]
        return body

    def _flush(self) -> None:
        """Send what is due."""
        data = self._h2.data_to_send()
        if data and self._transport and not self._transport.is_closing():
            self._transport.write(data)
        self._end_if_done()

    # --- the end ----------------------------------------------------------------------------------------------------
    def idle(self, now: float) -> float:
        """Return for how many seconds no call was made on it; 0 while one is under way."""
        return 0.0 if self._calls else now - self.used

    def blocked(self, now: float) -> float:
        """Return for how many seconds the client has not read an answer that waits for it."""
        return max(0.0, now - self._blocked_since)

    def leave(self) -> None:
        """Ask the client to reconnect. What it has sent, or sends before it reads this, is still answered."""
        if self.leaving or self._transport is None or self._transport.is_closing():
            return
        self.leaving = True
        self._goaway(_LAST_STREAM)
        asyncio.get_running_loop().call_later(_GOAWAY_SECONDS, self._last_word)

    def _last_word(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._goaway(self._h2.highest_inbound_stream_id)
            self._final = True
            self._end_if_done()

    def _goaway(self, last_stream: int) -> None:
        """Send GOAWAY past `h2`, whose connections take and send nothing after it."""
        if self._transport:
            self._transport.write(GoAwayFrame(0, last_stream_id=last_stream).serialize())

    def _end_if_done(self) -> None:
        if self._final and not self._calls and not self._waiting:
            self._end()

    def _end(self) -> None:
        """Send the remaining frames and close the connection."""
        if self._transport and not self._transport.is_closing():
            self._transport.write(self._h2.data_to_send())
            self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport:
            self._transport.abort()

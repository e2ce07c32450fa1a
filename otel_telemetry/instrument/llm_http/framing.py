"""From the raw bytes of a response to the JSON values in it, in bounded memory, whatever the bytes are.

`Reader` finds out by the first bytes whether it looks at server-sent events, at
lines of JSON or at one document, and hands what it finds to a sink. Nothing here raises on bad input: what cannot be
understood is left out. Server-sent events: WHATWG HTML, section 9.2.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic_core import from_json

MAX_VALUE = 256 << 10  # bytes of one event, line or document that are parsed whole
HEAD = 4 << 10  # bytes kept of the beginning of a larger one
TAIL = 64 << 10  # and of its end, where the usage is
MAX_MULTILINE = 8 << 10  # bytes of one value that is spread over several lines: each line parses it again
#: What is looked for in a value that is too large or was cut off: the first mention of these,
_NAMES = ("id", "model", "responseId", "modelVersion", "stream")
#: and the last one of these.
_RESULTS = ("usage", "usageMetadata", "usage_info", "document_annotation", "finish_reason", "stop_reason")
_COLON = re.compile(r"\s*:\s*")
_SNIFF = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:(?P<sse>data:|event:|id:|retry:|:)|(?P<json>[{\[]))")
_json = json.JSONDecoder()
_BLANK = b" \t\r\n\x00"


class Sink(Protocol):
    """Receives the contents of a response."""

    def boring(self, line: bytes) -> bool:
        """Return whether a line adds nothing new, without parsing it."""
        ...

    def event(self, value: Any) -> None:
        """Take one streamed value."""
        ...

    def document(self, value: Mapping[str, Any]) -> None:
        """Take a whole JSON document."""
        ...

    def salvaged(self, found: Mapping[str, Any]) -> None:
        """Take what could be found in a document or event that was cut off or too large."""
        ...


def parse(data: bytes) -> Any:
    """Return the JSON value of some bytes, or None. Invalid UTF-8 costs only the characters it garbles.

    pydantic's parser takes a third of the time; what it refuses (lone surrogates, NULs at the end, ...) is read by the
    standard library's, which is more patient.
    """
    try:
        return from_json(data, cache_strings="keys")
    except ValueError:
        return _patiently(data)


def _patiently(data: bytes) -> Any:
    text = data.removeprefix(b"\xef\xbb\xbf").strip(_BLANK).decode("utf-8", "replace")
    try:
        value, end = _json.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if end == len(text) else None


def salvage(head: bytes, tail: bytes) -> dict[str, Any]:
    """Return what is known of a document of which only the first and last bytes are there."""
    texts = [part.decode("utf-8", "replace") for part in (head, tail)]
    found = {key: value for key in _NAMES if (value := _first(texts, key, str.find)) is not None}
    found |= {key: value for key in _RESULTS if (value := _first(texts[::-1], key, str.rfind)) is not None}
    return found


def _first(texts: list[str], key: str, find: Callable[[str, str], int]) -> Any:
    for text in texts:
        at = find(text, f'"{key}"')
        value = _value_at(text, at + len(key) + 2) if at >= 0 else None
        if value is not None:
            return value
    return None


def _value_at(text: str, at: int) -> Any:
    colon = _COLON.match(text, at)
    try:
        return _json.raw_decode(text, colon.end())[0] if colon else None
    except (ValueError, RecursionError):
        return None


class Bounded:
    """A buffer that keeps everything up to MAX_VALUE bytes, and head and tail of anything larger."""

    __slots__ = ("_data", "_head", "size")

    def __init__(self) -> None:
        self._data = bytearray()
        self._head: bytes | None = None
        self.size = 0

    def add(self, data: bytes) -> None:
        """Append some bytes, in time linear in all of them."""
        self.size += len(data)
        if self.size > MAX_VALUE:
            if self._head is None:
                self._head = (bytes(self._data[:HEAD]) + data[:HEAD])[:HEAD]
            data = data[-TAIL:]
        self._data += data
        if self._head is not None and len(self._data) > 2 * TAIL:
            del self._data[:-TAIL]

    def whole(self) -> bytes | None:
        """Return all that was added, or None where some of it is gone."""
        return bytes(self._data) if self._head is None else None

    def ends(self) -> tuple[bytes, bytes]:
        """Return the first and the last bytes that were added."""
        head = self._head if self._head is not None else bytes(self._data[:HEAD])
        return head, bytes(self._data[-TAIL:])


class Reader:
    """Splits a decoded response into JSON values as it comes, and gives them to a sink.

    `unfinished` is true of lines until `data: [DONE]` (which not every dialect has), and `broken` of a document that
    turned out to be none.
    """

    __slots__ = ("_event", "_held", "_lines", "_sink", "broken", "feed", "unfinished")

    def __init__(self, sink: Sink, *, lines: bool) -> None:
        """Take `lines` for an endpoint that streams one JSON value a line."""
        self._sink = sink
        self._lines = lines
        self.feed: Callable[[bytes], None] = self._sniff
        self._held = Bounded()
        self._event = b""
        self.broken = self.unfinished = False

    def end(self) -> None:
        """Take it that no more bytes come, and let go of everything: nothing is left to the garbage collector."""
        feed, self.feed = self.feed, _ignore
        if feed == self._split:
            self._last_lines()
        elif feed == self._collect:
            self._document()
        del self._sink

    def _sniff(self, data: bytes) -> None:
        start = (self._held.whole() or b"") + data
        found = _SNIFF.match(start)
        if found is None:
            self._held.add(data)
            if len(start) > HEAD or len(start.strip()) > len(b"retry:"):
                self.feed, self._held = _ignore, Bounded()
        elif found["json"] and not self._lines:
            self._held.add(data)
            self.feed = self._collect
        else:
            self.feed, self._held, self._lines = self._split, Bounded(), bool(found["json"])
            self.unfinished = True
            self._split(start.removeprefix(b"\xef\xbb\xbf"))

    def _collect(self, data: bytes) -> None:
        self._held.add(data)

    def _split(self, data: bytes) -> None:
        if data[-2:] == b"\n\n" and not (self._event or self._lines or self._held.size):
            begin = 0 if data[:5] == b"data:" else data.find(b"\ndata:") + 1 or -1
            if begin >= 0 and data.find(b"\n", begin) == len(data) - 2:  # one event in one line, as most pieces are
                line = data[begin:]
                if not self._sink.boring(line):
                    self._value(line[5:])
                    self._event = b""
                return
        cut = data.rfind(b"\n")
        if cut < 0:
            self._held.add(data)
            return
        if self._held.size:
            first = data.find(b"\n")
            self._held.add(data[:first])
            self._finish_held()
            data, cut = data[first + 1 :], cut - first - 1
        if cut >= 0:  # also an empty line alone, which ends an event
            self._take(data[:cut].split(b"\n"))
        if cut + 1 < len(data):
            self._held.add(data[cut + 1 :])

    def _finish_held(self) -> None:
        """End a line that came in several pieces, or the last one; only head and tail are left of a giant one."""
        held, self._held = self._held, Bounded()
        line = held.whole()
        if line is None:
            self._sink.salvaged(salvage(*held.ends()))
            return
        self._take(line.splitlines())

    def _last_lines(self) -> None:
        if self._held.size:
            self._finish_held()
        if self._event:
            self._sink.salvaged(salvage(self._event[:HEAD], self._event[-TAIL:]))

    def _take(self, lines: list[bytes]) -> None:
        boring = self._sink.boring
        for line in lines:
            if self._lines:
                if line and not boring(line):
                    self._value(line)
            elif line[:5] == b"data:":
                if self._event or not boring(line):
                    self._value(self._event + line[5:])
            elif self._event and (not line or line == b"\r"):
                self._event = b""

    def _value(self, data: bytes) -> None:
        """Hand on a value; one that is spread over several data lines is tried again with each of them."""
        value = parse(data)
        if value is not None:
            self._event = b""
            self._sink.event(value)
        elif len(data) < MAX_MULTILINE and data.lstrip()[:1] == b"{":
            self._event = data + b"\n"
        elif data.strip() == b"[DONE]":
            self.unfinished = False

    def _document(self) -> None:
        whole = self._held.whole()
        value = parse(whole) if whole is not None else None
        if isinstance(value, dict):
            self._sink.document(value)
        elif isinstance(value, list):
            for item in value:
                self._sink.event(item)
        else:
            self.broken = whole is not None
            self._sink.salvaged(salvage(*self._held.ends()))


def _ignore(data: bytes) -> None:
    """Take no notice: of a format that is none of ours, or after the end."""

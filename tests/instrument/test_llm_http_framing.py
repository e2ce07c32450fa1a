"""A stream is the same events, however the network cut it into pieces."""

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_telemetry.instrument.llm_http.framing import Reader


class Seen:
    """A sink that notes the values it was given; lines with more text are none of them."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def boring(self, line: bytes) -> bool:
        return b'"more"' in line

    def event(self, value: Any) -> None:
        self.values.append(value)

    def document(self, value: Any) -> None:
        self.values.append(value)

    def salvaged(self, found: Any) -> None:
        self.values.append(found)


def read(pieces: list[bytes]) -> tuple[list[Any], bool]:
    seen = Seen()
    reader = Reader(seen, lines=False)
    for piece in pieces:
        reader.feed(piece)
    unfinished = reader.unfinished
    reader.end()
    return seen.values, unfinished


ONE = json.dumps({"id": "c", "usage": {"prompt_tokens": 7}}).encode()
EVENTS = st.sampled_from(
    [
        b"data: " + ONE,
        b'data: {"more":"text"}',
        b"event: message\ndata: " + ONE,
        b'data: {"id":\ndata: "c"}',
        b"data: {cut off",
        b": a comment",
        b"data: [DONE]",
    ]
)
ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n"])


@given(st.lists(st.tuples(EVENTS, ENDS), min_size=1, max_size=6), st.lists(st.integers(1, 400), max_size=8))
def test_however_a_stream_is_cut_its_values_are_the_same(events: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    by_event = [b"data: " + ONE + b"\n\n", *(event + end for event, end in events)]
    whole = b"".join(by_event)
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    expected = read([whole[at : at + 1] for at in range(len(whole))])
    assert read([whole[start:end] for start, end in itertools.pairwise(edges)]) == expected
    assert read(by_event) == expected

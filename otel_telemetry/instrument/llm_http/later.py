"""Answers that are made in the background and fetched later: `POST …/responses` with `background`, then GET …/{id}.

The answer to the POST has an id and no usage yet. The GET that finds it completed is a span below the POST's, from when
that began: one call, and one row, with all its usage. Earlier GETs make no span. If another process fetches it, or a
thousand other answers came between, the POST's row stays without usage.
"""

import threading
from collections import OrderedDict
from typing import Final, NamedTuple

from opentelemetry.trace import SpanContext

from otel_telemetry.instrument.llm_http.endpoints import Endpoint

#: How an answer is that is not there yet.
WAITING: Final = frozenset({"queued", "in_progress"})
_MOST: Final = 1_000


class Begun(NamedTuple):
    """A call whose answer is not there yet."""

    id: str
    endpoint: Endpoint
    context: SpanContext
    model: str | None
    start_ns: int


_lock = threading.Lock()
_begun: OrderedDict[str, Begun] = OrderedDict()


def remember(call: Begun) -> None:
    """Remember a call, and forget the oldest one beyond a thousand."""
    with _lock:
        _begun[call.id] = call
        while len(_begun) > _MOST:
            _begun.popitem(last=False)


def any_waiting() -> bool:
    """Return whether there is any such call."""
    return bool(_begun)


def fetched(path: str) -> Begun | None:
    """Return the call whose answer a GET asks for."""
    return _begun.get(path[path.rfind("/") + 1 :])


def done(call: Begun) -> bool:
    """Forget a call; False where somebody else has done so: its answer was fetched twice."""
    with _lock:
        return _begun.pop(call.id, None) is not None

"""Requests that look like a model call and matched none: counted by host, and recorded on their request.

A JSON body that has a model and messages, a prompt or an input is one. The metric is
`otel_telemetry.unseen_model_calls`; the request's row has the hosts in `meta.unseen_model_calls`, which `run` and
`doctor` read. The first one of each host is a warning in the log.
"""

import json
import logging
import threading
from typing import Any, Final

from opentelemetry import trace

from otel_telemetry.base import conventions, metrics
from otel_telemetry.instrument import active
from otel_telemetry.instrument.llm_http import framing

_logger = logging.getLogger(__name__)
#: In the row's `meta`, a map from host to how many calls.
KEY: Final = "unseen_model_calls"
#: As many hosts are told apart in a process; what comes later is `other`.
_MOST: Final = 50
_LARGEST: Final = 256 << 10
_MODEL: Final = (b'"model"', b'"modelId"', b'"model_id"')
_ASKED: Final = ("messages", "prompt", "input", "inputs", "contents", "query")
_WORDS: Final = tuple(f'"{name}"'.encode() for name in _ASKED)
#: The ends of paths that only count the tokens of what they get: no model answers, and nothing is billed.
_COUNTING: Final = frozenset({"count_tokens", "count-tokens", "input_tokens", "tokenize", "token_counter"})
_lock = threading.Lock()
_hosts: dict[str, int] = {}


def look(host: str, path: str, raw: bytes | None) -> None:
    """Look at the body of a POST that is no model call that we know."""
    if raw is None or not _may_be_one(raw) or path[path.rfind("/") + 1 :].partition(":")[0] in _COUNTING:
        return
    body = framing.parse(raw)
    if isinstance(body, dict) and _asks_a_model(body):
        _note(host)


def _may_be_one(raw: bytes) -> bool:
    """Return quickly whether a body may be a model call and should be read."""
    fits = raw[:1] == b"{" and len(raw) <= _LARGEST
    return fits and any(name in raw for name in _MODEL) and any(word in raw for word in _WORDS)


def _asks_a_model(body: dict[str, Any]) -> bool:
    named = any(isinstance(body.get(key), str) for key in ("model", "modelId", "model_id"))
    return named and any(isinstance(body.get(key), (str, list)) and body[key] for key in _ASKED)


def _note(host: str) -> None:
    host = host.lower()
    with _lock:
        if host not in _hosts and len(_hosts) >= _MOST:
            host = "other"
        first = host not in _hosts
        _hosts[host] = _hosts.get(host, 0) + 1
    metrics.unseen_model_calls.add(1, {conventions.SERVER_ADDRESS: host})
    if first:
        _logger.warning(
            "otel_telemetry: a POST to %s looks like a model call, in a form that is not known: it has no row. "
            "If it speaks like OpenAI's API, name the host in instrument.llm_hosts.",
            host,
        )
    root = active.live_root()
    _add_to_span(root.span if root is not None else trace.get_current_span(), host)


def _add_to_span(span: trace.Span, host: str) -> None:
    """Add one to the host's count, in an attribute of the request's span."""
    if not span.is_recording():
        return
    key = conventions.REQUEST_LOG + KEY
    before = (getattr(span, "attributes", None) or {}).get(key)
    known = json.loads(before) if isinstance(before, str) else {}
    known[host] = known.get(host, 0) + 1
    span.set_attribute(key, json.dumps(known))

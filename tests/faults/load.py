"""Senders that know what was acknowledged to them.

Each request is one trace: a server span and some model calls, all of them with ids that say who sent them. So each
acknowledged request has to end as one row of request_log and its calls as rows of llm_call, and tokens that are counted
twice show in the sums.
"""

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Self

import grpc
import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.faults.gateway_process import GatewayProcess
from tests.waiting import eventually

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
CALLS = 4
SPANS = 1 + CALLS
TOKENS = 10
TEXT = "Write to anna@example.com. " * 8
_CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
]
#: Of what the OTLP specification calls retryable, what a gateway that is full or going away may say.
_RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
_DETAILS = "grpc-status-details-bin"  # only the gateway itself sends them, no broken connection


class Load:
    """Threads that send, half of them over gRPC, half over HTTP; each goes on after whatever happens.

    `acknowledged` are the trace ids that were answered with success. `retries` counts the answers of the gateway that
    ask for a retry, by their message; `unanswered` the requests that got no answer, which may be stored or not.
    `patience` is how many seconds a sender waits for its answer.
    """

    def __init__(
        self,
        gateway: GatewayProcess,
        senders: int = 4,
        pause: float = 0.0,
        text: str = TEXT,
        patience: float = 10.0,
    ) -> None:
        self._gateway = gateway
        self._pause = pause
        self._text = text
        self._patience = patience
        self.acknowledged: set[bytes] = set()
        self.retries: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(1, senders + 1)]
        self._watch = ExitStack()

    @property
    def refused(self) -> int:
        """How often a sender has to come again, whatever the reason."""
        return self.retries.total() + self.unanswered.total()

    def __enter__(self) -> Self:
        self._watch.enter_context(self._gateway.watched())
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._watch.close()

    def wait_for(self, count: int, seconds: float = 60.0) -> None:
        """Wait until so many more requests are acknowledged."""
        wanted = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= wanted, f"{count} more requests are acknowledged", seconds)

    def _run(self, sender: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._gateway.grpc}", _CHANNEL) as channel, httpx.Client() as client:
            export = channel.unary_unary(EXPORT, bytes, bytes)
            send = partial(self._over_grpc, export) if sender % 2 else partial(self._over_http, client)
            for number in itertools.count():
                if self._stop.is_set():
                    return
                trace_id = os.urandom(8) + sender.to_bytes(4, "big") + number.to_bytes(4, "big")
                if send(make_request(trace_id, self._text)):
                    self.acknowledged.add(trace_id)
                elif self._stop.wait(0.05):
                    return
                if self._pause:
                    self._stop.wait(self._pause)

    def _over_grpc(self, export: Callable[..., bytes], body: bytes) -> bool:
        try:
            export(body, timeout=self._patience)
        except grpc.RpcError as error:
            self._note(error)
            return False
        return True

    def _note(self, error: Any) -> None:
        from_gateway = any(one[0] == _DETAILS for one in error.trailing_metadata() or ())
        what = str(error.details())
        if from_gateway and error.code() in _RETRYABLE:
            self.retries[what] += 1
        elif error.code() in {*_RETRYABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
            self.unanswered[what] += 1
        else:
            self.failed.append(f"{error.code()}: {what}")

    def _over_http(self, client: httpx.Client, body: bytes) -> bool:
        url = f"http://127.0.0.1:{self._gateway.http}/v1/traces"
        headers = {"content-type": "application/x-protobuf"}
        try:
            answer = client.post(url, content=body, headers=headers, timeout=self._patience)
        except httpx.HTTPError as error:
            self.unanswered[type(error).__name__] += 1
            return False
        if answer.status_code in (429, 503):
            self.retries[str(answer.status_code)] += 1
        elif answer.status_code != 200:
            self.failed.append(str(answer.status_code))
        return answer.status_code == 200


def long_text(kib: int) -> str:
    """Return a text of that size: redaction finds something in it, and has not much to do."""
    return TEXT + "A tent that is waxed stays dry. " * (32 * kib)


def make_request(trace_id: bytes, text: str = TEXT) -> bytes:
    """Return one trace: a request and its model calls, with personal data in it."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "faults"
    spans = group.scope_spans.add().spans
    now = time.time_ns()
    root = spans.add(trace_id=trace_id, span_id=trace_id[8:], name="POST /ask", kind=Span.SPAN_KIND_SERVER)
    root.attributes.add(key="request_log.route").value.string_value = "faults"
    for number in range(CALLS):
        call = spans.add(trace_id=trace_id, span_id=call_id(trace_id, number), parent_span_id=root.span_id, name="chat")
        call.kind = Span.SPAN_KIND_CLIENT
        for key, value in _CALL.items():
            call.attributes.add(key=key).value.string_value = value
        call.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = TOKENS
        call.attributes.add(key="note").value.string_value = text
    for span in spans:
        span.start_time_unix_nano, span.end_time_unix_nano = now, now + 1_000_000
    return request.SerializeToString()


_CALL = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.provider.name": "openai"}


def call_id(trace_id: bytes, number: int) -> bytes:
    return trace_id[8:13] + (int.from_bytes(trace_id[13:], "big") * 8 + number + 1).to_bytes(4, "big")[1:]


def span_ids(trace_id: bytes) -> set[bytes]:
    """Return the ids of all spans of a request."""
    return {trace_id[8:], *(call_id(trace_id, number) for number in range(CALLS))}

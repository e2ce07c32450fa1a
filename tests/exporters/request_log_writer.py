"""A process that writes requests of two calls each, says how many are committed, and may be killed at any time.

request_log_writer.py URL SEED REQUESTS all|one: `all` shuffles the spans of all requests and writes them in batches;
`one` writes a request at a time, in order, and prints its number after each.
"""

import random
import sys
import time
from typing import Any

from otel_telemetry.base import records
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store.store import Store, open_store

START = 1_790_000_000_000_000_000
CALL: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
}


def request(number: int) -> list[records.Span]:
    return [
        records.Span(
            trace_id=f"{number:032x}",
            span_id=f"{position:016x}",
            parent_span_id=None if position == 1 else f"{1:016x}",
            local_root=position == 1,
            name="span",
            kind="SERVER" if position == 1 else "CLIENT",
            start_ns=START + number,
            end_ns=START + number + position * 1_000_000,
            status="UNSET",
            status_message="",
            attributes={"request_log.route": "a", "request_log.id": f"r-{number}"} if position == 1 else CALL,
            events=(),
            resource={"service.name": "chat"},
        )
        for position in (1, 2, 3)
    ]


def write(store: Store, spans: list[records.Span]) -> None:
    while True:
        try:
            store.write(spans)
        except StoreUnavailable:
            time.sleep(0.05)
        else:
            return


def main() -> None:
    url, seed, count, how = sys.argv[1:]
    store = open_store(RequestLogSettings(url=url))
    if how == "all":
        spans = [span for number in range(1, int(count) + 1) for span in request(number)]
        random.Random(seed).shuffle(spans)  # noqa: S311  # an order, no secret
        for start in range(0, len(spans), 7):
            write(store, spans[start : start + 7])
    else:
        for number in range(1, int(count) + 1):
            write(store, request(number))
            print(number, flush=True)  # noqa: T201  # whoever kills it reads this
    store.close()


if __name__ == "__main__":
    main()

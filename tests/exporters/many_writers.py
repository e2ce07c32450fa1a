"""One of several processes that write spans of the same traces to one database, and may be killed at any time.

many_writers.py URL FILE SHARE SHARES: writes every SHARES-th of the pickled spans in FILE, and some others, in batches
of very different sizes; prints a line after each batch.
"""

import pickle
import random
import sys
import time
from pathlib import Path

from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store.store import Store


def main() -> None:
    url, file = sys.argv[1:3]
    share, shares = map(int, sys.argv[3:])
    chance = random.Random(share)  # noqa: S311  # an order, no secret
    spans = pickle.loads(Path(file).read_bytes())  # noqa: S301  # who starts this wrote it
    own = spans[share::shares] + chance.sample(spans, len(spans) // 5)
    chance.shuffle(own)
    store = Store(RequestLogSettings(url=url))
    while own:
        size = chance.choice([1, 20, 300, 3_000])
        batch, own = own[:size], own[size:]
        while True:
            try:
                store.write(batch)
            except StoreUnavailable:
                time.sleep(0.05)
            else:
                break
        print(len(own), flush=True)  # noqa: T201  # whoever kills it reads this
    store.close()


if __name__ == "__main__":
    main()

"""The spool against a plain append-only file with fdatasync: MB/s of acknowledged bodies, as a ratio in one run.

Four threads append bodies and wait for the commit of each, as the gateway's requests do. The plain file has the same
group commit and no index, no cursors, no recovery: it is what the disk gives at best. Run: python benchmarks/spool.py
"""

import os
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from otel_telemetry.gateway.spool.writer import Spool

SENDERS = 4
ROUNDS = 5
TOTAL = 100_000_000


class PlainFile:
    """An append-only file, written with group commit by one thread."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._queue: queue.SimpleQueue[tuple[bytes, Future[int]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def append(self, body: bytes) -> Future[int]:
        """Queue a body; the future resolves once it is on disk."""
        future: Future[int] = Future()
        self._queue.put((body, future))
        return future

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            group = [task]
            while not self._queue.empty() and (more := self._queue.get()) is not None:
                group.append(more)
            for body, _ in group:
                os.write(self._file, body)
            os.fdatasync(self._file)
            for _, future in group:
                future.set_result(0)

    def close(self) -> None:
        """Write what waits, then close."""
        self._queue.put(None)
        self._thread.join()
        os.close(self._file)


def throughput(append: Callable[[bytes], Future[int]], size: int) -> float:
    """Return the MB/s of acknowledged bodies of `size` bytes."""
    body = os.urandom(size)
    count = max(1, min(TOTAL // size, 20_000) // SENDERS)

    def send() -> None:
        for _ in range(count):
            append(body).result()

    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count * SENDERS * size / (time.perf_counter() - start) / 1e6


def measure(size: int) -> tuple[float, float]:
    """Return the medians of (spool, plain file), taken in turns."""
    spool_rates, plain_rates = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            spool = Spool(Path(folder) / "spool", 1 << 30, 24)
            spool_rates.append(throughput(lambda body, spool=spool: spool.append("traces", body, 512), size))  # type: ignore[misc]
            spool.close()
            plain = PlainFile(Path(folder) / "plain")
            plain_rates.append(throughput(plain.append, size))
            plain.close()
    return statistics.median(spool_rates), statistics.median(plain_rates)


def main() -> None:
    print(f"{'body':>10} {'spool MB/s':>12} {'plain file MB/s':>16} {'ratio':>6}")
    for size in (2_000, 50_000, 500_000):
        spool, plain = measure(size)
        print(f"{size:>10} {spool:>12.0f} {plain:>16.0f} {spool / plain:>6.2f}")


if __name__ == "__main__":
    main()

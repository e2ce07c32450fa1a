"""How a gateway goes on under a load that lasts: what it acknowledges and stores, and its memory, by half a minute."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from otel_telemetry.gateway.spool.reader import SpoolReader

SECONDS = 30.0


class Stretch(NamedTuple):
    """What was in one stretch of time: its end in seconds, spans/s acknowledged and stored, the most memory in MB."""

    until: float
    acknowledged: float
    stored: float
    memory: float


def counted(folder: Path) -> tuple[int, int]:
    """Return how many spans the gateway in this folder acknowledged, and how many of them its sink does not have."""
    if not (folder / "spool").exists():
        return 0, 0
    with SpoolReader(folder / "spool") as spool:
        now = spool.status()
    return now.appended or 0, max((lag.items or 0 for lag in now.lag.values()), default=0)


@contextlib.contextmanager
def followed(folder: Path, memory: Sequence[float]) -> Iterator[list[Stretch]]:
    """Look every half minute, for as long as the block lasts; `memory` grows meanwhile (gateway.py, `watched`)."""
    stretches: list[Stretch] = []
    over = threading.Event()
    follower = threading.Thread(target=_follow, args=(folder, memory, stretches, over))
    follower.start()
    try:
        yield stretches
    finally:
        over.set()
        follower.join()


def _follow(folder: Path, memory: Sequence[float], stretches: list[Stretch], over: threading.Event) -> None:
    begin = last = time.perf_counter()
    before, looks = (0, 0), 0
    while not over.wait(last + SECONDS - time.perf_counter()):
        now, (appended, left) = time.perf_counter(), counted(folder)
        took, seen = now - last, len(memory)
        acknowledged, stored = (appended - before[0]) / took, (appended - left - before[1]) / took
        stretches.append(Stretch(now - begin, acknowledged, stored, max(memory[looks:seen], default=0.0)))
        before, looks, last = (appended, appended - left), seen, now


def show(stretches: Sequence[Stretch]) -> None:
    """Print a line for each stretch."""
    for each in stretches:
        print(
            f"{each.until:>13.0f} s: {each.acknowledged:>8.0f} spans/s acknowledged,"
            f" {each.stored:>8.0f} stored, {each.memory:>5.0f} MB at most"
        )

"""The locator on Hyperscan: all triggers in one pass over the bytes, with the GIL released.

Kept apart because importing `hyperscan` loads native code: nothing else imports it.
"""

import contextlib
import hashlib
import platform
import threading
from collections.abc import Sequence
from importlib.metadata import version

import hyperscan

from otel_telemetry.base import user_cache
from otel_telemetry.processors.detect.engines.locator import CASELESS, Hit


class HyperscanLocator:
    """See `engine.Locator`. Each thread scans with a scratch of its own: a shared one cannot be used by two at once."""

    name = "hyperscan"

    def __init__(self, triggers: Sequence[str]) -> None:
        self._database = _database(triggers)
        self._scan = self._database.scan
        self._local = threading.local()

    def scan(self, data: bytes, limit: int) -> list[Hit]:
        """See Locator."""
        hits: list[Hit] = []
        append = hits.append

        def found(number: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            append((end, number))
            return len(hits) > limit

        try:  # noqa: SIM105  # suppress() costs a tenth of a whole clean span
            self._scan(data, found, scratch=getattr(self._local, "scratch", None) or self._own_scratch())
        except hyperscan.ScanTerminated:
            pass
        if hits:
            hits.sort()
        return hits

    def _own_scratch(self) -> hyperscan.Scratch:
        scratch: hyperscan.Scratch = self._database.scratch.clone()
        self._local.scratch = scratch
        return scratch


def _database(triggers: Sequence[str]) -> hyperscan.Database:
    """Load the database of these triggers, or compile and keep it."""
    made_for = (version("hyperscan"), platform.machine(), platform.node(), tuple(triggers))
    name = hashlib.sha256(repr(made_for).encode()).hexdigest()[:32] + ".hs"
    kept = user_cache.load(name)
    if kept is not None:
        with contextlib.suppress(hyperscan.HyperscanError):
            database = hyperscan.loadb(kept, hyperscan.HS_MODE_BLOCK)
            database.scratch = hyperscan.Scratch(database)
            return database
    database = _compile(triggers)
    user_cache.keep(name, hyperscan.dumpb(database))
    return database


def _compile(triggers: Sequence[str]) -> hyperscan.Database:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[trigger.removeprefix(CASELESS).encode("latin-1") for trigger in triggers],
        ids=list(range(len(triggers))),
        flags=[
            hyperscan.HS_FLAG_DOTALL | (hyperscan.HS_FLAG_CASELESS if trigger.startswith(CASELESS) else 0)
            for trigger in triggers
        ],
    )
    return database

"""The request log as one of the gateway's sinks: turns OTLP bodies from the spool, already redacted, into rows.

If there is much to write, helper processes take a share of it. The rows do not depend on how spans are divided, nor on
which process is first (derive/trace.py).
"""

import logging
from collections.abc import Sequence
from typing import Final

from otel_telemetry.base.destinations import Signal, runs
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db.write_lock import WriteLock
from otel_telemetry.exporters.request_log.store.helper import Helper, HelperGone
from otel_telemetry.exporters.request_log.store.writer import Writer

#: What one transaction takes of what is delivered at a time. Ids are random, so that each row touches pages of its own
#: in every index: the more rows a transaction has, the more of them share a page that is written once. So who writes
#: alone takes all. Where several do, one prepares rows while another has the lock: each gets some parts. Where several
#: write to PostgreSQL, the store divides it (store/shares.py).
_ALL_BYTES: Final = 8 << 20
_PART_BYTES: Final = 2 << 20

_log = logging.getLogger("otel_telemetry.request_log")


class RequestLogSink:
    """Writes the spans of trace requests, and model calls, workflows and people's events from log requests.

    Metrics have no rows. The database is opened at once, so that a wrong setting stops the gateway before it accepts
    anything. If the database is only down, the gateway starts: accepted data waits in the spool.
    """

    name = "request_log"
    signals: frozenset[Signal] = frozenset({"traces", "logs"})
    max_bytes = _ALL_BYTES

    def __init__(self, config: RequestLogSettings) -> None:
        self._write_lock = WriteLock()
        self._writer = Writer(config, self._write_lock)
        self._helpers = [Helper(config, self._write_lock, self._writer.counters) for _ in range(1, config.writers)]
        try:
            self._writer.open()
        except StoreUnavailable as error:
            _log.warning("starting without the database: %s", error)
        except Exception:
            self._write_lock.close()
            raise

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> None:
        """Write all spans, or all logs that become rows, of these bodies.

        Raises StoreUnavailable to be called again later, and MalformedTelemetry for a body that is no OTLP.
        """
        helpers = [helper for helper in self._helpers if helper.usable]
        parts = list(runs(bodies, len, _PART_BYTES if helpers else _ALL_BYTES))
        helpers = helpers[: max(0, len(parts) - 1)]
        own, *shares = (parts[number :: 1 + len(helpers)] for number in range(1 + len(helpers)))
        for helper, share in zip(helpers, shares, strict=True):
            helper.ask(signal, share)
        outcomes = [self._write(signal, own)]
        for helper, share in zip(helpers, shares, strict=True):
            outcome = helper.answer()
            outcomes.append(self._write(signal, share) if isinstance(outcome, HelperGone) else outcome)
        errors = [error for error in outcomes if error is not None]
        if errors:
            raise next((error for error in errors if isinstance(error, StoreUnavailable)), errors[0])

    def _write(self, signal: str, parts: Sequence[Sequence[bytes]]) -> Exception | None:
        """Write this process's share; return an error, as the helpers' answers must be read before it is raised."""
        try:
            for part in parts:
                self._writer.write(signal, part)
        except Exception as error:  # noqa: BLE001  # it is raised in the end
            return error
        return None

    def close(self) -> None:
        """End the helpers and close the database."""
        for helper in self._helpers:
            helper.close()
        self._writer.close()
        self._write_lock.close()

"""A process that writes rows beside the gateway's deliverer, because one process has only one interpreter lock.

It receives bodies through a socket and answers with the results, its measurements and its log lines. The parent process
records both again, so that a gateway counts and logs in one place. It ends with its parent, however that ends, because
the socket closes then. The database's URL is sent through the socket, too: no process list shows it.
"""

import contextlib
import logging
import logging.handlers
import pickle
import signal as signals
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final

from opentelemetry import metrics as api
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_telemetry.base import relay
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db.write_lock import WriteLock
from otel_telemetry.exporters.request_log.kpis.measures import active
from otel_telemetry.exporters.request_log.store.counts import CountDelta, Counters, DeferredCounters
from otel_telemetry.exporters.request_log.store.writer import Writer

_ANSWER_SECONDS: Final = 120.0
_END_SECONDS: Final = 5.0
_MOST_DEATHS: Final = 3
_CODE: Final = "from otel_telemetry.exporters.request_log.store.helper import main; main({connection}, {write_lock})"

Share = Sequence[Sequence[bytes]]

_log = logging.getLogger("otel_telemetry.request_log")


@dataclass(slots=True)
class _Answer:
    """How a share went: the error that ended it, if any; what was committed, measured and logged meanwhile."""

    error: Exception | None = None
    committed: list[CountDelta] = field(default_factory=list)
    measurements: list[relay.Measurement] = field(default_factory=list)
    logged: list[logging.LogRecord] = field(default_factory=list)


class HelperGone(StoreUnavailable):
    """The other process died, or hangs and was ended: what it was given may or may not be written."""


class Helper:
    """The other process, from here: started when it is first asked, and again after it died, as long as it is `usable`.

    What it commits counts in `counters`.
    """

    def __init__(
        self, config: RequestLogSettings, write_lock: WriteLock, counters: Counters | DeferredCounters | None = None
    ) -> None:
        self._config = config
        self._write_lock = write_lock
        self._counters = counters or Counters()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._failed: HelperGone | None = None
        self._deaths = 0  # in a row

    @property
    def usable(self) -> bool:
        """Return whether it is worth asking: not where it dies each time that it is started."""
        return self._deaths < _MOST_DEATHS

    def ask(self, signal: str, share: Share) -> None:
        """Send it these bodies, to be written one sequence after the other; `answer` gets the results."""
        self._failed = None
        with self._or_gone():
            self._open().send((signal, share))

    def answer(self) -> Exception | None:
        """Wait until it has written; return what went wrong, as `Writer.write` raises it, or HelperGone."""
        if self._failed is None:
            with self._or_gone():
                return self._receive(self._open())
        return self._failed

    def _receive(self, connection: Connection) -> Exception | None:
        if not connection.poll(_ANSWER_SECONDS):
            raise TimeoutError(f"no answer for {_ANSWER_SECONDS:.0f} s")
        answer: _Answer = connection.recv()
        self._deaths = 0
        relay.replay(answer.measurements)
        for delta in answer.committed:
            self._counters.add(delta)
        for record in answer.logged:
            logging.getLogger(record.name).handle(record)
        return answer.error

    @contextlib.contextmanager
    def _or_gone(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError) as error:
            code = self.close(0)
            self._deaths += 1
            self._failed = HelperGone(f"a process that writes rows is gone ({code}): {error!r}")
            ever = "" if self.usable else ", from now on always"
            _log.error("%s; its share is written here%s", self._failed, ever)

    def _open(self) -> Connection:
        if self._connection is None:
            ours, theirs = socket.socketpair()
            code = _CODE.format(connection=theirs.fileno(), write_lock=self._write_lock.fileno())
            command = [sys.executable, "-P", "-c", code]  # -P: no module of the working directory
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603  # this very program
                    command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), self._write_lock.fileno())
                )
            self._connection = Connection(ours.detach())
            self._connection.send((self._config, active.kpis))
        return self._connection

    def close(self, seconds: float = _END_SECONDS) -> int | None:
        """Let it end, within some seconds; return its exit code, if it ever ran."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(seconds)
        process.kill()
        return process.wait()


def main(connection: int, write_lock: int) -> None:
    """Run the helper process: write the requested bodies until the parent ends."""
    for number in (signals.SIGINT, signals.SIGTERM):
        signals.signal(number, signals.SIG_IGN)  # a service manager sends them to all; the deliverer says when to end
    measured = relay.Relay()
    api.set_meter_provider(measured)
    logged = _LogList()
    logging.getLogger().addHandler(logged)
    logging.getLogger().setLevel(logging.INFO)
    with Connection(connection) as asked, contextlib.suppress(EOFError, ConnectionError), suppress_instrumentation():
        committed = DeferredCounters()
        config, kpis = asked.recv()
        active.use(kpis)
        writer = Writer(config, WriteLock(open(write_lock, "r+b")), committed)  # noqa: SIM115  # until the process ends
        while True:
            signal, share = asked.recv()
            answer = _Answer(_error_of(writer, signal, share), committed.take(), measured.take(), logged.take())
            asked.send(answer)


def _error_of(writer: Writer, signal: str, share: Share) -> Exception | None:
    """Write a share; return what went wrong, in a form that can be sent."""
    try:
        for bodies in share:
            writer.write(signal, bodies)
    except Exception as error:  # noqa: BLE001  # who asked decides
        error.__traceback__ = error.__cause__ = error.__context__ = None
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301  # ours
        except Exception:  # noqa: BLE001  # drivers' errors need not be fit for that
            return RuntimeError(f"{type(error).__name__}: {error}")
        return error
    return None


class _LogList(logging.handlers.QueueHandler):
    """Keeps records, ready to be sent."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # there is no queue behind it
        self._records: list[logging.LogRecord] = []

    def enqueue(self, record: Any) -> None:
        """Keep a record."""
        self._records.append(record)

    def take(self) -> list[logging.LogRecord]:
        """Return what was kept, and forget it."""
        taken, self._records = self._records, []
        return taken

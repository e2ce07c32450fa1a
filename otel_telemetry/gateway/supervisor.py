"""A gateway of several processes: receivers that share the ports, and one that delivers.

Redaction and row building each hold the interpreter's lock; apart, each has a core. The supervisor itself only forks,
waits and forks again: it has no threads, opens no database and serves nothing. A process that dies is started again
after a pause that grows while it dies young. It stops in order: the receivers finish what is under way, then the rest
is delivered. Of a group's processes only this one heeds signals, as service managers and terminals send them to all.
"""

import contextlib
import gc
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from otel_telemetry.errors import ConfigurationError, SpoolDamaged
from otel_telemetry.gateway import listen, spool_file, spool_rescue
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.group import GO, Group, Seat
from otel_telemetry.gateway.server import Gateway

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 30.0
_GROWN_UP_SECONDS: Final = 60.0  # who lived that long dies for another reason than the last one
_GRACE_SECONDS: Final = 3.0
_LEAST_DRAIN_SECONDS: Final = 1.0
_FAILED: Final = 70
_REFUSED: Final = 2
_DAMAGED: Final = 75

_log = logging.getLogger("otel_telemetry.gateway")

#: Makes one process's gateway, after the fork, from its settings (with its own role) and its seat.
Make = Callable[[GatewaySettings, Seat], Gateway]


@dataclass(slots=True)
class _Child:
    """One of the processes. `pid` 0: it does not run, and is due to at `due`."""

    name: str
    role: str
    pid: int = 0
    orders: int = -1
    reports: int = -1
    ready: bool = False
    started: float = 0.0
    due: float = 0.0
    died_young: int = 0
    said: bytes = b""

    def stop(self, seconds: float) -> None:
        self._tell(f"{max(0.0, seconds)}\n")

    def go(self) -> None:
        self._tell(GO)

    def _tell(self, order: str) -> None:
        if self.pid:
            with contextlib.suppress(BrokenPipeError):
                os.write(self.orders, order.encode())


@dataclass(slots=True)
class _Shared:
    """What the processes are handed: the ports. Closed first when all of it stops."""

    config: GatewaySettings
    http: socket.socket | None = None
    grpc: socket.socket | None = None

    def hand_over(self) -> socket.socket | None:
        """Give the listening socket away: closing the rest leaves it open."""
        http, self.http = self.http, None
        return http

    def close(self) -> None:
        for door in (self.http, self.grpc):
            if door:
                door.close()


@dataclass(slots=True)
class _Signals:
    """Signals, as bytes in a pipe that a select sees."""

    ends: tuple[int, int] = field(default_factory=os.pipe)

    def __post_init__(self) -> None:
        for end in self.ends:
            os.set_blocking(end, False)

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        signal.set_wakeup_fd(self.ends[1], warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)

    def taken(self) -> bool:
        """Take what came; true if it was one of those that stop."""
        return any(number in _SIGNALS for number in os.read(self.ends[0], 1024))


class Supervisor:
    """Runs `config.workers` receivers and, in the role `all`, one process that delivers."""

    def __init__(self, config: GatewaySettings, make: Make) -> None:
        listen.check(config)
        self._config = config
        self._make = make
        self._children = [_Child(f"receiver-{number}", "receive") for number in range(1, config.workers + 1)]
        if config.role == "all":
            self._children.append(_Child("deliverer", "deliver"))
        self._group = Group(config.spool_dir, [child.name for child in self._children])
        self._signals = _Signals()
        self._selector = selectors.DefaultSelector()
        self._shared = _Shared(config)
        self._starting = True
        self._open = config.role == "receive"
        self._stopping = False
        self._hurry = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises ConfigurationError, with nothing left running."""
        with self._signals.caught(), contextlib.ExitStack() as parts:
            self._shared = self._bind()
            parts.callback(self._shared.close)
            if self._config.role == "all":
                parts.callback(os.close, spool_file.claim(self._config.spool_dir))
            spool_rescue.make_sound(self._config.spool_dir)
            self._group.prepare()
            parts.callback(self._group.clear)
            parts.callback(self._kill)
            gc.freeze()  # what is here now is shared with those who are forked, and stays so
            self._selector.register(self._signals.ends[0], selectors.EVENT_READ)
            while not self._stopping:
                self._start_due()
                self._look(self._next_due())
            self._stop()

    def _bind(self) -> _Shared:
        http = listen.listen_http(self._config)
        listen.refuse_taken_grpc_port(self._config)
        grpc = listen.reserve_grpc(self._config)
        ports = {"http_port": http.getsockname()[1], "grpc_port": grpc.getsockname()[1]}
        share = {"max_pending_bytes": self._config.max_pending_bytes // self._config.workers}
        return _Shared(self._config.model_copy(update={**ports, **share}), http, grpc)

    # --- life and death ---------------------------------------------------------------------------------------------
    def _start_due(self) -> None:
        for child in self._children:
            if not child.pid and child.due <= time.monotonic():
                self._start(child)

    def _next_due(self) -> float | None:
        waiting = [child.due for child in self._children if not child.pid]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _start(self, child: _Child) -> None:
        orders, child.orders = os.pipe()
        child.reports, reports = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child.pid = os.fork()
        if not child.pid:
            self._be(child, orders, reports)
        os.close(orders)
        os.close(reports)  # only the child has it now: it is closed when the child is gone
        child.started = time.monotonic()
        child.ready, child.said = False, b""
        self._selector.register(child.reports, selectors.EVENT_READ, child)
        if self._open:
            child.go()

    def _let_in(self) -> None:
        """Let the receivers take requests: the one that delivers is there, or it is not its settings that keep it."""
        self._open = True
        for child in self._children:
            child.go()

    def _look(self, timeout: float | None) -> None:
        """Wait for signals, and for what the processes say or that they are gone."""
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                if self._signals.taken():
                    self._hurry, self._stopping = self._stopping, True
                continue
            if key.fd == key.data.reports:  # else: it was ended since
                self._listen_to(key.data)

    def _listen_to(self, child: _Child) -> None:
        said = os.read(child.reports, 1 << 16)
        if said:
            self._hear(child, said)
        else:
            self._bury(child)

    def _hear(self, child: _Child, said: bytes) -> None:
        child.said += said
        if not child.said.endswith(b"\n"):
            return
        message = json.loads(child.said)
        if not message:
            child.ready = True
            if child.role == "deliver":
                self._let_in()
            self._announce()
        elif self._starting:
            raise ConfigurationError(*message)
        else:
            _log.error("%s cannot start: %s: %s", child.name, *message[:2])

    def _announce(self) -> None:
        if self._starting and all(child.ready for child in self._children):
            self._starting = False
            config, count = self._shared.config, self._config.workers
            _log.info(
                "OTLP/gRPC on %s:%d, OTLP/HTTP on %s:%d", config.host, config.grpc_port, config.host, config.http_port
            )
            _log.info("%d receiving, %s", count, "one delivering" if config.role == "all" else "none delivering")

    def _bury(self, child: _Child) -> None:
        code = self._reap(child)
        if self._stopping:
            return
        self._let_in()
        if code == _DAMAGED:
            self._recover()
            return
        lived = time.monotonic() - child.started
        pause = self._pause_of(child)
        child.due = time.monotonic() + pause
        self._group.count_restart(child.name)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        _log.error("%s %s after %.1f s; it is started again in %.1f s", child.name, how, lived, pause)

    @staticmethod
    def _pause_of(child: _Child) -> float:
        """Return how long to wait before it is started again."""
        grown_up = time.monotonic() - child.started >= _GROWN_UP_SECONDS
        child.died_young = 1 if grown_up else child.died_young + 1
        return min(_LONGEST_PAUSE, _FIRST_PAUSE * float(2 ** min(child.died_young - 1, 10)))

    def _reap(self, child: _Child) -> int:
        _, status = os.waitpid(child.pid, 0)
        self._selector.unregister(child.reports)
        os.close(child.reports)
        os.close(child.orders)
        child.pid, child.orders, child.reports = 0, -1, -1
        return os.waitstatus_to_exitcode(status)

    def _recover(self) -> None:
        """Set a damaged spool right while nobody has it open."""
        _log.error("the spool is damaged: all processes are stopped until it is set right")
        self._kill()
        spool_rescue.make_sound(self._config.spool_dir, doubtful=True)
        for child in self._children:
            self._group.count_restart(child.name)
            child.due = time.monotonic() + self._pause_of(child)

    def _kill(self) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, signal.SIGKILL)
                self._reap(child)

    # --- stopping ---------------------------------------------------------------------------------------------------
    def _stop(self) -> None:
        _log.info("stopping; a second signal makes it quicker")
        deadline = time.monotonic() + self._config.shutdown_seconds
        self._shared.close()
        self._end([child for child in self._children if child.role == "receive"], deadline)
        rest = max(deadline, time.monotonic() + _LEAST_DRAIN_SECONDS)
        self._end([child for child in self._children if child.role == "deliver"], rest)

    def _end(self, children: Sequence[_Child], deadline: float) -> None:
        """Have these processes stop, and wait until they are gone."""
        told_to_hurry = False
        for child in children:
            child.stop(0.0 if self._hurry else deadline - time.monotonic())
        while any(child.pid for child in children) and time.monotonic() < deadline + _GRACE_SECONDS:
            self._look(deadline + _GRACE_SECONDS - time.monotonic())
            if self._hurry and not told_to_hurry:
                told_to_hurry, deadline = True, time.monotonic()
                for child in children:
                    child.stop(0.0)

    # --- the child's side -------------------------------------------------------------------------------------------
    def _be(self, child: _Child, orders: int, reports: int) -> NoReturn:
        """Be that process from here on."""
        code = _FAILED
        try:
            self._shed()
            http = self._shared.hand_over() if child.role == "receive" else None
            self._shared.close()
            seat = Seat(child.name, self._group, orders, reports, http)
            seat.follow()
            code = self._work(child, seat)
        finally:
            logging.shutdown()
            os._exit(code)

    def _shed(self) -> None:
        """Drop what belongs to the supervisor."""
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._selector.close()
        for end in self._signals.ends:
            os.close(end)
        for other in self._children:
            if other.orders >= 0:
                os.close(other.orders)
                os.close(other.reports)

    def _work(self, child: _Child, seat: Seat) -> int:
        config = self._shared.config.model_copy(update={"role": child.role})
        try:
            self._make(config, seat).run()
        except ConfigurationError as error:
            seat.refused(error)
            return _REFUSED
        except SpoolDamaged:
            return _DAMAGED
        except Exception:  # noqa: BLE001 - whatever it is: the supervisor starts it again
            _log.exception("%s failed", child.name)
            return _FAILED
        return 0

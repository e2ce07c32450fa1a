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
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from otel_telemetry.base import backoff
from otel_telemetry.base.errors import ConfigurationError, SpoolDamaged
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive import listen, tls
from otel_telemetry.gateway.receive.suspects import Suspects
from otel_telemetry.gateway.serve import logs, redactor
from otel_telemetry.gateway.serve.children import Child, Shared
from otel_telemetry.gateway.serve.group import Group, WorkerContext
from otel_telemetry.gateway.serve.lifecycle import Process
from otel_telemetry.gateway.serve.signals import Signals
from otel_telemetry.gateway.spool import recovery, spool_file
from otel_telemetry.gateway.spool.spool_file import StoppedWaiting

_STOP: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS: Final = (*_STOP, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))  # Windows has none
_WATCH_SECONDS: Final = 2.0
#: What is bound, opened or forked already: only a restart changes it.
_FIXED: Final = (
    "role", "workers", "host", "grpc_port", "http_port", "socket", "transport", "kafka", "spool_dir",
    "max_pending_bytes",
)  # fmt: skip
_FIRST_BACKOFF: Final = 0.1
_LONGEST_BACKOFF: Final = 30.0
_STABLE_SECONDS: Final = 60.0  # who lived that long dies for another reason than the last one
_GRACE_SECONDS: Final = 3.0
_SAVING_SECONDS: Final = 60.0  # what a gigabyte of spool may take to be written to a slow disk again
_LEAST_DRAIN_SECONDS: Final = 1.0
_FAILED: Final = 70
_REFUSED: Final = 2
_DAMAGED: Final = 75

_log = logging.getLogger("otel_telemetry.gateway")

#: Makes one process, after the fork, from its settings (with its own role) and its context.
Make = Callable[[GatewaySettings, WorkerContext], Process]
#: Reads the settings anew: those of the gateway, and what makes a process from them. Raises ConfigurationError.
Load = Callable[[], tuple[GatewaySettings, Make]]


class _Settings(NamedTuple):
    """What processes are made of: as read, and with the ports that were bound."""

    config: GatewaySettings
    bound: GatewaySettings
    make: Make


class Supervisor:
    """Runs `config.workers` receivers and, in the role `all`, one process that delivers; or so many that redact."""

    def __init__(self, config: GatewaySettings, make: Make, load: Load | None = None) -> None:
        listen.check(config)
        self._load = load
        self._to_replace: list[Child] = []
        self._before: _Settings | None = None  # while it is not known whether all processes can use the new ones
        self._certificates = tls.changed_at(config)
        self._config = config
        self._make = make
        self._redacts = config.role == "redact"
        name, role = ("redactor", "redact") if self._redacts else ("receiver", "receive")
        self._children = [Child(f"{name}-{number}", role) for number in range(1, config.workers + 1)]
        if config.role == "all":
            self._children.append(Child("deliverer", "deliver"))
        self._folder = Path(tempfile.mkdtemp(prefix="otel-redactor-")) if self._redacts else config.spool_dir
        self._group = Group(self._folder, [child.name for child in self._children])
        self._suspects: Suspects | None = None
        self._signals = Signals(_SIGNALS)
        self._selector = selectors.DefaultSelector()
        self._shared = Shared(config)
        self._starting = True
        self._open = config.role != "all"
        self._stopping = False
        self._stop_now = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reads the settings anew.

        Raises ConfigurationError, with nothing left running.
        """
        logs.name_process("supervisor")
        with self._signals.caught(), contextlib.suppress(StoppedWaiting), contextlib.ExitStack() as parts:
            self._shared = self._bind(parts)
            parts.callback(self._shared.close)
            self._take_folder(parts)
            self._group.prepare()
            parts.callback(self._group.clear)
            parts.callback(self._kill)
            gc.freeze()  # what is here now is shared with those who are forked, and stays so
            self._selector.register(self._signals.ends[0], selectors.EVENT_READ)
            while not self._stopping:
                self._start_due_children()
                self._look(self._seconds_to_next())
                self._watch_certificates()
            self._stop()

    def _asked_to_stop(self) -> bool:
        return bool(self._signals.taken() & _STOP)

    def _take_folder(self, parts: contextlib.ExitStack) -> None:
        """Make the spool ours and sound; who redacts has none, only a folder for the group's sockets."""
        if self._config.role == "all" and self._config.transport == "disk":
            parts.callback(os.close, spool_file.claim(self._folder))
        if not self._redacts:
            if self._config.transport == "disk":
                recovery.make_sound(self._folder, stopped=self._asked_to_stop)
            self._suspects = Suspects(self._folder, self._config.workers)
            parts.callback(self._suspects.close)

    def _bind(self, parts: contextlib.ExitStack) -> Shared:
        if self._redacts:
            parts.callback(shutil.rmtree, self._folder, ignore_errors=True)
            http = redactor.bind(self._config, parts)
            port = {} if listen.on_socket(self._config) else {"http_port": http.getsockname()[1]}
            return Shared(self._config.model_copy(update={**port, **self._share()}), http)
        http = listen.listen_http(self._config)
        listen.refuse_taken_grpc_port(self._config)
        grpc = listen.reserve_grpc(self._config)
        ports = {"http_port": http.getsockname()[1], "grpc_port": grpc.getsockname()[1]}
        return Shared(self._config.model_copy(update={**ports, **self._share()}), http, grpc)

    def _share(self) -> dict[str, int]:
        """Return each process's part of what is bounded for all of them."""
        return {"max_pending_bytes": self._config.max_pending_bytes // self._config.workers}

    # --- life and death ---------------------------------------------------------------------------------------------
    def _start_due_children(self) -> None:
        for child in self._children:
            if not child.pid and child.restart_at <= time.monotonic():
                self._try_to_start(child)

    def _seconds_to_next(self) -> float | None:
        waiting = [child.restart_at for child in self._children if not child.pid]
        longest = [_WATCH_SECONDS] if self._certificates else []
        return min([*longest, max(0.0, min(waiting) - time.monotonic())]) if waiting else next(iter(longest), None)

    def _try_to_start(self, child: Child) -> None:
        """Start a process; where the system has none, or no file descriptor, for a moment, later: the others serve."""
        try:
            self._start(child)
        except OSError as error:
            if self._starting:
                raise
            child.control, child.reports, child.started = -1, -1, time.monotonic()
            pause = self._backoff_of(child)
            child.restart_at = time.monotonic() + pause
            _log.error("%s cannot be started, once more in %.1f s: %s", child.name, pause, error)

    def _start(self, child: Child) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.ExitStack() as opened:
            control, child.control = _pipe(opened)
            child.reports, reports = _pipe(opened)
            child.pid = os.fork()
            opened.pop_all()
        if not child.pid:
            self._run_child(child, control, reports)
        os.close(control)
        os.close(reports)  # only the child has it now: it is closed when the child is gone
        child.started = time.monotonic()
        child.ready, child.report, child.make = False, b"", self._make
        self._selector.register(child.reports, selectors.EVENT_READ, child)
        if self._open:
            child.go()

    def _admit_requests(self) -> None:
        """Let the receivers take requests: the one that delivers is there, or it is not its settings that keep it."""
        self._open = True
        for child in self._children:
            child.go()

    def _look(self, timeout: float | None) -> None:
        """Wait for signals, and for reports and exits of the processes."""
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._handle_signals(self._signals.taken())
                continue
            if key.fd == key.data.reports:  # else: it was ended since
                self._listen_to(key.data)

    def _handle_signals(self, numbers: set[int]) -> None:
        if numbers & _STOP:
            self._stop_now, self._stopping = self._stopping, True
        elif signal.SIGHUP in numbers and not self._stopping:
            self._reload("SIGHUP")

    def _listen_to(self, child: Child) -> None:
        report = os.read(child.reports, 1 << 16)
        if report:
            self._on_report(child, report)
        else:
            self._on_exit(child)

    def _on_report(self, child: Child, report: bytes) -> None:
        child.report += report
        if not child.report.endswith(b"\n"):
            return
        message = json.loads(child.report)
        if not message:
            child.ready = True
            if child.role == "deliver":
                self._admit_requests()
            self._announce()
            self._replace_next()
            self._keep_settings()
        elif self._starting:
            raise ConfigurationError(*message)
        else:
            _log.error("%s cannot start: %s: %s", child.name, *message[:2])

    def _announce(self) -> None:
        if self._starting and all(child.ready for child in self._children):
            self._starting = False
            config, count = self._shared.config, self._config.workers
            if self._redacts:
                _log.info("%s; processes: %d", redactor.where(config, config.http_port), count)
                return
            _log.info(
                "OTLP/gRPC on %s:%d, OTLP/HTTP on %s:%d", config.host, config.grpc_port, config.host, config.http_port
            )
            _log.info("%d receiving, %s", count, "one delivering" if config.role == "all" else "none delivering")

    def _on_exit(self, child: Child) -> None:
        was_ready = child.ready
        code = self._reap(child)
        if self._stopping:
            return
        if code < 0 and child.role == "receive" and self._suspects:
            self._suspects.died(self._children.index(child), -code)
        self._admit_requests()
        if child.replaced:
            child.replaced, child.renewed, child.restart_at = False, True, 0.0
            _log.info("%s is replaced by one with the new settings", child.name)
            return
        if code == _DAMAGED:
            self._recover()
            return
        if child.renewed and not was_ready and code in (_REFUSED, _FAILED) and self._before:
            self._go_back(child, self._before)
            return
        lived = time.monotonic() - child.started
        pause = self._backoff_of(child)
        child.restart_at = time.monotonic() + pause
        self._group.count_restart(child.name)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        _log.error("%s %s after %.1f s; it is started again in %.1f s", child.name, how, lived, pause)

    @staticmethod
    def _backoff_of(child: Child) -> float:
        """Return how long to wait before it is started again."""
        was_stable = time.monotonic() - child.started >= _STABLE_SECONDS
        child.early_exits = 1 if was_stable else child.early_exits + 1
        return backoff.pause(child.early_exits, _FIRST_BACKOFF, _LONGEST_BACKOFF)

    def _reap(self, child: Child) -> int:
        _, status = os.waitpid(child.pid, 0)
        self._selector.unregister(child.reports)
        os.close(child.reports)
        os.close(child.control)
        child.pid, child.control, child.reports, child.ready = 0, -1, -1, False
        return os.waitstatus_to_exitcode(status)

    def _recover(self) -> None:
        """Set a damaged spool right while nobody has it open."""
        _log.error("the spool is damaged: all processes are stopped until it is set right")
        self._kill()
        recovery.make_sound(self._config.spool_dir, doubtful=True, stopped=self._asked_to_stop)
        for child in self._children:
            self._group.count_restart(child.name)
            child.restart_at = time.monotonic() + self._backoff_of(child)

    def _kill(self) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, signal.SIGKILL)
                self._reap(child)

    # --- new settings -----------------------------------------------------------------------------------------------
    def _reload(self, why: str) -> None:
        """Read the settings anew and replace one process after the other; settings that are wrong change nothing.

        What only a process can find out is known once it has started: then all go back to the settings before.
        """
        if self._load is None:
            return
        try:
            read, make = self._load()
            config = read.model_copy(update={name: getattr(self._config, name) for name in _FIXED})
            listen.check_new(config, self._config)
        except ConfigurationError as error:
            _log.error("%s: the settings cannot be used, all goes on as before: %s", why, error)
            return
        except Exception:  # noqa: BLE001 - what serves goes on serving
            _log.exception("%s: the settings could not be read anew, all goes on as before", why)
            return
        logs.use(config)
        _log.info("%s: settings are read anew; the processes are replaced one by one", why)
        if late := [f"gateway.{name}" for name in _FIXED if getattr(read, name) != getattr(self._config, name)]:
            _log.warning("only a restart changes what was bound or shared out at the start: %s", ", ".join(late))
        fixed = {name: getattr(self._shared.config, name) for name in _FIXED}
        self._before = self._before or _Settings(self._config, self._shared.config, self._make)
        for child in self._children:
            child.renewed = False
        self._config = config
        self._shared.config = config.model_copy(update=fixed)
        self._make = make
        self._certificates = tls.changed_at(self._config)
        self._to_replace = [child for child in self._children if child.pid and not child.replaced]
        self._replace_next()

    def _replace_next(self) -> None:
        """End the next process that has the old settings, once all others of its role serve."""
        if not self._to_replace or any(child.replaced for child in self._children):
            return
        role = self._to_replace[0].role
        if all(child.ready for child in self._children if child.role == role):
            child = self._to_replace.pop(0)
            child.replaced = True
            child.stop(self._config.shutdown_seconds)

    def _keep_settings(self) -> None:
        """Know nothing of the settings before any more, once all processes serve with the new ones."""
        if not self._to_replace and all(child.ready and not child.replaced for child in self._children):
            self._before = None

    def _go_back(self, child: Child, before: "_Settings") -> None:
        """Give a process that cannot use its new settings, and those that have them already, the ones before."""
        _log.error("%s cannot use the new settings: all goes on with those before", child.name)
        self._config, self._shared.config, self._make = before
        self._before = None
        logs.use(self._config)
        self._certificates = tls.changed_at(self._config)
        child.renewed, child.restart_at = False, 0.0
        self._to_replace = [
            other for other in self._children if other.pid and other.make is not self._make and not other.replaced
        ]
        self._replace_next()

    def _watch_certificates(self) -> None:
        now = tls.changed_at(self._config)
        if now != self._certificates:
            self._certificates = now
            self._reload("the certificates have changed")

    # --- stopping ---------------------------------------------------------------------------------------------------
    def _stop(self) -> None:
        _log.info("stopping; a second signal makes it quicker")
        deadline = time.monotonic() + self._config.shutdown_seconds
        self._shared.close()
        self._end([child for child in self._children if child.role != "deliver"], deadline)
        rest = max(deadline, time.monotonic() + _LEAST_DRAIN_SECONDS)
        self._end([child for child in self._children if child.role == "deliver"], rest)

    def _end(self, children: Sequence[Child], deadline: float) -> None:
        """Have these processes stop, and wait until they are gone."""
        asked_again = False
        for child in children:
            child.stop(0.0 if self._stop_now else deadline - time.monotonic())
        while any(child.pid for child in children) and (left := self._left(deadline)) > 0:
            self._look(left)
            if self._stop_now and not asked_again:
                asked_again, deadline = True, time.monotonic()
                for child in children:
                    child.stop(0.0)

    def _left(self, deadline: float) -> float:
        """Return the seconds until who does not end is killed: more where it writes a spool that was deleted again."""
        saving = (self._folder / recovery.SAVING_NAME).exists()
        return deadline + (_SAVING_SECONDS if saving else _GRACE_SECONDS) - time.monotonic()

    # --- the child's side -------------------------------------------------------------------------------------------
    def _run_child(self, child: Child, control: int, reports: int) -> NoReturn:
        """Be that process from here on."""
        code = _FAILED
        try:
            logs.name_process(child.name)
            self._drop_parent_fds()
            http = self._shared.hand_over() if child.role != "deliver" else None
            self._shared.close()
            worker = WorkerContext(child.name, self._group, control, reports, http, suspects=self._suspects)
            worker.follow()
            code = self._work(child, worker)
        finally:
            logging.shutdown()
            os._exit(code)

    def _drop_parent_fds(self) -> None:
        """Drop what belongs to the supervisor."""
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._selector.close()
        if self._suspects:
            self._suspects.forked()
        for end in self._signals.ends:
            os.close(end)
        for other in self._children:
            if other.control >= 0:
                os.close(other.control)
                os.close(other.reports)

    def _work(self, child: Child, worker: WorkerContext) -> int:
        config = self._shared.config.model_copy(update={"role": child.role})
        try:
            self._make(config, worker).run()
        except ConfigurationError as error:
            worker.refused(error)
            return _REFUSED
        except SpoolDamaged:
            return _DAMAGED
        except Exception:  # noqa: BLE001 - whatever it is: the supervisor starts it again
            _log.exception("%s failed", child.name)
            return _FAILED
        return 0


def _pipe(opened: contextlib.ExitStack) -> tuple[int, int]:
    """Return the ends of a new pipe, which `opened` closes."""
    ends = os.pipe()
    for end in ends:
        opened.callback(os.close, end)
    return ends

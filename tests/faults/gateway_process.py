"""A gateway as users run it, in a folder and a process group of its own, and what can be seen of it from outside.

Its memory is looked at while it works, not only at the end: `watched` samples it beside whatever a test does.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.backends.process import free_port
from tests.waiting import eventually

_SAMPLE_SECONDS = 0.2


class GatewayProcess:
    """`otel-telemetry serve` on free ports, in a folder of its own. `metrics` and `health` ask it.

    `within` is a command that runs another one elsewhere, such as in a namespace. `whole` says that it does all of the
    work and was started once, so that what its processes count is all that ever was.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        url: str = "",
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.url = url or f"sqlite:///{folder / 'rows.db'}"
        self.grpc, self.http = free_port(), free_port()
        self.spool = folder / "spool"
        self._options = options
        self._env = {**os.environ, "OTEL_TELEMETRY_GATEWAY__SHUTDOWN_SECONDS": "5", **(env or {})}
        self.within = within
        self.process: subprocess.Popen[bytes] | None = None
        self.whole = False
        self.peak: dict[str, int] = {}

    def start(self, *, wait: bool = True) -> Self:
        self.whole = "--role" not in self._options and not (self.folder / "log").exists()
        command = [*self.within, sys.executable, "-m", "otel_telemetry.cli", "serve", "--db", self.url, *self._options]
        command += ["--grpc-port", str(self.grpc), "--http-port", str(self.http), "--spool-dir", str(self.spool)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stderr=log, stdout=log, env=self._env, start_new_session=True
            )
        if wait:
            eventually(lambda: self.healthy() or self.names_the_disk(), "the gateway is healthy, or says why not")
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        """End all of it, those processes too that are stopped and would not see that the first one is gone."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill(self) -> None:
        """Kill the first process, as the kernel does where memory is short; the others have to see it."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def restart(self) -> None:
        self.start()

    @property
    def logged(self) -> str:
        return (self.folder / "log").read_text()

    # --- looking at it ----------------------------------------------------------------------------------------------
    def names_the_disk(self) -> bool:
        """Tell whether it is up, and refuses because its disk is full."""
        try:
            return "disk" in httpx.get(f"http://127.0.0.1:{self.http}/health", timeout=5).text
        except httpx.HTTPError:
            return False

    def healthy(self) -> bool:
        assert self.process
        assert self.process.poll() is None, f"it ended: {self.logged[-2000:]}"
        try:
            return httpx.get(f"http://127.0.0.1:{self.http}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def health(self) -> Any:
        return httpx.get(f"http://127.0.0.1:{self.http}/health", timeout=5).json()

    def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Return all samples, by name and labels."""
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        text = httpx.get(f"http://127.0.0.1:{self.http}/metrics", timeout=10).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over all series with these labels."""
        series = self.metrics().get(name, {})
        return sum(value for has, value in series.items() if labels.items() <= dict(has).items())

    def processes(self) -> dict[str, int]:
        """Return the pids of the group, by the order of their start: the receivers, then the one that delivers."""
        assert self.process
        pid = self.process.pid
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return {f"child-{number}": child for number, child in enumerate(sorted(children))}

    def deliverer(self) -> int:
        """Return the pid of the process that delivers: it has no TCP port."""
        (found,) = [pid for pid in self.processes().values() if not _listens(pid, {self.grpc, self.http})]
        return found

    def writers(self) -> list[int]:
        """Return the pids of the processes that write rows beside the one that delivers."""
        try:
            files = list(Path(f"/proc/{self.deliverer()}/task").glob("*/children"))
            return [int(pid) for file in files for pid in file.read_text().split()]
        except (FileNotFoundError, ProcessLookupError, ValueError):  # it is away
            return []

    def receivers(self) -> list[int]:
        return [pid for pid in self.processes().values() if _listens(pid, {self.grpc})]

    def lag(self, exporter: str = "request_log") -> float:
        return self.total("otel_telemetry_spool_lag_items", exporter=exporter)

    def delivered(self, exporter: str = "request_log", seconds: float = 60.0) -> None:
        """Wait until the exporter has everything."""
        eventually(lambda: self.healthy() and self.lag(exporter) == 0, f"{exporter} has everything", seconds)

    def spool_command(self, *arguments: str) -> str:
        command = [*self.within, sys.executable, "-m", "otel_telemetry.cli", "spool", *arguments]
        command += ["--spool-dir", str(self.spool)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    def spool_bytes(self) -> Iterator[bytes]:
        """Yield the files of the spool as they are on the disk, in pieces that overlap a little."""
        assert self.process
        for path in Path(f"/proc/{self.process.pid}/root{self.spool}").glob("spool.db*"):
            with path.open("rb") as file:
                last = b""
                while piece := file.read(1 << 22):
                    yield last[-64:] + piece
                    last = piece

    # --- its memory -------------------------------------------------------------------------------------------------
    def sample(self) -> None:
        """Look at the memory of its processes now, where it runs, and remember the peaks."""
        try:
            pids = [self.process.pid, *self.processes().values(), *self.writers()] if self.process else []
        except (FileNotFoundError, ProcessLookupError):
            return  # it is away
        self._note_peak("all", sum(_kib(pid, "smaps_rollup", "Pss") for pid in pids))
        self._note_peak("largest", max((_kib(pid, "status", "VmHWM") for pid in pids), default=0))

    def _note_peak(self, what: str, kib: int) -> None:
        self.peak[what] = max(self.peak.get(what, 0), kib * 1024)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at its memory again and again for as long as the block lasts."""
        over = threading.Event()

        def look() -> None:
            self.sample()
            while not over.wait(_SAMPLE_SECONDS):
                self.sample()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _listens(pid: int, ports: set[int]) -> bool:
    sockets = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                sockets.add(str(descriptor.readlink()))
        names = ("tcp", "tcp6")
        lines = [line for name in names for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    except (FileNotFoundError, ProcessLookupError):  # it has ended since
        return False
    for line in lines:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) in ports and f"socket:[{fields[9]}]" in sockets:
            return True
    return False


def _kib(pid: int, file: str, name: str) -> int:
    """Return a number of /proc: the process's share of what it has in memory (Pss), or the most it ever had (VmHWM)."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:  # it has ended since
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)

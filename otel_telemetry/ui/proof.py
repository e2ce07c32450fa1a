"""The coverage table on the page of privacy: `otel-telemetry verify` in a process of its own, when somebody asks.

It takes seconds of CPU, so no request waits for it. What the last run found is shown with its time; the page says so
where the settings of redaction, or the files that they name, have changed since.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from otel_telemetry.processors.config import RedactionSettings

COMMAND: Final[Sequence[str]] = (sys.executable, "-m", "otel_telemetry.cli", "verify", "--json")
_LONGEST_SECONDS: Final = 600.0
_NICE: Final = 10
_CUT: Final = 500


@dataclass(frozen=True, slots=True)
class Proof:
    """What a run found: the members of `verify --json`, when it began, how long it took, and of which policy."""

    found: dict[str, Any]
    began: datetime
    seconds: float
    policy: str


class Proofs:
    """Runs the command, one at a time, and remembers what the last run found."""

    def __init__(self, redaction: RedactionSettings) -> None:
        self._redaction = redaction
        self._lock = threading.Lock()
        self._since: datetime | None = None
        self._last: Proof | None = None
        self._problem = ""

    def start(self) -> None:
        """Begin a run, unless one is in progress."""
        with self._lock:
            if self._since is not None:
                return
            self._since = datetime.now(UTC)
        threading.Thread(target=self._run, args=(self._since,), name="otel-telemetry-verify", daemon=True).start()

    def state(self) -> dict[str, Any]:
        """Return the last proof, when the current run began, why the last one failed, and if the policy has changed."""
        with self._lock:
            last, since, problem = self._last, self._since, self._problem
        outdated = last is not None and last.policy != self._policy()
        return {"last": last, "since": since, "problem": problem, "outdated": outdated}

    def _run(self, began: datetime) -> None:
        policy = self._policy()
        found, problem = self._found()
        with self._lock:
            if found is not None:
                seconds = (datetime.now(UTC) - began).total_seconds()
                self._last = Proof(found, began, seconds, policy)
            self._since, self._problem = None, problem

    def _found(self) -> tuple[dict[str, Any] | None, str]:
        """Return what the command printed, or why it printed nothing of use."""
        try:
            process = subprocess.Popen(  # noqa: S603 - a command of ours
                COMMAND, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            return None, str(error)
        with process, suppress(ValueError):
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
            try:
                out, errors = process.communicate(timeout=_LONGEST_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                return None, f"it took longer than {_LONGEST_SECONDS:.0f} seconds"
            problem = errors.decode(errors="replace").strip()[-_CUT:] or f"it ended with code {process.returncode}"
            return json.loads(out), ""
        return None, problem

    def _policy(self) -> str:
        """Return a digest of the settings and of the files that they name."""
        digest = hashlib.blake2b(self._redaction.model_dump_json().encode(), digest_size=16)
        for path in (self._redaction.policy, *self._redaction.rules):
            if path is not None:
                with suppress(OSError):
                    digest.update(path.read_bytes())
        return digest.hexdigest()

"""Requests that may have crashed a receiver: they run alone, and are refused once that is certain.

Each receiver records the requests it works on in a small file in the spool's folder that all processes map. If one is
killed for lack of memory, or crashes, the supervisor finds its requests there. The file survives all processes, because
some systems kill a whole container for lack of memory. It contains checksums, sizes and times, and nothing of any
request.

A request that was processed alone when its receiver died is refused from then on. If there were several, all are
suspected: each that comes again is processed alone, and cleared when it is answered. Suspicions and refusals end after
an hour.

The file: the time when the last suspicion ends, and the kernel's count of kills for lack of memory at the last check;
then the suspects; then a fixed number of slots for each receiver.
"""

import contextlib
import itertools
import logging
import mmap
import os
import signal as signals
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_telemetry.base.destinations import Signal
from otel_telemetry.gateway.spool import spool_file

try:
    import fcntl
except ImportError:  # Windows, where this can be imported, and no gateway runs
    fcntl = None  # type: ignore[assignment]

SECONDS: Final = 3600.0

_NAME: Final = "spool.requests"
_HEAD: Final = struct.Struct("=8sdq")
_UNTIL: Final = 8  # where the head says when the last suspicion ends
_MAGIC: Final = b"requests"
_SUSPECT: Final = struct.Struct("=QQQd")  # a request's mark, its state, and when that ends
_SUSPECTS: Final = 128
_SLOT: Final = struct.Struct("=QQ")
_SLOTS: Final = 256  # of one receiver; what it works on beyond that is not watched
_PAGE: Final = 4096
_SUSPECTED, _GUILTY, _HAS_LETTER = 1, 2, 3
_SIGNALS: Final[tuple[Signal, ...]] = ("traces", "logs", "metrics")
_USED: Final = 1 << 63
_GZIP: Final = b"\x1f\x8b"
_GZIP_VARIES: Final = 8  # the time at which it was packed is in the first bytes
#: How a process ends over what it worked on: SIGKILL is looked at more closely.
_CRASHES: Final = frozenset({signals.SIGSEGV, signals.SIGABRT, signals.SIGBUS, signals.SIGILL, signals.SIGFPE})


_log = logging.getLogger("otel_telemetry.gateway.receive.suspects")


class Mark(NamedTuple):
    """Identifies a request: its signal, a checksum of its bytes as they arrived, and their number."""

    word: int
    size: int

    @property
    def signal(self) -> Signal:
        """What it brings."""
        return _SIGNALS[self.word >> 32 & 3]

    def __str__(self) -> str:
        return f"{self.size:,} bytes of {self.signal}, CRC-32 {self.word & 0xFFFFFFFF:08x}"


def mark_of(kind: Signal, body: bytes) -> Mark:
    """Return a mark of this request: the same for the same content, also if it is compressed again."""
    content: Any = memoryview(body)[_GZIP_VARIES:] if body.startswith(_GZIP) else body
    return Mark(_USED | _SIGNALS.index(kind) << 32 | spool_file.checksum(content), len(body))


def kills() -> int | None:
    """Return how often the kernel has killed a process for lack of memory; None if it is unknown."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), None)


class Suspects:
    """What the receivers of one gateway work on, and what is suspected. Opened before they are forked.

    Receivers have places, from 0. What an earlier gateway was at when it was killed for want of memory is suspected.
    """

    def __init__(self, folder: Path, receivers: int) -> None:
        self._held, path = _free_file(folder)
        self._memory = _mapped(path, _slots_at(receivers))
        self._until = memoryview(self._memory)[_UNTIL : _UNTIL + 8].cast("d")
        self._everything = range(_slots_at(0), len(self._memory) - _SLOT.size + 1, _SLOT.size)
        if _HEAD.unpack_from(self._memory)[0] != _MAGIC:
            self._memory[:] = bytes(len(self._memory))
            _HEAD.pack_into(self._memory, 0, _MAGIC, 0.0, kills() or 0)
        starved = self._starved()
        self.found = self._blame(self._left(self._everything), starved)
        self._forget()

    def close(self) -> None:
        """Take note that all ended well."""
        self._forget()
        os.close(self._held)

    def forked(self) -> None:
        """Leave it to the process that this one was forked from to hold the file."""
        os.close(self._held)

    def _forget(self) -> None:
        self._memory[_slots_at(0) :] = bytes(len(self._memory) - _slots_at(0))

    # --- of a receiver that has ended -------------------------------------------------------------------------------
    def died(self, receiver: int, killed_by: int) -> list[Mark]:
        """Suspect what a receiver worked on that died by a signal; return what is refused from now on."""
        guilty = self._starved() if killed_by == signals.SIGKILL else killed_by in _CRASHES
        slots = range(_slots_at(receiver), _slots_at(receiver + 1), _SLOT.size)
        try:
            return self._blame(self._left(slots), guilty)
        finally:
            self._memory[_slots_at(receiver) : _slots_at(receiver + 1)] = bytes(_SLOTS * _SLOT.size)

    def _left(self, slots: Iterable[int]) -> set[Mark]:
        return {Mark(*_SLOT.unpack_from(self._memory, at)) for at in slots if self._memory[at : at + 8] != bytes(8)}

    def _starved(self) -> bool:
        """Return whether the kernel's count of out-of-memory kills rose since the last call, or is unknown.

        That is of the whole machine: a SIGKILL of somebody else's is taken for the kernel's where both come together.
        """
        now = kills()
        magic, until, before = _HEAD.unpack_from(self._memory)
        _HEAD.pack_into(self._memory, 0, magic, until, now or 0)
        return now is None or now > before

    def _blame(self, marks: set[Mark], guilty: bool) -> list[Mark]:
        if not guilty or not marks:
            return []
        found = [mark for mark in marks if self._suspect(mark, alone=len(marks) == 1)]
        if found:
            _log.error("a receiver died of this request, which is refused for an hour: %s", found[0])
        else:
            _log.error("a receiver died over %d requests: those that come again are worked on alone", len(marks))
        return found

    def _suspect(self, mark: Mark, *, alone: bool) -> bool:
        """Suspect a request; true where it is refused from now on."""
        now = time.time()
        at, state = self._find(mark, now)
        if at < 0:  # those that end first make room
            at = min(self._suspect_offsets(), key=lambda offset: _SUSPECT.unpack_from(self._memory, offset)[3])
        state = _GUILTY if alone else max(state, _SUSPECTED)
        _SUSPECT.pack_into(self._memory, at, *mark, state, now + SECONDS)
        magic, _, seen = _HEAD.unpack_from(self._memory)
        _HEAD.pack_into(self._memory, 0, magic, now + SECONDS, seen)
        return state == _GUILTY

    # --- for receivers ----------------------------------------------------------------------------------------------
    def enter(self, slot: int, mark: Mark) -> None:
        """Note that a request is worked on."""
        _SLOT.pack_into(self._memory, slot, *mark)

    def leave(self, slot: int) -> None:
        """Note that it is not any more."""
        _SLOT.pack_into(self._memory, slot, 0, 0)

    def slots(self, receiver: int) -> list[int]:
        """Return the slots of a receiver."""
        return list(range(_slots_at(receiver), _slots_at(receiver + 1), _SLOT.size))

    def doubted(self, mark: Mark) -> bool:
        """Return whether a request is suspected or refused; quick, as nearly always nothing is."""
        return self._until[0] > 0 and self._state(mark) > 0

    def suspected(self, mark: Mark) -> bool:
        """Return whether a request is to be worked on alone."""
        return self._state(mark) == _SUSPECTED

    def refused(self, mark: Mark) -> bool:
        """Return whether a request is not to be worked on at all."""
        return self._state(mark) >= _GUILTY

    def has_letter(self, mark: Mark) -> bool:
        """Return whether there is a dead letter for it already."""
        return self._state(mark) == _HAS_LETTER

    def note_letter(self, mark: Mark) -> None:
        """Note that there is a dead letter for it."""
        at, state = self._find(mark, time.time())
        if state == _GUILTY:
            _SUSPECT.pack_into(self._memory, at, *mark, _HAS_LETTER, _SUSPECT.unpack_from(self._memory, at)[3])

    def clear(self, mark: Mark) -> None:
        """Take the suspicion from a request: it was worked on, and nothing happened."""
        at, state = self._find(mark, time.time())
        if state == _SUSPECTED:
            _SUSPECT.pack_into(self._memory, at, 0, 0, 0, 0.0)

    def _state(self, mark: Mark) -> int:
        now = time.time()
        if self._until[0] < now:
            return 0
        return self._find(mark, now)[1]

    def _find(self, mark: Mark, now: float) -> tuple[int, int]:
        """Return where a request is among what is suspected, -1 where it is not, and its state."""
        for at in self._suspect_offsets():
            word, size, state, until = _SUSPECT.unpack_from(self._memory, at)
            if (word, size) == mark and until >= now:
                return at, state
        return -1, 0

    @staticmethod
    def _suspect_offsets() -> Iterator[int]:
        return (_PAGE + number * _SUSPECT.size for number in range(_SUSPECTS))


def _slots_at(receiver: int) -> int:
    return _PAGE + _SUSPECTS * _SUSPECT.size + receiver * _SLOTS * _SLOT.size


def _free_file(folder: Path) -> tuple[int, Path]:
    """Hold the first of these files that no other gateway has; return what holds it, and where it is."""
    spool_file.make_folder(folder)
    for number in itertools.count(1):
        name = _NAME if number == 1 else f"{_NAME}-{number}"
        held = spool_file.lock_file(folder, name)
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held, folder / name
        os.close(held)
    raise AssertionError("numbers do not end")


def _mapped(path: Path, size: int) -> mmap.mmap:
    """Return the file's bytes, at least so many; where the disk has no room for them, memory without a file."""
    file = spool_file.lock_file(path.parent, path.name)  # opened anew: what is mapped keeps no lock
    try:
        there = os.fstat(file).st_size
        if there < size:
            os.pwrite(
                file, bytes(size - there), there
            )  # what a file only pretends to have, would kill who writes to it
        return mmap.mmap(file, max(there, size))
    except OSError:
        return mmap.mmap(-1, size)
    finally:
        os.close(file)

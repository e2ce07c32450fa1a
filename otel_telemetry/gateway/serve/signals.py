"""Signals, for a loop that waits in a select."""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Signals:
    """Signals of these numbers, as bytes in a pipe that a select sees."""

    numbers: Sequence[signal.Signals]
    ends: tuple[int, int] = field(default_factory=os.pipe)

    def __post_init__(self) -> None:
        for end in self.ends:
            os.set_blocking(end, False)

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Put each signal into the pipe, and nothing else, until the block ends."""
        before = {number: signal.signal(number, lambda *_: None) for number in self.numbers}
        signal.set_wakeup_fd(self.ends[1], warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)

    def taken(self) -> set[int]:
        """Take what came, if anything."""
        try:
            return set(os.read(self.ends[0], 1024))
        except BlockingIOError:
            return set()

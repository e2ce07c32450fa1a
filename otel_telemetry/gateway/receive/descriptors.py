"""File descriptors: the limit of this process, and the number of connections it allows.

A process without free descriptors can neither open a file of the spool nor answer /health. So some are reserved, and
the two listeners share the rest.
"""

import contextlib
from pathlib import Path
from typing import Final

try:
    import resource
except ImportError:  # Windows, where this can be imported, and no gateway runs
    resource = None  # type: ignore[assignment]

_RESERVED: Final = 128  # for the spool, the destinations, the sockets of the group, and certificates that are read anew
_LISTENERS: Final = 2
_FEWEST: Final = 8


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; return the limit that holds now."""
    if resource is None:
        return _RESERVED * _LISTENERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has a smaller limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def connections(wanted: int) -> int:
    """Return how many connections each listener of this process may hold: `wanted`, or fewer where files are short."""
    if resource is None:
        return wanted
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    free = limit - _open_now()
    reserved = min(_RESERVED, free // 2)
    return max(_FEWEST, min(wanted, (free - reserved) // _LISTENERS))


def _open_now() -> int:
    for folder in (Path("/proc/self/fd"), Path("/dev/fd")):
        with contextlib.suppress(OSError):
            return sum(1 for _ in folder.iterdir())
    return _RESERVED

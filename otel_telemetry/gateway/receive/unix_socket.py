"""The Unix socket of the redactor: only the user who runs it can use it."""

import contextlib
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from otel_telemetry.base.errors import ConfigurationError

_KEY: Final = "gateway.socket"
_BACKLOG: Final = 1024
_LONGEST: Final = 103  # sun_path has 104 bytes on macOS and 108 on Linux, and ends with a zero
_OWN_FOLDER: Final = 0o700
_OWN_FILE: Final = 0o600
_PORT_HINT: Final = "`-`, and gateway.http_port, to listen on loopback"


def listen(name: str) -> tuple[socket.socket, Callable[[], None]]:
    """Return a listening socket, and what takes its file away; or raise ConfigurationError.

    A file that another redactor has left is replaced: nobody answers there. The rights are set before anybody can
    connect.
    """
    path = Path(name)
    _check(path)
    try:
        path.parent.mkdir(mode=_OWN_FOLDER, parents=True, exist_ok=True)
        _clear(path)
        listening = _bind(path)
    except OSError as error:
        hint = "name a file in a folder that the user who runs it can write to"
        raise ConfigurationError(_KEY, f"{path} cannot be listened on: {error.strerror}", hint) from None
    made = path.stat().st_ino
    return listening, lambda: _remove(path, made)


def _check(path: Path) -> None:
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError(_KEY, "Python has no Unix sockets on this system", f"set it to {_PORT_HINT}")
    if len(os.fsencode(path)) > _LONGEST:
        raise ConfigurationError(_KEY, f"a path of more than {_LONGEST} bytes", f"name a shorter one, or {_PORT_HINT}")


def _clear(path: Path) -> None:
    """Take away what a redactor that was killed has left; refuse what is in use or is no socket."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigurationError(_KEY, f"{path} is there and is no socket", "name another file, or move that one away")
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
    raise ConfigurationError(
        _KEY, f"somebody listens on {path} already", f"end that, name another file, or {_PORT_HINT}"
    )


def _bind(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(str(path))
        path.chmod(_OWN_FILE)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _remove(path: Path, made: int) -> None:
    """Take the file away, unless another one has taken its place."""
    with contextlib.suppress(OSError):
        if path.stat().st_ino == made:
            path.unlink()

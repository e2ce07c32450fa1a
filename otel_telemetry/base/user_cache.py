"""Stores data that takes long to build in a folder of the user's cache: compiled rules, a model's weights.

Compiling the rules takes a third of a second, loading them a millisecond. The data is loaded by native code, so a file
is used only if no other user can have written it: the file and its folder belong to this user, are not links, and are
not writable by others; and the file begins with its own digest. In every other case, and on every error, there is no
file and the caller builds the data again.
"""

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

_FOLDER: Final = "otel-telemetry"
_DIGEST_SIZE: Final = hashlib.sha256().digest_size
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def load(name: str) -> bytes | None:
    """Return the data stored under a name, or None."""
    folder = _folder()
    if folder is None:
        return None
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not _is_ours(os.fstat(handle), stat.S_ISREG):
            return None
        data = file.read()
    digest, payload = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def keep(name: str, payload: bytes) -> None:
    """Keep something under a name, or nothing where that is not safe or not possible."""
    folder = _folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        handle, temporary = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            Path(temporary).replace(folder / name)
        except OSError:
            Path(temporary).unlink()
            raise


def _folder() -> Path | None:
    """Return our folder in the user's cache, made if need be, or None where others could write to it."""
    if not hasattr(os, "getuid"):
        return None
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = base / _FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder if _is_ours(folder.lstat(), stat.S_ISDIR) else None
    except (OSError, RuntimeError):
        return None


def _is_ours(status: os.stat_result, kind: Callable[[int], bool]) -> bool:
    return kind(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & _OTHERS

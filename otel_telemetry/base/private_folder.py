"""A folder that the processes of one user share, and nobody else can read or have prepared."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def private_folder(name: str) -> Path | None:
    """Return the user's folder of this name, made where it is missing; None where there can be none that is safe."""
    if not hasattr(os, "getuid"):  # Windows
        return None
    folder = Path(tempfile.gettempdir()) / f"otel-telemetry-{os.getuid()}-{name}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return folder
    return None

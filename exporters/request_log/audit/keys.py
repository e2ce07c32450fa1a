"""The signing key, from its file or the settings, and the places where checkpoints go besides the database."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.audit.config import AuditSettings
from otel_telemetry.exporters.request_log.audit.notes import Signer, new_key

_log = logging.getLogger("otel_telemetry.audit")
_KEY = "request_log.audit.key_file"


def signer(config: AuditSettings) -> Signer:
    """Return the key; raises ConfigurationError where there is none, or others may read it."""
    if config.key is not None:
        return Signer(config.key.get_secret_value())
    path = config.key_file
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        problem = f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no key'}"
        raise ConfigurationError(_KEY, problem, "otel-telemetry audit init makes one") from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(_KEY, f"others may read {path}", f"chmod 600 {path}")
    return Signer(text)


def make(config: AuditSettings) -> Signer:
    """Return the key, made where there is none."""
    path = config.key_file
    if config.key is None and not path.exists():
        text = new_key(config.origin)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise ConfigurationError(_KEY, f"cannot write {path}: {error.strerror}", "name another file") from None
        with os.fdopen(file, "w") as out:
            out.write(text + "\n")
    return signer(config)


def anchor(config: AuditSettings, note: str) -> None:
    """Write a checkpoint to the log and to a file, which the database's owner cannot change. Never raises."""
    origin, size, root, *_ = note.splitlines()
    _log.info("checkpoint %s size=%s root=%s signature=%s", origin, size, root, note.splitlines()[-1])
    if config.anchor_file is None:
        return
    try:
        with Path(config.anchor_file).open("a", encoding="utf-8") as out:
            out.write(note + "\n")
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        _log.error("the checkpoint of size %s could not be added to %s: %s", size, config.anchor_file, error.strerror)


def anchored(path: Path) -> Iterator[str]:
    """Return the checkpoints in a file of them, without those that are added from now on."""
    try:
        file = path.open(encoding="utf-8")
        length = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _unreadable(path, error) from None
    return _checkpoints(path, file, length)


def _checkpoints(path: Path, file: TextIO, length: int) -> Iterator[str]:
    lines: list[str] = []
    try:
        with file:
            for line in file:
                length -= len(line.encode())
                if not line.strip() and lines and lines[-1].startswith("— "):
                    yield "".join(lines)
                    lines = []
                else:
                    lines.append(line)
                if length <= 0:
                    break
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    if lines:
        yield "".join(lines)


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError("--anchor", f"{path} cannot be read: {error}", "name the file of checkpoints")

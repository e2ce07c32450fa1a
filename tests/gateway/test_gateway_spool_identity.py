"""A new folder gets a spool; a file that was cut is a loss; a database of another program is left alone."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.spool import recovery, spool_file
from otel_telemetry.gateway.spool.erase import ErasureTarget, SpoolEraser
from otel_telemetry.gateway.spool.operator import Operator
from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.gateway.spool.schema import SCHEMA
from otel_telemetry.gateway.spool.writer import Spool

MIB = 1 << 20


def opened(folder: Path) -> Spool:
    return Spool(folder, 64 * MIB, 24)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def path(folder: Path) -> Path:
    """Return the file of a spool with three batches that nobody has."""
    spool = opened(folder)
    spool.attach(["kept"])
    for number in range(3):
        spool.append("traces", bytes([number]) * 1000, 2).result(60)
    spool.close()
    return folder / spool_file.FILE_NAME


def emptied_by_another_command(path: Path) -> None:
    os.truncate(path, 0)
    SpoolEraser(path.parent, ErasureTarget((), frozenset(), "x")).__exit__()


CUTS: dict[str, Callable[[Path], object]] = {
    **{f"{size} bytes": lambda path, size=size: os.truncate(path, size) for size in (0, 1, 99, 100, 4096, 16384)},  # type: ignore[misc]
    "gone": Path.unlink,
    "tables gone": emptied_by_another_command,
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_what_a_cut_file_held_is_a_loss_until_somebody_acknowledges_it(
    path: Path, cut: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    cut(path)
    spool = opened(path.parent)
    assert "was damaged" in caplog.text
    assert "/health is degraded until `otel-telemetry spool acknowledge`" in caplog.text
    loss = spool.status().loss
    assert loss is not None
    assert loss.unknown
    assert spool.append("traces", b"new", 1).result(60)
    spool.close()
    caplog.clear()
    with Operator(path.parent) as operator:
        assert operator.acknowledge() == 1
    again = opened(path.parent)
    assert again.status().loss is None
    assert caplog.text == ""
    again.close()


def test_what_the_log_beside_a_cut_file_holds_is_saved(path: Path) -> None:
    spool = opened(path.parent)
    for number in range(3, 6):
        spool.append("traces", bytes([number]) * 1000, 2).result(60)
    killed = path.parent.with_name("killed")
    shutil.copytree(path.parent, killed)
    spool.close()
    os.truncate(killed / spool_file.FILE_NAME, 0)
    with pytest.raises(ConfigurationError, match=r"was cut to 0 bytes\n  next: start the gateway"):
        SpoolReader(killed)
    again = opened(killed)
    assert {batch.body for batch in again.due("kept", MIB, 9)} >= {bytes([number]) * 1000 for number in (3, 4, 5)}
    assert again.status().loss is not None
    again.close()


@pytest.mark.parametrize("made", [0, 1, 4, 12])
def test_a_spool_whose_making_was_cut_short_is_new(folder: Path, made: int, caplog: pytest.LogCaptureFixture) -> None:
    """`made` is how many statements of it had been carried out."""
    folder.mkdir()
    (folder / spool_file.OPEN_NAME).touch()
    with closing(sqlite3.connect(folder / spool_file.FILE_NAME, isolation_level=None)) as file:
        statements = [f"{one}CREATE" for one in SCHEMA.split("CREATE")]
        file.executescript("".join(statements[:made])[: -len("CREATE")] if made else "")
    (folder / spool_file.FILE_NAME).touch()
    spool = opened(folder)
    assert spool.status().loss is None
    assert caplog.text == ""
    spool.close()


FOREIGN: dict[str, str] = {
    "an app's": "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO customer VALUES (1, 'x')",
    "names like ours": "CREATE TABLE batch (id INTEGER, name TEXT, made TEXT); CREATE TABLE total (sum REAL)",
    "with a module that is not here": (
        "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT); PRAGMA writable_schema = ON;"
        "INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING nosuch(a)')"
    ),
    "in its log": "PRAGMA journal_mode = WAL; CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT)",
}


def everything(folder: Path) -> dict[str, bytes]:
    """Return the files of the other program: what it has in memory (-shm) is not on the disk."""
    names = (spool_file.FILE_NAME, f"{spool_file.FILE_NAME}-wal")
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


@pytest.mark.parametrize("script", FOREIGN.values(), ids=FOREIGN)
def test_a_database_of_another_program_is_refused_and_left_as_it_is(folder: Path, script: str) -> None:
    folder.mkdir()
    path = folder / spool_file.FILE_NAME
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript(script)
        path.chmod(0o640)
        before = everything(folder)
        for opens in (opened, recovery.make_sound, Operator):
            with pytest.raises(ConfigurationError, match=r"is the database of another program .*\n  next: move it"):
                opens(folder)
        assert everything(folder) == before
        assert path.stat().st_mode & 0o777 == (0o600 if script.startswith("PRAGMA journal") else 0o640)


def test_a_command_that_reads_names_a_database_of_another_program(folder: Path) -> None:
    folder.mkdir()
    with closing(sqlite3.connect(folder / spool_file.FILE_NAME)) as other:
        other.executescript(FOREIGN["an app's"])
    before = everything(folder)
    with pytest.raises(ConfigurationError, match="it has the tables customer"):
        SpoolReader(folder)
    assert everything(folder) == before

"""Whoever else can write into a folder leads the spool nowhere, and reads nothing of it."""

import os
import stat
from pathlib import Path

import pytest

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.gateway.spool import spool_file
from otel_telemetry.gateway.spool.writer import Spool
from tests.waiting import eventually

MIB = 1 << 20


def opened_alone(folder: Path) -> None:
    os.close(spool_file.claim(folder))
    Spool(folder, 64 * MIB, 24).close()


@pytest.mark.parametrize(
    "name", ["spool.db", "spool.db-wal", "spool.db-shm", "spool.turn", "spool.open", "spool.lock", "spool.reserve"]
)
@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nowhere"])
def test_a_link_in_the_place_of_a_file_is_refused_and_what_it_leads_to_untouched(
    tmp_path: Path, name: str, there: bool
) -> None:
    folder, target = tmp_path / "spool", tmp_path / "precious"
    folder.mkdir()
    if there:
        target.write_text("precious")
    (folder / name).symlink_to(target)
    with pytest.raises(ConfigurationError, match="is a link"):
        opened_alone(folder)
    assert (target.read_text() if there else target.exists()) == ("precious" if there else False)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool" / "spool.db").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="no file"):
        Spool(tmp_path / "spool", 64 * MIB, 24)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "spool").symlink_to(tmp_path / "disk")
    Spool(tmp_path / "spool", 64 * MIB, 24).close()
    assert (tmp_path / "disk" / "spool.db").is_file()


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o1777, 0o2775])
def test_an_open_folder_is_closed_to_others_and_so_is_each_file(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    folder.chmod(mode)
    before = os.umask(0)
    try:
        spool = Spool(folder, 64 * MIB, 24)
        spool.append("traces", b"x", 1).result(10)
        found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
        spool.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == mode & 0o7770
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}


def test_a_log_that_somebody_deleted_is_noticed_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 64 * MIB, 24)
    spool.append("logs", b"before", 1).result(30)
    log = tmp_path / f"{spool_file.FILE_NAME}-wal"
    assert spool.health(spool.status())["status"] == "ok"
    log.unlink()
    spool.append("logs", b"after", 1).result(30)
    eventually(lambda: spool.health(spool.status())["status"] == "failing", "it is noticed")
    assert "SIGTERM" in spool.health(spool.status())["problem"]
    with pytest.raises(StoreUnavailable, match="deleted"):
        spool.append("logs", b"refused", 1)
    spool.close()
    again = Spool(tmp_path, 64 * MIB, 24)
    assert [batch.body for batch in again.reader.batches()] == [b"before", b"after"]
    assert again.health(again.status())["status"] == "ok"
    again.close()

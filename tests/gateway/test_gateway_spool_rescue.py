"""What a damaged spool still holds comes over, the rest is counted, and the gateway serves on."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.base.errors import SpoolDamaged
from otel_telemetry.gateway.spool import recovery, spool_file
from otel_telemetry.gateway.spool.writer import Spool

MIB = 1 << 20
PAGE = 16384
BODIES = [bytes([number]) * 200_000 for number in range(1, 21)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def filled(folder: Path, delivered: int = 0, bodies: list[bytes] = BODIES) -> Path:
    """Make a spool with the bodies in it, of which a sink has some, and return its file."""
    spool = Spool(folder, 64 * MIB, 24)
    spool.attach(["kept"])
    for future in [spool.append("traces", body, 2) for body in bodies]:
        future.result(10)
    if delivered:
        batches = spool.reader.read(0, 64 * MIB, delivered)
        spool.advance("kept", batches, [(batches[0], "ValueError: no")])
    spool.close()
    return folder / spool_file.FILE_NAME


def overwrite(path: Path, first_page: int, pages: int, with_: bytes = b"\xff") -> None:
    with path.open("r+b") as file:
        file.seek(first_page * PAGE)
        file.write(with_ * (pages * PAGE))


def page_of(path: Path, body: bytes) -> int:
    """Return the number of a page in the middle of the body, which takes a row of pages."""
    return path.read_bytes().index(body[: PAGE // 2]) // PAGE + 3


def left_open(path: Path) -> None:
    """Let the spool look as if its last user had not closed it."""
    path.with_name(path.name + "-wal").write_bytes(b"\0" * 64)


def test_cursors_and_dead_letters_come_over_so_that_nothing_is_delivered_twice(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled(folder, delivered=8)
    overwrite(path, path.stat().st_size // PAGE * 2 // 3, 40)
    left_open(path)
    spool = Spool(folder, 64 * MIB, 24)
    status = spool.reader.status()
    due = [batch.body for batch in spool.due("kept", 64 * MIB, 99)]
    assert due
    assert all(body in BODIES[8:] for body in due)
    assert status.dead_letters == 1
    assert "dead letters were saved" in caplog.text
    assert status.lag["kept"].batches == len(due)
    assert status.lag["kept"].items == 2 * len(due)
    spool.close()


def test_what_could_not_be_read_is_counted_for_the_sinks_that_had_not_got_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled(folder)
    overwrite(path, path.stat().st_size // PAGE * 2 // 3, 40)
    left_open(path)
    spool = Spool(folder, 64 * MIB, 24)
    saved = [batch.body for batch in spool.due("kept", 64 * MIB, 99)]
    lost = len(BODIES) - len(saved)
    assert lost > 0
    assert f"{len(saved)} batches were saved from it, {lost} could not be read" in caplog.text
    with sqlite3.connect(folder / spool_file.FILE_NAME) as connection:
        assert connection.execute("SELECT batches FROM outcome WHERE what = 'unreadable'").fetchone() == (lost,)
    assert list(folder.glob("spool.damaged-*.db")), "the damaged file is set aside"
    spool.close()


def test_numbers_are_never_given_twice_so_that_cursors_miss_nothing_new(folder: Path) -> None:
    path = filled(folder, delivered=20)
    overwrite(path, path.stat().st_size // PAGE - 60, 60)
    left_open(path)
    spool = Spool(folder, 64 * MIB, 24)
    spool.append("traces", b"new", 1).result(10)
    assert [batch.body for batch in spool.due("kept", 64 * MIB, 99)] == [b"new"]
    spool.close()


@pytest.mark.parametrize("offset", [0, 4], ids=["a whole page", "text only"])
def test_a_body_that_the_disk_changed_is_not_delivered_but_counted_and_told(
    folder: Path, caplog: pytest.LogCaptureFixture, offset: int
) -> None:
    path = filled(folder)
    with path.open("r+b") as file:
        file.seek(page_of(path, BODIES[3]) * PAGE + offset)  # a page begins with the number of the next one
        file.write(b"\xfe" * 2000)
    spool = Spool(folder, 64 * MIB, 24)
    got: list[bytes] = []
    while batches := spool.due("kept", 64 * MIB, 99):
        got += [batch.body for batch in batches]
        spool.advance("kept", batches)
    assert got == [*BODIES[:3], *BODIES[4:]]
    status = spool.reader.status()
    assert status.missed == {"kept": {"unreadable": 2}}
    assert status.lag["kept"].items == 0
    assert "batch 4 of the spool cannot be read from the disk, kept will not get it" in caplog.text
    spool.close()


def test_a_body_that_a_flipped_bit_made_text_of_is_delivered_all_the_same(folder: Path) -> None:
    with sqlite3.connect(filled(folder)) as file:
        file.execute("UPDATE batch SET body = CAST(body AS TEXT) WHERE seq = 4")
    file.close()
    spool = Spool(folder, 64 * MIB, 24)
    assert [batch.body for batch in spool.due("kept", 64 * MIB, 99)] == BODIES
    spool.close()


def test_a_rescue_that_was_cut_short_is_made_again(folder: Path) -> None:
    path = filled(folder)
    path.with_name(recovery.RESCUED_NAME).write_bytes(b"half of a file")
    spool = Spool(folder, 64 * MIB, 24)
    assert len(list(spool.reader.batches())) == 20
    assert not path.with_name(recovery.RESCUED_NAME).exists()
    spool.close()


def test_a_rescue_that_was_cut_short_before_the_new_name_was_given_is_finished(folder: Path) -> None:
    path = filled(folder)
    path.rename(path.with_name(recovery.RESCUED_NAME))
    spool = Spool(folder, 64 * MIB, 24)
    assert len(list(spool.reader.batches())) == 20
    spool.close()


def test_a_damaged_spool_that_others_have_open_is_left_to_them(folder: Path) -> None:
    path = filled(folder)
    shared = spool_file.share(folder)
    path.write_bytes(b"no database " * 10_000)
    with pytest.raises(SpoolDamaged):
        Spool(folder, 64 * MIB, 24)
    os.close(shared)
    Spool(folder, 64 * MIB, 24).close()
    assert list(folder.glob("spool.damaged-*.db"))


def test_damage_that_is_found_while_it_is_used_is_told(folder: Path) -> None:
    filled(folder)
    spool = Spool(folder, 64 * MIB, 24)
    damaged: list[bool] = []
    spool.on_damage = lambda: damaged.append(True)

    def malformed(connection: sqlite3.Connection) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(Exception, match="malformed"):
        spool._change(malformed)
    assert damaged
    spool.close()


def test_a_spool_of_before_checksums_is_opened_and_delivered(folder: Path) -> None:
    path = filled(folder, bodies=[b"old"])
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE batch DROP COLUMN crc")
    spool = Spool(folder, 64 * MIB, 24)
    assert [batch.body for batch in spool.due("kept", MIB, 9)] == [b"old"]
    spool.append("traces", b"new", 1).result(10)
    assert [batch.body for batch in spool.due("kept", MIB, 9)] == [b"old", b"new"]
    spool.close()


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeroed_head(path: Path) -> None:
    overwrite(path, 0, 1, b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def random_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * PAGE)
        file.write(os.urandom(PAGE))


@pytest.mark.parametrize("harm", [truncated, zeroed_head, empty, random_page])
@pytest.mark.parametrize("closed", [True, False])
def test_whatever_happened_to_the_file_the_spool_serves_on(
    folder: Path, harm: Callable[[Path], None], closed: bool
) -> None:
    path = filled(folder)
    harm(path)
    if not closed:
        left_open(path)
    spool = Spool(folder, 64 * MIB, 24)
    spool.attach(["kept"])
    spool.append("traces", b"new", 1).result(10)
    got: list[Any] = []
    while batches := spool.due("kept", 64 * MIB, 99):
        got += [batch.body for batch in batches]
        spool.advance("kept", batches)
    assert got[-1] == b"new"
    assert set(got[:-1]) <= set(BODIES)
    spool.close()


def test_a_log_of_a_machine_that_lost_power_at_any_byte_keeps_a_prefix(folder: Path, tmp_path: Path) -> None:
    spool = Spool(folder, 64 * MIB, 24)
    for number in range(5):
        spool.append("traces", bytes([number + 1]) * 30_000, 1).result(10)
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    spool.close()
    size = (whole / f"{spool_file.FILE_NAME}-wal").stat().st_size
    for cut in range(0, size, size // 12):
        copy = tmp_path / f"cut-{cut}"
        shutil.copytree(whole, copy)
        os.truncate(copy / f"{spool_file.FILE_NAME}-wal", cut)
        again = Spool(copy, 64 * MIB, 24)
        found = [batch.body[0] for batch in again.reader.batches()]
        assert found == list(range(1, len(found) + 1))
        again.append("traces", b"next", 1).result(10)
        again.close()

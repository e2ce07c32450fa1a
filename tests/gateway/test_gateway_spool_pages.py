"""A damaged spool gives up every batch whose bytes are still on the disk; the rest is counted."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from otel_telemetry.cli import app
from otel_telemetry.gateway.serve.health import Health
from otel_telemetry.gateway.spool import spool_file
from otel_telemetry.gateway.spool.writer import Spool

MIB = 1 << 20
PAGE = spool_file.PAGE_BYTES
#: Small ones that share pages, and large ones that have pages of their own.
BODIES = [bytes([number]) * (70_000 if number % 5 == 0 else 300 * number) for number in range(1, 61)]


def opened(folder: Path) -> Spool:
    return Spool(folder, 64 * MIB, 24)


def filled(folder: Path, *, killed: bool = False) -> Path:
    """Make a spool of which one sink has three batches, one of them as a dead letter, and return its file."""
    spool = opened(folder)
    spool.attach(["ahead", "behind"])
    for future in [spool.append("traces", body, 2) for body in BODIES]:
        future.result(10)
    batches = spool.reader.read(0, 64 * MIB, 3)
    spool.advance("ahead", batches, [(batches[1], "ValueError: no")])
    if killed:
        copy = folder.with_name("killed")
        shutil.copytree(folder, copy)
        spool.close()
        shutil.rmtree(folder)
        copy.rename(folder)
    else:
        spool.close()
        Path(f"{folder / spool_file.FILE_NAME}-wal").write_bytes(b"\0" * 64)  # as one that was not closed
    return folder / spool_file.FILE_NAME


def bodies(spool: Spool, sink: str) -> list[bytes]:
    got: list[bytes] = []
    while batches := spool.due(sink, 64 * MIB, 99):
        got += [batch.body for batch in batches]
        spool.advance(sink, batches)
    return got


def flip(path: Path, at: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def noise(path: Path, page: int, count: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(random.Random(page).randbytes(PAGE * count))  # noqa: S311 - the same noise each time


def overwrite(path: Path, with_: bytes) -> None:
    with path.open("r+b") as file:
        file.write(with_)


HEADER_HARMS: dict[str, Callable[[Path], None]] = {
    "first bit": lambda path: flip(path, 0),
    "magic": lambda path: flip(path, 9, 4),
    "page size": lambda path: flip(path, 16, 3),
    "write version": lambda path: flip(path, 18, 6),
    "schema format": lambda path: flip(path, 47, 5),
    "encoding": lambda path: flip(path, 59, 2),
    "schema text": lambda path: flip(path, 16_200, 7),
    "whole first page": lambda path: noise(path, 1),
    "map of pages": lambda path: noise(path, 2),
    "root of batches": lambda path: noise(path, 3),
    "numbers": lambda path: noise(path, 4),
    "totals": lambda path: noise(path, 5),
    "zeros": lambda path: overwrite(path, bytes(PAGE)),
}


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
@pytest.mark.parametrize("harm", HEADER_HARMS.values(), ids=HEADER_HARMS)
def test_damage_outside_of_the_batches_costs_none_of_them(
    tmp_path: Path, harm: Callable[[Path], None], killed: bool
) -> None:
    path = filled(tmp_path / "spool", killed=killed)
    harm(path)
    spool = opened(tmp_path / "spool")
    spool.attach(["ahead", "behind"])
    assert bodies(spool, "behind") == BODIES
    assert bodies(spool, "ahead") == BODIES[3:]
    status = spool.reader.status()
    assert status.dead_letters == 1
    assert (status.loss is None) or (not status.loss.batches and status.loss.unknown)
    assert spool.append("traces", b"new", 1).result(10) == len(BODIES) + 1, "no number is given twice"
    spool.close()


@pytest.mark.parametrize("bit", [1, 7])
def test_a_batch_whose_signal_is_not_readable_is_counted_as_lost_and_holds_up_none(tmp_path: Path, bit: int) -> None:
    path = filled(tmp_path / "spool")
    flip(path, path.read_bytes().index(b"traces", 40 * PAGE), bit)
    spool = opened(tmp_path / "spool")
    spool.attach(["behind"])
    found = bodies(spool, "behind")
    assert len(found) == len(BODIES) - 1
    assert set(found) < set(BODIES)
    loss = spool.reader.status().loss
    assert loss is not None
    assert loss.batches == 1
    spool.close()


def test_a_fault_that_is_not_the_file_s_is_no_damage() -> None:
    closed = sqlite3.connect(":memory:")
    closed.close()
    with pytest.raises(sqlite3.ProgrammingError) as raised:
        closed.execute("SELECT 1")
    for error in (raised.value, OSError(28, "No space left on device"), RuntimeError("no")):
        assert not spool_file.means_damage(error)


def test_noise_on_the_cursors_delivers_again_rather_than_never(tmp_path: Path) -> None:
    noise(filled(tmp_path / "spool"), 6)
    spool = opened(tmp_path / "spool")
    spool.attach(["ahead", "behind"])
    assert bodies(spool, "ahead") == BODIES
    spool.close()


def cut_tail(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 9 // 10)


@pytest.mark.parametrize("page", ["cut", *range(12, 100, 11)])
def test_what_the_disk_did_not_keep_is_counted_and_all_the_rest_delivered(tmp_path: Path, page: str | int) -> None:
    path = filled(tmp_path / "spool")
    whole = path.read_bytes()
    if page == "cut":
        cut_tail(path)
    else:
        noise(path, int(page))
    left = path.read_bytes()
    untouched = [body for body in BODIES if body in whole and body in left]
    spool = opened(tmp_path / "spool")
    spool.attach(["ahead", "behind"])
    got = bodies(spool, "behind")
    assert [body for body in BODIES if body in got] == got, "in order, each once"
    assert set(untouched) <= set(got)
    status = spool.reader.status()
    lost = len(BODIES) - len(got)
    if lost:
        assert status.loss is not None
        assert (status.loss.batches, status.missed["behind"]["unreadable"]) == (lost, status.loss.items)
        assert status.loss.items <= 2 * lost
    else:
        assert status.loss is None or status.loss.unknown
    spool.close()


def test_batches_that_were_trimmed_do_not_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder, 64 * MIB, 0.0)
    spool.attach(["only"])
    for future in [spool.append("traces", body, 1) for body in BODIES]:
        future.result(10)
    assert bodies(spool, "only") == BODIES
    housekeeper = spool._housekeeper
    assert housekeeper is not None
    while housekeeper.step(0.0, disk_low=False):
        pass
    spool.append("traces", b"the last", 1).result(10)
    spool.close()
    flip(folder / spool_file.FILE_NAME, 0)
    again = opened(folder)
    again.attach(["only"])
    assert bodies(again, "only") == [b"the last"]
    assert [batch.body for batch in again.reader.batches()] == [b"the last"]
    assert again.reader.status().loss is None
    again.close()


def test_a_loss_makes_health_degraded_until_somebody_takes_note(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    cut_tail(filled(folder))
    spool = opened(folder)
    health = Health(spool, None, [], {})
    spool.attach([])
    before = health.report()
    assert (before.status, before.healthy) == ("degraded", True)
    lost = before.details["parts"]["spool"]["lost"]
    assert lost["batches"] > 0
    assert lost["next"] == "otel-telemetry spool acknowledge"
    asked = CliRunner().invoke(app, ["spool", "acknowledge", "--yes", "--spool-dir", str(folder)])
    assert asked.exit_code == 0, asked.output
    assert f"did not keep {lost['batches']} batches" in asked.output
    assert "lost" not in health.report().details["parts"]["spool"]
    again = CliRunner().invoke(app, ["spool", "acknowledge", "--spool-dir", str(folder)])
    assert "no loss is waiting" in again.output
    spool.close()


def test_a_loss_that_nobody_took_note_of_outlives_the_next_damage(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    cut_tail(filled(folder))
    opened(folder).close()
    with sqlite3.connect(folder / spool_file.FILE_NAME) as connection:
        (lost,) = connection.execute("SELECT sum(batches) FROM loss").fetchone()
    flip(folder / spool_file.FILE_NAME, 0)
    spool = opened(folder)
    status = spool.reader.status()
    assert status.loss is not None
    assert status.loss.batches == lost
    spool.close()


def test_a_batch_that_turns_out_to_be_unreadable_is_lost_once_though_two_sinks_miss_it(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    path = filled(folder)
    Path(f"{path}-wal").unlink()
    at = path.read_bytes().index(BODIES[9][: PAGE - 4])
    with path.open("r+b") as file:
        file.seek(at + 2 * PAGE)
        file.write(b"\xfe" * 100)
    spool = opened(folder)
    assert len(bodies(spool, "behind")) == len(BODIES) - 1
    assert len(bodies(spool, "ahead")) == len(BODIES) - 4
    status = spool.reader.status()
    assert status.loss is not None
    assert (status.loss.batches, status.loss.items, status.loss.unknown) == (1, 2, False)
    spool.close()

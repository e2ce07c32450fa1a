"""A spool whose file was cut, or is gone, beside any log: it always opens, with every batch that can still be read."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.spool import recovery, spool_file
from otel_telemetry.gateway.spool.copy import Copy
from otel_telemetry.gateway.spool.pages import Pages
from otel_telemetry.gateway.spool.writer import Spool

MIB = 1 << 20
PAGE = spool_file.PAGE_BYTES
FRAME = PAGE + 24
FILE, LOG = spool_file.FILE_NAME, f"{spool_file.FILE_NAME}-wal"
#: Each has words of its own; small ones share pages, every fifth has pages of its own.
BODIES = [f"batch {number:04d};".encode() * (5000 if number % 5 == 0 else 40 * number) for number in range(1, 31)]


def opened(folder: Path) -> Spool:
    return Spool(folder, 64 * MIB, 24)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of one spool, as a kill left them, by how much of it is in the log."""
    made = tmp_path_factory.mktemp("cut")
    folder = made / "spool"
    spool = opened(folder)
    spool.attach(["sink"])
    for body in BODIES:
        spool.append("traces", body, 2).result(10)
    states = {name: made / name for name in ("whole", "checkpointed", "one page", "no log")}
    shutil.copytree(folder, states["whole"])
    with contextlib.closing(sqlite3.connect(folder / FILE)) as other:
        other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        shutil.copytree(folder, states["checkpointed"])
        other.execute("UPDATE batch SET signal = 'logs' WHERE seq = ?", (len(BODIES) - 1,))  # the log begins anew
        other.commit()
        shutil.copytree(folder, states["one page"])
    spool.close()
    shutil.copytree(folder, states["no log"])
    return states


def left(folder: Path) -> bytes:
    """Return the pages of a spool that are there: those of the log come before those of the file, old ones last."""
    file = (folder / FILE).read_bytes() if (folder / FILE).exists() else b""
    log = (folder / LOG).read_bytes() if (folder / LOG).exists() else b""
    pages = {at // PAGE + 1: file[at : at + PAGE] for at in range(0, len(file), PAGE)}
    old: dict[int, bytes] = {}
    for at in range(32, len(log) - FRAME + 1, FRAME):
        into = pages if log[at + 8 : at + 16] == log[16:24] else old
        into[int.from_bytes(log[at : at + 4])] = log[at + 24 : at + FRAME]
    whole = {number: page for number, page in pages.items() if len(page) == PAGE}
    return b"".join((pages | old | whole).values())


def is_there(body: bytes, pages: bytes) -> bool:
    """Return whether all of a body is in the pages, but for the words that lie across two of them."""
    word = body[:11]
    return pages.count(word) >= len(body) // len(word) - len(body) // PAGE - 1


CUTS: dict[str, Callable[[int], int]] = {
    "empty": lambda _: 0,
    "a byte": lambda _: 1,
    "a header": lambda _: 100,
    "half a page": lambda _: PAGE // 2,
    "a page": lambda _: PAGE,
    "six pages": lambda _: 6 * PAGE,
    "a quarter": lambda size: size // 4 // PAGE * PAGE,
    "half": lambda size: size // 2 + PAGE // 3,
    "three quarters": lambda size: size * 3 // 4 // PAGE * PAGE,
    "the last page": lambda size: size - PAGE,
    "most of the last page": lambda size: size - PAGE + 3000,
    "the last bytes": lambda size: size - 100,
}


@pytest.mark.parametrize("state", ["whole", "checkpointed", "one page", "no log"])
@pytest.mark.parametrize("cut", [*CUTS, "gone"])
def test_a_file_that_was_cut_anywhere_opens_with_every_batch_that_is_left(
    killed: dict[str, Path], tmp_path: Path, state: str, cut: str
) -> None:
    folder = tmp_path / "spool"
    shutil.copytree(killed[state], folder)
    if cut == "gone":
        (folder / FILE).unlink()
    else:
        os.truncate(folder / FILE, max(0, CUTS[cut]((folder / FILE).stat().st_size)))
    pages = left(folder)
    spool = opened(folder)
    spool.attach(["sink"])
    got = [batch.body for batch in spool.due("sink", 64 * MIB, 99)]
    assert [body for body in BODIES if is_there(body, pages) and body not in got] == []
    assert [body for body in BODIES if body in got] == got, "in order, each once"
    loss = spool.status().loss
    if len(got) < len(BODIES):
        assert loss is not None
        assert loss.unknown or loss.batches == len(BODIES) - len(got)
    spool.append("traces", b"new", 1).result(10)
    spool.close()


def failing(*_: object) -> None:
    raise IndexError("index out of range")


def cut_in_half(folder: Path) -> None:
    os.truncate(folder / FILE, (folder / FILE).stat().st_size // 2)


def test_a_rescue_that_fails_in_a_way_that_nobody_foresaw_begins_anew_and_says_so(
    killed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "spool"
    shutil.copytree(killed["no log"], folder)
    cut_in_half(folder)
    before = (folder / FILE).read_bytes()
    monkeypatch.setattr(Copy, "_account", failing)
    spool = opened(folder)
    loss = spool.status().loss
    assert loss is not None
    assert loss.unknown
    (aside,) = folder.glob("spool.damaged-*.db")
    assert aside.read_bytes() == before
    assert "could be saved" in caplog.text
    assert "IndexError" in caplog.text
    assert "spool acknowledge" in caplog.text
    spool.append("traces", b"new", 1).result(10)
    assert [batch.body for batch in spool.reader.batches()] == [b"new"]
    spool.close()


@pytest.mark.parametrize(("part", "method"), [(Copy, "_dead_letters"), (Copy, "_count_letters"), (Pages, "missing")])
def test_a_step_that_fails_costs_no_other(
    killed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: type, method: str
) -> None:
    folder = tmp_path / "spool"
    shutil.copytree(killed["whole"], folder)
    (folder / FILE).unlink()
    monkeypatch.setattr(part, method, failing)
    spool = opened(folder)
    assert [batch.body for batch in spool.reader.batches()] == BODIES
    loss = spool.status().loss
    assert loss is not None
    assert loss.unknown
    spool.close()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")])
def test_a_rescue_that_the_surroundings_keep_from_its_work_changes_nothing(
    killed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    folder = tmp_path / "spool"
    shutil.copytree(killed["no log"], folder)
    cut_in_half(folder)
    before = (folder / FILE).read_bytes()

    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr(Pages, "rows", refused)
    with pytest.raises(ConfigurationError, match=str(error.strerror)):
        opened(folder)
    assert (folder / FILE).read_bytes() == before
    assert not list(folder.glob("spool.damaged-*"))


@pytest.mark.parametrize("table", ["total", "cursor"])
def test_a_number_that_is_too_high_to_be_true_keeps_no_start_waiting(
    killed: dict[str, Path], tmp_path: Path, table: str
) -> None:
    folder = tmp_path / "spool"
    shutil.copytree(killed["no log"], folder)
    with contextlib.closing(sqlite3.connect(folder / FILE)) as other:
        other.execute(f"UPDATE {table} SET seq = seq + (1 << 40)")  # noqa: S608 - a table of ours
        other.commit()
    cut_in_half(folder)
    spool = opened(folder)
    loss = spool.status().loss
    assert loss is not None
    assert loss.batches or loss.unknown
    spool.close()


def test_a_spool_that_crosses_a_gibibyte_in_its_log_is_sound(tmp_path: Path) -> None:
    """SQLite never writes the page at that byte, where its locks are: it is neither in the file nor in the log."""
    path = tmp_path / FILE
    spool_file.make_file(path)
    with contextlib.closing(spool_file.open_sound(path)) as made:
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    pages = (1 << 30) // PAGE - 5
    with path.open("r+b") as file:
        file.truncate(pages * PAGE)  # sparse
        file.seek(28)
        file.write(pages.to_bytes(4))
    body = os.urandom(20 * PAGE)
    with contextlib.closing(spool_file.open_sound(path)) as grown:
        row = ("traces", 1, 1, body, spool_file.checksum(body))
        grown.execute("INSERT INTO batch (signal, received_ns, items, body, crc) VALUES (?, ?, ?, ?, ?)", row)
        assert grown.execute("PRAGMA page_count").fetchone()[0] > pages + 10
        with Pages(path) as found:
            assert not found.cut()


def test_a_copy_that_was_not_completed_goes_at_the_next_start(tmp_path: Path) -> None:
    opened(tmp_path).close()
    left = [tmp_path / f"{recovery.SAVING_NAME}{suffix}" for suffix in ("", "-journal")]
    for one in left:
        one.write_bytes(b"jane.doe@mail.example.com")
    opened(tmp_path).close()
    assert not any(one.exists() for one in left)


def test_a_number_that_only_one_witness_has_is_no_loss(tmp_path: Path) -> None:
    """One wrong bit of `total.seq`, and half a million batches would be lost."""
    folder = tmp_path / "spool"
    spool = opened(folder)
    spool.attach(["sink"])
    for body in BODIES:
        spool.append("traces", body, 2).result(10)
    spool.close()
    with contextlib.closing(sqlite3.connect(folder / FILE, isolation_level=None)) as other:
        other.execute("UPDATE total SET seq = seq + 524288")
    damaged = bytearray((folder / FILE).read_bytes())
    damaged[PAGE * 5 : PAGE * 6] = b"\x77" * PAGE
    (folder / FILE).write_bytes(damaged)
    recovery.make_sound(folder, doubtful=True)
    with contextlib.closing(sqlite3.connect(folder / FILE)) as other:
        (lost,) = other.execute("SELECT count(*) FROM loss").fetchone()
        (left,) = other.execute("SELECT count(*) FROM batch").fetchone()
    assert list(folder.glob("*damaged*"))
    assert 0 < lost <= len(BODIES) - left + 1  # the last: there may have been more

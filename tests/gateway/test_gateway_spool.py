import os
import resource
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

import pytest

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import ConfigurationError, Overloaded, StoreUnavailable
from otel_telemetry.gateway.spool import spool_file
from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.gateway.spool.writer import Spool
from tests.waiting import eventually

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    made = Spool(folder, 8 * MIB, 24)
    yield made
    made.close()


def append(spool: Spool, *bodies: bytes, signal: Signal = "traces") -> list[int]:
    return [future.result(10) for future in [spool.append(signal, body, 1) for body in bodies]]


def test_a_batch_is_on_disk_when_its_future_resolves(spool: Spool, folder: Path) -> None:
    (seq,) = append(spool, b"one")
    with SpoolReader(folder) as reader:
        (batch,) = reader.batches()
    assert (batch.seq, batch.signal, batch.items, batch.body) == (seq, "traces", 1, b"one")


def test_sequence_numbers_belong_to_their_bodies_whatever_the_thread(spool: Spool) -> None:
    seqs: dict[int, bytes] = {}

    def send(name: str) -> None:
        for number in range(50):
            body = f"{name}-{number}".encode()
            seqs[spool.append("logs", body, 1).result(10)] = body

    threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {batch.seq: batch.body for batch in spool.reader.batches()} == seqs
    assert len(seqs) == 200


def test_reading_stops_at_the_limit_but_returns_one_at_least(spool: Spool) -> None:
    append(spool, b"x" * 1000, b"y" * 1000, b"z" * 1000)
    assert [b.body[:1] for b in spool.reader.read(0, 1)] == [b"x"]
    assert [b.body[:1] for b in spool.reader.read(0, 2000)] == [b"x", b"y"]
    assert [b.body[:1] for b in spool.reader.read(0, 1 << 20, limit_batches=2)] == [b"x", b"y"]
    assert [b.body[:1] for b in spool.reader.read(1, 1 << 20)] == [b"y", b"z"]


def test_a_cursor_survives_a_restart(folder: Path) -> None:
    first = Spool(folder, 8 * MIB, 24)
    first.attach(["a"])
    append(first, b"one", b"two")
    first.advance("a", first.reader.read(0, 1, 1))
    first.close()
    second = Spool(folder, 8 * MIB, 24)
    second.attach(["a"])
    assert [b.body for b in second.reader.read(second.reader.position("a"), MIB)] == [b"two"]
    second.close()


def test_a_new_sink_starts_at_the_oldest_batch_that_is_still_there(folder: Path) -> None:
    spool = Spool(folder, 8 * MIB, 0)
    spool.attach(["a"])
    append(spool, b"gone")
    spool.advance("a", spool.reader.read(0, MIB))
    eventually(lambda: spool.reader.status().batches == 0)
    append(spool, b"there", b"there too")
    spool.attach(["a", "b"])
    assert [b.body for b in spool.reader.read(spool.reader.position("b"), MIB)] == [b"there", b"there too"]
    lag = spool.reader.status().lag["b"]
    assert (lag.batches, lag.items, lag.bytes) == (2, 2, 14)
    spool.close()


def test_a_sink_that_is_no_longer_named_and_has_everything_holds_nothing_back(folder: Path) -> None:
    spool = Spool(folder, 8 * MIB, 0)
    spool.attach(["gone", "a"])
    append(spool, b"one")
    for sink in ("a", "gone"):
        spool.advance(sink, spool.reader.read(0, MIB))
    spool.attach(["a"])
    append(spool, b"two")
    spool.advance("a", spool.due("a", MIB, 9))
    eventually(lambda: spool.reader.status().batches == 0)
    assert set(spool.reader.status().lag) == {"a"}
    spool.close()


def test_what_a_sink_has_not_got_is_kept_and_told_when_it_is_no_longer_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(folder, 8 * MIB, 0)
    spool.attach(["away", "a"])
    append(spool, b"one")
    spool.advance("a", spool.due("a", MIB, 9))
    spool.attach(["a"])
    status = spool.reader.status()
    assert status.lag["away"].batches == 1
    assert status.detached == ["away"]
    assert "otel-telemetry spool drop --exporter away --forget" in caplog.text
    spool.attach(["away", "a"])
    assert [b.body for b in spool.due("away", MIB, 9)] == [b"one"]
    spool.close()


def test_lag_counts_what_is_behind_the_cursor(spool: Spool) -> None:
    spool.attach(["a", "b"])
    append(spool, b"123", b"4567")
    spool.advance("a", spool.reader.read(0, 1, 1))
    lag = spool.reader.status().lag
    assert (lag["a"].batches, lag["a"].items, lag["a"].bytes) == (1, 1, 4)
    assert (lag["b"].batches, lag["b"].items, lag["b"].bytes) == (2, 2, 7)
    assert spool.reader.status().oldest_seconds >= lag["a"].seconds > 0


def test_a_full_spool_refuses_with_a_time_to_wait_that_clients_accept(spool: Spool) -> None:
    spool.attach(["a"])
    append(spool, *[b"x" * MIB] * 7)
    with pytest.raises(Overloaded) as refused:
        spool.append("traces", b"x" * MIB, 1)
    assert 1 <= refused.value.retry_after <= 3
    assert spool.reader.status().batches == 7


def test_what_is_not_delivered_is_never_dropped_to_make_room(folder: Path) -> None:
    spool = Spool(folder, 4 * MIB, 0)
    spool.attach(["away"])
    append(spool, *[bytes([n]) * MIB for n in range(3)])
    time.sleep(1.2)  # the trimmer looks once a second
    assert [b.body[0] for b in spool.reader.batches()] == [0, 1, 2]
    spool.close()


def append_patiently(spool: Spool, body: bytes) -> list[int]:
    while True:
        try:
            return append(spool, body)
        except Overloaded:
            time.sleep(0.01)


def test_delivered_batches_within_the_retention_make_room_when_it_is_needed(spool: Spool) -> None:
    spool.attach(["a"])
    for number in range(30):
        append_patiently(spool, bytes([number]) * MIB)
        spool.advance("a", spool.reader.read(spool.reader.position("a"), 4 * MIB))
    left = [b.body[0] for b in spool.reader.batches()]
    assert left == list(range(left[0], 30))
    assert len(left) >= 4, "no more than needed goes"


def test_delivered_batches_make_room_for_one_that_is_much_larger(spool: Spool) -> None:
    spool.attach(["a"])
    for number in range(6):
        append_patiently(spool, bytes([number]) * MIB)
    spool.advance("a", spool.reader.read(0, 8 * MIB))
    append_patiently(spool, b"x" * (6 * MIB))
    assert spool.reader.read(6, 1)[0].body == b"x" * (6 * MIB)


def test_trimming_gives_the_disk_back(folder: Path) -> None:
    spool = Spool(folder, 256 * MIB, 0)
    spool.attach(["a"])
    wait([spool.append("traces", os.urandom(MIB), 1) for _ in range(64)])
    assert (spool.reader.status().bytes or 0) > 64 * MIB
    while batches := spool.reader.read(spool.reader.position("a"), 64 * MIB):
        spool.advance("a", batches)
    eventually(lambda: (folder / spool_file.FILE_NAME).stat().st_size < 24 * MIB)
    assert 0 < (spool.reader.status().bytes or 0) < MIB
    append(spool, b"one more")
    spool.close()


def test_a_dead_letter_keeps_its_body_and_reason_after_the_batch_is_trimmed(folder: Path) -> None:
    spool = Spool(folder, 8 * MIB, 0)
    spool.attach(["a"])
    append(spool, b"good", b"bad")
    batches = spool.reader.read(0, MIB)
    spool.advance("a", batches, [(batches[1], "ValueError: no")])
    eventually(lambda: spool.reader.status().batches == 0)
    assert spool.reader.status().dead_letters == 1
    spool.close()
    rows = sqlite3.connect(folder / spool_file.FILE_NAME).execute("SELECT sink, reason, signal, body FROM dead_letter")
    assert rows.fetchall() == [("a", "ValueError: no", "traces", b"bad")]


def test_only_the_owner_can_read_what_is_spooled(spool: Spool, folder: Path) -> None:
    append(spool, b"one")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_disk_that_is_full_refuses_without_acknowledging_and_recovers_by_itself(spool: Spool) -> None:
    append(spool, b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))
    try:
        with pytest.raises(StoreUnavailable):
            append(spool, b"x" * (4 * MIB))
        assert spool.problem
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    eventually(lambda: not spool.problem)
    append(spool, b"after")
    assert [b.body for b in spool.reader.batches()] == [b"before", b"after"]


def test_a_damaged_file_is_moved_aside_and_the_spool_serves_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.mkdir(parents=True)
    (folder / spool_file.FILE_NAME).write_bytes(b"this is not a database" * 1000)
    spool = Spool(folder, 8 * MIB, 24)
    append(spool, b"one")
    spool.close()
    assert "was damaged" in caplog.text
    (aside,) = folder.glob("spool.damaged-*.db")
    assert aside.read_bytes().startswith(b"this is not")
    assert aside.name in caplog.text


def test_what_can_still_be_read_of_a_damaged_file_is_saved(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(folder, 64 * MIB, 24)
    bodies = [bytes([number]) * 200_000 for number in range(20)]
    append(spool, *bodies)
    spool.close()
    path = folder / spool_file.FILE_NAME
    page = 16384
    with path.open("r+b") as file:  # the last third of the file is lost, the newest batch with it
        file.seek(path.stat().st_size // page * 2 // 3 * page)
        file.write(b"\xff" * (path.stat().st_size - file.tell()))
    again = Spool(folder, 64 * MIB, 24)
    saved = [b.body for b in again.reader.batches()]
    assert saved
    assert set(saved) <= set(bodies)
    assert saved == [body for body in bodies if body in saved]
    assert f"{len(saved)} batches were saved" in caplog.text
    again.close()


def test_a_tail_torn_off_by_a_power_loss_costs_only_what_was_in_it(folder: Path, spool: Spool, tmp_path: Path) -> None:
    append(spool, b"first")
    append(spool, b"x" * 100_000)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    log = copy / f"{spool_file.FILE_NAME}-wal"
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 20_000)
    again = Spool(copy, 8 * MIB, 24)
    assert [b.body for b in again.reader.batches()] == [b"first"]
    append(again, b"next")
    assert [b.body for b in again.reader.batches()] == [b"first", b"next"]
    again.close()


def test_a_folder_that_cannot_be_made_stops_start_up_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError) as refused:
        Spool(tmp_path / "file" / "spool", MIB, 24)
    assert refused.value.key == "gateway.spool_dir"
    assert "make that folder writable" in refused.value.hint


def test_reading_a_spool_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gateway\.spool_dir: .* cannot be read: No such file"):
        SpoolReader(tmp_path)


def test_a_closed_spool_takes_nothing_and_says_so(spool: Spool) -> None:
    spool.close()
    with pytest.raises(StoreUnavailable):
        spool.append("traces", b"late", 1)
    with pytest.raises(StoreUnavailable):
        spool.reader.read(0, MIB)


def test_what_waits_is_committed_before_closing(folder: Path) -> None:
    spool = Spool(folder, 64 * MIB, 24)
    futures = [spool.append("traces", bytes([n]) * 100_000, 1) for n in range(100)]
    spool.close()
    assert [future.result(0) for future in futures] == list(range(1, 101))
    with SpoolReader(folder) as reader:
        assert len(list(reader.batches())) == 100


def test_an_append_that_was_cancelled_does_no_harm_to_its_neighbours(spool: Spool) -> None:
    futures = [spool.append("traces", bytes([n]), 1) for n in range(200)]
    cancelled = [future.cancel() for future in futures[::2]]
    assert wait(futures, 10).not_done == set()
    stored = [b.body[0] for b in spool.reader.batches()]
    assert stored == [n for n in range(200) if n % 2 or not cancelled[n // 2]]


def test_two_processes_can_share_a_spool(folder: Path, spool: Spool) -> None:
    other = Spool(folder, 8 * MIB, 24)
    append(spool, b"one")
    append(other, b"two")
    append(spool, b"three")
    other.close()
    assert [b.body for b in spool.reader.batches()] == [b"one", b"two", b"three"]

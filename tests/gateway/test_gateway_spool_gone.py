"""Whoever deletes, moves or replaces the file of a spool in use, or its folder, loses nothing that was acknowledged."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.gateway.serve.health import Health
from otel_telemetry.gateway.spool import put_back, recovery, spool_file
from otel_telemetry.gateway.spool.watch import FileWatch
from otel_telemetry.gateway.spool.writer import Spool
from tests.waiting import eventually

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def opened(folder: Path, *, housekeeper: bool = True) -> Spool:
    return Spool(folder, 64 * MIB, 24, housekeeper=housekeeper)


def add(spool: Spool, *bodies: bytes) -> None:
    for body in bodies:
        spool.append("logs", body, 1).result(30)


def bodies(spool: Spool) -> list[bytes]:
    return [batch.body for batch in spool.reader.batches()]


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def delete_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def empty_in_its_place(path: Path) -> None:
    path.unlink()
    path.touch()


@pytest.mark.parametrize("harm", [delete, move, delete_folder, empty_in_its_place])
def test_a_file_that_is_gone_is_noticed_and_written_again_at_the_stop(
    folder: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / spool_file.FILE_NAME
    spool = opened(folder)
    spool.attach(["sink"])
    add(spool, b"delivered", b"before")
    spool.advance("sink", spool.due("sink", MIB, 1))
    harm(path)
    if harm is delete_folder:  # its disk cannot be asked for its room
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            add(spool, b"refused")
    else:
        add(spool, b"after")
    eventually(lambda: "spool.db was deleted" in spool._watch.gone, "it is noticed")
    health = Health(spool, None, [], {}).report()
    assert not health.healthy
    assert "SIGTERM" in health.details["parts"]["spool"]["problem"]
    with pytest.raises(StoreUnavailable, match="deleted"):
        spool.append("logs", b"refused", 1)
    spool.close()
    assert "was written to it again" in caplog.text
    again = opened(folder)
    after = [] if harm is delete_folder else [b"after"]
    assert bodies(again) == [b"delivered", b"before", *after]
    assert [batch.body for batch in again.due("sink", MIB, 9)] == [b"before", *after]
    assert again.status().loss is None
    assert again.health(again.status())["status"] == "ok"
    again.close()
    assert sorted(name.name for name in folder.glob("spool.*db*")) == [spool_file.FILE_NAME]


def test_a_large_log_and_file_come_back_as_they_were(folder: Path) -> None:
    spool = opened(folder)
    sent = [bytes([number]) * MIB for number in range(1, 25)]  # the log begins anew in between
    add(spool, *sent[:20])
    (folder / spool_file.FILE_NAME).unlink()
    add(spool, *sent[20:])
    spool.close()
    again = opened(folder)
    assert bodies(again) == sent
    again.close()


def test_another_file_in_its_place_is_left_as_it_is_and_what_was_acknowledged_lies_beside_it(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = opened(tmp_path / "other")
    add(other, b"of another")
    other.close()
    path = folder / spool_file.FILE_NAME
    spool = opened(folder)
    add(spool, b"ours")
    (tmp_path / "other" / spool_file.FILE_NAME).replace(path)
    before = path.read_bytes()
    spool.close()
    assert path.read_bytes() == before
    assert not list(folder.glob("spool.db-*")), "a log of ours would change it"
    (saved,) = folder.glob("spool.saved-*.db")
    assert str(saved) in caplog.text
    later = tmp_path / "later"
    later.mkdir()
    saved.rename(later / spool_file.FILE_NAME)
    for where, body in ((folder, b"of another"), (later, b"ours")):
        again = opened(where)
        assert bodies(again) == [body]
        again.close()


@pytest.mark.parametrize("last", ["receiver", "deliverer"])
def test_of_several_processes_the_last_one_writes_it_again(folder: Path, last: str) -> None:
    receiver, deliverer = opened(folder, housekeeper=False), opened(folder)
    deliverer.attach(["sink"])
    add(receiver, b"one", b"two")
    (folder / spool_file.FILE_NAME).unlink()
    if last == "deliverer":
        receiver.close()
        assert not (folder / spool_file.FILE_NAME).exists()
        deliverer.advance("sink", deliverer.due("sink", MIB, 1))
        deliverer.close()
    else:
        os.close(deliverer._shared)  # as if it had been killed
        deliverer._shared = os.open(os.devnull, os.O_RDONLY)
        receiver.close()
    again = opened(folder)
    assert bodies(again) == [b"one", b"two"]
    assert [batch.body for batch in again.due("sink", MIB, 9)][-1:] == [b"two"]
    again.close()


@pytest.mark.parametrize("harm", [delete, empty_in_its_place])
def test_a_process_that_starts_meanwhile_makes_no_new_file_and_takes_no_other_one(
    folder: Path, harm: Callable[[Path], None]
) -> None:
    path = folder / spool_file.FILE_NAME
    spool = opened(folder)
    add(spool, b"ours")
    opened(folder, housekeeper=False).close()
    harm(path)
    there = path.exists()
    with pytest.raises(ConfigurationError, match=r"other processes have .*spool\.db open"):
        opened(folder, housekeeper=False)
    assert path.exists() == there
    spool.close()
    again = opened(folder, housekeeper=False)
    assert bodies(again) == [b"ours"]
    again.close()


def test_a_copy_that_a_crash_left_without_its_name_is_taken_at_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(folder)
    add(spool, b"ours")
    (folder / spool_file.FILE_NAME).unlink()

    def crash(*_: object) -> bool:
        raise OSError(5, "no more")

    monkeypatch.setattr(put_back, "_move", crash)
    spool.close()
    assert (folder / recovery.RESCUED_NAME).exists()
    again = opened(folder)
    assert bodies(again) == [b"ours"]
    again.close()


def test_a_file_system_without_links_gives_names_as_well(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for name in ("free", "taken"):
        (folder / name).mkdir(parents=True)
        file = folder / name / "a"
        file.touch()
        if name == "taken":
            (folder / name / "b").write_bytes(b"there")
        assert put_back._move(file, folder / name / "b") == (name == "free")
    assert (folder / "taken" / "b").read_bytes() == b"there"


def test_a_folder_that_is_gone_makes_health_unhealthy_in_words_before_the_watch_sees_it(folder: Path) -> None:
    spool = opened(folder)
    spool._watch.look = lambda: None  # type: ignore[method-assign]
    shutil.rmtree(folder)
    report = Health(spool, None, [], {}).report()
    assert not report.healthy
    assert f"folder {folder} cannot be used: No such file" in report.details["parts"]["spool"]["problem"]
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        spool.append("logs", b"refused", 1).result(10)
    spool.close()


def test_a_log_that_was_never_there_is_not_missed(folder: Path) -> None:
    folder.mkdir()
    (folder / spool_file.FILE_NAME).touch()
    watch = FileWatch(folder)
    watch.look()
    assert watch.gone == ""

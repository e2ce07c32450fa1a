"""The audit trail: what is changed, removed, cut, swapped or rolled back is named; what is erased by rule is not."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.audit import check, entries, keys, proofs, trail
from otel_telemetry.exporters.request_log.audit.config import AuditSettings
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database
from otel_telemetry.exporters.request_log.store.store import Store, open_store
from tests.exporters.conftest import make_span
from tests.exporters.test_audit_merkle import verified_by_go

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
}


class Place:
    """A database with a trail, and commands over it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.audit = AuditSettings(
            enabled=True, key_file=folder / "audit.key", anchor_file=folder / "anchor", origin="example.com/audit"
        )
        self.config = RequestLogSettings(url=url, audit=self.audit)
        self.public = ""

    def run(self, *arguments: str, code: int = 0) -> Any:
        details = {
            "OTEL_TELEMETRY_REQUEST_LOG__URL": self.url,
            "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": "s" * 20,
        }
        audit = {"enabled": True, "key_file": str(self.audit.key_file), "anchor_file": str(self.audit.anchor_file)}
        for name, value in {**audit, "origin": self.audit.origin}.items():
            details[f"OTEL_TELEMETRY_REQUEST_LOG__AUDIT__{name.upper()}"] = str(value)
        done = CliRunner().invoke(app, [*arguments], env=details, catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.stdout

    def begin(self) -> None:
        open_store(RequestLogSettings(url=self.url)).close()
        self.public = self.run("audit", "init").strip()

    def write(self, first: int, count: int, **said: Any) -> None:
        store = open_store(self.config)
        for number in range(first, first + count):
            write(store, number, **said)
        store.close()

    def problems(self, anchors: bool = True) -> list[str]:
        notes = keys.anchored(self.folder / "anchor") if anchors else ()
        engine = database.reader(self.url)
        with engine.connect() as connection:
            found = check.of_database(connection, self.public, notes)
        engine.dispose()
        return found.problems

    def sql(self, statement: str, *values: Any) -> list[Any]:
        engine = database.connect(self.url)
        with engine.begin() as connection:
            result = connection.exec_driver_sql(statement, values or None)
            rows = list(result) if result.returns_rows else []
        engine.dispose()
        return rows


def write(store: Store, number: int, **said: Any) -> None:
    trace = f"{number + 1:032x}"
    attributes = {"request_log.route": "web", "request_log.user_id": f"{number:012x}", "request_log.id": f"r-{number}"}
    store.write([make_span(1, None, {**attributes, **said}, trace_id=trace), make_span(2, 1, CALL, trace_id=trace)])


@pytest.fixture(name="place", params=["sqlite", "postgres"])
def place_fixture(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    sqlite = f"sqlite:///{tmp_path / 'rows.db'}"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres").database()
    place = Place(url, tmp_path)
    place.begin()
    return place


def test_all_that_is_done_by_rule_holds_and_an_erased_row_leaves_a_proof_and_nothing_else(place: Place) -> None:
    place.write(0, 5)
    place.write(0, 1, **{"request_log.degraded": "late"})  # comes again: nothing changes
    store = open_store(place.config)
    store.write([make_span(3, 1, CALL, trace_id=f"{1:032x}")])  # a late call changes the row
    store.close()
    assert place.problems() == []
    (proof, changed) = json.loads(place.run("audit", "prove", "r-0"))
    assert (proof["what"], changed["what"]) == ("insert", "change")
    salts = place.sql("SELECT salt, ref FROM audit_salt")

    place.run("erase", "--user", f"{3:012x}", "--yes")
    place.run("reprice", "--since", "3650d")
    place.run("trim", "--older-than", "36000d")
    assert place.problems() == []
    gone = [(salt, ref) for salt, ref in salts if (salt,) not in place.sql("SELECT salt FROM audit_salt")]
    assert len(gone) == 1
    ref = bytes(gone[0][1]).hex()
    place.run("audit", "checkpoint")
    found = json.loads(place.run("audit", "prove", "--ref", ref))
    assert [one["what"] for one in found] == ["insert", "erase"]
    assert f"{3:012x}" not in json.dumps(found)
    if place.url.startswith("sqlite"):
        raw = b"".join(path.read_bytes() for path in place.folder.glob("rows.db*"))
        assert bytes(gone[0][0]) not in raw

    files = place.folder / "files"
    place.run("audit", "checkpoint", "--export", str(files))
    assert "holds" in place.run("audit", "verify", "--files", str(files), "--public-key", place.public)
    acts = [
        entries.read(leaf).details["act"]
        for (body,) in place.sql("SELECT body FROM audit_entry ORDER BY first")
        for leaf in entries.unbundled(bytes(body))
        if entries.read(leaf).details
    ]
    assert acts == ["erase", "reprice", "trim"]


def test_what_operators_do_beside_the_rows_is_in_the_trail_without_people(place: Place) -> None:
    place.run("key", "--role", "read")
    place.run("pseudonym", "jane@example.com")
    place.run("trim", "--older-than", "36000d")
    bodies = [bytes(body) for (body,) in place.sql("SELECT body FROM audit_entry WHERE count = 1 ORDER BY first")]
    acts = [entries.read(entries.unbundled(body)[0]).details for body in bodies]
    assert [act["act"] for act in acts] == ["key", "pseudonym", "trim"]
    assert all(act["by"] for act in acts)
    assert b"jane" not in b"".join(bodies)
    assert place.problems(anchors=False) == []


def test_go_verifies_the_files_and_changed_ones_are_named(place: Place) -> None:
    if place.url.startswith("postgresql"):
        pytest.skip("the files are the same")
    place.write(0, 3)
    engine = database.connect(place.url)
    for _ in range(30):
        with engine.begin() as connection:
            for _ in range(10):
                trail.act(connection, "test", {})
    with engine.begin() as connection:
        trail.sign(connection, keys.signer(place.audit))
    files = place.folder / "files"
    with engine.connect() as connection:
        assert proofs.export(connection, files) == 303
    engine.dispose()
    assert verified_by_go(place.folder, files, place.public) == "verified 303\n"

    def verify() -> list[str]:
        return check.of_files(lambda name: (files / name).read_bytes() if (files / name).exists() else None,
                              place.public).problems  # fmt: skip

    assert verify() == []
    tile, entry = files / "tile/0/000", files / "tile/entries/001.p/47"
    kept = tile.read_bytes()
    tile.write_bytes(kept[:-32])
    assert verify() == ["tile/0/000 is cut: 8160 bytes, not 8192"]
    tile.write_bytes(kept[32:64] + kept[:32] + kept[64:])
    assert verify() == ["tile/0/000 was changed, or is another: leaf 0 does not fit the entries"]
    tile.write_bytes(kept)
    entry.write_bytes(entry.read_bytes()[:-1])
    assert verify()[0].startswith("the entries from leaf 256 on are cut")
    (files / "checkpoint").write_text((files / "checkpoint").read_text()[:-20])
    assert verify()[0].startswith("checkpoint: ")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE request_log SET cost_usd = 0 WHERE id = 'r-1'", "row r-1 is not what leaf 1 commits to"),
        ("UPDATE request_log SET meta = '{}' WHERE id = 'r-1'", "row r-1 is not what leaf 1 commits to"),
        ("UPDATE request_log SET ok = false WHERE id = 'r-2'", "row r-2 is not what leaf 2 commits to"),
        ("DELETE FROM request_log WHERE id = 'r-2'", "the row of leaf 2 is gone, and no leaf says why"),
        ("DELETE FROM audit_salt WHERE leaf = 1", "row r-1 has no leaf"),
        ("UPDATE audit_salt SET leaf = 0 WHERE leaf = 1", "row r-1: leaf 0 is not the last"),
        ("UPDATE audit_log SET size = 3", "the log says 3 leaves, and has 4: it was cut"),
        ("DELETE FROM audit_tile", "tile/0/000.p/4 is missing"),
        ("DELETE FROM audit_entry WHERE first = 1", "leaves 1 to 1 are missing"),
        ("DELETE FROM audit_entry WHERE first = 3", "signed 4 leaves, there are 3"),
        ("UPDATE audit_checkpoint SET note = replace(note, '4', '5') WHERE size = 4", "the checkpoint of size 4"),
    ],
)
def test_what_is_done_by_hand_is_named(place: Place, statement: str, says: str) -> None:
    place.write(0, 4)
    assert place.problems() == []
    place.sql(statement)
    assert says in "\n".join(place.problems(anchors=False))
    assert "does not hold" in place.run("audit", "verify", "--public-key", place.public, code=1)


def test_every_bit_of_a_leaf_a_tile_and_a_salt_counts(place: Place) -> None:
    place.write(0, 2)
    for table, column in (("audit_entry", "body"), ("audit_tile", "hashes"), ("audit_salt", "salt")):
        key = "ref" if table == "audit_salt" else "level" if table == "audit_tile" else "first"
        mark = "?" if place.url.startswith("sqlite") else "%s"
        row_key, value = place.sql(f"SELECT {key}, {column} FROM {table} ORDER BY 1 LIMIT 1")[0]  # noqa: S608  # ours
        own = bytes(value)
        for bit in range(0, len(own) * 8, 37):
            other = bytearray(own)
            other[bit // 8] ^= 1 << bit % 8
            change = f"UPDATE {table} SET {column} = {mark} WHERE {key} = {mark}"  # noqa: S608  # ours
            place.sql(change, bytes(other), row_key)
            assert place.problems(), (table, bit)
        place.sql(change, own, row_key)
    assert place.problems() == []


def test_a_database_that_was_rolled_back_is_named_by_the_anchor_alone(place: Place) -> None:
    if place.url.startswith("postgresql"):
        pytest.skip("a file is easily rolled back")
    place.write(0, 2)
    shutil.copy(place.folder / "rows.db", place.folder / "old.db")
    place.write(2, 2)
    connection = sqlite3.connect(place.folder / "rows.db")
    sqlite3.connect(place.folder / "old.db").backup(connection)
    connection.close()
    assert place.problems(anchors=False) == []
    assert any("rolled back" in problem for problem in place.problems())


def test_a_gateway_that_writes_meanwhile_is_no_fault(place: Place) -> None:
    place.write(0, 2)
    engine = database.reader(place.url)
    notes = keys.anchored(place.folder / "anchor")
    with database.snapshot(engine) as connection:

        def writes_first() -> Iterator[str]:
            place.write(2, 2)
            yield from notes

        assert check.of_database(connection, place.public, writes_first()).problems == []
    engine.dispose()
    assert place.problems() == []


def test_of_very_many_problems_the_first_thousand_are_listed(place: Place) -> None:
    place.write(0, 1)
    place.sql("INSERT INTO audit_checkpoint (size, ts, note) WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 "
              "FROM n WHERE i < 1300) SELECT i, CURRENT_TIMESTAMP, 'none' FROM n")  # fmt: skip
    engine = database.reader(place.url)
    with engine.connect() as connection:
        found = check.of_database(connection, place.public)
    engine.dispose()
    assert (found.wrong, len(found.problems)) == (1_201, 1_000)
    shown = json.loads(place.run("audit", "verify", "--json", code=1))
    assert shown[0]["wrong"] == 1_201


def test_cut_and_swapped_tiles_and_checkpoints_of_a_large_log_are_named(place: Place) -> None:
    if place.url.startswith("postgresql"):
        pytest.skip("the tables are the same")
    engine = database.connect(place.url)
    signer = keys.signer(place.audit)
    notes = []
    for _ in range(3):
        with engine.begin() as connection:
            for _ in range(200):
                trail.act(connection, "test", {})
            notes.append(trail.sign(connection, signer))
    engine.dispose()
    assert place.problems(anchors=False) == []
    own = {number: bytes(hashes) for number, hashes in
           place.sql("SELECT number, hashes FROM audit_tile WHERE level = 0")}  # fmt: skip

    change = "UPDATE audit_tile SET hashes = ? WHERE level = 0 AND number = ?"
    swap = "UPDATE audit_checkpoint SET note = ? WHERE size = 400"

    def put(number: int, hashes: bytes) -> None:
        place.sql(change, hashes, number)

    put(0, own[1])
    put(1, own[0])
    assert [each.split(",")[0] for each in place.problems(anchors=False)] == [
        "tile/0/000 was changed", "tile/0/001 was changed"
    ]  # fmt: skip
    put(0, own[0])
    put(1, own[1][:-32])
    assert place.problems(anchors=False) == ["tile/0/001 is cut: 8160 bytes, not 8192"]
    put(1, own[1])
    place.sql(swap, notes[0])
    assert place.problems(anchors=False) == ["the checkpoint of size 400 holds one of size 200: it was swapped"]
    place.sql(swap, str(notes[1])[:-30])
    assert place.problems(anchors=False)[0].startswith("the checkpoint of size 400: ")


def test_without_a_trail_the_store_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = RequestLogSettings(url="sqlite:///rows.db", audit=AuditSettings(enabled=True))
    with pytest.raises(ConfigurationError, match="audit init begins it"):
        open_store(config)
    place = Place("sqlite:///rows.db", tmp_path)
    place.begin()
    (tmp_path / "audit.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read"):
        open_store(place.config)


def test_off_there_is_nothing_of_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    store = open_store(RequestLogSettings(url=url))
    write(store, 1)
    store.close()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        for table in ("audit_log", "audit_entry", "audit_salt", "audit_tile"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0  # noqa: S608  # ours
    engine.dispose()

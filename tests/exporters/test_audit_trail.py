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


class Audited:
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

    def write(self, first: int, count: int, **attributes: Any) -> None:
        store = open_store(self.config)
        for number in range(first, first + count):
            write(store, number, **attributes)
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


def write(store: Store, number: int, **more: Any) -> None:
    trace = f"{number + 1:032x}"
    attributes = {"request_log.route": "web", "request_log.user_id": f"{number:012x}", "request_log.id": f"r-{number}"}
    store.write([make_span(1, None, {**attributes, **more}, trace_id=trace), make_span(2, 1, CALL, trace_id=trace)])


@pytest.fixture(name="audited", params=["sqlite", "postgres"])
def audited_fixture(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audited:
    monkeypatch.chdir(tmp_path)
    sqlite = f"sqlite:///{tmp_path / 'rows.db'}"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres").database()
    audited = Audited(url, tmp_path)
    audited.begin()
    return audited


def test_all_that_is_done_by_rule_holds_and_an_erased_row_leaves_a_proof_and_nothing_else(
    audited: Audited,
) -> None:
    audited.write(0, 5)
    audited.write(0, 1, **{"request_log.degraded": "late"})  # comes again: nothing changes
    store = open_store(audited.config)
    store.write([make_span(3, 1, CALL, trace_id=f"{1:032x}")])  # a late call changes the row
    store.close()
    assert audited.problems() == []
    (proof, changed) = json.loads(audited.run("audit", "prove", "r-0"))
    assert (proof["what"], changed["what"]) == ("insert", "change")
    salts = audited.sql("SELECT salt, ref FROM audit_salt")

    audited.run("erase", "--user", f"{3:012x}", "--yes")
    audited.run("reprice", "--since", "3650d")
    audited.run("trim", "--older-than", "36000d")
    assert audited.problems() == []
    gone = [(salt, ref) for salt, ref in salts if (salt,) not in audited.sql("SELECT salt FROM audit_salt")]
    assert len(gone) == 1
    ref = bytes(gone[0][1]).hex()
    audited.run("audit", "checkpoint")
    found = json.loads(audited.run("audit", "prove", "--ref", ref))
    assert [one["what"] for one in found] == ["insert", "erase"]
    assert f"{3:012x}" not in json.dumps(found)
    if audited.url.startswith("sqlite"):
        raw = b"".join(path.read_bytes() for path in audited.folder.glob("rows.db*"))
        assert bytes(gone[0][0]) not in raw

    files = audited.folder / "files"
    audited.run("audit", "checkpoint", "--export", str(files))
    assert "holds" in audited.run("audit", "verify", "--files", str(files), "--public-key", audited.public)
    acts = [
        entries.read(leaf).details["act"]
        for (body,) in audited.sql("SELECT body FROM audit_entry ORDER BY first")
        for leaf in entries.unbundled(bytes(body))
        if entries.read(leaf).details
    ]
    assert acts == ["erase", "reprice", "trim"]


def test_what_operators_do_beside_the_rows_is_in_the_trail_without_people(audited: Audited) -> None:
    audited.run("key", "--role", "read")
    audited.run("pseudonym", "jane@example.com")
    audited.run("trim", "--older-than", "36000d")
    bodies = [bytes(body) for (body,) in audited.sql("SELECT body FROM audit_entry WHERE count = 1 ORDER BY first")]
    acts = [entries.read(entries.unbundled(body)[0]).details for body in bodies]
    assert [act["act"] for act in acts] == ["key", "pseudonym", "trim"]
    assert all(act["by"] for act in acts)
    assert b"jane" not in b"".join(bodies)
    assert audited.problems(anchors=False) == []


def test_go_verifies_the_files_and_changed_ones_are_named(audited: Audited) -> None:
    if audited.url.startswith("postgresql"):
        pytest.skip("the files are the same")
    audited.write(0, 3)
    engine = database.connect(audited.url)
    for _ in range(30):
        with engine.begin() as connection:
            for _ in range(10):
                trail.act(connection, "test", {})
    with engine.begin() as connection:
        trail.sign(connection, keys.signer(audited.audit))
    files = audited.folder / "files"
    with engine.connect() as connection:
        assert proofs.export(connection, files) == 303
    engine.dispose()
    assert verified_by_go(audited.folder, files, audited.public) == "verified 303\n"

    def verify() -> list[str]:
        return check.of_files(lambda name: (files / name).read_bytes() if (files / name).exists() else None,
                              audited.public).problems  # fmt: skip

    assert verify() == []
    tile, entry = files / "tile/0/000", files / "tile/entries/001.p/47"
    original = tile.read_bytes()
    tile.write_bytes(original[:-32])
    assert verify() == ["tile/0/000 is cut: 8160 bytes, not 8192"]
    tile.write_bytes(original[32:64] + original[:32] + original[64:])
    assert verify() == ["tile/0/000 was changed, or is another: leaf 0 does not fit the entries"]
    tile.write_bytes(original)
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
def test_what_is_done_by_hand_is_named(audited: Audited, statement: str, says: str) -> None:
    audited.write(0, 4)
    assert audited.problems() == []
    audited.sql(statement)
    assert says in "\n".join(audited.problems(anchors=False))
    assert "does not hold" in audited.run("audit", "verify", "--public-key", audited.public, code=1)


def test_every_bit_of_a_leaf_a_tile_and_a_salt_counts(audited: Audited) -> None:
    audited.write(0, 2)
    for table, column in (("audit_entry", "body"), ("audit_tile", "hashes"), ("audit_salt", "salt")):
        key = "ref" if table == "audit_salt" else "level" if table == "audit_tile" else "first"
        mark = "?" if audited.url.startswith("sqlite") else "%s"
        row_key, value = audited.sql(f"SELECT {key}, {column} FROM {table} ORDER BY 1 LIMIT 1")[0]  # noqa: S608  # ours
        own = bytes(value)
        for bit in range(0, len(own) * 8, 37):
            other = bytearray(own)
            other[bit // 8] ^= 1 << bit % 8
            change = f"UPDATE {table} SET {column} = {mark} WHERE {key} = {mark}"  # noqa: S608  # ours
            audited.sql(change, bytes(other), row_key)
            assert audited.problems(), (table, bit)
        audited.sql(change, own, row_key)
    assert audited.problems() == []


def test_a_database_that_was_rolled_back_is_named_by_the_anchor_alone(audited: Audited) -> None:
    if audited.url.startswith("postgresql"):
        pytest.skip("a file is easily rolled back")
    audited.write(0, 2)
    shutil.copy(audited.folder / "rows.db", audited.folder / "old.db")
    audited.write(2, 2)
    connection = sqlite3.connect(audited.folder / "rows.db")
    sqlite3.connect(audited.folder / "old.db").backup(connection)
    connection.close()
    assert audited.problems(anchors=False) == []
    assert any("rolled back" in problem for problem in audited.problems())


def test_a_gateway_that_writes_meanwhile_is_no_fault(audited: Audited) -> None:
    audited.write(0, 2)
    engine = database.reader(audited.url)
    notes = keys.anchored(audited.folder / "anchor")
    with database.snapshot(engine) as connection:

        def writes_first() -> Iterator[str]:
            audited.write(2, 2)
            yield from notes

        assert check.of_database(connection, audited.public, writes_first()).problems == []
    engine.dispose()
    assert audited.problems() == []


def test_of_very_many_problems_the_first_thousand_are_listed(audited: Audited) -> None:
    audited.write(0, 1)
    audited.sql("INSERT INTO audit_checkpoint (size, ts, note) WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT "
                "i + 1 FROM n WHERE i < 1300) SELECT i, CURRENT_TIMESTAMP, 'none' FROM n")  # fmt: skip
    engine = database.reader(audited.url)
    with engine.connect() as connection:
        found = check.of_database(connection, audited.public)
    engine.dispose()
    assert (found.wrong, len(found.problems)) == (1_201, 1_000)
    shown = json.loads(audited.run("audit", "verify", "--json", code=1))
    assert shown[0]["wrong"] == 1_201


def test_cut_and_swapped_tiles_and_checkpoints_of_a_large_log_are_named(audited: Audited) -> None:
    if audited.url.startswith("postgresql"):
        pytest.skip("the tables are the same")
    engine = database.connect(audited.url)
    signer = keys.signer(audited.audit)
    notes = []
    for _ in range(3):
        with engine.begin() as connection:
            for _ in range(200):
                trail.act(connection, "test", {})
            notes.append(trail.sign(connection, signer))
    engine.dispose()
    assert audited.problems(anchors=False) == []
    own = {number: bytes(hashes) for number, hashes in
           audited.sql("SELECT number, hashes FROM audit_tile WHERE level = 0")}  # fmt: skip

    change = "UPDATE audit_tile SET hashes = ? WHERE level = 0 AND number = ?"
    swap = "UPDATE audit_checkpoint SET note = ? WHERE size = 400"

    def put(number: int, hashes: bytes) -> None:
        audited.sql(change, hashes, number)

    put(0, own[1])
    put(1, own[0])
    assert [each.split(",")[0] for each in audited.problems(anchors=False)] == [
        "tile/0/000 was changed", "tile/0/001 was changed"
    ]  # fmt: skip
    put(0, own[0])
    put(1, own[1][:-32])
    assert audited.problems(anchors=False) == ["tile/0/001 is cut: 8160 bytes, not 8192"]
    put(1, own[1])
    audited.sql(swap, notes[0])
    assert audited.problems(anchors=False) == ["the checkpoint of size 400 holds one of size 200: it was swapped"]
    audited.sql(swap, str(notes[1])[:-30])
    assert audited.problems(anchors=False)[0].startswith("the checkpoint of size 400: ")


def test_without_a_trail_the_store_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = RequestLogSettings(url="sqlite:///rows.db", audit=AuditSettings(enabled=True))
    with pytest.raises(ConfigurationError, match="audit init begins it"):
        open_store(config)
    audited = Audited("sqlite:///rows.db", tmp_path)
    audited.begin()
    (tmp_path / "audit.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read"):
        open_store(audited.config)


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

"""The tables of the spool's SQLite file."""

from typing import Final

#: `total` counts what was ever appended, and what was trimmed; a cursor repeats the first at its place, so that a
#: sink's lag is one subtraction. `outcome` counts what a sink never got, by what became of it. `replay` names the dead
#: letters that are to be delivered again, `attached` the sinks that are delivered to. `dead_total` adds up the dead
#: letters of each sink, by triggers, so that it is right whoever takes one away. `loss` is what the disk did not keep
#: of what was acknowledged, one batch a row (`seq`), or dead letters and what nobody can count; its rows stay, as they
#: say where numbers are missing, and tell of a loss until somebody has taken note.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS batch (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, signal TEXT NOT NULL, received_ns INTEGER NOT NULL,
    items INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER);
CREATE TABLE IF NOT EXISTS total (
    id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL, batches INTEGER NOT NULL,
    items INTEGER NOT NULL, bytes INTEGER NOT NULL, trimmed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS cursor (
    sink TEXT PRIMARY KEY, seq INTEGER NOT NULL, batches INTEGER NOT NULL,
    items INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attached (sink TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letter (
    id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, seq INTEGER NOT NULL, signal TEXT NOT NULL,
    received_ns INTEGER NOT NULL, at_ns INTEGER NOT NULL, items INTEGER NOT NULL, reason TEXT NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS dead_letter_sink ON dead_letter (sink);
CREATE TABLE IF NOT EXISTS replay (id INTEGER PRIMARY KEY, sink TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS dead_total (
    sink TEXT PRIMARY KEY, letters INTEGER NOT NULL, items INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO dead_total
    SELECT sink, count(*), sum(items), sum(length(body)) FROM dead_letter
    WHERE NOT EXISTS (SELECT 1 FROM dead_total) GROUP BY sink;
CREATE TRIGGER IF NOT EXISTS dead_letter_comes AFTER INSERT ON dead_letter BEGIN
    INSERT INTO dead_total VALUES (new.sink, 1, new.items, length(new.body)) ON CONFLICT (sink) DO UPDATE
        SET letters = letters + 1, items = items + excluded.items, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER IF NOT EXISTS dead_letter_goes AFTER DELETE ON dead_letter BEGIN
    UPDATE dead_total SET letters = letters - 1, items = items - old.items, bytes = bytes - length(old.body)
        WHERE sink = old.sink;
END;
CREATE TRIGGER IF NOT EXISTS dead_letter_changes AFTER UPDATE ON dead_letter BEGIN
    UPDATE dead_total SET items = items + new.items - old.items, bytes = bytes + length(new.body) - length(old.body)
        WHERE sink = old.sink;
END;
CREATE TABLE IF NOT EXISTS outcome (
    sink TEXT NOT NULL, what TEXT NOT NULL, batches INTEGER NOT NULL, items INTEGER NOT NULL,
    PRIMARY KEY (sink, what)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS loss (
    id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, batches INTEGER NOT NULL, items INTEGER NOT NULL,
    letters INTEGER NOT NULL, unknown INTEGER NOT NULL, seq INTEGER UNIQUE, acknowledged_ns INTEGER);
INSERT OR IGNORE INTO total VALUES (1, 0, 0, 0, 0, 0);
"""

"""The role that Grafana reads with, made on a real server by docker-compose.yml's script: it reads, and only that."""

import os
import subprocess
from pathlib import Path

import psycopg
import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "postgres" / "10-reader.sh"
SECRET = 'it\'s \\ "quoted" $HOME'


def test_the_reader_reads_every_table_and_changes_none(own_postgres):
    server = own_postgres
    with server.connect() as owner:
        owner.execute("CREATE TABLE request_log (id text)")
        owner.execute("INSERT INTO request_log VALUES ('a')")
    where = {
        "PATH": f"{server.bin}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSWORD": "p@ss/w:rd",
        "POSTGRES_USER": "tester", "POSTGRES_DB": "postgres", "READER_PASSWORD": SECRET,
    }  # fmt: skip
    subprocess.run(["sh", SCRIPT], env=where, check=True, capture_output=True, timeout=60)
    with psycopg.connect(
        host="127.0.0.1", port=server.port, user="reader", password=SECRET, dbname="postgres", autocommit=True
    ) as reader:
        assert reader.execute("SELECT id FROM request_log").fetchall() == [("a",)]
        reader.execute("SET default_transaction_read_only = off")  # whatever it says of itself
        for forbidden in ("DELETE FROM request_log", "CREATE TABLE mine (id text)", "DROP TABLE request_log"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(forbidden)

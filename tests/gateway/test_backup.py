"""The commands of docs/operating.md that save spool and rows under load, and bring both back after all is gone."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.backends.postgres import PASSWORD, USER, PostgresServer
from tests.faults.checks import check_rows
from tests.faults.gateway_process import GatewayProcess
from tests.faults.load import Load
from tests.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"


def commands() -> list[list[str]]:
    """Return the blocks of the page's last part: save (SQLite, PostgreSQL), restore (SQLite, PostgreSQL)."""
    part = PAGE.read_text(encoding="utf-8").partition("## Backup\n")[2]
    blocks = [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", part, re.DOTALL)]
    assert len(blocks) == 4
    return blocks


def run(lines: list[str], folder: Path, env: Mapping[str, str]) -> None:
    subprocess.run(["bash", "-euc", "\n".join(lines)], cwd=folder, env={**os.environ, **env}, check=True, timeout=60)


def gateway(folder: Path, url: str) -> GatewayProcess:
    made = GatewayProcess(folder, url=url)
    made.spool = folder / "otel-spool"
    return made


def save_and_bring_back(folder: Path, url: str, save: list[str], restore: list[str], **env: str) -> None:
    with gateway(folder, url) as running, Load(running) as load:
        load.wait_for(40)
        before = set(load.acknowledged)
        run(save, folder, env)
        load.wait_for(20)
    shutil.rmtree(folder / "otel-spool")
    for file in folder.glob("telemetry.db*"):
        file.unlink()
    run(restore, folder, env)
    with gateway(folder, url) as running:
        eventually(lambda: running.lag("request_log") == 0, "all of the spool is delivered")
        check_rows(running, before)


@pytest.mark.parametrize("tool", ["sqlite3", f"{sys.executable} -m sqlite3"], ids=["sqlite3", "python"])
def test_rows_in_sqlite(tmp_path: Path, tool: str) -> None:
    if tool == "sqlite3" and not shutil.which(tool):
        pytest.skip("there is no sqlite3")
    if tool != "sqlite3" and sys.version_info < (3, 12):
        pytest.skip("Python 3.11 has no such command")
    save, _, restore, _ = commands()
    save = [re.sub("^sqlite3", tool, line) for line in save]
    save_and_bring_back(tmp_path, f"sqlite:///{tmp_path}/telemetry.db", save, restore)


def test_rows_in_postgresql(tmp_path: Path, own_postgres: PostgresServer) -> None:
    env = {"PGHOST": "127.0.0.1", "PGPORT": str(own_postgres.port), "PGUSER": USER, "PGPASSWORD": PASSWORD}
    run(["createdb telemetry"], tmp_path, env)
    save, dump, restore, load_dump = commands()
    bring_back = ["dropdb --force telemetry", *restore[:-1], *load_dump]
    save_and_bring_back(tmp_path, own_postgres.url("telemetry"), [*save[:-1], *dump], bring_back, **env)

"""What waits is written before a task is gone: `otel_telemetry.flush`. Real workers: tests/company/test_workers.py."""

import sqlite3
import subprocess
import sys
from pathlib import Path


def test_flush_writes_what_waits_and_says_so(tmp_path: Path) -> None:
    program = (
        "import otel_telemetry\n"
        f"otel_telemetry.configure(exporter='request_log', request_log={{'url': 'sqlite:///{tmp_path}/f.db', "
        "'debounce': 60})\n"
        "with otel_telemetry.request(route='a'):\n    pass\n"
        "assert otel_telemetry.flush(10)\n"
        "import os; os._exit(0)  # nothing else flushes\n"
    )
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)
    connection = sqlite3.connect(tmp_path / "f.db")
    assert connection.execute("SELECT count(*) FROM request_log").fetchone() == (1,)
    connection.close()

"""What an import loads, and that everything can be imported where the system has less, as Windows does."""

import subprocess
import sys

import pytest

from tests.architecture.test_layers import PACKAGE, modules

#: Modules of the standard library that Windows does not have, and what its `os` and `signal` lack.
_AS_ON_WINDOWS = """
import importlib, os, signal, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios", "uvloop"):
    sys.modules[name] = None
lacking = {
    os: ("fork", "register_at_fork", "getuid", "geteuid", "fchmod", "pread", "pwrite", "O_NOFOLLOW"),
    signal: ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGQUIT"),
}
for module, names in lacking.items():
    for name in names:
        delattr(module, name)
"""
HEAVY = ("sqlalchemy", "alembic", "grpc", "google", "starlette", "uvicorn", "typer", "rich", "phonenumbers", "yaml")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("module", "without"),
    [
        (PACKAGE, (*HEAVY, "pydantic")),
        (f"{PACKAGE}.settings", HEAVY),
        (f"{PACKAGE}.exporters.request_log", HEAVY),
        (f"{PACKAGE}.exporters.request_log.config", HEAVY),
        (f"{PACKAGE}.processors", HEAVY),
        (f"{PACKAGE}.gateway", HEAVY),
        (f"{PACKAGE}.distro", ("alembic", "grpc", "starlette", "uvicorn", "typer", "rich")),
        (f"{PACKAGE}.cli", (*(name for name in HEAVY if name != "typer"), "pydantic")),
    ],
)
def test_an_import_loads_no_more_than_it_needs(module: str, without: tuple[str, ...]) -> None:
    loaded = run(f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})").split()
    assert sorted(set(without) & set(loaded)) == []


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["no-such-command"]])
def test_what_needs_no_command_imports_none(words: list[str]) -> None:
    code = f"""
import atexit, sys
atexit.register(lambda: print("LOADED", *(name for name in sys.modules if name.startswith({PACKAGE!r} + ".commands."))))
sys.argv[1:] = {words!r}
from {PACKAGE}.cli import app
try:
    app()
except SystemExit:
    print(*{{name.split('.')[0] for name in sys.modules}} & {{"sqlalchemy", "starlette"}})
"""
    assert run(code).splitlines()[-2:] == ["", f"LOADED {PACKAGE}.commands.process_list"]


def test_the_face_of_the_request_log_still_has_its_names() -> None:
    code = f"from {PACKAGE}.exporters import request_log as r; print(*(getattr(r, n).__name__ for n in r.__all__))"
    assert run(code).split() == ["RequestLogLogExporter", "RequestLogSpanExporter"]


def test_every_module_can_be_imported_without_what_windows_lacks() -> None:
    names = [f"{PACKAGE}.{name}".rstrip(".") for name in modules() if name != "exporters.request_log.migrations.env"]
    run(f"{_AS_ON_WINDOWS}\nfor name in {names!r}:\n    importlib.import_module(name)")

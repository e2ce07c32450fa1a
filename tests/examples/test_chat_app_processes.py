"""The demo's child processes are watched, stopped in every exit path, and explain themselves when they die."""

import os
from pathlib import Path

import httpx
import pytest

from examples.chat_app.demo.processes import ROOT, Child, Children, DemoError, free_ports
from examples.chat_app.demo.run import own_folder

MODEL = ["uvicorn", "--factory", "examples.chat_app.model_server:create_app", "--app-dir", str(ROOT)]


def start(children: Children, *more: str) -> tuple[Child, str]:
    (port,) = free_ports(1)
    child = children.start("model-server", [*MODEL, "--port", str(port), *more], {})
    return child, f"http://127.0.0.1:{port}/v1/models"


def test_a_child_becomes_healthy_and_stops_when_asked(tmp_path: Path) -> None:
    with Children(tmp_path / "logs") as children:
        child, url = start(children)
        children.wait_healthy(child, url)
        children.stop(child)
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


def test_a_child_that_dies_early_is_an_error_that_shows_its_last_words(tmp_path: Path) -> None:
    with Children(tmp_path / "logs") as children:
        child, url = start(children, "--no-such-option")
        with pytest.raises(DemoError, match="No such option") as error:
            children.wait_healthy(child, url)
    assert str(child.log) in error.value.hint


@pytest.mark.parametrize("leave", [KeyboardInterrupt, DemoError, SystemExit])
def test_no_child_outlives_the_block_however_it_is_left(tmp_path: Path, leave: type[BaseException]) -> None:
    seen = []

    def run() -> None:
        with Children(tmp_path / "logs") as children:
            child, url = start(children)
            seen.append(child)
            children.wait_healthy(child, url)
            raise leave("now")

    with pytest.raises(leave):
        run()
    (child,) = seen
    assert child.process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(child.process.pid, 0)


def test_settings_of_the_shell_do_not_reach_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_TELEMETRY_ENABLED", "false")
    with Children(tmp_path / "logs") as children:
        show = "import os; print([n for n in os.environ if n.startswith('OTEL')])"
        child = children.start("show", ["python", "-c", show], {"OTEL_SERVICE_NAME": "x"})
        child.process.wait()
    assert child.log.read_text() == "['OTEL_SERVICE_NAME']\n"


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DemoError, match="not of the demo"), own_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").exists()


def test_the_folder_of_an_earlier_run_is_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with own_folder(folder):
        (folder / "old.db").write_text("old")
        (folder / "logs").mkdir()
    with own_folder(folder):
        assert [path.name for path in folder.iterdir()] == [".made-by-demo"]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with own_folder(tmp_path), pytest.raises(DemoError, match="another demo"), own_folder(tmp_path):
        pass

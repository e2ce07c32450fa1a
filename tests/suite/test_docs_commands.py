"""Every block of commands or code in the pages is run by a test, or docs_commands.toml says why not.

A new block fails here until it is entered: by the test that runs it, as one that is run here, or with a reason.
"""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from otel_telemetry.cli import COMMANDS, load_command
from tests.backends.process import Process, free_port

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [
    "README.md",
    "CONTRIBUTING.md",
    "collector/README.md",
    *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")),
]
BIN: Final = Path(sys.executable).parent
#: What begins a line of a block without a language that shows a command.
_COMMAND: Final = re.compile(
    r"^(?:\$ |otel-telemetry |make |curl |pip |git |docker |python |sqlite3 |export |[A-Z][A-Z_]+=)", re.MULTILINE
)
_SHOWN: Final = {"sh", "bash", "console", "python", "js", "go", "java", "properties"}


class Block(NamedTuple):
    """A block of code in a page."""

    page: str
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line, by which the table names it."""
        return self.text.splitlines()[0].split(" #")[0].split("    ")[0].strip()


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page that show commands or code to run."""
    for language, text in re.findall(
        r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        if language in _SHOWN or (not language and _COMMAND.search(text)):
            yield Block(page, language, text)


ALL: Final = [block for page in PAGES for block in blocks(page)]
HERE: Final = "here"
#: By page, then by first line: the test that runs a block, `here`, or `not run: REASON`.
HOW: Final[dict[str, dict[str, str]]] = tomllib.loads((Path(__file__).parent / "docs_commands.toml").read_text("utf-8"))
HOW["docs/recipes.md"] |= {
    one.first: "tests/company/test_recipes.py"
    for one in ALL
    if one.page == "docs/recipes.md" and one.first not in HOW["docs/recipes.md"]
}


def test_each_block_is_in_the_table_and_nothing_else() -> None:
    there = {(block.page, block.first) for block in ALL}
    listed = {(page, first) for page, entries in HOW.items() for first in entries}
    assert there - listed == set(), "blocks of which nobody says who runs them"
    assert listed - there == set(), "blocks that are gone"


@pytest.mark.parametrize("how", sorted({how for entries in HOW.values() for how in entries.values()} - {HERE}))
def test_each_test_that_is_named_exists_and_each_reason_is_one(how: str) -> None:
    assert how.startswith("not run: ") or (ROOT / how).exists()


def commands() -> list[str]:
    """Return each command of ours in a block or in quotes of a page, as it is typed."""
    quoted = [line for page in PAGES for line in re.findall(r"`(otel-telemetry [^`\n]+)`", (ROOT / page).read_text())]
    lines = [line for block in ALL if block.language in {"", "sh", "console"} for line in block.text.splitlines()]
    typed = [re.sub(r"^\$ |^(?:[A-Z_]+=\S+ )+", "", line) for line in lines]
    ours = [
        re.split(r" #| \|| >|&$|  +#", line)[0].strip()
        for line in (*quoted, *typed)
        if line.startswith("otel-telemetry ")
    ]
    return sorted({line for line in ours if not re.search("NAME|PORT", line) and "…" not in line and "..." not in line})


@pytest.mark.parametrize("line", commands())
def test_each_command_that_is_shown_is_understood(line: str) -> None:
    words = shlex.split(line)[1:]
    if not words or words[0] not in COMMANDS:
        assert not words or words[0].startswith("--"), line
        return
    command = load_command(words.pop(0))
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    if hasattr(command, "commands"):
        assert not words or words[0].startswith("--"), line
        return
    context = command.make_context(
        command.name, [word for word in words if word != "--help"], resilient_parsing=not words
    )
    assert context.command is command


# --- what is run here ---------------------------------------------------------------------------------------------


class Gateway(Process):
    """`otel-telemetry serve` of a page, on ports of its own."""

    def __init__(self, folder: Path, serve: str) -> None:
        self.ports = {"4317": free_port(), "4318": free_port()}
        line = f"{serve.strip()} --grpc-port 4317 --http-port 4318".replace(
            "otel-telemetry serve", "exec otel-telemetry serve"
        )
        super().__init__(
            ["bash", "-ec", self.local(line)], folder, self.local("http://127.0.0.1:4318/health"), environment()
        )

    def local(self, text: str) -> str:
        """Return a text with the ports of this gateway."""
        return re.sub(r"\b(4317|4318)\b", lambda found: str(self.ports[found[0]]), text)

    def run(self, text: str) -> str:
        """Run commands of a page beside it."""
        return bash(self.local(text).replace("curl ", "curl -sS --fail-with-body "), self.folder)


def environment(**more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {**own, "PATH": f"{BIN}:{own['PATH']}", "COLUMNS": "200", **more}


def bash(script: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=environment(), capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def block(page: str, first: str) -> str:
    (found,) = [one.text for one in ALL if one.page == page and one.first.startswith(first)]
    return found


@pytest.fixture(scope="module", name="gateway")
def gateway_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    serve = block("docs/http-api.md", "export")
    with Gateway(tmp_path_factory.mktemp("gateway"), serve) as running:
        yield running


def without_sqlite3(text: str) -> tuple[str, list[str]]:
    """Split a block into its commands and its queries: not every machine has SQLite's shell."""
    queries = re.findall(r"^sqlite3 telemetry\.db (?:'([^'\n]+)'|\"([^\"\n]+)\")", text, re.MULTILINE)
    return re.sub(r"^sqlite3 .*\n?", "", text, flags=re.MULTILINE), [single or double for single, double in queries]


def test_the_readme_s_gateway_takes_what_is_posted_and_shows_it(gateway: Gateway) -> None:
    assert block("README.md", "otel-telemetry serve").startswith("otel-telemetry serve  ")
    commands_, queries = without_sqlite3(block("README.md", "curl"))
    assert "mail to [REDACTED_EMAIL]" in gateway.run(commands_)
    until_row(gateway, queries[0], lambda row: row[2] == 1)


def until_row(gateway: Gateway, query: str, good: Any) -> None:
    """Wait until a query of a page has a row that is good; the shell's pauses are SQLite's own."""
    wait_for_spool = f"until otel-telemetry spool status --json | python -c {shlex.quote(_NOTHING_WAITS)}; do :; done"
    bash(wait_for_spool, gateway.folder)
    with sqlite3.connect(gateway.folder / "telemetry.db") as connection:
        rows = connection.execute(query).fetchall()
    assert any(good(row) for row in rows), rows


_NOTHING_WAITS: Final = (
    "import json, sys; found = json.load(sys.stdin); sys.exit(any(one['items'] for one in found['lag'].values()))"
)


@pytest.mark.parametrize("path", ["log", "feedback", "telemetry", "events", "cache/set"])
def test_each_command_of_the_http_api_is_answered_as_shown(gateway: Gateway, path: str) -> None:
    text = block("docs/http-api.md", f"curl http://127.0.0.1:4318/{path} ")
    page = (ROOT / "docs/http-api.md").read_text(encoding="utf-8")
    shown = page.partition(text)[2].partition("```json\n")[2].partition("```")[0]
    printed = gateway.run(text.replace("\ncurl", "\necho\ncurl"))
    decoder = json.JSONDecoder()
    assert keys(list(decoded(decoder, printed))) == keys(list(decoded(decoder, shown)))


def decoded(decoder: json.JSONDecoder, text: str) -> Iterator[Any]:
    """Yield JSON values that stand one after another."""
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:]


def keys(value: Any) -> Any:
    """Return a value with its ids and times left out."""
    if isinstance(value, dict):
        changing = {"event_id", "id", "expires_at", "timestamp", "ttl_remaining"}
        return {key: "" if key in changing else keys(inner) for key, inner in value.items()}
    return [keys(inner) for inner in value] if isinstance(value, list) else value


def test_the_rows_of_the_events_are_those_that_are_shown(gateway: Gateway) -> None:
    gateway.run(block("docs/http-api.md", "curl http://127.0.0.1:4318/events "))
    text = block("docs/http-api.md", "sqlite3 telemetry.db 'SELECT id")
    shown = text.splitlines()[1].split("|")
    until_row(gateway, without_sqlite3(text)[1][0], lambda row: list(row) == shown)
    gateway.run(block("docs/http-api.md", "curl http://127.0.0.1:4318/log "))
    text = block("docs/http-api.md", "sqlite3 telemetry.db 'SELECT type, data")
    until_row(gateway, without_sqlite3(text)[1][0], lambda row: "|".join(row) == text.splitlines()[1])
    text = block("docs/request_log.md", "sqlite3")
    first = text.splitlines()[1].split("|")[3]
    until_row(gateway, without_sqlite3(text)[1][0], lambda row: row[3] == first)


def test_the_spool_s_state_is_shown(gateway: Gateway) -> None:
    assert "request_log" in gateway.run(block("docs/delivery.md", "$ otel-telemetry spool status").splitlines()[0][2:])


def test_the_redactor_of_the_page_answers_on_its_socket(tmp_path: Path) -> None:
    start, look = block("docs/gateway.md", "otel-telemetry redactor").splitlines()
    wait = look.replace("curl ", "curl -sS --retry 60 --retry-all-errors --retry-delay 1 --fail ")
    assert '"status"' in bash(f"{start}\ntrap 'kill %1; wait' EXIT\n{wait}", tmp_path)


def test_the_keys_of_the_page_come_in_two_forms(tmp_path: Path) -> None:
    for role, name in (("ingest", "otel-telemetry key --role ingest"), ("public", "otel-telemetry key --role public")):
        printed = bash(block("docs/gateway.md", name).splitlines()[0].partition("  #")[0], tmp_path)
        assert re.search(r"otk_[\w-]{20,}", printed)
        assert re.search(rf"{role}:sha256:[0-9a-f]{{64}}", printed)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_of_the_page_works_with_its_certificate(tmp_path: Path) -> None:
    text = block("docs/gateway.md", "openssl req").replace(
        "curl ", "curl -sS --retry 60 --retry-all-errors --retry-delay 1 --fail "
    )
    grpc, http = free_port(), free_port()
    text = text.replace("serve &", f"serve --grpc-port {grpc} --http-port {http} &").replace(":4318", f":{http}")
    assert '"status"' in bash(f"trap 'kill %1; wait' EXIT\n{text}", tmp_path)


_PREPARED: Final = """
import asyncio, os
import otel_telemetry
session = sid = user = run = request_id = "x"
question = "which tent?"
def ask(question): return "this one"
async def search(question): return []
async def answer(*event): return "this one"
"""


@pytest.mark.parametrize(
    "one",
    [one for one in ALL if one.language == "python" and HOW[one.page].get(one.first) == HERE],
    ids=lambda one: f"{one.page}: {one.first}",
)
def test_each_block_of_python_runs(one: Block, tmp_path: Path) -> None:
    text = one.text
    if text.startswith("async with"):
        text = f"async def handle():\n{textwrap.indent(text, '    ')}\nasyncio.run(handle())"
    if one.first.startswith("def handler"):
        text += "\nasyncio.run(handler({}, None))"
    program = tmp_path / "program.py"
    program.write_text(f"{_PREPARED}\n{text}\nprint('ran')\nos._exit(0)\n")
    variables = {"OTEL_TELEMETRY_REQUEST_LOG__URL": f"sqlite:///{tmp_path / 'rows.db'}", "OTEL_SDK_DISABLED": "false"}
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment(**variables), capture_output=True, text=True,
        timeout=110, check=False,
    )  # fmt: skip
    assert "ran" in done.stdout, done.stderr

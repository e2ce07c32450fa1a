"""Shared fixtures keep their meaning: no test module defines another fixture under the name of one of them.

pytest takes the nearest fixture of a name, for shared fixtures that ask for that name too: a module with a fixture
`tables` of its own changes what `with_tables` copies.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]


def fixtures(file: Path) -> Iterator[tuple[str, str]]:
    """Yield name and scope of each fixture that a file defines."""
    text = file.read_text(encoding="utf-8")
    for node in ast.parse(text).body if "pytest.fixture" in text else ():
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                given = {}
                if isinstance(decorator, ast.Call):
                    given = {each.arg: getattr(each.value, "value", None) for each in decorator.keywords}
                if ast.unparse(decorator).partition("(")[0] == "pytest.fixture":
                    yield str(given.get("name", node.name)), str(given.get("scope", "function"))


def shared() -> dict[Path, set[str]]:
    """Return by folder the names that no test module below it may give to a fixture.

    Those of tests/backends are shared by all tests, the session fixtures of a conftest.py by its folder.
    """
    backends = [file for file in (TESTS / "backends").glob("*.py") if not file.name.startswith("test_")]
    names = {TESTS: {name for file in backends for name, _ in fixtures(file)}}
    for file in TESTS.rglob("conftest.py"):
        session = {name for name, scope in fixtures(file) if scope == "session"}
        names.setdefault(file.parent, set()).update(session)
    return names


SHARED: Final = shared()


def hidden(file: Path, names: set[str]) -> list[str]:
    """Return which of these names a fixture of a file must not have."""
    return sorted({name for folder in file.parents for name in names & SHARED.get(folder, set())})


def test_shared_fixtures_are_known_and_others_may_be_overridden() -> None:
    module = TESTS / "exporters" / "test_loki.py"
    assert hidden(module, {"tables", "postgres_tables", "with_tables", "postgres", "shared_database"}) == [
        "postgres", "postgres_tables", "shared_database", "tables", "with_tables",
    ]  # fmt: skip
    assert hidden(module, {"url", "gateway", "rows", "database"}) == []
    assert hidden(TESTS / "gateway" / "test_backup.py", {"shared_database"}) == []


def test_no_module_hides_a_shared_fixture() -> None:
    for file in TESTS.rglob("test_*.py"):
        wrong = hidden(file, {name for name, _ in fixtures(file)})
        assert not wrong, f"{file.relative_to(TESTS)}: give the fixture {wrong} another name, all tests share that one"

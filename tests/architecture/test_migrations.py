"""The migrations are one chain: two people who add one at a time find out before both are in."""

import ast
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "exporters" / "request_log" / "migrations" / "versions"


def links() -> list[tuple[str, str | None]]:
    """Return the revision of each migration, and the one it stands on."""
    found = []
    for file in sorted(FOLDER.glob("[0-9]*.py")):
        values = {
            target.id: ast.literal_eval(node.value)
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in ("revision", "down_revision")
        }
        assert file.name.startswith(f"{values['revision']}_"), f"{file.name}: its revision is {values['revision']}"
        found.append((values["revision"], values["down_revision"]))
    return found


def test_each_migration_stands_on_the_one_before_it() -> None:
    revisions = [revision for revision, _ in links()]
    assert [below for _, below in links()] == [None, *revisions[:-1]]
    assert len(set(revisions)) == len(revisions)

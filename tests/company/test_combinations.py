"""Beside every other instrumentation of model calls there is one row a call; `make matrix` fills docs/dialects.md."""

import os
from pathlib import Path

import pytest

from tests.company import combinations
from tests.company.combinations import Outcome

pytestmark = [
    pytest.mark.skipif("MATRIX" not in os.environ, reason="installs neighbours: make matrix"),
    pytest.mark.timeout(900),
]
found: dict[tuple[str, str], Outcome] = {}


@pytest.mark.parametrize(("neighbour", "library"), combinations.asked())
def test_each_call_has_one_row(neighbour: str, library: str, tmp_path: Path) -> None:
    outcome = found[neighbour, library] = combinations.run(neighbour, library, "after", tmp_path)
    assert outcome.is_right, outcome


@pytest.mark.parametrize(("neighbour", "library"), [each for each in combinations.asked() if each[0] != "nobody"])
def test_each_call_has_one_row_where_the_neighbour_starts_first(neighbour: str, library: str, tmp_path: Path) -> None:
    outcome = combinations.run(neighbour, library, "before", tmp_path)
    assert outcome.is_right, outcome


def test_the_table_is_written() -> None:
    assert found
    combinations.write(found)

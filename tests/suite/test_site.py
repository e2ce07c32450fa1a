"""The site of docs/: each page is in its contents, and what lies beside docs/ is found in the repository."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HOOK = runpy.run_path(str(ROOT / "docs" / "site_hook.py"))


def test_each_page_is_in_the_contents() -> None:
    nav: Any = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = [page for part in nav for page in ([part] if isinstance(part, str) else next(iter(part.values())))]
    assert sorted(named) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_links_out_of_the_pages_lead_to_the_repository() -> None:
    made = HOOK["on_page_markdown"]("[a](../README.md), [b](../collector/README.md#the-check), [c](ui.md)")
    start = HOOK["REPOSITORY"]
    assert made == f"[a]({start}README.md), [b]({start}collector/README.md#the-check), [c](ui.md)"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        HOOK["on_page_markdown"]("[a](../nowhere.md)")

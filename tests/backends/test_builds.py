"""What tests build for themselves: once, outside the repository, anew when a manifest changes, and never half."""

import dataclasses
import re

import pytest

from tests.backends import builds, programs
from tests.backends.builds import BuildFailed, Recipe


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Recipe:
    """A recipe that counts how often it is built."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "manifest").write_text("1")
    count = f"echo x >> {tmp_path}/built; mkdir out; cp manifest out/thing"
    return Recipe("thing", source, (("sh", "-c", count),), "out/thing", "a shell")


def built_times(recipe: Recipe) -> int:
    counted = recipe.source.parent / "built"
    return len(counted.read_text().split()) if counted.exists() else 0


def test_a_thing_is_built_once_and_outside_of_where_its_manifest_is(recipe):
    assert builds.build(recipe).read_text() == "1"
    assert builds.build(recipe) == builds.built(recipe)
    assert built_times(recipe) == 1
    assert [file.name for file in recipe.source.iterdir()] == ["manifest"]


def test_it_is_built_anew_when_its_manifest_changes(recipe):
    first = builds.build(recipe)
    (recipe.source / "manifest").write_text("2")
    assert builds.build(recipe).read_text() == "2"
    assert first.read_text() == "1"
    assert built_times(recipe) == 2


def test_a_build_that_fails_leaves_nothing_and_says_the_last_words_of_what_failed(recipe, capsys):
    broken = dataclasses.replace(recipe, commands=(("sh", "-c", "touch half; echo no network >&2; exit 3"),))
    with pytest.raises(BuildFailed, match=r"thing could not be built \(needs a shell\)(.|\n)*no network"):
        builds.build(broken)
    assert not broken.folder().exists()
    assert builds.build_all([broken, recipe]) == 1
    assert re.search(r"Not built: thing(.|\n)*no network", capsys.readouterr().out)
    assert builds.built(recipe).read_text() == "1", "one failure stops no other"


def test_a_missing_tool_is_named_before_anything_is_done(recipe):
    needy = dataclasses.replace(recipe, commands=(("no-such-tool", "build"),), needs="No Such Tool 9")
    with pytest.raises(BuildFailed, match="thing needs No Such Tool 9: no-such-tool is not on PATH"):
        builds.build(needy)


def test_what_is_not_built_skips_the_test_that_asks_or_fails_it_where_it_is_required(recipe, monkeypatch):
    monkeypatch.delenv(programs.REQUIRE_BUILT, raising=False)
    with pytest.raises(pytest.skip.Exception, match="thing is not built"):
        builds.built(recipe)
    monkeypatch.setenv(programs.REQUIRE_BUILT, "1")
    with pytest.raises(pytest.fail.Exception, match="thing is not built"):
        builds.built(recipe)

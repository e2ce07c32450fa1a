import os
import stat

import pytest

from otel_telemetry.base import user_cache
from otel_telemetry.processors.detect.engines.locator import ReLocator

hyperscan = pytest.importorskip("hyperscan")
pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files here")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "otel-telemetry"


def test_what_is_kept_is_loaded_and_readable_by_its_owner_only(folder):
    assert user_cache.load("x.hs") is None
    user_cache.keep("x.hs", b"payload")
    assert user_cache.load("x.hs") == b"payload"
    assert stat.S_IMODE((folder / "x.hs").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_changed_file_is_not_loaded(folder):
    user_cache.keep("x.hs", b"payload")
    data = bytearray((folder / "x.hs").read_bytes())
    data[-1] ^= 1
    (folder / "x.hs").write_bytes(data)
    assert user_cache.load("x.hs") is None


def test_a_file_or_folder_that_others_can_write_to_is_not_used(folder):
    user_cache.keep("x.hs", b"payload")
    (folder / "x.hs").chmod(0o620)
    assert user_cache.load("x.hs") is None
    (folder / "x.hs").chmod(0o600)
    folder.chmod(0o770)
    assert user_cache.load("x.hs") is None


def test_a_link_is_not_followed(folder, tmp_path):
    user_cache.keep("x.hs", b"payload")
    (folder / "x.hs").rename(tmp_path / "elsewhere")
    (folder / "x.hs").symlink_to(tmp_path / "elsewhere")
    assert user_cache.load("x.hs") is None


def test_without_a_folder_nothing_is_kept_and_nothing_fails(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    user_cache.keep("x.hs", b"payload")
    assert user_cache.load("x.hs") is None


def test_a_loaded_database_finds_what_a_compiled_one_finds(folder):
    from otel_telemetry.processors.detect.engines.hyperscan import HyperscanLocator  # native

    triggers = ("abc[0-9]", "(?i)xy")
    data = b"abc1 XY abc22"
    expected = ReLocator(triggers).scan(data, 100)
    assert HyperscanLocator(triggers).scan(data, 100) == expected
    assert [path.suffix for path in folder.iterdir()] == [".hs"]
    assert HyperscanLocator(triggers).scan(data, 100) == expected
    next(folder.iterdir()).write_bytes(b"")
    assert HyperscanLocator(triggers).scan(data, 100) == expected

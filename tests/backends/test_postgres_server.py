"""The real PostgreSQL that other tests rely on: private, durable, and missing only where nobody minds."""

import pytest

from tests.backends import programs


def test_the_server_syncs_to_disk_and_listens_on_loopback_alone(postgres):
    with postgres.connect() as connection:
        for setting, value in (("fsync", "on"), ("full_page_writes", "on"), ("listen_addresses", "127.0.0.1")):
            assert connection.execute("SELECT current_setting(%s)", [setting]).fetchone() == (value,)


def test_a_missing_backend_skips_unless_backends_are_required(monkeypatch):
    monkeypatch.setattr(programs, "_install", lambda package: None)
    monkeypatch.setenv(programs.REQUIRE, "0")
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        programs.program("no-such-program", "none")
    monkeypatch.setenv(programs.REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        programs.program("no-such-program", "none")

"""Fixtures for every test: real backends, started where a test asks for one."""

from tests.backends.postgres import own_postgres_fixture, postgres_fixture

__all__ = ["own_postgres_fixture", "postgres_fixture"]

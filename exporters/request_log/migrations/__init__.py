"""Alembic's environment; `versions` has one file per step of the schema."""

"""Rows per request and per model call, in SQLite."""

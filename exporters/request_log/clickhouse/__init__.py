"""Rows of requests and model calls, sent on to ClickHouse."""

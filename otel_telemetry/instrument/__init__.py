"""Instrumentation that produces spans and metrics: model calls over HTTP, FastAPI and httpx glue."""

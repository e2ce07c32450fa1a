"""Reads rows from the databases of older systems and converts them to OpenTelemetry data.

The result is processed like all other input: redacted, then turned into rows by the request_log.
"""

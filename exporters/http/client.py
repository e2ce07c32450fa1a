"""HTTP to one destination: keep-alive connection, TLS, gzip, deadline, bounded answers; no redirect, no retry."""

import ssl
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.exporters.http.answers import Answer
from otel_telemetry.exporters.http.compression import gzipped
from otel_telemetry.exporters.http.destination import Destination
from otel_telemetry.exporters.http.end import End

_ANSWER_BYTES: Final = 64 << 10
_CONNECT_SECONDS: Final = 5.0
_SLOWEST: Final = 100_000  # bytes a second, at which a body may leave


class Poster:
    """Posts bodies to paths below `endpoint`. Raises ConfigurationError where certificates cannot be used."""

    def __init__(self, endpoint: str, config: Destination, setting: str) -> None:
        self._endpoint = endpoint
        self._gzip = config.compression == "gzip"
        self._headers = config.header_values()
        self._timeout = config.timeout
        self._end = End()
        self._pool = _pool(
            endpoint,
            self._end,
            num_pools=1,
            maxsize=1,
            block=True,
            retries=False,
            timeout=urllib3.Timeout(connect=min(_CONNECT_SECONDS, config.timeout), read=config.timeout),
            ssl_context=_tls(config, setting) if endpoint.startswith("https:") else None,
        )

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        """Send a body and return the answer, whatever its status; raises StoreUnavailable if there is no answer."""
        headers = {**self._headers, "content-type": content_type}
        if self._gzip:
            body = gzipped(body)
            headers["content-encoding"] = "gzip"
        return self._ask("POST", path, headers, body)

    def get(self, path: str) -> Answer:
        """Request a path and return the answer, whatever its status; raises StoreUnavailable if there is no answer."""
        return self._ask("GET", path, self._headers, None)

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        url = self._endpoint + path
        headers = {"user-agent": "otel-telemetry", **headers}
        seconds = self._timeout + len(body or b"") / _SLOWEST
        deadline = time.monotonic() + seconds
        try:
            with self._end.after(seconds):
                response = self._pool.request(
                    method, url, body=body, headers=headers, redirect=False, preload_content=False
                )
                answer_body = _read(response, deadline)
        except (HTTPError, OSError) as error:
            if time.monotonic() < deadline:
                raise StoreUnavailable(_why(error), timed_out=isinstance(error, ReadTimeoutError)) from None
            raise StoreUnavailable(f"no whole answer within {seconds:g} s", timed_out=True) from None
        if time.monotonic() >= deadline and not answer_body:  # the end of a head that was cut looks like its own
            raise StoreUnavailable(f"no whole answer within {seconds:g} s", timed_out=True)
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, answer_body)

    def close(self) -> None:
        """Close the connections; a later post opens new ones."""
        self._pool.clear()


def _pool(endpoint: str, end: End, **options: Any) -> urllib3.PoolManager:
    """Return connections to there, which `end` can end.

    They go through the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name, as gRPC's do.
    """
    parts = urlsplit(endpoint)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(parts.netloc):
        pool = urllib3.PoolManager(**options)
    else:
        pool = urllib3.ProxyManager(proxy, **options)
    pool.pool_classes_by_scheme = end.pools()
    return pool


def _read(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
    """Return the beginning of the body. A connection whose body is longer, or slow, is closed."""
    answer_body = bytearray()
    whole = False
    try:
        while not whole and len(answer_body) < _ANSWER_BYTES and time.monotonic() < deadline:
            piece = response.read1(_ANSWER_BYTES, decode_content=True)
            answer_body += piece
            whole = not piece
    finally:
        if not whole:
            response.close()
        response.release_conn()  # the pool has this one alone: a closed one is opened again
    return bytes(answer_body[:_ANSWER_BYTES])


def _why(error: Exception) -> str:
    """Return the innermost reason; urllib3 wraps it in texts with the addresses of objects."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).rpartition('>: ')[2]}"


def _tls(config: Destination, setting: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.certificate_file:
            context.load_cert_chain(config.certificate_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(setting, f"its certificates cannot be used: {error}", "correct the files") from None
    return context

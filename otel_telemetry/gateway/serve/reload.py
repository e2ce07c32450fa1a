"""New settings for a gateway that is one process, while it serves: keys, origins, redaction, certificates, its log.

Each request is answered by what held when it came in. A supervisor has no need of this: it replaces its processes.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive import listen, tls
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.receive.cleaning import Redactor
from otel_telemetry.gateway.receive.http2_server import Http2Server
from otel_telemetry.gateway.receive.http_server import HttpServer
from otel_telemetry.gateway.receive.origins import Origins
from otel_telemetry.gateway.serve import logs

_WATCH_SECONDS: Final = 2.0
_TLS: Final = ("tls_certificate", "tls_key", "tls_client_ca")
#: Sockets know since they were opened whether there is TLS, and whether clients show certificates.
_SWITCHES: Final = ("tls_certificate", "tls_client_ca")
#: Settings of the gateway that are taken over; all others are what the process was started with.
LIVE: Final = (
    "api_keys",
    "open_endpoints",
    "allowed_origins",
    "allowed_hosts",
    *_TLS,
    "log_format",
    "log_level",
)

_log = logging.getLogger("otel_telemetry.gateway")


@dataclass(frozen=True, slots=True)
class NewSettings:
    """Settings as they were read anew, and what was made from them.

    `take_over` puts the new rules where the receiver has none of its own. `late` names settings beside the gateway's
    that have changed, and that only a restart brings into use.
    """

    config: GatewaySettings
    redactor: Redactor | None
    take_over: Callable[[], None]
    late: tuple[str, ...] = ()


#: Reads the settings anew; may take seconds. Raises ConfigurationError.
Load = Callable[[], NewSettings]


@runtime_checkable
class Redacts(Protocol):
    """An object that redacts, and whose rules can be exchanged while it runs."""

    def redact_with(self, redactor: Redactor) -> None:
        """Redact with this one from now on."""


@dataclass(frozen=True, slots=True)
class ReloadTargets:
    """The parts of a running gateway that take new settings; `redacting` what redacts."""

    keys: Keys
    origins: Origins
    redacting: Sequence[Redacts] = ()
    grpc: Http2Server | None = None
    http: HttpServer | None = None


class Reloader:
    """Takes over new settings when it is asked to, and when a certificate's file changes."""

    def __init__(self, config: GatewaySettings, load: Load) -> None:
        self._config = config
        self._load = load
        self._asked = asyncio.Event()
        self._certificates = self._used = tls.changed_at(config)

    def ask(self) -> None:
        """Request that the settings are read again soon."""
        self._asked.set()

    async def follow(self, targets: ReloadTargets) -> None:
        """Take over new settings until the task is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _WATCH_SECONDS)
            if self._asked.is_set():
                self._asked.clear()
                await self._reload("SIGHUP", targets)
            elif (now := tls.changed_at(self._config)) != self._certificates:
                self._certificates = now
                await self._reload("the certificates have changed", targets)

    async def _reload(self, why: str, targets: ReloadTargets) -> None:
        try:
            new = await asyncio.to_thread(self._load)
            config, late = self._usable(new.config)
            certificates = tls.changed_at(config)  # before they are loaded: a later change is seen as one
            contexts = (tls.for_http(config), tls.for_grpc(config)) if certificates != self._used else (None, None)
        except ConfigurationError as error:
            _log.error("%s: the settings cannot be used, all goes on as before: %s", why, error)
            return
        except Exception:  # noqa: BLE001 - what serves goes on serving
            _log.exception("%s: the settings could not be read anew, all goes on as before", why)
            return
        self._config, self._certificates, self._used = config, certificates, certificates
        _open(targets, config, *contexts)
        if new.redactor:
            for one in targets.redacting:
                one.redact_with(new.redactor)
        new.take_over()
        logs.use(config)
        _log.info("%s: keys, origins, redaction, certificates and log are as the settings say now", why)
        if late := [*late, *new.late]:
            _log.warning("only a restart changes what was opened or started with the process: %s", ", ".join(late))

    def _usable(self, read: GatewaySettings) -> tuple[GatewaySettings, list[str]]:
        """Return the settings that hold from now on, and the names of those that have to wait for a restart."""
        config = self._config.model_copy(update={name: getattr(read, name) for name in LIVE})
        late = [name for name in GatewaySettings.model_fields if getattr(read, name) != getattr(config, name)]
        switched = [name for name in _SWITCHES if bool(getattr(self._config, name)) != bool(getattr(config, name))]
        if switched:
            config = config.model_copy(update={name: getattr(self._config, name) for name in _TLS})
        listen.check_new(config, self._config)
        return config, [f"gateway.{name}" for name in (*late, *switched)]


def _open(
    targets: ReloadTargets, config: GatewaySettings, http: ssl.SSLContext | None, grpc: ssl.SSLContext | None
) -> None:
    """Use the keys and origins of the new settings, and new certificates if there are any."""
    if targets.http and http:
        targets.http.renew_tls(http)
    if targets.grpc and grpc:
        targets.grpc.renew_tls(grpc)
    targets.keys.become(config.api_keys, config.open_endpoints)
    targets.origins.become(config)

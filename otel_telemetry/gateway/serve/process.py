"""One process of the gateway, or all of it: opens the spool, delivers, listens, and stops without losing anything.

Stopping: no new requests are accepted, those in progress are finished and answered, the spool is flushed, the sinks get
what they can accept in the remaining time; the rest is in the spool and is delivered after the next start. A second
signal shortens the wait.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from otel_telemetry.base import metrics
from otel_telemetry.base.errors import SpoolDamaged
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.deliver.delivery import Delivery, Sink, nowhere
from otel_telemetry.gateway.opening import open_operator, open_reader
from otel_telemetry.gateway.receive import descriptors, listen, tls
from otel_telemetry.gateway.receive.allowance import Allowances
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.receive.cleaning import Redactor
from otel_telemetry.gateway.receive.grpc import make_server
from otel_telemetry.gateway.receive.http2_server import Http2Server
from otel_telemetry.gateway.receive.http_server import HttpServer
from otel_telemetry.gateway.receive.origins import Origins
from otel_telemetry.gateway.receive.receiver import Receiver
from otel_telemetry.gateway.receive.rest import Rest
from otel_telemetry.gateway.receive.suspects import Suspects
from otel_telemetry.gateway.receive.watch import Watch
from otel_telemetry.gateway.serve.group import WorkerContext
from otel_telemetry.gateway.serve.health import Health
from otel_telemetry.gateway.serve.http import Limits, make_app
from otel_telemetry.gateway.serve.lifecycle import Process, put_later, version_here
from otel_telemetry.gateway.serve.page import Insight, MakePage
from otel_telemetry.gateway.serve.prometheus import Exposition
from otel_telemetry.gateway.serve.reload import Load, Redacts, ReloadTargets
from otel_telemetry.gateway.spool import spool_file
from otel_telemetry.gateway.spool.transport import Transport
from otel_telemetry.gateway.spool.writer import Spool

_DAMAGE_SECONDS: Final = 1.0
_DAMAGED: Final = -1.0  # among the seconds that a stop may take

_log = logging.getLogger("otel_telemetry.gateway")


class Counts(Protocol):
    """Stores what redaction counts in this process."""

    def start(self) -> None:
        """Begin, in a thread of its own."""

    def stop(self) -> None:
        """Store what was counted until now, if that is possible soon."""


class Gateway(Process):
    """Receives OTLP, redacts it, spools it, delivers it: all of it, or the part that `gateway.role` names.

    `redactor` is None where it only delivers what gateways wrote to the disk. In a group of processes it has a `worker`
    context. `grpc_port` and `http_port` are the ports it really has.
    """

    def __init__(
        self,
        config: GatewaySettings,
        redactor: Redactor | None,
        sinks: Sequence[Sink],
        exposition: Exposition | None = None,
        worker: WorkerContext | None = None,
        *,
        rest: Rest | None = None,
        load: Load | None = None,
        page: MakePage | None = None,
        counts: Counts | None = None,
    ) -> None:
        super().__init__(config, exposition, worker, load)
        self._redactor = redactor
        self._sinks = tuple(sinks)
        self._rest = rest or Rest()
        self._page = page
        self._counts = counts
        self._on_damage: Callable[[], object] = lambda: None
        self.receiver: Receiver | None = None
        self.grpc_port = 0
        self.http_port = 0

    def _where(self) -> str:
        host = self._config.host
        otlp = f"OTLP/gRPC on {host}:{self.grpc_port}, OTLP/HTTP on" if self.grpc_port else "health and metrics on"
        return f"{otlp} {host}:{self.http_port}"

    async def _start(self, parts: contextlib.AsyncExitStack) -> None:
        config = self._config
        descriptors.raise_limit()
        listening = self._listen(parts)
        spool = self._open_transport(parts)
        deliveries = self._start_deliveries(parts, spool)
        if self._counts:
            self._counts.start()
            parts.push_async_callback(asyncio.to_thread, self._counts.stop)
        receiver = self.receiver = self._make_receiver(parts, spool)
        health = Health(spool, receiver, deliveries, {"version": version_here()}, self._worker, cache=self._cache_state)
        await self._join(parts, health.own_json, wait_for_go=self._receives)
        keys = Keys(config.api_keys, config.open_endpoints)
        rpc = await self._start_grpc(parts, receiver, keys) if receiver else None
        limits = Limits(config.max_body_bytes, config.max_json_bytes)
        parts.push_async_callback(self._rest.close)
        if self._rest.cache and self._receives:
            parts.callback(self._exposition.watch_cache(self._rest.cache.server_numbers))
        origins = Origins(config)
        page = self._page(keys, self._insight(health)) if self._page else None
        app = make_app(receiver, keys, health, self._exposition, limits, rest=self._rest, origins=origins, page=page)
        http = None
        if listening:
            self.http_port = listening.getsockname()[1]
            http = await self._start_http(parts, app, listening)
        redacting = [part for part in (receiver, spool) if isinstance(part, Redacts)]
        self._targets = ReloadTargets(keys, origins, redacting, rpc, http)
        parts.push_async_callback(self._close_listeners, health, rpc, http)

    def _insight(self, health: Health) -> Insight:
        config = self._config
        return Insight(
            lambda: health.report().shown(details=True),
            self._exposition.text,
            lambda: open_reader(config),
            lambda: open_operator(config),
        )

    def _count_from_zero(self) -> None:
        if self._receives:
            metrics.receive_from_zero()
        for sink in self._sinks:
            metrics.deliver_from_zero(sink.name)

    async def _may_start(self, orders: asyncio.Queue[float]) -> bool:
        """Wait until nobody else writes to the spool; false where it is asked to stop meanwhile."""
        loop = asyncio.get_running_loop()
        self._on_damage = lambda: put_later(loop, orders, _DAMAGED)
        folder = self._config.spool_dir
        spool_file.make_folder(folder)
        if self._config.transport == "kafka":
            return True
        lock = spool_file.lock_file(folder, spool_file.WRITE_LOCK_NAME)
        try:
            await asyncio.to_thread(spool_file.wait_for_write_lock, lock, lambda: not orders.empty())
        except spool_file.StoppedWaiting:
            return False
        else:
            return True
        finally:
            os.close(lock)

    async def _end(self, seconds: float, orders: asyncio.Queue[float]) -> None:
        if seconds < 0:
            await self.stop(_DAMAGE_SECONDS)
            raise SpoolDamaged("the spool is damaged; the next start sets it right")
        await super()._end(seconds, orders)

    # --- the parts, in the order of their start; they are stopped in reverse ----------------------------------------
    @property
    def _receives(self) -> bool:
        return self._config.role != "deliver"

    @property
    def _delivers(self) -> bool:
        return self._config.role != "receive"

    def _listen(self, parts: contextlib.AsyncExitStack) -> socket.socket | None:
        """Return the socket for HTTP; a group's receivers share one, and its deliverer has none."""
        if self._worker:
            return self._worker.http
        listening = parts.enter_context(listen.listen_http(self._config))
        if self._receives:
            listen.refuse_taken_grpc_port(self._config)
        return listening

    def _open_transport(self, parts: contextlib.AsyncExitStack) -> Transport:
        spool = self._open_topics() if self._config.transport == "kafka" else self._open_spool(parts)
        parts.push_async_callback(asyncio.to_thread, spool.close)
        parts.callback(self._exposition.watch(spool))
        if self._delivers:
            spool.attach([sink.name for sink in self._sinks])
        return spool

    def _open_topics(self) -> Transport:
        from otel_telemetry.gateway.kafka.transport import KafkaTransport  # noqa: PLC0415 - few use it

        if self._redactor is None:
            raise ValueError("without a redactor, nothing that others wrote to the topics can be delivered")
        config = self._config
        return KafkaTransport(config.kafka, self._redactor, config.max_body_bytes, config.max_pending_bytes)

    def _open_spool(self, parts: contextlib.AsyncExitStack) -> Spool:
        config = self._config
        if self._delivers and not self._worker:  # a group's supervisor has it
            parts.callback(os.close, spool_file.claim(config.spool_dir))
        spool = Spool(
            config.spool_dir,
            config.spool_max_bytes,
            config.spool_retention_hours,
            max_age_hours=config.spool_max_age_hours,
            max_dead_bytes=config.dead_letter_max_bytes,
            largest_body=config.max_body_bytes,
            housekeeper=self._delivers,
        )
        spool.on_damage = self._on_damage
        return spool

    @property
    def _cache_state(self) -> Callable[[], dict[str, str]] | None:
        return self._rest.cache.state if self._rest.cache and self._receives else None

    def _make_receiver(self, parts: contextlib.AsyncExitStack, spool: Transport) -> Receiver | None:
        if not self._receives or self._redactor is None:
            return None
        watch = Watch(*self._suspects(parts), spool)
        receiver = Receiver(
            self._redactor, spool, self._config.max_pending_bytes, watch, Allowances(self._config.public_cpu_seconds)
        )
        parts.push_async_callback(asyncio.to_thread, receiver.close)
        return receiver

    def _suspects(self, parts: contextlib.AsyncExitStack) -> tuple[Suspects, int]:
        """Return where requests under way are noted, and the place of this process there."""
        if self._worker and self._worker.suspects:
            return self._worker.suspects, self._worker.index
        suspects = Suspects(self._config.spool_dir, 1)
        parts.callback(suspects.close)
        return suspects, 0

    def _start_deliveries(self, parts: contextlib.AsyncExitStack, spool: Transport) -> list[Delivery]:
        deliveries = [Delivery(spool, sink) for sink in self._sinks]
        parts.push_async_callback(self._drain, deliveries)
        for delivery in deliveries:
            delivery.start()
        if self._delivers and (lost := nowhere(deliveries)):
            where = "spool for gateway.spool_retention_hours" if self._config.transport == "disk" else "topics of Kafka"
            _log.warning(
                "%s are accepted and kept in the %s, and go nowhere from there: forward.NAME.endpoint names a "
                "destination for them", " and ".join(lost), where,
            )  # fmt: skip
        return deliveries

    async def _drain(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            delivery.stop()
        await self._until(lambda: all(delivery.finished() for delivery in deliveries))
        for delivery in deliveries:
            delivery.abandon()  # where a sink hangs, its thread is left behind; what it did not confirm is kept

    async def _start_grpc(self, parts: contextlib.AsyncExitStack, receiver: Receiver, keys: Keys) -> Http2Server:
        server = make_server(
            receiver,
            keys,
            self._config.max_body_bytes,
            max_connections=descriptors.connections(self._config.max_connections),
            by_address=self._config.max_connections_per_address,
            connection_seconds=self._config.grpc_connection_seconds,
        )
        listening = listen.listen_grpc(self._config, share=self._worker is not None)
        self.grpc_port = listening.getsockname()[1]
        await server.start(listening, tls.for_grpc(self._config))
        parts.push_async_callback(self._stop_grpc, server)
        return server

    async def _stop_grpc(self, server: Http2Server) -> None:
        server.stop_listening()
        stopping = asyncio.create_task(server.wait_closed())
        await self._until(stopping.done)
        await server.close()
        stopping.cancel()

    async def _close_listeners(self, health: Health, rpc: Http2Server | None, http: HttpServer | None) -> None:
        """Take no more requests on either port, then wait for those under way; HTTP winds down in its own task."""
        health.stop()
        if http:
            http.should_exit = True
        if rpc:
            await self._stop_grpc(rpc)

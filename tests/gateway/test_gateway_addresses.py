"""One address has only so many connections, where that is set; others get in all the same."""

import socket
from typing import Any

import httpx
import pytest

from otel_telemetry.gateway.receive.addresses import origin


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("192.0.2.7", 4711), "192.0.2.7"),
        (("::ffff:192.0.2.7", 4711, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3::4", 4711, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 4711, 0, 2), "fe80::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_ipv6_counts_by_network(peer: Any, expected: str) -> None:
    assert origin(peer) == expected


def closed(connection: socket.socket) -> bool:
    connection.settimeout(0.5)
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize("port", ["http_port", "grpc_port"])
async def test_one_address_gets_no_more_than_it_may_have(serving: Any, caplog: Any, port: str) -> None:
    import asyncio

    async with serving(max_connections_per_address=3) as running:
        number = getattr(running.gateway, port)

        def connect(source: str) -> socket.socket:
            return socket.create_connection(("127.0.0.1", number), 5, (source, 0))

        mine = [await asyncio.to_thread(connect, "127.0.0.1") for _ in range(5)]
        other = await asyncio.to_thread(connect, "127.0.0.2")
        found = [await asyncio.to_thread(closed, one) for one in mine]
        assert found == [False, False, False, True, True]
        assert not await asyncio.to_thread(closed, other)
        for one in (*mine, other):
            one.close()
        await asyncio.sleep(0.3)
        async with httpx.AsyncClient(base_url=running.http) as client:
            assert (await client.get("/health")).status_code == 200
    assert caplog.text.count("see gateway.max_connections_per_address") == 1
    assert "127.0.0.1 has as many" in caplog.text

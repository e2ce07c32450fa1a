"""POST /log on one core: requests per second of CPU time and of the clock, against a named baseline in the same run.

`echo` is a bare Starlette endpoint under uvicorn that parses the JSON body and answers JSON: the ceiling. `log` is the
gateway's receiving process (redacted, on disk before the answer), `clean` the same with nothing to redact, `events` 50
events a request. The server is held to one core, the load comes from the other: CONNECTIONS at a time, each waiting for
its answer. CPU time is the server's, of all its threads; it says what the clock would on a machine with nothing else to
do. Run: python benchmarks/rest.py [seconds for each]
"""

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.serve.process import Gateway
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor

CONNECTIONS = 32
BATCH = 50
PAYLOAD = {
    "timestamp": "2026-11-20T10:11:12Z",
    "service": "shop",
    "tool": "search",
    "args": {"query": "waterproof tents for two", "top_k": 5},
    "response": {"tokens": 128, "latency_ms": 812.5},
    "message": "Three results, of which the second fits best; asked for the price of the first.",
}
WHO = {"metadata": {"user_id": "user123", "session_id": "abc", "request_id": "r-1"}, "email": "test@example.com"}
EVENT = {"type": "step:end", "run_id": "r1", "step_id": "s1", "data": {"output": "done", "info": {"tokens": 5}}}
BODIES: Mapping[str, tuple[str, Any]] = {
    "echo": ("/log", {"event": "tool_execution", "payload": {**PAYLOAD, **WHO}}),
    "log": ("/log", {"event": "tool_execution", "payload": {**PAYLOAD, **WHO}}),
    "clean": ("/log", {"event": "tool_execution", "payload": PAYLOAD}),
    "events": ("/events", {"events": [EVENT] * BATCH}),
}


async def echo(request: Request) -> Response:
    given = await request.json()
    return JSONResponse({"status": "logged", "event_id": given["event"], "redacted_fields": []})


def serve(mode: str, folder: Path) -> None:
    os.sched_setaffinity(0, {0})
    if mode == "echo":
        app = Starlette(routes=[Route("/log", echo, methods=["POST"])])
        config = uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off", ws="none")
        asyncio.run(announced(uvicorn.Server(config)))
        return
    settings = GatewaySettings(role="receive", grpc_port=0, http_port=0, spool_dir=folder / "spool")
    gateway = Gateway(settings, OtlpRedactor(Redactor(RedactionSettings())), [])

    async def started() -> None:
        await gateway.start()
        gc.collect()
        gc.freeze()  # as `run` does
        print(gateway.http_port, flush=True)
        await asyncio.Event().wait()

    import uvloop  # noqa: PLC0415  # what the gateway runs on

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(started())


async def announced(server: uvicorn.Server) -> None:
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving


async def load(port: int, mode: str, seconds: float) -> dict[str, Any]:
    path, given = BODIES[mode]
    body = json.dumps(given).encode()
    headers = f"host: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    request = f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + body
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < end:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 202")):
                raise RuntimeError(answer)
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    cuts = statistics.quantiles(latencies, n=100)
    return {"requests": len(latencies), "rate": len(latencies) / seconds, "p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(mode: str, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        command = [sys.executable, __file__, "serve", mode, folder]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this very file
        try:
            port = int(server.stdout.readline()) if server.stdout else 0
            asyncio.run(load(port, mode, 0.5))
            before = cpu_seconds(server.pid)
            found = asyncio.run(load(port, mode, seconds))
            found["per_cpu"] = found["requests"] / (cpu_seconds(server.pid) - before)
        finally:
            server.kill()
            server.wait()
            if server.stdout:
                server.stdout.close()
    return found


def main(seconds: float) -> None:
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, set(os.sched_getaffinity(0)) - {0})
    print(f"{CONNECTIONS} connections, {seconds:g} s each; the server is held to one core")
    print(f"{'':8}{'per CPU s':>12}{'of echo':>9}{'per second':>12}{'p50 ms':>9}{'p99 ms':>9}")
    baseline = 0.0
    for mode in BODIES:
        found = measure(mode, seconds)
        baseline = baseline or found["per_cpu"]
        items = BATCH if mode == "events" else 1
        print(
            f"{mode:8}{found['per_cpu'] * items:>12,.0f}{found['per_cpu'] / baseline:>9.2f}"
            f"{found['rate'] * items:>12,.0f}{found['p50']:>9.1f}{found['p99']:>9.1f}"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], Path(sys.argv[3]))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)

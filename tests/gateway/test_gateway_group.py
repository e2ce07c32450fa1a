"""Several processes that are one gateway: ports, spool, health and metrics, as seen from outside."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from otel_telemetry.base.errors import ConfigurationError, Overloaded
from otel_telemetry.base.prometheus_text import merged
from otel_telemetry.gateway.serve.group import Group, WorkerContext
from otel_telemetry.gateway.spool import spool_file
from otel_telemetry.gateway.spool.writer import Spool
from tests.backends.postgres import PostgresServer
from tests.backends.process import free_port
from tests.faults.checks import check, check_rows
from tests.faults.gateway_process import GatewayProcess
from tests.faults.load import EXPORT, Load, make_request
from tests.waiting import eventually

MIB = 1 << 20


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Return `start(*options)`, a gateway process; several share the folder, and so the spool."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(GatewayProcess(tmp_path, *options))


def refused(folder: Path, *options: str) -> str:
    """Return what a gateway says that does not start."""
    command = [sys.executable, "-m", "otel_telemetry.cli", "serve", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2, done.stderr
    return " ".join(done.stderr.split())


# --- roles ----------------------------------------------------------------------------------------------------------
def test_a_gateway_that_receives_and_one_that_delivers_share_a_spool(start: Any) -> None:
    receiving, delivering = start("--role", "receive"), start("--role", "deliver")
    with Load(receiving) as load:
        load.wait_for(40)
    check(delivering, load)
    assert delivering.health()["parts"]["exporters"]["request_log"]["status"] == "ok"
    assert receiving.health()["parts"]["exporters"]["request_log"]["status"] == "elsewhere"
    assert receiving.health()["status"] == "ok"


def test_a_gateway_that_delivers_takes_nothing_in(start: Any) -> None:
    delivering = start("--role", "deliver")
    body = make_request(os.urandom(16))
    answer = httpx.post(
        f"http://127.0.0.1:{delivering.http}/v1/traces",
        content=body,
        headers={"content-type": "application/x-protobuf"},
    )
    assert answer.status_code == 404
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", delivering.grpc)) != 0


def test_any_number_may_receive_into_a_spool(start: Any) -> None:
    delivering = start("--role", "deliver")
    receiving = [start("--role", "receive", "--workers", workers) for workers in ("0", "1")]
    with Load(receiving[0]) as one, Load(receiving[1]) as two:
        one.wait_for(30)
        two.wait_for(30)
    check(delivering, one, two)


def test_gateways_with_a_spool_each_write_into_one_database(tmp_path: Path, postgres: PostgresServer) -> None:
    """Also where both find the database empty."""
    url = postgres.database()
    with ExitStack() as stack:
        both = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            both.append(GatewayProcess(tmp_path / name, "--workers", "0", url=url).start(wait=False))
            stack.callback(both[-1].__exit__)
        for gateway in both:
            eventually(gateway.healthy, "it takes requests")
        loads = [stack.enter_context(Load(gateway)) for gateway in both]
        for load in loads:
            load.wait_for(30)
            load.__exit__()
        for gateway in both:
            gateway.delivered()
        check_rows(both[0], loads[0].acknowledged | loads[1].acknowledged)


def test_only_one_gateway_delivers_from_a_spool(start: Any, tmp_path: Path) -> None:
    running = start("--role", "deliver")
    printed = refused(
        tmp_path, *("--grpc-port", "0", "--http-port", "0"), *("--spool-dir", str(running.spool), "--db", running.url)
    )
    assert "is in use by another gateway" in printed


# --- ports ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("first", ["0", "2"])
@pytest.mark.parametrize("second", ["0", "1"])
def test_two_gateways_do_not_share_a_port_by_accident(start: Any, tmp_path: Path, first: str, second: str) -> None:
    running = start("--workers", first)
    others = ("--spool-dir", str(tmp_path / "other"), "--workers", second)
    printed = refused(tmp_path, "--grpc-port", str(running.grpc), "--http-port", str(free_port()), *others)
    assert f"port {running.grpc} is in use" in printed
    printed = refused(tmp_path, "--grpc-port", str(free_port()), "--http-port", str(running.http), *others)
    assert f"port {running.http} is in use" in printed


def test_a_database_that_cannot_be_used_stops_all_processes_before_anything_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    printed = refused(
        tmp_path, *("--grpc-port", "0", "--http-port", "0"), *("--db", f"sqlite:///{tmp_path}/file/rows.db")
    )
    assert "request_log.url" in printed
    assert "receiving" not in printed, "it never logged that it takes requests"


# --- health and metrics ---------------------------------------------------------------------------------------------
def test_any_port_tells_of_all_processes(start: Any) -> None:
    running = start("--workers", "2")
    with Load(running, senders=8) as load:
        load.wait_for(150)
    running.delivered()
    names = {"receiver-1", "receiver-2", "deliverer"}
    for _ in range(4):  # whichever process answers
        assert set(running.health()["parts"]["processes"]) == names
        assert running.health()["parts"]["exporters"]["request_log"]["circuit"] == "closed"
        metrics = running.metrics()
        assert {dict(labels)["process"] for labels in metrics["otel_telemetry_process_up"]} == names
        assert {dict(labels)["process"] for labels in metrics["process_resident_memory_bytes"]} == names
        assert sum(metrics["otel_telemetry_accepted_total"].values()) == 5 * len(load.acknowledged)
        assert metrics["otel_telemetry_spool_items_total"] == {(): 5 * len(load.acknowledged)}
        delivered = {
            dict(labels)["process"]: value
            for labels, value in metrics["otel_telemetry_delivered_total"].items()
            if dict(labels)["signal"] == "traces"
        }
        assert delivered == {"deliverer": 5 * len(load.acknowledged)}


def test_one_process_has_its_series_without_a_process(start: Any) -> None:
    running = start("--workers", "0")
    with Load(running) as load:
        load.wait_for(10)
    running.delivered()
    series = [dict(labels) for labels in running.metrics()["otel_telemetry_accepted_total"]]
    assert {"signal": "traces"} in series
    assert all(labels.keys() == {"signal"} for labels in series)
    assert "processes" not in running.health()["parts"]


FIRST = b"""# HELP sent What was sent.
# TYPE sent counter
sent_total{signal="traces"} 3.0
# HELP took_seconds How long it took.
# TYPE took_seconds histogram
took_seconds_bucket{le="1.0"} 1.0
took_seconds_bucket{le="+Inf"} 2.0
took_seconds_count 2.0
took_seconds_sum 1.5
# EOF
"""
SECOND = b"""# HELP sent What was sent.
# TYPE sent counter
sent_total{signal="traces"} 4.0
sent_total{signal="logs"} 1.0
# EOF
"""


def test_expositions_become_one_with_each_sample_under_its_process() -> None:
    families = {family.name: family for family in merged({"a": FIRST, "b": SECOND})}
    assert [(sample.labels, sample.value) for sample in families["sent"].samples] == [
        ({"signal": "traces", "process": "a"}, 3.0),
        ({"signal": "traces", "process": "b"}, 4.0),
        ({"signal": "logs", "process": "b"}, 1.0),
    ]
    assert {sample.name for sample in families["took_seconds"].samples} == {
        "took_seconds_bucket", "took_seconds_count", "took_seconds_sum",
    }  # fmt: skip
    assert families["took_seconds"].type == "histogram"
    assert len(list(text_string_to_metric_families(FIRST.decode()))) == 2


def lookups(cache: str, hits: int, misses: int) -> str:
    counts = {"telemetry_cache_cache_hits_total": hits, "telemetry_cache_cache_misses_total": misses}
    lines = [f'{name}{{cache="{cache}",family="{n}"}} {n}' for name, n in counts.items()]
    rate = f'telemetry_cache_cache_hit_rate{{cache="{cache}"}} {hits / (hits + misses)}'
    types = ["# TYPE telemetry_cache_cache_hits counter", lines[0]]
    types += ["# TYPE telemetry_cache_cache_misses counter", lines[1]]
    return "\n".join([*types, "# TYPE telemetry_cache_cache_hit_rate gauge", rate, "# EOF", ""])


def test_the_hit_rate_of_a_cache_is_that_of_all_processes() -> None:
    one, other = lookups("redis", 9, 1), lookups("redis", 0, 90)
    families = {family.name: family for family in merged({"a": one.encode(), "b": other.encode()})}
    (rate,) = families["telemetry_cache_cache_hit_rate"].samples
    assert (rate.labels, rate.value) == ({"cache": "redis"}, 0.09)


async def test_processes_answer_each_other_however_long_the_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    group = Group(folder, ["one", "two", "away"])
    group.prepare()
    server = await group.answer("two", {"metrics": lambda: b"of two", "health": lambda: b"{}"})
    answers = await asyncio.to_thread(group.ask_others, "one", "metrics")
    assert answers == {"two": b"of two", "away": None}
    server.close()
    group.clear()


async def test_what_a_killed_gateway_left_is_cleared_away_and_what_another_uses_stays(tmp_path: Path) -> None:
    other = Group(tmp_path, ["one"])
    other.prepare()
    server = await other.answer("one", {"health": lambda: b"{}"})
    left, foreign, note = (tmp_path / "run" / name for name in ("01234567.receiver-1", "app.sock", "01234567.note"))
    for path in (left, foreign):
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(path))
    note.write_text("of somebody else")
    group = Group(tmp_path, ["one"])
    await asyncio.to_thread(group.prepare)
    assert [path.exists() for path in (left, foreign, note)] == [False, True, True]
    assert await asyncio.to_thread(other.ask_others, "", "health") == {"one": b"{}"}
    server.close()


def test_restarts_are_counted_for_all_to_see(tmp_path: Path) -> None:
    group = Group(tmp_path, ["one", "two"])
    child = os.fork()
    if not child:
        group.count_restart("two")
        os._exit(0)
    os.waitpid(child, 0)
    assert group.restarts() == {"one": 0, "two": 1}


def test_orders_that_come_before_anybody_listens_are_not_lost(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    reports, reporting = os.pipe()
    worker = WorkerContext("one", Group(tmp_path, ["one"]), reading, reporting)
    os.write(writing, b"go\n5.0\n")
    worker.follow()
    worker.wait_until_admitted()
    obeyed: list[float] = []
    eventually(lambda: worker._waiting, "the order is there")
    worker.on_stop(obeyed.append)
    worker.ready()
    worker.refused(ConfigurationError("a.key", "is wrong", "do this"))
    assert os.read(reports, 100) == b'{}\n["a.key", "is wrong", "do this"]\n'
    assert obeyed == [5.0]  # the pipe stays open: its end would end this process


# --- the spool ------------------------------------------------------------------------------------------------------
def test_the_size_limit_holds_for_all_processes_together(tmp_path: Path) -> None:
    spools = [Spool(tmp_path / "spool", 8 * MIB, 24, housekeeper=number == 0) for number in range(3)]
    spools[0].attach(["away"])
    accepted = refused_ = 0
    futures = []
    for number in range(60):
        try:
            futures.append(spools[number % 3].append("traces", bytes([number]) * (MIB // 2), 1))
        except Overloaded:
            refused_ += 1
    for future in futures:
        try:
            future.result(10)
        except Overloaded:
            refused_ += 1
        else:
            accepted += 1
    assert accepted + refused_ == 60
    assert accepted >= 12
    assert 0 < (spools[0].reader.status().bytes or 0) <= 9 * MIB
    assert spools[0].reader.status().batches == accepted
    for spool in spools:
        spool.close()


def test_what_one_process_appends_another_sees_soon(tmp_path: Path) -> None:
    receiving, delivering = (
        Spool(tmp_path / "spool", 8 * MIB, 24, housekeeper=housekeeper) for housekeeper in (False, True)
    )
    delivering.attach(["a"])
    waiter = threading.Thread(target=delivering.wait, args=(0, 30))
    waiter.start()
    receiving.append("traces", b"one", 1).result(10)
    waiter.join(5)
    assert not waiter.is_alive()
    assert [batch.body for batch in delivering.due("a", MIB, 9)] == [b"one"]
    receiving.close()
    delivering.close()


def test_room_that_delivery_makes_is_seen_by_those_who_receive(tmp_path: Path) -> None:
    receiving = Spool(tmp_path / "spool", 8 * MIB, 24, housekeeper=False)
    delivering = Spool(tmp_path / "spool", 8 * MIB, 24, largest_body=MIB)
    delivering.attach(["a"])

    def accepts() -> bool:
        try:
            receiving.append("traces", b"x" * MIB, 1).result(10)
        except Overloaded:
            return False
        return True

    while accepts():
        pass
    while batches := delivering.due("a", 8 * MIB, 99):
        delivering.advance("a", batches)
    eventually(accepts, "it accepts again")
    assert receiving.problem == ""
    receiving.close()
    delivering.close()


async def test_a_gateway_whose_writes_do_not_end_is_not_healthy_until_they_do(
    serving: Any, monkeypatch: pytest.MonkeyPatch, make_request: Any
) -> None:
    monkeypatch.setattr("otel_telemetry.gateway.spool.writer._STUCK_SECONDS", 0.2)
    async with serving() as running, httpx.AsyncClient() as client:
        lock = spool_file.lock_file(running.spool_dir, spool_file.WRITE_LOCK_NAME)
        with spool_file.write_lock(lock):
            headers = {"content-type": "application/x-protobuf"}
            url = f"{running.http}/v1/traces"
            sending = asyncio.create_task(client.post(url, content=make_request("one"), headers=headers))
            await asyncio.sleep(0.5)
            answer = await client.get(f"{running.http}/health")
            assert answer.status_code == 503
            assert answer.json()["parts"]["spool"]["problem"] == "a write does not end"
        assert (await sending).status_code == 200
        assert (await client.get(f"{running.http}/health")).status_code == 200
        os.close(lock)


def test_who_waits_for_the_write_lock_gets_it_when_its_owner_dies(tmp_path: Path) -> None:
    spool_file.make_folder(tmp_path)
    ready, writing = os.pipe()
    child = os.fork()
    if not child:
        with spool_file.write_lock(spool_file.lock_file(tmp_path, spool_file.WRITE_LOCK_NAME)):
            os.write(writing, b"x")
            threading.Event().wait(60)
    os.read(ready, 1)
    lock = spool_file.lock_file(tmp_path, spool_file.WRITE_LOCK_NAME)
    had = threading.Event()

    def wait_for_it() -> None:
        with spool_file.write_lock(lock):
            had.set()

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert not had.wait(0.2)
    os.kill(child, 9)
    os.waitpid(child, 0)
    assert had.wait(5)
    thread.join()


async def test_the_ports_that_all_share_take_from_several_connections(start: Any) -> None:
    running = start("--workers", "2")
    for _ in range(8):
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{running.grpc}", [("grpc.use_local_subchannel_pool", 1)]
        ) as one:
            await one.unary_unary(EXPORT, bytes, bytes)(make_request(os.urandom(16)), timeout=10)
    await asyncio.to_thread(running.delivered)
    metrics = await asyncio.to_thread(running.metrics)
    assert sum(metrics["otel_telemetry_accepted_total"].values()) == 40

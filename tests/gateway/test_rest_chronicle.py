"""What chronicle's clients send ends with the rows with which it ended there, in whatever order requests come."""

import asyncio
import random
import time
from typing import Any

import pytest

from tests.gateway.chronicle_traffic import START, Client, Database
from tests.gateway.rest_gateway import gateway_opener


@pytest.fixture(name="gateway", params=["sqlite", "postgres"])
async def gateway_fixture(request, serving, with_tables):
    async with gateway_opener(serving, with_tables(request.param))(store_text=True) as gateway:
        yield gateway


def in_order(rows: Any, like: Any) -> list[Any]:
    """Return rows with the columns that another one has, in an order that both have."""
    names = sorted(like)
    return sorted(([(name, row[name]) for name in names] for row in rows), key=str)


async def ends_as_there(gateway: Any, events: list[Any]) -> None:
    """Wait until all rows are those of chronicle's database after these events in the order of their making."""
    there = Database(events)
    wanted = {
        "workflow_run": list(there.runs.values()),
        "workflow_step": list(there.steps.values()),
        "workflow_event": there.others,
    }
    end = time.monotonic() + 120
    for table, rows in wanted.items():
        expected = in_order(rows, rows[0]) if rows else []
        while (found := in_order(await asyncio.to_thread(gateway.rows, table), rows[0]) if rows else []) != expected:
            assert time.monotonic() < end, [pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]]
            await asyncio.sleep(0.05)


async def send(gateway: Any, requests: Any) -> None:
    for request in requests:
        answer = await gateway.client.post("/events", json={"events": request})
        assert (answer.status_code, answer.json()["accepted"]) == (202, len(request))


async def test_two_hundred_runs_in_shuffled_and_repeated_requests(gateway):
    client = Client(seed=14)
    for _ in range(200):
        client.run()
        if client.chance.random() < 0.2:
            client.flush()
    client.flush()
    requests = [*client.requests, *client.chance.choices(client.requests, k=len(client.requests) // 4)]
    random.Random(1).shuffle(requests)  # noqa: S311
    await send(gateway, requests)
    await ends_as_there(gateway, client.events)
    await send(gateway, requests[:5])
    await ends_as_there(gateway, client.events)


async def test_a_batch_of_three_thousand_events_of_one_time(gateway):
    client = Client(seed=3)
    run_id = client.new_id()
    events: list[Any] = [{"type": "run:start", "id": run_id, "name": "big", "info": {"n": 0}}]
    for number in range(999):
        step = {"step_id": client.new_id(), "run_id": run_id}
        events += [
            {"type": "step:start", **step, "data": {"type": "n", "name": f"s{number}", "input": {"i": number}}},
            {"type": "tick", **step, "data": {"i": number}},
            {"type": "step:end", **step, "data": {"output": {"i": number}, "info": {"i": number}}},
        ]
    client.event(*events, {"type": "run:update", "id": run_id, "output": {"n": 999}})
    client.flush()
    await send(gateway, client.requests)
    await ends_as_there(gateway, client.events)


async def test_a_list_of_one_time_keeps_its_order(gateway):
    client = Client(seed=0)
    for states in (("a", "z"), ("z", "a"), ("running", "blocked"), ("finished", "running")):
        run_id, step_id = client.new_id(), client.new_id()
        step = {"run_id": run_id, "step_id": step_id}
        client.event(
            {"type": "run:start", "id": run_id, "name": "n", "info": {"v": "old"}},
            {"type": "step:start", **step, "data": {"type": "t", "input": None}},
            {"type": "step:end", **step, "data": {"output": 1}},
            *({"type": "step:state", **step, "data": {"state": state}} for state in states),
            *({"type": "run:update", "id": run_id, "status": state, "info": {"v": state}} for state in states),
        )
    client.flush()
    await send(gateway, client.requests)
    await ends_as_there(gateway, client.events)


async def test_events_of_one_millisecond_in_requests_of_their_own_count_by_their_kind(gateway):
    client = Client(seed=0)
    for _ in range(10):
        run_id, step = client.new_id(), {"step_id": client.new_id()}
        client.event({"type": "run:start", "id": run_id, "name": "n"})
        client.event({"type": "step:start", "run_id": run_id, **step, "data": {"type": "t", "input": 1}})
        client.event({"type": "step:state", "run_id": run_id, **step, "data": {"state": "waiting"}})
        client.event({"type": "step:end", "run_id": run_id, **step, "data": {"output": 2, "info": {"n": 3}}})
        client.event({"type": "run:update", "id": run_id, "status": "done", "info": {"n": 4}})
    requests = [[event] for event in client.events]
    client.chance.shuffle(requests)
    await send(gateway, requests)
    await ends_as_there(gateway, client.events)


async def test_numbers_that_headers_say_of_a_run_are_numbers_in_its_info(gateway):
    headers = {
        "x-chronicle-organization-id": "org",
        "x-chronicle-step-index": "3",
        "x-chronicle-prompt-version": "7",
        "x-chronicle-extra-meta": '{"team": "b", "size": 12, "share": 0.5}',
    }
    at = START.isoformat()
    own = {"info": {"team": "a", "count": 9_007_199_254_740_993, "large": 1e21, "part": 2.5, "step_index": "own"}}
    step = {"run_id": "r", "step_id": "s", "time": at}
    events = [
        {"type": "run:start", "id": "r", "name": "n", "time": at, **own},
        {"type": "step:start", **step, "data": {"type": "t", "info": {"n": 1}}},
    ]
    assert (await gateway.client.post("/events", json={"events": events}, headers=headers)).status_code == 202
    (run,) = await gateway.until("workflow_run", 1)
    assert run["info"] == {
        **own["info"],
        "organization_id": "org",
        "step_index": 3,
        "prompt_version": 7,
        "team": "b",
        "size": 12,
        "share": 0.5,
    }
    (row,) = await gateway.until("workflow_step", 1)
    assert row["info"] == {"n": 1}


async def test_an_error_is_told_where_chronicle_s_clients_read_it(gateway):
    for bad, problem in (
        ({"type": "step:end", "run_id": "r"}, "step_id: is missing"),
        ("no event", "must be a JSON object"),
    ):
        answer = await gateway.client.post("/events", json={"events": [bad]})
        assert (answer.status_code, answer.json()["error"]["details"]["body"]) == (400, problem)
    answer = await gateway.client.post("/events", content=b"{", headers={"content-type": "application/json"})
    assert answer.json()["error"]["details"]["body"] == answer.json()["message"]
    assert answer.json()["error"]["kind"] == "malformed"

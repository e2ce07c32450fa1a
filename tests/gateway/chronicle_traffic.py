"""Traffic of chronicle's clients and what chronicle's database makes of it, both written from how they behave.

`Client` queues events, one at a time or a list at one time, and sends what is queued as one request. `Database` applies
events one after the other, as they were sent. All of it is Python of ours: nothing of chronicle is needed.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final

Event = dict[str, Any]
Request = list[Event]

START: Final = datetime(2026, 11, 20, 10, tzinfo=UTC)
NAMES: Final = ("ask", "plan", "search", "answer", "check")


class Client:
    """Makes events as the functions of the JavaScript client do; its clock is in whole milliseconds."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  # hides nothing
        self.now = START
        self.events: list[Event] = []
        self.requests: list[Request] = []
        self._queued: Request = []
        self._ids = 0

    def new_id(self) -> str:
        """Return a UUID."""
        self._ids += 1
        return f"0193a000-{self._ids >> 16 & 0xFFFF:04x}-7000-8000-{self._ids:012x}"

    def tick(self, at_least: int = 0) -> None:
        """Let time pass; often none does between two calls."""
        self.now += timedelta(milliseconds=max(at_least, self.chance.choice((0, 0, 0, 1, 7))))

    def event(self, *events: Event) -> None:
        """Queue events of one time."""
        for event in events:
            event.setdefault("time", self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
            self._queued.append(event)
            self.events.append(event)

    def flush(self) -> None:
        """Send what is queued."""
        if self._queued:
            self.requests.append(self._queued)
        self._queued = []

    def run(self) -> None:
        """Start a run, do steps in it, end it; now and then it is started a second time."""
        run_id = self.new_id()
        self._started(run_id, **self._tags(), input={"value": self._ids})
        for _ in range(self.chance.randint(0, 3)):
            self._step(run_id, None, 2)
            if self.chance.random() < 0.3:
                self.flush()
        if self.chance.random() < 0.2:
            self._list(run_id)
        self._finished(run_id)
        if self.chance.random() < 0.2:
            self.tick(1)
            self._started(run_id, name="again", description="more", tags=["late"], info={"late": True})
            if self.chance.random() < 0.5:
                self._finished(run_id)

    def _started(self, run_id: str, **more: Any) -> None:
        fields = {"name": self.chance.choice(NAMES), "application": "shop", "info": self._info("start"), **more}
        self.tick()
        self.event({"type": "run:start", "id": run_id, **fields, **self._maybe(status="queued", environment="test")})

    def _finished(self, run_id: str) -> None:
        self.tick(1)
        ways = ({"output": {"total": self.now.microsecond}}, {"status": "error", "output": {}}, {"status": "skipped"})
        outcome = self.chance.choice((*ways, {}))
        self.event({"type": "run:update", "id": run_id, "info": self._info("end"), **outcome})

    def _step(self, run_id: str, parent: str | None, deeper: int) -> None:
        step = {"run_id": run_id, "step_id": self.new_id()}
        data = {"type": "task", "name": self.chance.choice(NAMES), "input": self._ids, "info": self._info("start")}
        self.tick()
        self.event({"type": "step:start", **step, "data": {**data, **self._tags(), "parent_step": parent}})
        if deeper and self.chance.random() < 0.4:
            self._step(run_id, step["step_id"], deeper - 1)
        if self.chance.random() < 0.3:
            self.tick(1)
            self.event({"type": "step:state", **step, "data": {"state": self.chance.choice(("waiting", "b"))}})
        if self.chance.random() < 0.5:
            self.event({"type": "tick", **step, "data": {"n": self._ids}, **self._maybe(error={"code": 4})})
        self.tick()
        if self.chance.random() < 0.2:
            self.event({"type": "step:error", **step, "data": {"error": {"message": "failed", "n": self._ids}}})
        else:
            self.event({"type": "step:end", **step, "data": {"output": [self._ids], "info": self._info("end")}})

    def _list(self, run_id: str) -> None:
        """One call with many events, which all get one time: their order is all that tells which is the later."""
        step = {"run_id": run_id, "step_id": self.new_id()}
        names = ["b", "a", "z", "running", "b"]
        self.chance.shuffle(names)
        states = [{"type": "step:state", **step, "data": {"state": word}} for word in names]
        end = {"type": "step:end", **step, "data": {"output": names[0]}}
        updates = [{"type": "run:update", "id": run_id, "status": word, "info": {"v": word}} for word in names]
        states.insert(self.chance.randint(0, len(states)), end)
        self.tick(1)
        self.event(
            {"type": "step:start", **step, "data": {"type": "t", "input": None}},
            *({"type": "tick", **step, "data": {"n": 1}} for _ in range(2)),
            *states,
            *updates,
        )

    def _info(self, phase: str) -> dict[str, Any]:
        return {"phase": phase, self.chance.choice(NAMES): self.chance.choice((1, 2.5, True, None, [1, {"a": 2}]))}

    def _tags(self) -> dict[str, list[str]]:
        tags: tuple[list[str] | None, ...] = (None, [], ["a"], ["dag", "node"])
        chosen = self.chance.choice(tags)
        return {} if chosen is None else {"tags": chosen}

    def _maybe(self, **fields: Any) -> dict[str, Any]:
        return {key: value for key, value in fields.items() if self.chance.random() < 0.5}


class Database:
    """What is in chronicle's tables after events in this order, by what its statements say."""

    def __init__(self, events: list[Event]) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.steps: dict[str, dict[str, Any]] = {}
        self.others: list[dict[str, Any]] = []
        for event in events:
            kind = event["type"]
            at = datetime.fromisoformat(event["time"])
            if kind == "run:start":
                self._run_start(event, at)
            elif kind == "run:update":
                if event["id"] in self.runs:
                    row = self.runs[event["id"]]
                    row |= {"status": event.get("status", "finished"), "output": event.get("output")}
                    row |= {"info": _merged(row["info"], event.get("info")), "updated_at": at}
            elif kind == "step:start":
                self._step_start(event, at)
            elif kind.startswith("step:"):
                self._step(kind, self.steps.get(event["step_id"]), event["data"], at)
            else:
                columns = {name: event.get(name) for name in ("run_id", "step_id", "type", "data", "error")}
                self.others.append({**columns, "ts": at})

    def _run_start(self, event: Event, at: datetime) -> None:
        status = event.get("status", "started")
        if event["id"] in self.runs:
            self.runs[event["id"]] |= {"status": status, "updated_at": at}
            return
        names = ("id", "name", "description", "application", "environment", "input", "trace_id", "span_id", "info")
        row = {name: event.get(name) for name in names} | {"tags": event.get("tags") or None, "output": None}
        self.runs[event["id"]] = {**row, "status": status, "created_at": at, "updated_at": at}

    def _step_start(self, event: Event, at: datetime) -> None:
        names = ("type", "parent_step", "name", "input", "span_id", "info")
        row = {name: event["data"].get(name) for name in names} | {"tags": event["data"].get("tags") or None}
        row |= {"id": event["step_id"], "run_id": event["run_id"], "output": None, "status": "started"}
        self.steps.setdefault(event["step_id"], {**row, "start_time": at, "end_time": None})

    def _step(self, kind: str, row: dict[str, Any] | None, data: dict[str, Any], at: datetime) -> None:
        if row is None:
            return
        if kind == "step:state":
            row["status"] = data["state"]
        elif kind == "step:error":
            row |= {"status": "error", "output": data["error"], "end_time": at}
        else:
            row |= {"status": "finished", "output": data["output"], "end_time": at}
            row["info"] = _merged(row["info"], data.get("info"))


def _merged(there: Any, added: Any) -> Any:
    """What `||` makes of two objects of jsonb, either of which may be missing."""
    return added if there is None else there if added is None else {**there, **added}

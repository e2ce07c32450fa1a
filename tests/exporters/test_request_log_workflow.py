"""Workflow rows depend on the set of events alone: not on order, batches, repetition or restarts."""

import dataclasses
import random
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_telemetry.base import conventions, records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.store.store import open_store

TABLES = ("workflow_run", "workflow_step", "workflow_event", "workflow_state", "workflow_seen", "dead_letter")
SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND


def app_event(kind: str, at: float | None = 0.0, *, seen: float = 0.0, **values: Any) -> records.AppEvent:
    """Return a workflow event at so many seconds, or without a time of its own."""
    return records.AppEvent(
        name=conventions.WORKFLOW_EVENT,
        time_ns=0 if at is None else START + round(at * SECOND),
        observed_ns=START + round(seen * SECOND),
        trace_id=None,
        span_id=None,
        values={"type": kind, **values},
        resource={},
    )


class Database:
    """A database: empties it, writes events to it, reads what is in it."""

    def __init__(self, url: str) -> None:
        self.store = open_store(RequestLogSettings(url=url, store_text=True))

    @property
    def engine(self) -> sa.Engine:
        assert self.store._engine is not None
        return self.store._engine

    def write(self, *batches: list[records.AppEvent], restarts: frozenset[int] = frozenset()) -> dict[str, list[Any]]:
        self.store.open()
        with self.engine.begin() as connection:
            for name in TABLES:
                connection.execute(sa.delete(schema.metadata.tables[name]))
        for number, batch in enumerate(batches):
            if number in restarts:
                self.store.close()
            self.store.write_events(batch)
        return self.contents()

    def contents(self) -> dict[str, list[Any]]:
        with self.engine.connect() as connection:
            return {
                name: [dict(row) for row in connection.execute(in_order(schema.metadata.tables[name])).mappings()]
                for name in TABLES
            }

    def one(self, table: str, *batches: list[records.AppEvent]) -> dict[str, Any]:
        rows = self.write(*batches)[table]
        assert len(rows) == 1
        row: dict[str, Any] = rows[0]
        return row


def in_order(table: sa.Table) -> sa.Select[Any]:
    found = sa.select(table).order_by(*table.primary_key.columns)
    return found.with_only_columns(*(c for c in table.c if (table.name, c.name) != ("dead_letter", "ts")))


@pytest.fixture(scope="module", name="sqlite_database")
def sqlite_database_fixture(tmp_path_factory):
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('workflow') / 'log.db'}")
    yield database
    database.store.close()


@pytest.fixture(scope="module", name="postgres_database")
def postgres_database_fixture(postgres):
    database = Database(postgres.database())
    yield database
    database.store.close()


@pytest.fixture(name="database", params=["sqlite", "postgres"])
def database_fixture(request):
    return request.getfixturevalue(f"{request.param}_database")


KINDS = [*sorted(conventions.RUN_TYPES | conventions.STEP_TYPES), "approval", "tool_call"]


@st.composite
def events(draw: st.DrawFn) -> records.AppEvent:
    """Draw an event of few runs and steps, so that many speak of the same."""
    kind = draw(st.sampled_from(KINDS))
    values: dict[str, Any] = {"run_id": draw(st.sampled_from(["r1", "r2"]))}
    if kind not in conventions.RUN_TYPES:
        values["step_id"] = draw(st.sampled_from(["1", "2"]))
    word = st.sampled_from(["a", "b", "finished", "running"])
    maps = st.dictionaries(st.sampled_from("xyz"), st.one_of(st.integers(0, 3), st.none()), max_size=2)
    optional: dict[str, st.SearchStrategy[Any]] = {
        "status": word,
        "output": st.one_of(word, maps),
        "input": maps,
        "name": word,
        "info": maps,
        "tags": st.lists(word, max_size=2),
        "data": st.dictionaries(st.sampled_from(["output", "type", "state", "name"]), word, max_size=2),
        "user_id": word,
        "error": word,
        "event_id": st.sampled_from(["e1", "e2", "e3", "e4"]),
    }
    for name, strategy in optional.items():
        if draw(st.integers(0, 3)) == 0:
            values[name] = draw(strategy)
    if "event_id" in values:  # one id is one event: whatever else it says belongs to its id
        values = {"run_id": "r1", "step_id": "1", "event_id": values["event_id"], "status": values["event_id"]}
        return app_event("run:update", int(values["event_id"][1]), **values)
    event = app_event(kind, draw(st.sampled_from([0, 1, 1.0004, 2, 4, None])), seen=draw(st.integers(0, 4)), **values)
    return dataclasses.replace(event, place=draw(st.integers(0, 2)), after=draw(st.integers(0, 2)))


def rearranged(batch: list[records.AppEvent], chance: random.Random) -> list[list[records.AppEvent]]:
    """Shuffle, repeat and split."""
    many = batch + chance.choices(batch, k=chance.randint(0, 4))
    chance.shuffle(many)
    cuts = sorted(chance.choices(range(len(many) + 1), k=chance.randint(0, 4)))
    return [many[start:end] for start, end in zip([0, *cuts], [*cuts, len(many)], strict=True)]


def same_however_it_comes(database: Database, batch: list[records.AppEvent], seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - shuffles, hides nothing
    expected = database.write(batch)
    batches = rearranged(batch, chance)
    restarts = frozenset(n for n in range(len(batches)) if chance.random() < 0.2)
    assert database.write(*batches, restarts=restarts) == expected
    for again in batches:
        database.store.write_events(again)
    assert database.contents() == expected


FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@given(batch=st.lists(events(), min_size=1, max_size=10), seed=st.integers(0, 2**32))
@settings(max_examples=75, deadline=None, suppress_health_check=FIXTURES)
def test_events_in_any_order_split_repeated_and_cut_by_restarts_give_the_same_rows(sqlite_database, batch, seed):
    same_however_it_comes(sqlite_database, batch, seed)


@given(batch=st.lists(events(), min_size=1, max_size=8), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None, suppress_health_check=FIXTURES)
def test_the_same_holds_on_postgres_and_both_databases_agree(postgres_database, sqlite_database, batch, seed):
    same_however_it_comes(postgres_database, batch, seed)
    assert sqlite_database.write(batch) == postgres_database.contents()


def test_a_run_and_its_steps_come_out_as_they_were_told(database):
    rows = database.write(
        [
            app_event("run:start", 0, id="r1", name="answer", input={"q": "why"}, tags=["prod"], info={"a": 1}),
            app_event("step:start", 1, run_id="r1", step_id="s1", data={"type": "llm", "name": "ask", "input": [1]}),
            app_event("step:state", 2, run_id="r1", step_id="s1", data={"state": "streaming"}),
            app_event("step:end", 3, run_id="r1", step_id="s1", data={"output": "because", "info": {"tokens": 5}}),
            app_event("approval", 3.5, run_id="r1", step_id="s1", data={"by": "anna"}),
            app_event("run:update", 4, id="r1", status="finished", output={"a": "because"}, info={"b": 2}),
        ]
    )
    (run,), (step,), (event,) = (rows[name] for name in TABLES[:3])
    assert (run["id"], run["name"], run["status"]) == ("r1", "answer", "finished")
    assert (run["input"], run["output"]) == ({"q": "why"}, {"a": "because"})
    assert (run["tags"], run["info"]) == (["prod"], {"a": 1, "b": 2})
    assert (run["updated_at"] - run["created_at"]).total_seconds() == 4
    assert (step["id"], step["run_id"], step["type"], step["name"]) == ("s1", "r1", "llm", "ask")
    assert (step["input"], step["output"], step["status"]) == ([1], "because", "finished")
    assert (step["end_time"] - step["start_time"]).total_seconds() == 2
    assert step["info"] == {"tokens": 5}
    assert (event["run_id"], event["step_id"], event["type"], event["data"]) == ("r1", "s1", "approval", {"by": "anna"})


def test_an_update_without_status_or_output_finishes_a_run_and_leaves_no_output(database):
    first = [
        app_event("run:start", 0, id="r1"),
        app_event("run:update", 1, id="r1", status="waiting", output="half"),
        app_event("run:update", 2, id="r1", output=None, status=None, info={"a": 1}),
    ]
    run = database.one("workflow_run", first)
    assert (run["status"], run["output"], run["info"]) == ("finished", None, {"a": 1})


def test_a_second_start_gives_a_run_its_status_again_and_changes_nothing_else(database):
    events = [
        app_event("run:start", 0, id="r1", name="one", tags=["a"], info={"a": 1}, input=1),
        app_event("run:update", 1, id="r1", output="so"),
        app_event("run:start", 2, id="r1", name="two", description="d", tags=["b"], info={"b": 2}, input=2),
    ]
    run = database.one("workflow_run", events)
    assert database.one("workflow_run", *[[event] for event in reversed(events)]) == run
    assert (run["status"], run["name"], run["description"], run["output"]) == ("started", "one", None, "so")
    assert (run["tags"], run["info"], run["input"]) == (["a"], {"a": 1}, 1)
    assert (run["updated_at"] - run["created_at"]).total_seconds() == 2


def test_a_second_start_of_a_step_changes_nothing(database):
    step: dict[str, Any] = {"run_id": "r", "step_id": "s"}
    events = [
        app_event("step:start", 0, **step, data={"type": "t", "input": 1, "info": {"a": 1}}),
        app_event("step:end", 1, **step, data={"output": 2}),
    ]
    expected = database.one("workflow_step", events)
    again = app_event("step:start", 2, **step, data={"type": "u", "name": "n", "input": 3, "info": {"b": 1}})
    assert database.one("workflow_step", [again], events) == expected


def test_events_of_one_millisecond_count_by_kind_then_place_then_id(database):
    step: dict[str, Any] = {"run_id": "r", "step_id": "s"}
    at_once = [
        app_event("step:end", 1.0001, **step, output=1),
        app_event("step:start", 1.0003, **step, name="n"),
        app_event("step:state", 1.0002, **step, state="waiting"),
    ]
    row = database.one("workflow_step", at_once)
    assert (row["status"], row["name"], row["output"]) == ("finished", "n", 1)
    placed = [
        dataclasses.replace(app_event("run:update", 1, id="r", status=word, event_id=word), place=at)
        for at, word in enumerate("zay")
    ]
    assert database.one("workflow_run", placed[::-1])["status"] == "y"
    assert database.one("workflow_run", [dataclasses.replace(each, place=0) for each in placed])["status"] == "z"
    later = dataclasses.replace(at_once[2], place=1, after=2)
    assert database.one("workflow_step", [later], at_once[:2])["status"] == "waiting"


def test_a_step_that_ends_before_it_starts_is_kept_and_stays_ended(database):
    end = app_event("step:end", None, seen=1, run_id="r", step_id="s", output="done")
    start = app_event("step:start", None, seen=2, run_id="r", step_id="s", name="ask")
    step = database.one("workflow_step", [end], [start])
    assert (step["status"], step["output"], step["name"]) == ("finished", "done", "ask")
    alone = database.one("workflow_step", [end])
    assert (alone["status"], alone["start_time"]) == ("finished", None)
    assert alone["end_time"] is not None


def test_an_update_before_its_start_is_kept(database):
    run = database.one(
        "workflow_run", [app_event("run:update", 5, id="r", output="o")], [app_event("run:start", 1, id="r", name="n")]
    )
    assert (run["status"], run["output"], run["name"]) == ("finished", "o", "n")


def test_the_last_word_on_a_step_counts_even_after_its_end(database):
    step: dict[str, Any] = {"run_id": "r", "step_id": "s"}
    events = [
        app_event("step:error", None, seen=1, **step, error="boom"),
        app_event("step:state", None, seen=2, **step, state="x"),
    ]
    row = database.one("workflow_step", events)
    assert (row["status"], row["output"], row["info"]) == ("x", "boom", None)


def test_runs_and_steps_whose_marks_an_earlier_version_left_go_on(database):
    step: dict[str, Any] = {"run_id": "r", "step_id": "s"}
    database.write(
        [
            app_event("run:start", 1, id="r", name="n", info={"a": 1}),
            app_event("run:update", 2, id="r", status="waiting"),
            app_event("step:start", 1, **step, name="m"),
        ]
    )
    old = {
        "": {f"{START + SECOND} e1": ["info.a", "name"], f"{START + 2 * SECOND} e 2": ["status/1"]},
        "s": {f"{START + SECOND} e3": ["name", "status/0"]},
    }
    with database.engine.begin() as connection:
        for step_id, stamps in old.items():
            state = schema.workflow_state
            connection.execute(sa.update(state).where(state.c.step_id == step_id).values(stamps=stamps))
    database.store.write_events([app_event("run:update", 1.5, id="r", status="late", info={"b": 2}, name="x")])
    database.store.write_events([app_event("step:end", 3, **step, output="so", name="x")])
    (run,), (ended,) = (database.contents()[name] for name in TABLES[:2])
    assert (run["status"], run["name"], run["info"]) == ("waiting", "n", {"a": 1, "b": 2})
    assert (ended["status"], ended["name"], ended["output"]) == ("finished", "m", "so")
    database.store.write_events([app_event("run:start", 4, id="r", name="y")])
    (run,) = database.contents()["workflow_run"]
    assert (run["status"], run["name"]) == ("started", "n")


def test_steps_of_two_runs_may_have_the_same_id(database):
    rows = database.write([app_event("step:end", 1, run_id=run, step_id="1", output=run) for run in ("a", "b")])
    assert [(row["run_id"], row["output"]) for row in rows["workflow_step"]] == [("a", "a"), ("b", "b")]


def test_an_event_sent_again_without_a_time_of_its_own_is_no_newer_word(database):
    first = app_event("run:update", None, seen=1, event_id="e1", run_id="r", status="one")
    second = app_event("run:update", None, seen=2, event_id="e2", run_id="r", status="two")
    again = app_event("run:update", None, seen=3, event_id="e1", run_id="r", status="one")
    expected = database.write([first], [second])
    assert expected["workflow_run"][0]["status"] == "two"
    assert database.write([first], [second], [again]) == expected


def test_a_sender_s_own_id_of_an_event_counts_within_its_run_and_type_only(database):
    ids = [("r1", "a"), ("r1", "b"), ("r2", "a"), ("r1", "a")]
    rows = database.write([app_event(kind, None, seen=n, id="1", run_id=run) for n, (run, kind) in enumerate(ids)])
    assert len(rows["workflow_event"]) == 3


def test_custom_events_of_equal_content_at_different_times_are_two(database):
    rows = database.write(
        [app_event("tick", 1, run_id="r"), app_event("tick", 2, run_id="r"), app_event("tick", 2, run_id="r")]
    )
    assert len(rows["workflow_event"]) == 2


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (app_event("step:end", 1, run_id="r"), "InvalidEvent: step_id: missing"),
        (app_event("step:end", 1, step_id="s"), "InvalidEvent: run_id: missing"),
        (app_event("run:start", 1), "InvalidEvent: run_id: missing"),
        (app_event("", 1), "InvalidEvent: type: missing"),
    ],
)
def test_an_event_that_lacks_what_it_is_about_goes_aside_and_the_others_are_stored(database, wrong, reason):
    rows = database.write([app_event("run:start", 1, id="r"), wrong])
    assert [row["reason"] for row in rows["dead_letter"]] == [reason]
    assert len(rows["workflow_run"]) == 1


def test_what_no_column_takes_is_bounded_and_noted_and_costs_no_row(database):
    hostile: dict[str, Any] = {
        "name": "a\x00b\ud800",
        "tags": ["x"] * 10_000,
        "info": {f"k{n}": n for n in range(1_000)},
        "input": "y" * 2_000_000,
        "description": ["not", "text"],
        "step_index": float("nan"),
        "data": b"\xff\xfe",
    }
    run = database.one("workflow_run", [app_event("run:start", 1, id="r", **hostile)])
    assert run["name"].startswith("a\N{REPLACEMENT CHARACTER}b")
    assert (len(run["tags"]), len(run["input"]), run["description"]) == (256, 1_000_000, None)
    assert len(run["info"]) == 256
    event = database.one("workflow_event", [app_event("odd", 1, **hostile)])
    assert event["step_index"] is None
    assert event["meta"]["problems"]["data"] == "bytes left out"


def test_info_of_too_many_keys_keeps_the_same_ones_in_any_order(database):
    batch = [app_event("run:update", n, id="r", info={f"k{n}-{i}": i for i in range(100)}) for n in range(5)]
    expected = database.write(*[[event] for event in batch])
    assert len(expected["workflow_run"][0]["info"]) == 256
    assert database.write(*[[event] for event in reversed(batch)]) == expected


def test_a_clock_that_is_years_ahead_is_not_believed(database):
    ahead = app_event("run:update", 400 * 86_400, seen=1, id="r", status="ahead")
    run = database.one("workflow_run", [ahead], [app_event("run:update", 2, seen=2, id="r", status="now")])
    assert run["status"] == "now"


def test_texts_are_left_out_unless_they_are_stored(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'log.db'}")
    database.store._config = RequestLogSettings(url=database.store._config.url)
    rows = database.write(
        [
            app_event("run:start", 1, id="r", input="secret", info={"a": 1}),
            app_event("step:end", 1, run_id="r", step_id="s", data={"output": "secret"}),
            app_event(
                "note", 1, run_id="r", data={"prompt": "secret", "response": {"text": "secret", "tokens": 5}, "n": 1}
            ),
            app_event("step:end", 1, run_id="r", data={"output": "secret"}),
        ]
    )
    assert "secret" not in str(rows)
    assert rows["workflow_event"][0]["data"] == {"n": 1, "response": {"tokens": 5}}
    assert rows["workflow_run"][0]["info"] == {"a": 1}
    database.store.close()

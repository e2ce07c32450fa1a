"""Erasure: all that is about one person goes, from every table and from the file's bytes; the others lose nothing."""

import dataclasses
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate import erase as erasing
from otel_telemetry.exporters.request_log.operate.erase import Eraser
from otel_telemetry.exporters.request_log.operate.erase_search import Person
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.exporters.known import known

NOW = datetime(2026, 9, 22, 10, tzinfo=UTC)
JANE, OLE = "k1_aaaaaaaaaaaa", "k1_bbbbbbbbbbbb"
TEXT = "what only jane asked"
#: All but those that are filled in the background, at any time.
TABLES = tuple(sorted(schema.metadata.tables.keys() - {"rollup", "rollup_done"}))


@pytest.fixture(name="store")
def store_fixture(url):
    store = open_store(RequestLogSettings(url=url, store_text=True))
    yield store
    store.close()


@pytest.fixture(name="asked")
def asked_fixture(span, chat):
    """Return the spans of a request with a model call, and a branch between them."""

    def asked(number: int, first: int = 1, **attributes):
        trace = f"{number:032x}"
        about = {f"request_log.{name}": value for name, value in attributes.items()}
        call = {
            **chat(),
            "gen_ai.input.messages": attributes.get("query_text", "hello"),
            "gen_ai.output.messages": "well",
        }
        return [
            span(first, None, {"request_log.route": "a", **about}, trace_id=trace),
            span(first + 1, first, {}, trace_id=trace),
            span(first + 2, first + 1, call, trace_id=trace),
        ]

    return asked


def put(store, table: str, **values) -> None:
    with store._engine.begin() as connection:
        connection.execute(sa.insert(schema.metadata.tables[table]), values)


def counts(store) -> dict[str, int]:
    """Count rows by table; of what is known of traces, spans."""
    with store._engine.connect() as connection:
        found = {name: connection.scalar(sa.text(f"SELECT count(*) FROM {name}")) for name in TABLES}  # noqa: S608
        found["trace_facts"] = len(known(connection))
    return {name: count for name, count in found.items() if count}


def spans_in(store) -> list[dict[str, object]]:
    """Return what is known of spans."""
    with store._engine.connect() as connection:
        return known(connection)


def find(url: str, kind="user", value=JANE, report=lambda _: None):
    with Eraser(url, Person(kind, (JANE,), value)) as eraser:
        return eraser.find(report)


def everything(store) -> str:
    with store._engine.connect() as connection:
        return "".join(str(connection.execute(sa.select(table)).all()) for table in schema.metadata.sorted_tables)


def erase(url: str, kind="user", value=JANE):
    with Eraser(url, Person(kind, (value,), value)) as eraser:
        found = eraser.find()
        erased = eraser.erase(found)
        assert erased.rows == found.counts()
        eraser.reclaim(erased.rows)
        return erased


def test_requests_of_a_user_go_with_calls_spans_and_texts_and_those_of_others_stay(store, url, asked):
    store.write([*asked(1, user_id=JANE, query_text=TEXT), *asked(2, user_id=OLE), *asked(3)])
    others = counts(store)
    erased = erase(url)
    assert dict(erased.rows) == {"request_log": 1, "llm_call": 1, "trace_facts": 3}
    assert counts(store) == {name: count - erased.rows[name] for name, count in others.items()}
    assert TEXT not in everything(store)
    assert JANE not in everything(store)
    assert OLE in everything(store)
    assert erase(url).rows == {}


def test_a_request_goes_when_only_one_of_its_calls_names_the_user(store, url, asked, span, chat):
    spans = asked(1, query_text=TEXT)
    spans.append(span(9, 1, {**chat(), "user.id": JANE}, trace_id=f"{1:032x}"))
    store.write([*spans, *asked(2, user_id=OLE)])
    assert erase(url).rows["llm_call"] == 2
    assert TEXT not in everything(store)
    assert counts(store)["request_log"] == 1


def test_of_a_trace_with_requests_of_several_people_only_one_goes(store, url, asked, span):
    mine, theirs = asked(1, user_id=JANE, query_text=TEXT), asked(1, first=11, user_id=OLE)
    theirs = [dataclasses.replace(each, resource={"service.name": "other"}) for each in theirs]
    store.write([*mine, *theirs])
    put(store, "dead_letter", id="d", ts=NOW, trace_id=f"{1:032x}", item={"a": "b"})
    assert erase(url).rows == {"request_log": 1, "llm_call": 1, "trace_facts": 2}  # a branch says nothing of anybody
    assert JANE not in everything(store)
    assert TEXT not in everything(store)
    left = counts(store)
    assert (left["request_log"], left["llm_call"], left["dead_letter"]) == (1, 1, 1)


def test_a_session_and_an_address_are_erased_like_a_user(store, url, asked):
    store.write([*asked(1, session_id=JANE), *asked(2, ip_hash="ab12cd34ef56"), *asked(3, session_id=OLE)])
    assert erase(url, "session").rows["request_log"] == 1
    assert erase(url, "ip", "ab12cd34ef56").rows["request_log"] == 1
    assert counts(store) == {"request_log": 1, "llm_call": 1, "trace_facts": 3}


def test_what_a_user_did_before_signing_in_goes_unless_others_are_in_the_session(store, url, asked):
    own, shared = "k1_111111111111", "k1_222222222222"
    store.write([*asked(1, user_id=JANE, session_id=own), *asked(2, session_id=own, query_text=TEXT)])
    store.write([*asked(3, user_id=JANE, session_id=shared), *asked(4, user_id=OLE, session_id=shared)])
    for n, session in enumerate((own, own, shared, None)):
        put(store, "browser_event", id=f"b{n}", ts=NOW, type="page_view", session_id=session)
        put(store, "feedback", id=f"f{n}", ts=NOW, verdict="up", session_id=session)
    erased = erase(url)
    assert (erased.rows["request_log"], erased.rows["browser_event"], erased.rows["feedback"]) == (3, 2, 2)
    assert TEXT not in everything(store)
    assert counts(store)["request_log"] == 1


def test_feedback_and_dead_letters_go_with_their_request(store, url, asked):
    store.write([*asked(1, user_id=JANE), *asked(2, user_id=OLE)])
    for n, ids in enumerate(
        ({"request_id": f"{1:032x}-{1:016x}"}, {"trace_id": f"{1:032x}"}, {"trace_id": f"{2:032x}"})
    ):
        put(store, "feedback", id=str(n), ts=NOW, verdict="down", note=TEXT if n < 2 else "fine", **ids)
    put(store, "dead_letter", id="1", ts=NOW, trace_id=f"{1:032x}", item={"note": TEXT})
    put(store, "dead_letter", id="2", ts=NOW, trace_id=None, item={"list": [{"user": JANE}]})
    put(store, "dead_letter", id="3", ts=NOW, trace_id=f"{2:032x}", item={"user": OLE})
    erased = erase(url)
    assert (erased.rows["feedback"], erased.rows["dead_letter"]) == (2, 2)
    assert TEXT not in everything(store)
    assert JANE not in everything(store)


def test_a_workflow_goes_whole_unless_its_events_name_others_too(store, url):
    users_of: dict[str, list[str | None]] = {"own": [JANE, None], "shared": [JANE, OLE], "other": [OLE]}
    for run, users in users_of.items():
        put(store, "workflow_run", id=run, input={"text": f"of {run}"}, created_at=NOW, updated_at=NOW)
        put(store, "workflow_step", id="1", run_id=run, input={"text": f"of {run}"})
        put(store, "workflow_state", run_id=run, step_id="", ts=NOW, stamps={}, has_text=True)
        for n, user in enumerate(users):
            put(store, "workflow_event", id=f"{run}{n}", run_id=run, type="run:start", ts=NOW, user_id=user)
    assert erase(url).rows == {"workflow_run": 1, "workflow_step": 1, "workflow_state": 1, "workflow_event": 3}
    assert "of own" not in everything(store)
    assert "of shared" in everything(store)
    assert JANE not in everything(store)


def test_a_raw_value_is_found_where_such_ids_stand_and_not_elsewhere(store, url, asked):
    store.write([*asked(1, user_id="42"), *asked(2, user_id="7", scope="42"), *asked(3, note="42 of 42")])
    put(store, "dead_letter", id="1", ts=NOW, item={"user.id": "42"})
    put(store, "dead_letter", id="2", ts=NOW, item={"size": "42"})
    with Eraser(url, Person("user", (JANE,), "42")) as eraser:
        found = eraser.find()
    assert found.counts() == {"request_log": 1, "llm_call": 1, "trace_facts": 3, "dead_letter": 1}


def test_looking_changes_nothing(store, url, asked):
    store.write([*asked(1, user_id=JANE), *asked(2, user_id=JANE, query_text=TEXT)])
    before = everything(store)
    assert find(url).counts() == {"request_log": 2, "llm_call": 2, "trace_facts": 6}
    assert everything(store) == before


def test_many_requests_go_in_many_transactions(store, url, asked):
    store.write([each for n in range(1, 451) for each in asked(n, user_id=JANE if n % 2 else OLE)])
    erased = erase(url)
    assert dict(erased.rows) == {"request_log": 225, "llm_call": 225, "trace_facts": 675}
    assert counts(store) == dict(erased.rows)


def test_nothing_of_a_person_is_left_in_the_bytes_of_a_sqlite_file_or_beside_it(tmp_path, open_at, asked, span, chat):
    path = tmp_path / "log.db"
    store = open_at(path, store_text=True)
    for number in range(1, 301):  # rows are rewritten as spans come in: old versions stay in free room
        spans = asked(number, user_id=JANE if number % 3 else OLE, query_text=TEXT if number % 3 else "fine")
        for each in reversed(spans):
            store.write([each])
    files = [path, path.with_name("log.db-wal")]
    assert any(JANE.encode() in file.read_bytes() for file in files)
    before = path.stat().st_size + files[1].stat().st_size
    erase(f"sqlite:///{path}")
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert JANE.encode() not in content, file
        assert TEXT.encode() not in content, file
    assert OLE.encode() in path.read_bytes()
    assert path.stat().st_size + files[1].stat().st_size < before / 2
    assert store.write(asked(999, user_id=OLE)).requests == 1


def test_a_reader_that_keeps_old_pages_is_told_of(tmp_path, open_at, asked, monkeypatch):
    monkeypatch.setattr("otel_telemetry.exporters.request_log.operate.erase._PATIENCE", 0.1)
    path = tmp_path / "log.db"
    open_at(path).write(asked(1, user_id=JANE))
    reader = sa.create_engine(f"sqlite:///{path}")
    with reader.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        assert connection.exec_driver_sql("SELECT count(*) FROM llm_call").scalar() == 1
        with pytest.raises(StoreUnavailable, match="bytes of them may be in it"):
            erase(f"sqlite:///{path}")
    reader.dispose()
    erase(f"sqlite:///{path}")


def test_a_late_span_of_an_erased_trace_makes_no_row_that_names_the_person(store, url, asked):
    request, branch, call = asked(1, user_id=JANE, query_text=TEXT)
    store.write([request, call])
    erase(url)
    store.write([branch])
    assert JANE not in everything(store)
    assert "request_log" not in counts(store)


def test_an_erasure_that_broke_off_leaves_no_trace_half_and_the_next_one_ends_it(store, url, asked, monkeypatch):
    monkeypatch.setattr(erasing, "_TRACES", 1)
    store.write([each for n in range(1, 11) for each in asked(n, user_id=JANE, query_text=TEXT)])
    with Eraser(url, Person("user", (JANE,), JANE)) as eraser:
        steps = eraser._delete(eraser.find())
        for _ in range(7):
            next(steps)
        steps.close()
    left = counts(store)
    assert 0 < left["request_log"] < 10
    assert left == {
        "request_log": left["request_log"],
        "llm_call": left["request_log"],
        "trace_facts": 3 * left["request_log"],
    }
    erase(url)
    assert counts(store) == {}


@pytest.fixture(name="shared")
def shared_fixture(asked, span):
    """Return a trace with a request of each of two people, in services of their own, and a span that says nothing."""
    mine, theirs = asked(1, user_id=JANE), [*asked(1, first=11, user_id=OLE), span(14, 11, {}, trace_id=f"{1:032x}")]
    return [*mine, *(dataclasses.replace(each, resource={"service.name": "other"}) for each in theirs)]


def test_nothing_of_a_trace_is_left_in_the_bytes_of_a_sqlite_file(tmp_path, open_at, asked):
    path = tmp_path / "log.db"
    store = open_at(path)
    store.write([each for n in range(1, 301) for each in asked(n, user_id=JANE if n % 3 else OLE)])
    assert dict(erase(f"sqlite:///{path}").rows) == {"request_log": 200, "llm_call": 200, "trace_facts": 600}
    assert not [file for file in tmp_path.iterdir() if JANE.encode() in file.read_bytes()]
    assert OLE.encode() in path.read_bytes()


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_the_room_of_traces_is_free_on_postgresql_too(store, url, asked):
    store.write([*asked(1, user_id=JANE), *asked(2, user_id=JANE)])
    size = sa.text("SELECT pg_relation_size('trace_facts')")
    with store._engine.connect() as connection:
        assert connection.scalar(size) > 0
    erase(url)
    with store._engine.connect() as connection:
        assert connection.scalar(size) == 0


def test_of_a_trace_with_requests_of_several_people_the_spans_of_others_stay_as_they_are(store, url, shared):
    store.write(shared)
    before = spans_in(store)
    found = find(url)
    assert found.mixed == {f"{1:032x}"}
    assert erase(url).rows == {"request_log": 1, "llm_call": 1, "trace_facts": 2}  # a branch says nothing of anybody
    assert JANE not in everything(store)
    gone = found.rows["trace_facts"].keys()
    assert spans_in(store) == [row for row in before if (row["trace_id"], row["span_id"]) not in gone]
    assert counts(store) == {"request_log": 1, "llm_call": 1, "trace_facts": 5}


@pytest.mark.parametrize("value", [JANE, 'o"neil \\ é\t7'])
def test_the_same_is_found_in_however_many_parts_a_trace_came(store, url, *, asked, shared, span, value):
    spans = [*shared, *asked(2, user_id=value, session_id=value), *asked(3), *asked(4, scope=value)]
    spans += [span(1, None, {"user.id": value}, trace_id=f"{5:032x}"), *asked(6, session_id=value)]
    store.write(spans)
    whole = [find(url, kind, value) for kind in ("user", "session")]
    with store._engine.begin() as connection:
        for table in schema.metadata.sorted_tables:
            connection.execute(sa.delete(table))
    for each in reversed(spans):
        store.write([each])
    parts = [find(url, kind, value) for kind in ("user", "session")]
    for one, other in zip(whole, parts, strict=True):
        assert (one.rows, one.traces, one.mixed) == (other.rows, other.traces, other.mixed)
        assert one.traces
        assert one.mixed


def test_a_span_that_says_nothing_goes_from_a_trace_where_it_names_the_person(store, url, span):
    store.write([span(1, None, {"user.id": JANE}), span(2, 1, {})])
    assert dict(erase(url).rows) == {"trace_facts": 2}
    assert counts(store) == {}


def test_what_is_told_in_many_parts_goes_as_well(store, url, asked, span, chat):
    store.write(asked(1, user_id=JANE))
    with Eraser(url, Person("user", (JANE,), JANE)) as eraser:
        found = eraser.find()
        store.write([span(9, 2, chat(), trace_id=f"{1:032x}")])
        assert eraser.erase(found).rows == {"request_log": 1, "llm_call": 1, "trace_facts": 3}
    assert JANE not in everything(store)
    assert counts(store) == {"llm_call": 1, "trace_facts": 1}  # what came since names nobody


def test_a_late_span_of_what_was_written_anew_is_taken_as_ever(store, url, shared, span, chat):
    store.write(shared)
    erase(url)
    late = span(19, 12, chat(), trace_id=f"{1:032x}")
    written = store.write([shared[0], shared[4], dataclasses.replace(late, resource={"service.name": "other"})])
    assert written.llm_calls == 1
    with store._engine.connect() as connection:
        requests = connection.execute(sa.select(schema.request_log.c.user_id, schema.request_log.c.llm_calls)).all()
    assert sorted(requests) == [(JANE, 0), (OLE, 2)]

"""Unless texts are stored no prompt and no answer reaches any table: planted at every depth, on every way to a row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_telemetry.base import conventions, records
from tests.exporters.conftest import START, chat

SECRET = "xylophone-wax"
#: How an app, a framework or a browser may call it.
NAMES = (
    *("prompt", "query", "question", "answer", "messages", "completion", "text", "content", "input", "output"),
    *("userPrompt", "final_answer", "response", "chat_history", "documents"),
    "normalized",
)


def planted(name: str) -> dict[str, Any]:
    """Return data with the secret under a name, in several shapes and depths."""
    words = f"my {SECRET} is broken"
    return {
        name: words,
        "list": [{name: [words]}],
        "deep": {"a": {"b": {name: {"c": words}}}},
        "json": json.dumps({"request": {name: words}}),
        "python": repr({"request": {name: words}}),
        "message": {"role": "user", "whatever": words},
        "tokens": 7,
    }


ALL = {str(number): planted(name) for number, name in enumerate(NAMES)}


def app_event(event: str, **values: Any) -> records.AppEvent:
    return records.AppEvent(
        name=event,
        time_ns=START,
        observed_ns=START,
        trace_id=None,
        span_id=None,
        values=values,
        resource={"request_log.meta": ALL},
    )


def workflow(kind: str, **values: Any) -> records.AppEvent:
    return app_event(conventions.WORKFLOW_EVENT, type=kind, run_id="r", **values)


#: Everything that can be said, with the secret in all of it. What is refused becomes a dead letter.
RECORDS = {
    "log": workflow("tool_execution", data=ALL, error=ALL, meta=ALL, **ALL["0"]),
    "log in JSON": workflow("tool_execution", data=json.dumps(ALL), error=json.dumps(ALL), meta=json.dumps(ALL)),
    **{f"log of {name}": workflow("custom", **{name: f"my {SECRET}", "n": 1}) for name in NAMES},
    "run": workflow("run:start", id="r", info=ALL, meta=ALL, tags=[ALL, "prod"], error=ALL, input=ALL, data=ALL),
    "step": workflow("step:start", step_id="s", data={"type": "llm", "info": ALL, "input": ALL, "tags": [ALL]}),
    "step in error": workflow("step:error", step_id="s", error=ALL, data={"info": json.dumps(ALL), "error": ALL}),
    "feedback": app_event(conventions.FEEDBACK_EVENT, verdict="up", sources=[ALL], query=SECRET, answer=SECRET),
    "feedback with passages": app_event(conventions.FEEDBACK_EVENT, verdict="up", sources=[f"the {SECRET} is ..."]),
    "browser": app_event(conventions.BROWSER_EVENT, type="byok_call", data=ALL),
    "refused": app_event(conventions.WORKFLOW_EVENT, data=ALL, error=ALL, info=ALL, tags=[ALL], **ALL["1"]),
}
MAPS = {f"request_log.args{number}": json.dumps(data) for number, data in ALL.items()}
SPANS: dict[str, dict[str, Any]] = {
    "request": {"request_log.route": "a", **{f"request_log.{name}": f"my {SECRET}" for name in NAMES}, **MAPS},
    "maps on a request": {"request_log.route": "a", **{f"request_log.m{number}": data for number, data in ALL.items()}},
    "retrieved": {"request_log.topk": json.dumps([{"text": f"my {SECRET}", "score": 1}]), "request_log.meta": ALL},
    "call": {**chat(), **{f"gen_ai.request.{name}": f"my {SECRET}" for name in NAMES}, "gen_ai.response.extra": ALL},
    "parameters": {
        **chat(),
        "openinference.span.kind": "LLM",
        "llm.invocation_parameters": json.dumps({"model": "m", "prompt": SECRET}),
    },
    "an error with the request in it": {**chat(), "request_log.error": json.dumps({"error": "bad", **ALL["0"]})},
}


def everything_in(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


@pytest.fixture(name="secrets_in")
def secrets_in_fixture(open_at: Callable[..., Any], tmp_path: Path) -> Callable[..., bool]:
    """Writes what is given to a new database, and tells whether the secret stands in its file."""

    def secrets_in(given: Any, **settings: Any) -> bool:
        path = tmp_path / "log.db"
        store = open_at(path, **settings)
        (store.write if isinstance(given, records.Span) else store.write_events)([given])
        return SECRET.encode() in everything_in(path)

    return secrets_in


@pytest.mark.parametrize("what", RECORDS)
def test_nothing_said_carries_it_into_a_table(secrets_in: Callable[..., bool], what: str) -> None:
    assert not secrets_in(RECORDS[what])


@pytest.mark.parametrize("status", ["OK", "ERROR"])
@pytest.mark.parametrize("what", SPANS)
def test_no_span_carries_it_into_a_table(secrets_in: Callable[..., bool], span: Any, what: str, status: str) -> None:
    given = span(1, None, SPANS[what], status=status, status_message=f'{{"prompt": "my {SECRET}"}}')
    assert not secrets_in(given)


def test_no_dead_letter_of_a_span_carries_it(open_at: Callable[..., Any], tmp_path: Path, span: Any) -> None:
    path = tmp_path / "log.db"
    store = open_at(path)
    store.write([span(1, None, {**SPANS["request"], **ALL["0"], "bad": object()}, trace_id="x" * 32)])
    assert SECRET.encode() not in everything_in(path)


def test_with_texts_stored_all_of_it_is_kept(secrets_in: Callable[..., bool], span: Any) -> None:
    assert secrets_in(RECORDS["log"], store_text=True)


def test_what_is_no_text_is_kept_beside_it(open_at: Callable[..., Any], tmp_path: Path) -> None:
    store = open_at(tmp_path / "log.db")
    payload = {"args": {"model": "m", "prompt": SECRET}, "response": {"text": SECRET, "tokens": 3}, "tool": "ask"}
    store.write_events([workflow("tool_execution", data=payload)])
    with store._engine.connect() as connection:
        (row,) = connection.exec_driver_sql("SELECT data FROM workflow_event").fetchall()
    assert json.loads(row[0]) == {"args": {"model": "m"}, "response": {"tokens": 3}, "tool": "ask"}

"""Each promise that the demo checks is one that can break: a run is altered in one place, and that promise falls."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from examples.chat_app.demo import checks, foreign
from examples.chat_app.demo.found import Counters, Found
from examples.chat_app.demo.planted import Planted
from examples.chat_app.demo.traffic import Case, Sent

SECRET = "s" * 32
MAIL = "ada.berg@some-mail.com"
USAGE = {"prompt": 100, "cached": 64, "completion": 20, "reasoning": 0}


def digest(value: str) -> str:
    return hmac.new(SECRET.encode(), value.encode(), hashlib.sha256).hexdigest()[:12]


def cost(model: str, prompt: int, cached: int, completion: int) -> float:
    usage = Usage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=completion)
    return float(calc_price(usage, model, provider_id="openai").total_price)


def call(number: int, model: str = "gpt-4o-mini", **more: Any) -> dict[str, Any]:
    counted = {f"{name}_tokens": value for name, value in USAGE.items()}
    price = None if model == "house-model-7b" else cost(model, 100, 64, 20)
    return {
        "id": f"c{number}", "request_id": f"r{number}", "trace_id": f"t{number}", "application": checks.APP,
        "provider_request_id": f"p{number}", "model": model, "model_requested": model, "cost_usd": price, "ok": 1,
        "error": None, "rate_limited": 0, "ttfb_ms": None, "total_latency_ms": 150.0, "finish_reason": "stop",
        **counted, **more,
    }  # fmt: skip


def served(number: int, model: str = "gpt-4o-mini", **more: Any) -> dict[str, Any]:
    return {
        "id": f"p{number}", "trace_id": f"t{number}", "model": model, "stream": False, "outcome": "answered",
        "status": 200, "first_chunk_ms": None, "usage": dict(USAGE), **more,
    }  # fmt: skip


def row(number: int, **more: Any) -> dict[str, Any]:
    counted = {f"{name}_tokens": value for name, value in USAGE.items()}
    return {
        "id": f"r{number}", "service": checks.APP, "conversation_id": f"demo-{number:03d}", "route": "direct", "ok": 1,
        "error": None, "degraded": None, "llm_calls": 1, "stage_ms": '{"final": 3.0}', "ip_hash": None,
        "user_id": None, **counted, **more,
    }  # fmt: skip


NONE = {f"{name}_tokens": None for name in USAGE} | {"cost_usd": None}
FAILED = NONE | {"ok": 0, "finish_reason": None}


@dataclass
class Run:
    sent: list[Sent]
    requests: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    served: list[dict[str, Any]]
    counters: list[tuple[str, dict[str, str], float]]
    health: dict[str, Any]
    folder: Path

    def broken(self) -> set[str]:
        """Return the promises that do not hold."""
        found = Found(
            requests=tuple(self.requests),
            calls=tuple(self.calls),
            served=tuple(self.served),
            app=Counters(tuple(self.counters)),
            gateway=Counters(()),
        )
        done = [
            *checks.answers(self.sent), *checks.rows(self.sent, found), *checks.calls(self.sent, found),
            *checks.times(found), *checks.costs(found), *checks.people(self.sent, found, SECRET),
            *checks.others(found), *checks.privacy(found, [Planted("email", MAIL)], self.folder),
            *checks.losses(found, self.health),
        ]  # fmt: skip
        return {check.promise for check in done if not check.held}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def sent(number: int, case: Case, ending: str = "") -> Sent:
        return Sent(case, f"demo-{number:03d}", case.status, f"You asked: {case.question}", ending)

    foreign_call = foreign.CALL
    tokens = {"prompt_tokens": foreign_call.prompt_tokens, "cached_tokens": foreign_call.cached_tokens}
    tokens["completion_tokens"] = foreign_call.completion_tokens
    foreign_cost = cost(foreign_call.model, *tokens.values())
    return Run(
        sent=[
            sent(1, Case("One?", user="ada", client="81.1.2.3")),
            sent(2, Case("Two?", stream=True, model="house-model-7b"), "done"),
            sent(3, Case("Three?", ok=False, status=502)),
            sent(4, Case("Four?", degraded="media", calls=0)),
        ],
        requests=[
            row(1, ip_hash=digest("81.1.2.3"), user_id=f"k1_{digest('ada')}"),
            row(2),
            row(3, ok=0, error="ModelError", **{f"{name}_tokens": None for name in USAGE}),
            row(4, degraded="media", llm_calls=0, **{f"{name}_tokens": None for name in USAGE}),
            row(9, service=foreign.SEARCH, route=foreign.SEARCH_ROUTE, **tokens),
        ],
        calls=[
            call(1),
            call(2, "house-model-7b", ttfb_ms=70.0),
            call(
                3,
                **FAILED,  # type: ignore[arg-type]  # its columns, by name
                error="HTTP 429",
                rate_limited=1,
                provider_request_id=None,
            ),
            call(9, foreign_call.model, application=foreign.SEARCH, **tokens, cost_usd=foreign_cost),
        ],
        served=[
            served(1),
            served(2, "house-model-7b", stream=True, first_chunk_ms=61.0),
            served(3, outcome="refused", status=429, usage=None),
        ],
        counters=[("otel_telemetry_redactions_total", {"type": "EMAIL"}, 3.0)],
        health={"status": "ok"},
        folder=tmp_path,
    )


def test_nothing_is_broken_where_everything_is_right(run: Run) -> None:
    assert run.broken() == set()


def change(what: str, index: int, **values: Any) -> Callable[[Run], None]:
    return lambda run: getattr(run, what)[index].update(values)


ALTERED: dict[str, tuple[Callable[[Run], Any], str]] = {
    "a missing row": (lambda run: run.requests.pop(0), "one row for each request"),
    "a row twice": (lambda run: run.requests.append(dict(run.requests[1], id="r8")), "one row for each request"),
    "another route": (change("requests", 0, route="x"), "each row has the route"),
    "a failure that is ok": (change("requests", 2, ok=1, error=None), "failed requests say so"),
    "an error without a failure": (change("requests", 0, error="x"), "failed requests say so"),
    "no reason": (change("requests", 3, degraded=None), "degraded and declined requests say why"),
    "a call of a declined request": (change("requests", 3, llm_calls=1), "declined requests cost nothing"),
    "no stage": (change("requests", 0, stage_ms=None), "each stage"),
    "a call too few": (lambda run: run.calls.pop(0), "one model call for each"),
    "a call twice": (lambda run: run.calls.append(dict(run.calls[1], id="c8")), "one model call for each"),
    "one cached token less": (change("calls", 0, cached_tokens=63), "tokens equal those"),
    "a sum that is none": (change("requests", 0, prompt_tokens=99), "requests hold the sums"),
    "a refused call that is ok": (change("calls", 2, ok=1), "calls that were refused"),
    "no word of the rate limit": (change("calls", 2, rate_limited=0), "calls that met a rate limit"),
    "a first byte before it was sent": (change("calls", 1, ttfb_ms=60.0), "streams have a time to first byte"),
    "a first byte after the end": (change("calls", 1, ttfb_ms=151.0), "streams have a time to first byte"),
    "a stream without a first byte": (change("calls", 1, ttfb_ms=None), "streams have a time to first byte"),
    "a first byte of an answer in one piece": (change("calls", 0, ttfb_ms=150.0), "answers in one piece"),
    "another cost": (change("calls", 0, cost_usd=0.1), "each cost is what genai-prices says"),
    "a known model without its cost": (change("calls", 0, cost_usd=None), "each cost is what genai-prices says"),
    "an unknown model for nothing": (change("calls", 1, cost_usd=0.0), "a model that is in no price list"),
    "the hash of another address": (change("requests", 0, ip_hash=digest("81.1.2.4")), "ip_hash is the HMAC"),
    "a user in clear": (change("requests", 0, user_id="ada"), "user_id is the HMAC"),
    "a foreign request without its call": (change("requests", 4, llm_calls=0), "a request of a foreign service"),
    "an address in a file": (lambda run: (run.folder / "x.log").write_text(MAIL.upper()), "none of the planted values"),
    "a kind that nobody found": (lambda run: run.counters.clear(), "each kind of value"),
    "a dropped span": (
        lambda run: run.counters.append(("otel_telemetry_dropped_total", {"reason": "queue_full"}, 1.0)),
        "nothing was dropped",
    ),
    "a degraded gateway": (lambda run: run.health.update(status="degraded"), "the gateway ended healthy"),
}


@pytest.mark.parametrize(("alter", "promise"), ALTERED.values(), ids=ALTERED)
def test_one_wrong_thing_breaks_its_promise(run: Run, alter: Callable[[Run], Any], promise: str) -> None:
    alter(run)
    assert any(broken.startswith(promise) for broken in run.broken())


def test_an_answer_with_a_marker_in_it_breaks_the_promise_to_the_client(run: Run) -> None:
    run.sent[0] = Sent(run.sent[0].case, "demo-001", 200, "You asked: [REDACTED_EMAIL]", "")
    assert run.broken() == {"every answer reached its client whole, with nothing redacted in it"}


def test_a_cut_off_answer_with_tokens_is_noticed(run: Run) -> None:
    run.served[0].update(outcome="truncated", usage=None)
    assert "answers that were cut off have no tokens, no cost and no finish reason: nobody told" in run.broken()

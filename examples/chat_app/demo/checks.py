"""Every promise of the demo, checked against what really happened.

The truth comes from elsewhere than the rows: from the answers that the demo's own requests got, from the journal in
which the model server wrote down what it served, from genai-prices, and from the HMAC of the standard library.
"""

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from genai_prices import Usage, calc_price

from . import foreign, leaks
from .found import Found, Row, by
from .planted import Planted
from .traffic import Sent

APP: Final = "chat-app"
#: SQLite keeps amounts as 8-byte floats.
_ONE_PICO_DOLLAR: Final = Decimal("0.000000000001")
#: Our types of findings -> kinds that the demo plants. Users and addresses become pseudonyms, not findings of a text.
_TYPES: Final = {
    "EMAIL": "email",
    "CREDIT_CARD": "card",
    "PHONE": "phone",
    "SSN": "ssn",
    "IBAN": "iban",
    "JWT": "jwt",
}
_STAGES: Final = {
    "direct": {"final"},
    "agent_direct": {"router", "final"},
    "agent_web": {"router", "web", "final"},
}
#: The default of redaction.pseudonyms.key_id.
_KEY_ID: Final = "k1"
_FAULTY: Final = {"refused", "stalled", "dropped", "truncated"}
_FIELDS: Final = ("prompt_tokens", "completion_tokens", "cost_usd", "finish_reason")


@dataclass(slots=True, frozen=True)
class Check:
    """One promise, whether it held, and what was seen."""

    promise: str
    held: bool
    seen: str


def _all(promise: str, seen: str, wrong: Iterable[str]) -> Check:
    """Return the check that holds when nothing is wrong; it shows the first few things that are."""
    problems = list(wrong)
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""  # noqa: PLR2004 - a few are enough to see
    return Check(promise, not problems, "; ".join(problems[:3]) + more if problems else seen)


def answers(sent: list[Sent]) -> Iterator[Check]:
    """Telemetry does not touch what the app answers."""
    yield _all(
        "every answer reached its client whole, with nothing redacted in it",
        f"{len(sent)} requests",
        (f"{s.conversation} {_outcome(s)}" for s in sent if not _as_expected(s)),
    )


def _as_expected(sent: Sent) -> bool:
    case = sent.case
    good = bool(case.ok) and case.calls > 0 and case.degraded != "empty_completion"
    ending = "" if not case.stream else "hung up" if case.hangs_up else "done" if case.ok else "error"
    whole = case.question in sent.text if good else True
    return (sent.status, sent.ending) == (case.status, ending) and whole


def _outcome(sent: Sent) -> str:
    return f"answered {sent.status} {sent.ending} {sent.text[:60]!r}"


def rows(sent: list[Sent], found: Found) -> Iterator[Check]:
    """One honest row per request."""
    ours = [row for row in found.requests if row["service"] == APP]
    yield Check(
        "one row for each request that was sent",
        len(ours) == len(sent) and {row["conversation_id"] for row in ours} == {s.conversation for s in sent},
        f"{len(ours)} rows, {len(sent)} requests",
    )
    by_conversation = found.by_conversation(APP)
    pairs = [(s, by_conversation[s.conversation]) for s in sent if s.conversation in by_conversation]
    yield _all("each row has the route that the app took", _routes(ours), _differ(pairs, "route"))
    yield _all(
        "failed requests say so, the others are ok",
        f"{sum(not row['ok'] for row in ours)} failed",
        (
            f"{s.conversation} ok={row['ok']} error={row['error']}"
            for s, row in pairs
            if s.case.ok is not None and (bool(row["ok"]) != s.case.ok or bool(row["error"]) == s.case.ok)
        ),
    )
    degraded = Counter(row["degraded"] for row in ours if row["degraded"])
    yield _all("degraded and declined requests say why", _counts(degraded), _differ(pairs, "degraded"))
    yield _all(
        "declined requests cost nothing and took no model call",
        f"{sum(not s.case.calls for s in sent)} declined",
        (s.conversation for s, row in pairs if not s.case.calls and (row["llm_calls"] or row["prompt_tokens"])),
    )
    yield _all("each stage was timed", "router, web, final", _untimed(pairs))


def _differ(pairs: list[tuple[Sent, Row]], column: str) -> Iterator[str]:
    for sent, row in pairs:
        wanted = getattr(sent.case, column)
        if row[column] != wanted:
            yield f"{sent.conversation} has {column}={row[column]}, not {wanted}"


def _untimed(pairs: list[tuple[Sent, Row]]) -> Iterator[str]:
    for sent, row in pairs:
        stages = set(json.loads(row["stage_ms"] or "{}"))
        if sent.case.calls and not _STAGES[sent.case.route] <= stages:
            yield f"{sent.conversation} has {sorted(stages)}"


def calls(sent: list[Sent], found: Found) -> Iterator[Check]:
    """The model calls are those that the model server served, token for token."""
    ours = [call for call in found.calls if call["application"] == APP]
    expected = sum(s.case.calls for s in sent)
    yield Check(
        "one model call for each that the model server served",
        _trace_counts(ours) == _trace_counts(found.served) and len(ours) == expected,
        f"{len(ours)} calls, {len(found.served)} served, {expected} expected",
    )
    usage = {served["id"]: served["usage"] for served in found.served if served["usage"]}
    yield _all(
        "tokens equal those that the model server counted, cached and reasoning ones too",
        _token_sums(usage.values()),
        _wrong_tokens(ours, usage),
    )
    yield _all("requests hold the sums of their calls", "prompt, cached and completion tokens", _wrong_sums(found))
    yield from _failures(ours, found.served)


def _failures(ours: list[Row], served: tuple[Row, ...]) -> Iterator[Check]:
    """Yield what the rows say of calls that went wrong. Whose client left may have failed or not."""
    left = {row["trace_id"] for row in served if row["outcome"] == "left"}
    failed = [call for call in ours if not call["ok"] and call["trace_id"] not in left]
    faulty = [row for row in served if row["outcome"] in _FAULTY]
    yield Check(
        "calls that were refused, stalled, dropped or cut off are not ok and say why, and no others",
        _trace_counts(failed) == _trace_counts(faulty) and all(call["error"] for call in failed),
        _counts(Counter(call["error"] for call in failed)),
    )
    refused = [row for row in served if row["status"] == HTTPStatus.TOO_MANY_REQUESTS]
    limited = [call for call in ours if call["rate_limited"]]
    yield Check(
        "calls that met a rate limit are marked",
        _trace_counts(limited) == _trace_counts(refused),
        f"{len(limited)} calls",
    )
    cut = {row["trace_id"] for row in served if row["outcome"] == "truncated"}
    yield _all(
        "answers that were cut off have no tokens, no cost and no finish reason: nobody told",
        f"{len(cut)} answers",
        (str(call["id"]) for call in ours if call["trace_id"] in cut and any(call[name] for name in _FIELDS)),
    )


def _trace_counts(rows_: Iterable[Row]) -> Counter[tuple[Any, ...]]:
    return Counter((row["trace_id"], row.get("model_requested") or row["model"]) for row in rows_)


def _wrong_tokens(calls_: list[Row], usage: dict[str, dict[str, int]]) -> Iterator[str]:
    counted = {call["provider_request_id"]: call for call in calls_ if call["prompt_tokens"] is not None}
    if set(counted) != set(usage):
        yield f"{len(counted)} calls with tokens, {len(usage)} answers with usage"
    for key in set(counted) & set(usage):
        if _tokens(counted[key]) != usage[key]:
            yield f"{_tokens(counted[key])} instead of {usage[key]}"


def _tokens(call: Row) -> dict[str, int]:
    return {name: call[f"{name}_tokens"] or 0 for name in ("prompt", "cached", "completion", "reasoning")}


def _token_sums(usages: Iterable[Row]) -> str:
    sums: Counter[str] = Counter()
    for usage in usages:
        sums.update(usage)
    return ", ".join(f"{sums[name]:,} {name}" for name in ("prompt", "cached", "completion", "reasoning"))


def _wrong_sums(found: Found) -> Iterator[str]:
    for row in found.requests:
        calls_ = found.calls_of(row["id"])
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
            if sum(call[name] or 0 for call in calls_) != (row[name] or 0):
                yield f"{row['conversation_id']} {name}={row[name]}"


def times(found: Found) -> Iterator[Check]:
    """Time to first byte is measured where there is one to measure, and agrees with the sender's clock."""
    served = {row["id"]: row for row in found.served}
    ours = [call for call in found.calls if call["application"] == APP]
    pairs = [(c, served[c["provider_request_id"]]) for c in ours if c["provider_request_id"] in served]
    streamed = [(call, truth) for call, truth in pairs if truth["first_chunk_ms"] is not None]
    yield _all(
        "streams have a time to first byte, not before the server sent it and not after their end",
        f"{len(streamed)} streams",
        (
            f"{call['ttfb_ms']} of {call['total_latency_ms']} ms, sent at {truth['first_chunk_ms']:.0f}"
            for call, truth in streamed
            if not _plausible(call, truth)
        ),
    )
    whole = [call for call, truth in pairs if not truth["stream"]]
    yield _all(
        "answers in one piece have none: it would only be their duration again",
        f"{len(whole)} answers",
        (f"{call['id']} has {call['ttfb_ms']}" for call in whole if call["ttfb_ms"] is not None),
    )


def _plausible(call: Row, truth: Row) -> bool:
    ttfb, total = call["ttfb_ms"], call["total_latency_ms"]
    return ttfb is not None and truth["first_chunk_ms"] <= ttfb <= total


def costs(found: Found) -> Iterator[Check]:
    """Costs are the price list's, or NULL."""
    priced = [call for call in found.calls if call["cost_usd"] is not None]
    yield _all(
        "each cost is what genai-prices says for these tokens",
        f"{sum(call['cost_usd'] for call in priced):.6f} USD in {len(priced)} calls",
        (
            f"{call['model']} {call['cost_usd']} instead of {_price(call)}"
            for call in found.calls
            if not _same_amount(call["cost_usd"], _price(call))
        ),
    )
    unknown = [call for call in found.calls if call["model"] == "house-model-7b"]
    yield Check(
        "a model that is in no price list costs NULL, not 0",
        bool(unknown) and all(call["cost_usd"] is None and call["prompt_tokens"] for call in unknown),
        f"{len(unknown)} calls of house-model-7b",
    )


def _price(call: Row) -> Decimal | None:
    """Return the price of a call that was answered; nobody knows what a failed one cost."""
    if call["prompt_tokens"] is None:
        return None
    usage = Usage(
        input_tokens=call["prompt_tokens"],
        cache_read_tokens=call["cached_tokens"],
        output_tokens=call["completion_tokens"],
    )
    try:
        return calc_price(usage, call["model"], provider_id="openai").total_price
    except LookupError:
        return None


def _same_amount(stored: float | None, price: Decimal | None) -> bool:
    if stored is None or price is None:
        return stored is None and price is None
    return abs(Decimal(repr(stored)) - price) <= _ONE_PICO_DOLLAR


def people(sent: list[Sent], found: Found, secret: str) -> Iterator[Check]:
    """Addresses and users are pseudonyms that only the secret's holder can make."""
    by_conversation = found.by_conversation(APP)
    forwarded = [(s.case.client, by_conversation.get(s.conversation, {})) for s in sent if s.case.client]
    yield _all(
        "ip_hash is the HMAC of the address that the proxy saw",
        f"{len(forwarded)} requests from {len({client for client, _ in forwarded})} addresses",
        (
            f"{row.get('ip_hash')} for {client}"
            for client, row in forwarded
            if row.get("ip_hash") != _hmac(secret, client)
        ),
    )

    users = [(s.case.user, by_conversation.get(s.conversation, {})) for s in sent if s.case.user]
    yield _all(
        "user_id is the HMAC of the user",
        f"{len(users)} users",
        (
            f"{row.get('user_id')} for {user}"
            for user, row in users
            if row.get("user_id") != f"{_KEY_ID}_{_hmac(secret, user)}"
        ),
    )


def _hmac(secret: str, value: str) -> str:
    return hmac.new(secret.encode(), value.encode(), hashlib.sha256).hexdigest()[:12]


def others(found: Found) -> Iterator[Check]:
    """A service that never heard of us has its rows too."""
    rows_ = [row for row in found.requests if row["service"] == foreign.SEARCH]
    (row, *more) = rows_ or [{}]
    wanted = (foreign.SEARCH_ROUTE, 1, foreign.CALL.prompt_tokens, foreign.CALL.cached_tokens)
    got = tuple(row.get(name) for name in ("route", "llm_calls", "prompt_tokens", "cached_tokens"))
    yield Check("a request of a foreign service is a row like any other", not more and got == wanted, f"{got}")


def privacy(found: Found, planted: list[Planted], folder: Path) -> Iterator[Check]:
    """Nothing that was planted is anywhere in what was written."""
    kinds = {p.value: p.kind for p in planted}
    left = leaks.find(kinds, folder)
    size = sum(file.stat().st_size for file in leaks.files(folder))
    yield _all(
        "none of the planted values is in any file, in any spelling",
        f"{len(kinds)} values, {len(leaks.files(folder))} files, {size / 1e6:.1f} MB",
        (f"{kinds[leak.value]} {leak.value!r} in {leak.file.relative_to(folder)}" for leak in left),
    )
    redacted = found.redactions()
    yield _all(
        "each kind of value was found and counted",
        f"{sum(redacted.values()):,} findings",
        (f"no {type_} counted" for type_, kind in _TYPES.items() if not redacted[type_] and kind in kinds.values()),
    )


def losses(found: Found, health: Row) -> Iterator[Check]:
    """Nothing was lost, by anybody's count."""
    lost = {
        f"{where} {name}": counters.total(name, "reason")
        for where, counters in (("app", found.app), ("gateway", found.gateway))
        for name in ("dropped", "refused", "dead_lettered", "write_failures", "instrumentation_errors")
    }
    yield _all(
        "nothing was dropped, refused, kept aside, or failed inside",
        f"{sum(found.gateway.total('accepted', 'signal').values()):,} items accepted",
        (f"{name}: {_counts(counts)}" for name, counts in lost.items() if sum(counts.values())),
    )
    yield Check("the gateway ended healthy", health["status"] == "ok", str(health["status"]))


def _routes(rows_: list[Row]) -> str:
    return _counts({route: len(group) for route, group in by(tuple(rows_), "route").items()})


def _counts(counts: Counter[str] | dict[Any, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"

"""The requests that the demo sends, what each must come to, and the sending."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx

from .planted import Garden

DIRECT: Final = "/chat/direct"
AGENT: Final = "/chat/agent"
_ASKED: Final = ("question", "stream", "model", "attachments", "user", "session")
#: Requests under way at once.
AT_ONCE: Final = 6
#: Longer than the app's own timeout against the model, several times over.
PATIENCE: Final = 30.0


@dataclass(slots=True, frozen=True)
class Case:
    """One request, and what the app, the model server and the row must make of it.

    `calls` are the model calls that it takes, `client` is the address that asked, `ok` None where nobody can say.
    """

    question: str
    path: str = DIRECT
    stream: bool = False
    model: str | None = None
    attachments: tuple[str, ...] = ()
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    session: str | None = None
    hangs_up: bool = False
    status: int = 200
    ok: bool | None = True
    degraded: str | None = None
    route: str = "direct"
    calls: int = 1
    client: str | None = None


@dataclass(slots=True, frozen=True)
class Sent:
    """A case as it went. `conversation` finds its row; `text` is the answer, `ending` the last event of a stream."""

    case: Case
    conversation: str
    status: int
    text: str
    ending: str


def cases(garden: Garden, *, names: bool = False) -> list[Case]:
    """Return every request of the demo, with fresh values planted in them; with `names`, people and addresses too."""
    return [
        *(_people(garden) if names else ()),
        *_plain(),
        *_personal(garden),
        *_odd_fields(garden),
        *_addresses(garden),
        *_agents(garden),
        *_failing(garden),
        *_declined(garden),
        *_models(garden),
    ]


def _plain() -> list[Case]:
    """Return questions without anything personal; the repeated ones meet the model server's prompt cache."""
    questions = ("How do I wax a tent?", "Which stove is best at 3000 m?", "How do I wash a down jacket?")
    return [Case(question, stream=stream) for question in questions for stream in (False, True, True)]


def _personal(garden: Garden) -> list[Case]:
    """Return questions in which people write what they should not."""
    texts: list[Callable[[], str]] = [
        lambda: f"My mail is {garden.email()}, where is my parcel?",
        lambda: f"I paid with {garden.card()} but got no receipt.",
        lambda: f"Call me at {garden.phone()} please.",
        lambda: f"Is my SSN {garden.ssn()} on the invoice?",
        lambda: f"Please pay back to {garden.iban()}, thanks.",
        lambda: f"Why does OPENAI_API_KEY={garden.openai_key()} not work?",
        lambda: f"I pushed {garden.github_token()} and {garden.aws_key()} by mistake.",
        lambda: f"This token fails: {garden.jwt()}",
        lambda: json.dumps({"customer": {"email": garden.email(), "cards": [garden.card()]}}),
        lambda: f"Two of us: {garden.email()}; {garden.email()}. Card {garden.card()}, phone {garden.phone()}.",
    ]
    return [Case(make(), stream=stream) for make in texts for stream in (False, True)]


def _people(garden: Garden) -> list[Case]:
    """Return questions in which people say who they are and where they live."""
    texts: list[Callable[[], str]] = [
        lambda: f"My name is {garden.person()} and I need a tent.",
        lambda: f"Please send it to {garden.person()}, {garden.home()}.",
        lambda: f"Dear team, my neighbour {garden.person()} liked the stove. Regards, {garden.person()}",
        lambda: f"We moved to {garden.home()} in spring.",
    ]
    return [Case(make(), stream=stream) for make in texts for stream in (False, True)]


def _odd_fields(garden: Garden) -> list[Case]:
    """Return requests with something personal in the URL, in headers and in ids."""
    return [
        Case("Where is my order?", query={"email": garden.email(), "ref": "mail"}),
        Case("Is it in stock?", query={"q": f"card {garden.card()}", "token": garden.jwt()}),
        Case("Will you call me?", query={"phone": garden.phone(), "iban": garden.iban(), "ssn": garden.ssn()}),
        Case("Is it refunded?", path=f"{DIRECT}?note={quote(f'{garden.card()}, {garden.iban()}, {garden.phone()}')}"),
        Case("Who are you?", headers={"authorization": f"Bearer {garden.secret()}"}),
        Case("Do you ship abroad?", headers={"cookie": f"session={garden.secret()}", "x-api-key": garden.openai_key()}),
        Case("Is this a bot?", headers={"user-agent": f"Crawler/1.0 (+mailto:{garden.email()})"}),
        Case("Where is my account?", user=garden.user(), session=garden.secret()),
        Case("And my invoices?", user=garden.email(), stream=True),
    ]


def _addresses(garden: Garden) -> list[Case]:
    """Return requests that came through a proxy; who pretends to have come from elsewhere is not believed."""
    plain, spoofing, with_port, mapped, six = (garden.ipv4(), *(garden.ipv4() for _ in range(3)), garden.ipv6())
    headers = {
        plain: plain,
        spoofing: f"{garden.ipv4()}, {spoofing}",
        with_port: f"{with_port}:51234",
        mapped: f"::ffff:{mapped}",
        six: six,
    }
    return [
        Case("Do you have a shop near me?", headers={"x-forwarded-for": header}, client=client, stream=stream)
        for client, header in headers.items()
        for stream in (False, True)
    ]


def _agents(garden: Garden) -> list[Case]:
    """Return questions for the agent: some it looks up, some not."""
    looked_up: dict[str, Any] = {"path": AGENT, "route": "agent_web", "calls": 2}
    answered: dict[str, Any] = {"path": AGENT, "route": "agent_direct", "calls": 2}
    return [
        *(Case("What is the weather in Bergen today?", stream=s, **looked_up) for s in (False, True)),
        *(Case("What is the latest tent of Hilleberg?", stream=s, **looked_up) for s in (False, True)),
        *(Case("How do I wax a tent?", stream=s, **answered) for s in (False, True)),
        Case(f"Any news for {garden.email()}?", **looked_up),
        Case(f"What is the price today, card {garden.card()}?", stream=True, **looked_up),
        Case("Any news? [[fault:search]]", degraded="web_failed", **looked_up),
    ]


def _failing(garden: Garden) -> list[Case]:
    """Return requests whose models fail, stall, or answer badly."""
    router_fails: dict[str, Any] = {"path": AGENT, "route": "agent_direct", "calls": 2, "degraded": "router_failed"}
    fails: dict[str, Any] = {"ok": False, "status": 502}
    breaks: dict[str, Any] = {"ok": False, "stream": True}
    return [
        Case(f"Any news for {garden.email()}? [[fault:500@gpt-4o-mini]]", **router_fails),
        Case("Any news? [[fault:stall@gpt-4o-mini]]", **router_fails),
        Case("Any news? [[fault:500@gpt-4o]]", path=AGENT, route="agent_web", calls=2, **fails),
        Case("How so? [[fault:429@gpt-4o]]", path=AGENT, route="agent_direct", calls=3, **fails),
        Case(f"I am {garden.email()}. [[fault:500]]", **fails),
        Case("One moment. [[fault:429-once]]", calls=2),
        Case("One moment, please. [[fault:429-once]]", calls=2, stream=True),
        Case("Still there? [[fault:stall]]", ok=False, status=504),
        Case("Still there? [[fault:stall]]", **breaks),
        Case("Hello? [[fault:drop]]", **fails),
        Case("Hello? [[fault:drop]]", **breaks),
        Case("And then? [[fault:truncate]]", **fails),
        Case("And then? [[fault:truncate]]", **breaks),
        Case("Say nothing. [[fault:empty]]", degraded="empty_completion"),
        Case("Tell me everything.", stream=True, hangs_up=True, ok=None),
    ]


def _declined(garden: Garden) -> list[Case]:
    """Return requests that the app answers without any model."""
    return [
        Case(f"See {garden.email()}", attachments=("photo.jpg",), degraded="media", calls=0),
        Case("See this", path=AGENT, attachments=("a.pdf",), degraded="media", calls=0, route="agent_direct"),
        Case("", degraded="empty_question", calls=0),
        Case("   ", stream=True, degraded="empty_question", calls=0),
    ]


def _models(garden: Garden) -> list[Case]:
    """Return questions for a model that reasons, and for one that is in no price list."""
    return [
        Case("Which of two tents is lighter?", model="o4-mini"),
        Case(f"Why was {garden.card()} refused?", model="o4-mini", stream=True),
        Case("Which rope for glaciers?", model="house-model-7b"),
        Case("Which rope for caves?", model="house-model-7b", stream=True),
    ]


async def send(base_url: str, wanted: list[Case], on_each: Callable[[], None]) -> list[Sent]:
    """Send them all, some at a time, and return how each went, in order."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=base_url, timeout=PATIENCE) as client:

        async def one(number: int, case: Case) -> Sent:
            async with gate:
                sent = await _send(client, case, f"demo-{number:03d}")
            on_each()
            return sent

        return list(await asyncio.gather(*(one(number, case) for number, case in enumerate(wanted, 1))))


async def _send(client: httpx.AsyncClient, case: Case, conversation: str) -> Sent:
    body = {name: getattr(case, name) for name in _ASKED if getattr(case, name)} | {"conversation": conversation}
    request = client.build_request("POST", case.path, json=body, params=case.query or None, headers=case.headers)
    response = await client.send(request, stream=True)
    try:
        if case.stream:
            text, ending = await _read_events(response, hangs_up=case.hangs_up)
        else:
            text, ending = json.loads(await response.aread()).get("answer", ""), ""
    finally:
        await response.aclose()
    return Sent(case, conversation, response.status_code, text, ending)


async def _read_events(response: httpx.Response, *, hangs_up: bool) -> tuple[str, str]:
    """Return the text of a stream and its last named event; who hangs up goes after the second piece of text."""
    text, ending, pieces = "", "", 0
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            ending = line[7:]
        elif line.startswith("data: "):
            piece = json.loads(line[6:]).get("text", "")
            text, pieces = text + piece, pieces + bool(piece)
            if hangs_up and pieces == 2:  # noqa: PLR2004 - as said above
                return text, "hung up"
    return text, ending

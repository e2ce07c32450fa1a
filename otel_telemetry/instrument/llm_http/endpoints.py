"""Which HTTP requests are model calls, in which dialect, to which provider.

A POST is one where the end of its path names a dialect and there is evidence for it: a host we know, a host that the
settings name, a path that hardly anything else has (`…/v1/chat/completions` on any host), or a header of the dialect.
Only then is its body looked at.

`gen_ai.provider.name` is our best knowledge, as the conventions ask: the owner of the host, else the author of the
dialect ("openai" for a compatible server nobody knows; `server.address` tells which one it was). Names that the
conventions list are used where there is one, else the id that genai-prices has for the provider, so that a price is
found for exactly what is known.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

from otel_telemetry.instrument.llm_http.dialects import anthropic, cohere, gemini, ollama, openai, openai_responses
from otel_telemetry.instrument.llm_http.dialects.base import Dialect

#: Hosts, or the domains that they are in, and whose they are.
PROVIDERS: Mapping[str, str] = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "models.ai.azure.com": "azure.ai.inference",
    "api.mistral.ai": "mistral_ai",
    "codestral.mistral.ai": "mistral_ai",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "openrouter.ai": "openrouter",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.novita.ai": "novita",
    "api.voyageai.com": "voyageai",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zhipuai",
    "ollama.com": "ollama",
}


class Target(NamedTuple):
    """Where a request goes. `path` is without query, as sent; `header` looks a header up by its lower-case name."""

    host: str
    port: int | None
    path: str
    header: Callable[[str], str | None]


_PATTERNS = (
    (re.compile(r"(?:[\w-]+-)?aiplatform\.googleapis\.com"), "gcp.vertex_ai"),
    (re.compile(r"bedrock-(?:runtime|mantle)[\w.-]*\.amazonaws\.com"), "aws.bedrock"),
)
_OLLAMA_PORT = 11434


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model endpoint: who answers in which dialect, and the model where the path names it."""

    dialect: Dialect
    provider: str
    model: str | None = None
    streamed: bool | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table: paths of a dialect, and what else must be true of them.

    `path` is searched in the path; groups `model` and `verb` may name the model and the kind of call. `hosts` are the
    providers whose hosts are evidence enough (none: every known one); `anywhere` is a path that needs no evidence;
    `evidence` is another way to be sure. `fallback` is the provider's name where the host is nobody's.
    """

    path: re.Pattern[str]
    dialect: Dialect
    fallback: str
    hosts: frozenset[str] = frozenset()
    anywhere: re.Pattern[str] | None = None
    evidence: Callable[[Target], bool] | None = None


_VERTEX = r"/publishers/anthropic/models/(?P<model>[^/:]+):(?P<verb>rawPredict|streamRawPredict)$"
_AZURE_MODEL = re.compile(r"/deployments/(?P<model>[^/]+)/")


def _openai(suffix: str, dialect: Dialect) -> Rule:
    return Rule(re.compile(rf"/{suffix}$"), dialect, "openai", anywhere=re.compile(rf"/v\d+/{suffix}$"))


def _gemini(verbs: str, dialect: Dialect) -> Rule:
    path = re.compile(rf"/models/(?P<model>[^/:]+):(?P<verb>{verbs})$")
    return Rule(path, dialect, "gcp.gen_ai", frozenset({"gcp.gemini", "gcp.vertex_ai"}), anywhere=path)


def _anthropic(path: str, *hosts: str) -> Rule:
    return Rule(
        re.compile(path), anthropic.Messages(), "anthropic", frozenset(hosts), evidence=_has("anthropic-version")
    )


def _ollama(word: str, dialect: Dialect) -> Rule:
    return Rule(re.compile(rf"/api/{word}$"), dialect, "ollama", frozenset({"ollama"}), evidence=_is_ollama)


def _cohere(path: str, dialect: Dialect) -> Rule:
    return Rule(re.compile(path), dialect, "cohere", frozenset({"cohere"}), evidence=_is_cohere)


def _has(header: str) -> Callable[[Target], bool]:
    return lambda target: target.header(header) is not None


def _is_ollama(target: Target) -> bool:
    return target.port == _OLLAMA_PORT or (target.header("user-agent") or "").startswith("ollama-python")


def _is_cohere(target: Target) -> bool:
    return target.header("x-fern-sdk-name") == "cohere"


#: By the last word of the path, after a colon if it has one; the first row that fits decides.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "completions": (
        _openai("chat/completions", openai.Chat()),
        _openai("completions", openai.Completions()),
    ),
    "embeddings": (_openai("embeddings", openai.Embeddings()),),
    "responses": (_openai("responses", openai_responses.Responses()),),
    "messages": (_anthropic(r"/v1/messages$", "anthropic"),),
    "rawPredict": (
        _anthropic(r"/publishers/anthropic/models/(?P<model>[^/:]+):(?P<verb>rawPredict)$", "gcp.vertex_ai"),
    ),
    "streamRawPredict": (
        _anthropic(r"/publishers/anthropic/models/(?P<model>[^/:]+):(?P<verb>streamRawPredict)$", "gcp.vertex_ai"),
    ),
    "invoke": (_anthropic(r"/model/(?P<model>[^/]*anthropic[^/]*)/invoke$", "aws.bedrock"),),
    "generateContent": (_gemini("generateContent", gemini.GenerateContent()),),
    "streamGenerateContent": (_gemini("streamGenerateContent", gemini.GenerateContent()),),
    "embedContent": (_gemini("embedContent", gemini.Embed()),),
    "batchEmbedContents": (_gemini("batchEmbedContents", gemini.Embed()),),
    "chat": (
        _cohere(r"/v2/chat$", cohere.Chat()),
        _cohere(r"/v1/chat$", cohere.ChatV1()),
        _ollama("chat", ollama.Chat()),
    ),
    "generate": (_ollama("generate", ollama.Generate()),),
    "embed": (_cohere(r"/v[12]/embed$", cohere.Embed()), _ollama("embed", ollama.Embed())),
}


def recognise(target: Target, hosts: frozenset[str]) -> Endpoint | None:
    """Return the model endpoint that a POST goes to, or None. `hosts` are those that the settings name; "*" is any."""
    path = target.path.rstrip("/")
    rules = RULES.get(_word(path))
    if rules is None:
        return None
    found = _known(target.host, path, hosts)
    return found or next((made for rule in rules if (made := _by_evidence(rule, target, path))), None)


def _word(path: str) -> str:
    """Return the last word of a path, after a colon if it has one."""
    return path[max(path.rfind("/"), path.rfind(":")) + 1 :]


@functools.lru_cache(maxsize=256)
def _known(host: str, path: str, hosts: frozenset[str]) -> Endpoint | None:
    """Return the endpoint that host and path alone make one."""
    owner = owner_of(host)
    named = host in hosts or "*" in hosts
    for rule in RULES[_word(path)]:
        found = rule.path.search(path)
        ours = owner is not None and (owner in rule.hosts or not rule.hosts)
        if found and (ours or named or (rule.anywhere and rule.anywhere.search(path))):
            return _endpoint(rule, owner, path, found)
    return None


def _by_evidence(rule: Rule, target: Target, path: str) -> Endpoint | None:
    if rule.evidence is None or not rule.evidence(target):
        return None
    found = rule.path.search(path)
    return _endpoint(rule, owner_of(target.host), path, found) if found else None


def _endpoint(rule: Rule, owner: str | None, path: str, found: re.Match[str]) -> Endpoint:
    named = (_AZURE_MODEL.search(path) or found).groupdict()
    model, verb = named.get("model"), found.groupdict().get("verb")
    streamed = None if verb is None else verb.startswith("stream")
    return Endpoint(rule.dialect, owner or rule.fallback, unquote(model) if model else None, streamed)


def owner_of(host: str) -> str | None:
    """Return whose a host is: the entry for it or for a domain that it is in."""
    name = host.lower().rstrip(".")
    while name:
        if name in PROVIDERS:
            return PROVIDERS[name]
        name = name.partition(".")[2]
    return next((owner for pattern, owner in _PATTERNS if pattern.fullmatch(host.lower())), None)

"""Recognises HTTP requests that are model calls, with their dialect and provider.

A POST is a model call if the end of its path belongs to a dialect and there is evidence for it: a known host, a host in
the settings, a path that hardly anything else has (`…/v1/chat/completions` on any host), or a header of the dialect.
Only then is its body read.

`gen_ai.provider.name` is the owner of the host: of a host in the table below, or in the setting `llm_providers`. For an
unknown server it is `_OTHER`, whatever dialect it uses: a server that is compatible with OpenAI's has its own prices,
if any (`server.address` has its name). The name is the one in the conventions if there is one, else the id that
genai-prices has for the provider, so that prices are found only for known providers.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from otel_telemetry.instrument.llm_http.dialects import (
    anthropic,
    bedrock,
    cohere,
    gemini,
    interactions,
    media,
    ollama,
    openai,
    openai_responses,
)
from otel_telemetry.instrument.llm_http.dialects.base import Dialect
from otel_telemetry.instrument.llm_http.outgoing import OutgoingRequest

#: Hosts, or the domains that they are in, and whose they are.
PROVIDERS: Mapping[str, str] = {
    "api.openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "openai.azure.us": "azure.ai.openai",
    "openai.azure.cn": "azure.ai.openai",
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
    "azure-api.net": "azure.ai.openai",
    "models.github.ai": "github",
    "models.inference.ai.azure.com": "github",
    "api.githubcopilot.com": "github-copilot",
    "router.huggingface.co": "huggingface",
    "api.deepinfra.com": "deepinfra",
    "gateway.ai.cloudflare.com": "cloudflare-gateway",
    "api.cloudflare.com": "cloudflare",
    "cloud.databricks.com": "databricks",
    "azuredatabricks.net": "databricks",
    "gcp.databricks.com": "databricks",
    "ai-gateway.vercel.sh": "vercel",
    "api.portkey.ai": "portkey",
    "api.writer.com": "writer",
    "integrate.api.nvidia.com": "nvidia",
    "api.sambanova.ai": "sambanova",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.studio.nebius.com": "nebius",
    "api.tokenfactory.nebius.com": "nebius",
    "api.minimax.io": "minimax",
    "api.minimax.chat": "minimax",
    "api.minimaxi.com": "minimax",
    "api.arcee.ai": "arcee",
    "api.avian.io": "avian",
    "api.doubleword.ai": "doubleword",
    "inference.baseten.co": "baseten",
    "api.ai21.com": "ai21",
    "dashscope.aliyuncs.com": "alibaba_cloud",
    "dashscope-intl.aliyuncs.com": "alibaba_cloud",
    "volces.com": "volcengine",
    "endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "api.featherless.ai": "featherless",
    "api.inference.net": "inference.net",
    "api.lambda.ai": "lambda",
    "inference.ai.nscale.com": "nscale",
    "llm.chutes.ai": "chutes",
    "router.requesty.ai": "requesty",
    "api.siliconflow.com": "siliconflow",
    "api.siliconflow.cn": "siliconflow",
    "api.stepfun.com": "stepfun",
    "api.meta.ai": "meta",
    "api.llama.com": "meta",
    "api.inceptionlabs.ai": "inception",
    "api.reka.ai": "reka",
    "api.upstage.ai": "upstage",
    "api.jina.ai": "jina_ai",
    "modal.run": "modal",
    "modal.direct": "modal",
    "api.quicksilverpro.io": "quicksilverpro",
    "api.typesafe.ai": "typesafe",
    "crusoecloud.com": "crusoe",
    "snowflakecomputing.com": "snowflake",
    "inference.heroku.com": "heroku",
}
#: The provider's name for a server that nobody knows.
UNKNOWN_PROVIDER = "_OTHER"


_PATTERNS = (
    (re.compile(r"(?:[\w-]+-)?aiplatform(?:\.[\w-]+\.rep)?\.googleapis\.com"), "gcp.vertex_ai"),
    (
        re.compile(r"(?:[\w-]+\.)?bedrock-(?:runtime|mantle)[\w.-]*\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"),
        "aws.bedrock",
    ),
)
_OLLAMA_PORT = 11434


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model endpoint: the provider, its dialect, and the model if the path names it."""

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
    fallback: str = UNKNOWN_PROVIDER
    hosts: frozenset[str] = frozenset()
    anywhere: re.Pattern[str] | None = None
    evidence: Callable[[OutgoingRequest], bool] | None = None


_VERTEX = r"/publishers/anthropic/models/(?P<model>[^/:]+):(?P<verb>rawPredict|streamRawPredict)$"
_AZURE_PATH = r"/openai/deployments/[^/]+/"
_AZURE_MODEL = re.compile(r"/deployments/(?P<model>[^/]+)/")
_HUGGINGFACE = re.compile(r"/(?P<seller>[a-z0-9-]+)/v1/")
_GATEWAY = re.compile(r"/v1/[^/]+/[^/]+/(?P<seller>[a-z-]+)/")  # Cloudflare's: account, gateway, provider


def _openai(suffix: str, dialect: Dialect) -> Rule:
    return Rule(
        re.compile(rf"/{suffix}$"),
        dialect,
        anywhere=re.compile(rf"/v\d+/{suffix}$|{_AZURE_PATH}"),
        evidence=_asks_model,
    )


def _gemini(verbs: str, dialect: Dialect) -> Rule:
    path = re.compile(rf"/models/(?P<model>[^/:]+):(?P<verb>{verbs})$")
    return Rule(path, dialect, hosts=frozenset({"gcp.gemini", "gcp.vertex_ai"}), anywhere=path)


def _google(word: str, dialect: Dialect) -> Rule:
    path = re.compile(rf"/v\d\w*/(?:.+/)?{word}$")
    return Rule(path, dialect, hosts=frozenset({"gcp.gemini", "gcp.vertex_ai"}), evidence=_asks_model)


def _anthropic(path: str, *hosts: str) -> Rule:
    return Rule(re.compile(path), anthropic.Messages(), hosts=frozenset(hosts), evidence=_is_anthropic)


def _bedrock(model: str, verb: str, dialect: Dialect) -> Rule:
    path = re.compile(rf"/model/(?P<model>{model})/(?P<verb>{verb})$")
    return Rule(path, dialect, "aws.bedrock", frozenset({"aws.bedrock"}), anywhere=path)


def _invoke(verb: str) -> tuple[Rule, ...]:
    return (
        _bedrock(r"[^/]*anthropic[^/]*", verb, bedrock.Anthropic()),
        _bedrock(r"[^/]*rerank[^/]*", verb, bedrock.Rerank()),
        _bedrock(r"[^/]*embed[^/]*", verb, bedrock.Embed()),
        _bedrock(r"[^/]+", verb, bedrock.Invoke()),
    )


def _ollama(word: str, dialect: Dialect) -> Rule:
    return Rule(re.compile(rf"/api/{word}$"), dialect, "ollama", frozenset({"ollama"}), evidence=_is_ollama)


def _cohere(path: str, dialect: Dialect) -> Rule:
    return Rule(re.compile(path), dialect, hosts=frozenset({"cohere"}), evidence=_is_cohere)


def _is_anthropic(target: OutgoingRequest) -> bool:
    """Return whether a client says so, or a body has all that this API demands: gateways and mocks take no header."""
    if target.header("anthropic-version") is not None:
        return True
    body = target.body()
    return isinstance(body.get("model"), str) and isinstance(body.get("messages"), list) and "max_tokens" in body


def _is_ollama(target: OutgoingRequest) -> bool:
    return target.port == _OLLAMA_PORT or (target.header("user-agent") or "").startswith("ollama-python")


def _asks_model(target: OutgoingRequest) -> bool:
    """Return whether a body names a model, and what to ask it where others have such paths, too."""
    body = target.body()
    asks = target.path.endswith("/chat/completions") or any(isinstance(body.get(key), (list, str)) for key in _ASKED)
    return asks and isinstance(body.get("model"), str)


_ASKED = ("messages", "input", "prompt", "query")


def _is_cohere(target: OutgoingRequest) -> bool:
    return target.header("x-fern-sdk-name") == "cohere"


Owners = tuple[tuple[str, str], ...]

#: By the last word of the path, after a colon if it has one; the first row that fits decides.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "completions": (
        _openai("chat/completions", openai.Chat()),
        _openai("completions", openai.Completions()),
    ),
    "embeddings": (_openai("embeddings", openai.Embeddings()),),
    "responses": (_openai("responses", openai_responses.Responses()),),
    "invocations": (
        Rule(
            re.compile(r"/serving-endpoints/(?P<model>[^/]+)/invocations$"),
            openai.Chat(),
            hosts=frozenset({"databricks"}),
        ),
    ),
    "compact": (_openai("responses/compact", openai_responses.Responses()),),
    "interactions": (_google("interactions", interactions.Interactions()),),
    "rerank": (_openai("rerank", media.Rerank()),),
    "generations": (_openai("images/generations", media.Images()),),
    "edits": (_openai("images/edits", media.Images()),),
    "speech": (_openai("audio/speech", media.Speech()),),
    "transcriptions": (_openai("audio/transcriptions", media.Transcription()),),
    "translations": (_openai("audio/translations", media.Transcription()),),
    "moderations": (_openai("moderations", media.Moderation()),),
    "messages": (_anthropic(r"/v1/messages$", "anthropic"),),
    "rawPredict": (
        _anthropic(r"/publishers/anthropic/models/(?P<model>[^/:]+):(?P<verb>rawPredict)$", "gcp.vertex_ai"),
    ),
    "streamRawPredict": (
        _anthropic(r"/publishers/anthropic/models/(?P<model>[^/:]+):(?P<verb>streamRawPredict)$", "gcp.vertex_ai"),
    ),
    "invoke": _invoke("invoke"),
    "invoke-with-response-stream": _invoke("invoke-with-response-stream"),
    "converse": (_bedrock(r"[^/]+", "converse", bedrock.Converse()),),
    "converse-stream": (_bedrock(r"[^/]+", "converse-stream", bedrock.Converse()),),
    "generateContent": (_gemini("generateContent", gemini.GenerateContent()),),
    "streamGenerateContent": (_gemini("streamGenerateContent", gemini.GenerateContent()),),
    "embedContent": (_gemini("embedContent", gemini.Embed()),),
    "batchEmbedContents": (_gemini("batchEmbedContents", gemini.Embed()),),
    "predict": (
        Rule(
            re.compile(r"/publishers/google/models/(?P<model>[^/:]*embed[^/:]*):(?P<verb>predict)$"),
            gemini.Predict(),
            hosts=frozenset({"gcp.vertex_ai"}),
        ),
    ),
    "chat": (
        _cohere(r"/v2/chat$", cohere.Chat()),
        _cohere(r"/v1/chat$", cohere.ChatV1()),
        Rule(re.compile(r"/v1/chat$"), openai.Chat(), hosts=frozenset({"writer"})),
        _ollama("chat", ollama.Chat()),
    ),
    "generate": (_cohere(r"/v1/generate$", cohere.Generate()), _ollama("generate", ollama.Generate())),
    "embed": (_cohere(r"/v[12]/embed$", cohere.Embed()), _ollama("embed", ollama.Embed())),
}


def recognise(target: OutgoingRequest, hosts: frozenset[str], providers: Owners = ()) -> Endpoint | None:
    """Return the model endpoint of a POST, or None.

    `hosts` are further hosts whose paths count, "*" is any; `providers` are pairs of a host and its provider.
    """
    path = target.path.rstrip("/")
    rules = RULES.get(_word(path))
    if rules is None:
        return None
    found = _known(target.host, path, hosts, providers)
    if found is not None:
        return found
    return next((made for rule in rules if (made := _by_evidence(rule, target, path, providers))), None)


def _word(path: str) -> str:
    """Return the last word of a path, after a colon if it has one."""
    return path[max(path.rfind("/"), path.rfind(":")) + 1 :]


@functools.lru_cache(maxsize=256)
def _known(host: str, path: str, hosts: frozenset[str], providers: Owners) -> Endpoint | None:
    """Return the endpoint that host and path alone make one."""
    owner = owner_of(host, providers)
    named = host in hosts or "*" in hosts
    for rule in RULES[_word(path)]:
        found = rule.path.search(path)
        ours = owner is not None and (owner in rule.hosts or not rule.hosts)
        if found and (ours or named or (rule.anywhere and rule.anywhere.search(path))):
            return _endpoint(rule, owner, path, found)
    return None


def _by_evidence(rule: Rule, target: OutgoingRequest, path: str, providers: Owners) -> Endpoint | None:
    found = rule.path.search(path)
    if found is None or rule.evidence is None or not rule.evidence(target):
        return None
    return _endpoint(rule, owner_of(target.host, providers), path, found)


def _endpoint(rule: Rule, owner: str | None, path: str, found: re.Match[str]) -> Endpoint:
    named = (_AZURE_MODEL.search(path) or found).groupdict()
    model, verb = named.get("model"), found.groupdict().get("verb")
    streamed = None if verb is None else verb.startswith("stream") or verb.endswith("stream")
    return Endpoint(rule.dialect, _seller(owner, rule, path), unquote(model) if model else None, streamed)


def _seller(owner: str | None, rule: Rule, path: str) -> str:
    """Return the provider: a host's owner, or whom its path names where the host is a gateway to others."""
    if owner == "huggingface" and (found := _HUGGINGFACE.match(path)):
        return f"huggingface_{found['seller']}"
    if owner == "cloudflare-gateway":
        found = _GATEWAY.match(path)
        return _BEHIND_GATEWAY.get(found["seller"] if found else "", owner)
    if owner is None and re.search(_AZURE_PATH, path):
        return "azure.ai.openai"
    return owner or rule.fallback


#: How Cloudflare's gateway calls providers that we call otherwise.
_BEHIND_GATEWAY: Mapping[str, str] = {
    **{name: name for name in ("openai", "anthropic", "groq", "deepseek", "cohere", "openrouter", "cerebras")},
    "azure-openai": "azure.ai.openai",
    "google-ai-studio": "gcp.gemini",
    "google-vertex-ai": "gcp.vertex_ai",
    "grok": "x_ai",
    "mistral": "mistral_ai",
    "perplexity-ai": "perplexity",
    "workers-ai": "cloudflare",
}


def owner_of(host: str, providers: Owners = ()) -> str | None:
    """Return the owner of a host: the entry for it or for a domain above it; `providers` have priority."""
    name = host.lower().rstrip(".")
    known = {**PROVIDERS, **dict(providers)} if providers else PROVIDERS
    while name:
        if name in known:
            return known[name]
        name = name.partition(".")[2]
    return next((owner for pattern, owner in _PATTERNS if pattern.fullmatch(host.lower())), None)

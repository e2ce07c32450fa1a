"""Recognises HTTP requests that are model calls, with their dialect and provider.

A POST is a model call if the end of its path belongs to a dialect and there is evidence for it: a known host, a host in
the settings, a path that hardly anything else has (`…/v1/chat/completions` on any host), or a header of the dialect.
Only then is its body read. providers.py knows whose host it is.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from otel_telemetry.instrument.llm_http.dialects import (
    anthropic,
    bedrock,
    cloudflare,
    cohere,
    conversations,
    dashscope,
    gemini,
    interactions,
    media,
    ocr,
    ollama,
    openai,
    openai_responses,
    replicate,
    snowflake,
    videos,
    watsonx,
)
from otel_telemetry.instrument.llm_http.dialects.base import Dialect
from otel_telemetry.instrument.llm_http.outgoing import OutgoingRequest
from otel_telemetry.instrument.llm_http.providers import UNKNOWN_PROVIDER, Owners, owner_of, seller

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


_AZURE_PATH = r"/openai/deployments/[^/]+/"
_AZURE_MODEL = re.compile(r"/deployments/(?P<model>[^/]+)/")


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


def _vertex(owner: str, model: str, verb: str, dialect: Dialect) -> Rule:
    path = re.compile(rf"/publishers/{owner}/models/(?P<model>{model}):(?P<verb>{verb})$")
    return Rule(path, dialect, hosts=frozenset({"gcp.vertex_ai"}))


def _raw_predict(verb: str) -> tuple[Rule, ...]:
    """Return the rules for Vertex AI's models of others, each in its owner's own format."""
    return (
        _anthropic(
            rf"/publishers/anthropic/models/(?!count-tokens:)(?P<model>[^/:]+):(?P<verb>{verb})$", "gcp.vertex_ai"
        ),
        _vertex("(?!anthropic/)[^/]+", "[^/:]*ocr[^/:]*", verb, ocr.Ocr()),
        _vertex("(?!anthropic/)[^/]+", "[^/:]+", verb, openai.Chat()),
    )


def _google_media(model: str, verb: str, dialect: Dialect) -> Rule:
    return Rule(
        re.compile(rf"/models/(?P<model>[^/:]*(?:{model})[^/:]*):(?P<verb>{verb})$"),
        dialect,
        hosts=frozenset({"gcp.gemini", "gcp.vertex_ai"}),
    )


def _hosted(path: str, dialect: Dialect, *hosts: str) -> Rule:
    return Rule(re.compile(path), dialect, hosts=frozenset(hosts))


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
        _bedrock(r"[^/]*(?:image|canvas|stability)[^/]*", verb, bedrock.Images()),
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


def _has_document(target: OutgoingRequest) -> bool:
    body = target.body()
    return isinstance(body.get("model"), str) and isinstance(body.get("document"), dict)


def _is_cohere(target: OutgoingRequest) -> bool:
    return target.header("x-fern-sdk-name") == "cohere"


_DBX, _WATSONX, _DASHSCOPE = "databricks", "ibm.watsonx.ai", "alibaba_cloud"

#: By the last word of the path, after a colon if it has one; the first row that fits decides.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "completions": (
        _openai("agents/completions", openai.Chat()),
        _openai("chat/completions", openai.Chat()),
        _openai("completions", openai.Completions()),
    ),
    "embeddings": (_ollama("embeddings", ollama.Embed()), _openai("embeddings", openai.Embeddings())),
    "multimodalembeddings": (_hosted(r"/v1/multimodalembeddings$", openai.Embeddings(), "voyageai"),),
    "contextualizedembeddings": (_hosted(r"/v1/contextualizedembeddings$", openai.Embeddings(), "voyageai"),),
    "responses": (_openai("responses", openai_responses.Responses()),),
    "invocations": (
        _hosted(r"/serving-endpoints/(?P<model>[^/]*(?:embed|gte|bge)[^/]*)/invocations$", openai.Embeddings(), _DBX),
        _hosted(r"/serving-endpoints/(?P<model>[^/]+)/invocations$", openai.Chat(), _DBX),
    ),
    "compact": (_openai("responses/compact", openai_responses.Responses()),),
    "interactions": (_google("interactions", interactions.Interactions()),),
    "rerank": (_hosted("^/rerank$", bedrock.AgentRerank(), "aws.bedrock"), _openai("rerank", media.Rerank())),
    "generations": (_openai("images/generations", media.Images()),),
    "edits": (_openai("images/edits", media.Images()),),
    "variations": (_openai("images/variations", media.Images()),),
    "videos": (_openai("videos", videos.Videos()),),
    "ocr": (Rule(re.compile(r"/ocr$"), ocr.Ocr(), hosts=frozenset({"mistral_ai"}), evidence=_has_document),),
    "speech": (_openai("audio/speech", media.Speech()),),
    "transcriptions": (_openai("audio/transcriptions", media.Transcription()),),
    "translations": (_openai("audio/translations", media.Transcription()),),
    "moderations": (_openai("moderations", media.Moderation()),),
    "messages": (_anthropic(r"/v1/messages$", "anthropic"),),
    "rawPredict": _raw_predict("rawPredict"),
    "streamRawPredict": _raw_predict("streamRawPredict"),
    "invoke": _invoke("invoke"),
    "invoke-with-response-stream": _invoke("invoke-with-response-stream"),
    "converse": (_bedrock(r"[^/]+", "converse", bedrock.Converse()),),
    "converse-stream": (_bedrock(r"[^/]+", "converse-stream", bedrock.Converse()),),
    "generateContent": (_gemini("generateContent", gemini.GenerateContent()),),
    "streamGenerateContent": (_gemini("streamGenerateContent", gemini.GenerateContent()),),
    "embedContent": (_gemini("embedContent", gemini.Embed()),),
    "batchEmbedContents": (_gemini("batchEmbedContents", gemini.Embed()),),
    "predict": (
        _vertex("google", "[^/:]*embed[^/:]*", "predict", gemini.Predict()),
        _google_media("imagen|imagegeneration|virtual-try-on", "predict", gemini.Images()),
    ),
    "predictLongRunning": (_google_media("veo", "predictLongRunning", videos.Veo()),),
    "chat": (
        _cohere(r"/v2/chat$", cohere.Chat()),
        _cohere(r"/v1/chat$", cohere.ChatV1()),
        _hosted(r"/v1/chat$", openai.Chat(), "writer"),
        _hosted(r"/ml/v1/text/chat$", watsonx.Chat(), _WATSONX),
        _ollama("chat", ollama.Chat()),
    ),
    "chat_stream": (_hosted(r"/ml/v1/text/chat_stream$", watsonx.Chat(), _WATSONX),),
    "generation": (
        _hosted(r"/ml/v1/text/generation$", watsonx.Generation(), _WATSONX),
        _hosted(r"/services/aigc/(?:text|multimodal)-generation/generation$", dashscope.Generation(), _DASHSCOPE),
    ),
    "text-embedding": (_hosted(r"/services/embeddings/text-embedding/", dashscope.Embed(), _DASHSCOPE),),
    "multimodal-embedding": (_hosted(r"/services/embeddings/multimodal-embedding/", dashscope.Embed(), _DASHSCOPE),),
    "text-rerank": (_hosted(r"/services/rerank/text-rerank/", dashscope.Rerank(), _DASHSCOPE),),
    "complete": (_hosted(r"/cortex/inference[:/]complete$", snowflake.Complete(), "snowflake"),),
    "predictions": (
        _hosted(
            r"/v1/(?:(?:models|deployments)/(?P<model>[^/]+/[^/]+)/)?predictions$", replicate.Predictions(), "replicate"
        ),
    ),
    "generation_stream": (_hosted(r"/ml/v1/text/generation_stream$", watsonx.Generation(), _WATSONX),),
    "generate": (_cohere(r"/v1/generate$", cohere.Generate()), _ollama("generate", ollama.Generate())),
    "embed": (_cohere(r"/v[12]/embed$", cohere.Embed()), _ollama("embed", ollama.Embed())),
}


def _workers_ai(begin: str) -> tuple[Rule, ...]:
    """Return the rules for Workers AI's models that read text, by their names."""
    others = (
        "whisper|nova-|aura|melotts|m2m100|indictrans|resnet|detr|distilbert|flux|diffusion|dreamshaper|lucid|phoenix"
    )
    model = rf"{begin}/(?P<model>@(?:cf|hf)/(?:[\w.-]+/)*"
    return (
        Rule(re.compile(rf"{model}[\w.-]*rerank[\w.-]*)$"), cloudflare.Rerank()),
        Rule(re.compile(rf"{model}[\w.-]*(?:bge-|embed|plamo)[\w.-]*)$"), cloudflare.Embed()),
        Rule(re.compile(rf"{model}(?![\w.-]*(?:{others}|smart-turn))[\w.-]+)$"), cloudflare.Run()),
    )


#: The same for hosts whose paths end in a name of the user, or of a model.
RULES_OF_HOST: Mapping[str, tuple[Rule, ...]] = {
    "api.cloudflare.com": _workers_ai("/ai/run"),
    "gateway.ai.cloudflare.com": _workers_ai("/workers-ai"),
    "api.mistral.ai": (
        Rule(re.compile(r"/v1/conversations(?:/[\w-]+(?:/restart)?)?$"), conversations.Conversations()),
    ),
    "api.elevenlabs.io": (
        Rule(re.compile(r"/v1/text-to-speech/[\w-]+(?:/stream|/with-timestamps)?$"), media.ElevenLabs()),
    ),
}


def recognise(target: OutgoingRequest, hosts: frozenset[str], providers: Owners = ()) -> Endpoint | None:
    """Return the model endpoint of a POST, or None.

    `hosts` are further hosts whose paths count, "*" is any; `providers` are pairs of a host and its provider.
    """
    path = target.path.rstrip("/")
    rules = RULES.get(_word(path)) or RULES_OF_HOST.get(target.host)
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
    for rule in RULES.get(_word(path)) or RULES_OF_HOST[host]:
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
    model, verb = found.groupdict().get("model"), found.groupdict().get("verb")
    if model is None and (deployment := _AZURE_MODEL.search(path)):
        model = deployment["model"]
    streamed = None if verb is None else verb.startswith("stream") or verb.endswith("stream")
    return Endpoint(rule.dialect, seller(owner, path, rule.fallback), unquote(model) if model else None, streamed)
